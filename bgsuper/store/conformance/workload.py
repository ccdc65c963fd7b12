"""What a child writes until it is killed: decided by a seed and by the number that it begins with, so that its parent
knows every state that the store may be found in.

A step is a group of commits, and sometimes a snapshot, whose file is written by another thread beside the group. Each
durable return of the store is one `Mark`: the child reports it, and the parent knows what must be there from then on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final, NamedTuple

from ...key import Key, Seq
from .backend import Commit

SPACES: Final = (("", ""), ("app", ""), ("app", "sub"))
KEYS: Final = tuple(Key(*space, f"k{number}") for space in SPACES for number in range(4))
#: Keys whose values come as snapshots, and now and then in a commit.
SNAPSHOTS: Final = (Key("", "", "graph"), Key("app", "", "scorer"))
SIZES: Final = (0, 1, 30, 900, 900, 9000, 70_000)
SNAPSHOT_SIZES: Final = (0, 1000, 60_000, 400_000)
#: A child that nobody kills ends after so many steps.
STEPS: Final = 400


@dataclass(frozen=True)
class State:
    """What a store holds, and what it must claim of it."""

    records: dict[Key, bytes] = field(default_factory=dict)
    last_commit: int = 0
    last_snapshot: int = 0

    @property
    def last_seq(self) -> int:
        return max(self.last_commit, self.last_snapshot)

    def after_commit(self, commit: Commit) -> State:
        """This state with `commit` applied."""
        records = self.records | dict(commit.puts)
        for key in commit.removes:
            records.pop(key, None)
        return replace(self, records=records, last_commit=commit.seq)

    def after_snapshot(self, seq: int, key: Key, content: bytes) -> State:
        """This state with a snapshot adopted."""
        return replace(self, records=self.records | {key: content}, last_snapshot=max(self.last_snapshot, seq))


class Snapshot(NamedTuple):
    """A snapshot of a step, and whether it is adopted."""

    seq: Seq
    key: Key
    content: bytes
    adopted: bool


class Step(NamedTuple):
    """A group, and the snapshot that is written beside it."""

    group: tuple[Commit, ...]
    snapshot: Snapshot | None


class Mark(NamedTuple):
    """A durable return. `passed` are the states on the way to it: after each commit of its group, the last one being
    the state from then on. `put` is what a store without atomic batches may show of them besides."""

    passed: tuple[State, ...]
    put: tuple[tuple[Key, bytes], ...] = ()


def steps(seed: int, last_seq: int) -> Iterator[Step]:
    """What a child does that found a store whose newest number is `last_seq`."""
    random = Random(f"{seed}:{last_seq}")
    seq = last_seq
    for _ in range(STEPS):
        group = []
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            seq += random.choice((1, 1, 3))
            puts = {key: random.randbytes(random.choice(SIZES)) for key in random.sample(KEYS, random.randint(1, 5))}
            if random.random() < 0.1:
                puts[random.choice(SNAPSHOTS)] = random.randbytes(100)
            group.append(Commit(Seq(seq), tuple(puts.items()), tuple(random.sample(KEYS, random.choice((0, 0, 1, 3))))))
        snapshot = None
        if random.random() < 0.3:
            seq += 1
            content = random.randbytes(random.choice(SNAPSHOT_SIZES))
            snapshot = Snapshot(Seq(seq), random.choice(SNAPSHOTS), content, random.random() < 0.7)
        yield Step(tuple(group), snapshot)


def marks(seed: int, state: State) -> Iterator[Mark]:
    """The durable returns of a child that found `state`, in order."""
    for step in steps(seed, state.last_seq):
        passed = []
        for commit in step.group:
            state = state.after_commit(commit)
            passed.append(state)
        yield Mark(tuple(passed), tuple(put for commit in step.group for put in commit.puts))
        if step.snapshot is not None and step.snapshot.adopted:
            state = state.after_snapshot(*step.snapshot[:3])
            yield Mark((state,))
