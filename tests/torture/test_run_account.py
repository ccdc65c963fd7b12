"""The account: each way in which a store can contradict what the outside world knows is found, and nothing else is."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.key import Key, Seq
from bgsuper.torture.run.account import Account, Violation
from bgsuper.torture.run.values import Origin, origin_of, value_of
from bgsuper.torture.run.workload import WORKING, Commit, Snapshot, Step

A, B, NEW = (Key("torture", "records", name) for name in "ab9")
M = Key("torture", "mixed", "0")
S = Key("torture", "snapshots", "graph")
NAMESPACES = set(WORKING)


def put(seq: int, *keys: Key, host: int = 1, removes: tuple[Key, ...] = ()) -> Commit:
    return Commit({key: Origin(host, Seq(seq), 20) for key in keys}, removes)


def snapshot(seq: int, key: Key = S, *, critical: bool = False, host: int = 1) -> Snapshot:
    return Snapshot(key, Origin(host, Seq(seq), 50), critical)


def value(key: Key, seq: int, host: int = 1) -> bytes:
    return value_of(key, Origin(host, Seq(seq), 50 if key == S else 20))


def account(*steps: Step, acked: int = 0) -> Account:
    """Host 1 submitted `steps` as 1, 2, 3 ..."""
    made = Account()
    for seq, step in enumerate(steps, 1):
        made.begin(Seq(seq), step)
    made.ack(Seq(acked))
    return made


def look_at(made: Account, durable: int, found: dict[Key, bytes]) -> list[Violation]:
    """As `look`, of a copy: after a violation a run ends, so an account need not be good for more."""
    return look(deepcopy(made), durable, found)


def look(made: Account, durable: int, found: dict[Key, bytes], *, drained: bool = False) -> list[Violation]:
    comparison = made.look(Seq(durable), NAMESPACES, drained=drained)
    for key, content in found.items():
        comparison.see(key, content)
    return comparison.finish()


def kinds(violations: list[Violation]) -> list[str]:
    return [violation.what for violation in violations]


# -- commits ----------------------------------------------------------------------------------------------------------


def test_a_store_as_it_must_be_is_no_violation() -> None:
    """Acknowledged, or not and there all the same: both are right."""
    steps = (put(1, A, B), put(2, A, removes=(B,)))
    assert look(account(*steps, acked=2), 2, {A: value(A, 2)}) == []
    assert look(account(*steps, acked=1), 2, {A: value(A, 2)}) == []
    assert look(account(*steps, acked=1), 1, {A: value(A, 1), B: value(B, 1)}) == []


@pytest.mark.parametrize(
    ("durable", "found", "kind", "said"),
    [
        (2, {B: value(B, 2)}, "lost", "torture/records/a: expected that of 1, missing"),
        (1, {A: value(A, 1)}, "lost", "the store's newest number is 1, but 2 was acknowledged"),
        (2, {A: value(A, 1)[:-1] + b"?", B: value(B, 2)}, "altered", "records/a: 54 bytes that are damaged"),
        (2, {A: value(B, 2), B: value(B, 2)}, "altered", "damaged or another key's"),
        (2, {A: value(A, 1), B: value(B, 2), NEW: value(NEW, 2)}, "foreign", "what host 1 submitted as 2, but it sho"),
        (2, {A: value(A, 1), B: value(B, 1)}, "backwards", "what host 1 submitted as 1; expected that of 2"),
        (2, {A: value(A, 3), B: value(B, 2)}, "foreign", "what host 1 submitted as 3, which nobody acknowledged"),
        (9, {A: value(A, 1), B: value(B, 2)}, "ahead", "the store's newest number is 9, but nothing after 2 was begun"),
    ],
)
def test_a_store_that_is_wrong_is_told_by_its_kind(durable: int, found: dict[Key, bytes], kind: str, said: str) -> None:
    """Lost, altered, another key's, out of nowhere, older, too new, ahead: each with its key and numbers."""
    violations = look(account(put(1, A), put(2, B), acked=2), durable, found)
    assert kind in kinds(violations)
    assert any(said in violation.text for violation in violations), violations


def test_half_of_a_batch_is_found() -> None:
    """A batch that is there at all is there whole, acknowledged or not."""
    assert kinds(look(account(put(1, A), put(2, A, B), acked=1), 2, {A: value(A, 2)})) == ["lost"]
    assert kinds(look(account(put(1, A), put(2, A, B), acked=1), 1, {A: value(A, 2)})) == ["foreign"]


def test_what_was_removed_must_stay_away() -> None:
    """A record that comes back is a violation, in this look and in the next."""
    made = account(put(1, A), put(2, removes=(A,)), acked=2)
    assert kinds(look_at(made, 2, {A: value(A, 1)})) == ["foreign"]
    assert look(made, 2, {}) == []
    assert kinds(look(made, 2, {A: value(A, 1)})) == ["foreign"]


def test_what_a_dead_host_began_in_vain_must_never_come() -> None:
    """Its number is given out again, to another step of another host."""
    made = account(put(1, A), put(2, A), acked=1)
    assert look(made, 1, {A: value(A, 1)}) == []
    made.begin(Seq(2), put(2, B, host=2))
    made.ack(Seq(2))
    assert kinds(look_at(made, 2, {A: value(A, 2), B: value(B, 2, host=2)})) == ["foreign"]
    assert look(made, 2, {A: value(A, 1), B: value(B, 2, host=2)}) == []


def test_what_the_worker_had_received_must_be_there_if_nothing_kept_it() -> None:
    """It survives the host. Where the worker was killed as well, or the disk was full, it may not."""
    made = account(put(1, A), put(2, A), acked=1)
    made.receive(Seq(2), None)
    assert kinds(look(made, 1, {A: value(A, 1)}, drained=True)) == ["lost"]
    made = account(put(1, A), put(2, A), acked=1)
    made.receive(Seq(2), None)
    assert look(made, 1, {A: value(A, 1)}, drained=False) == []
    made = account(put(1, A), put(2, A), acked=1)
    made.receive(Seq(2), None)
    made.new_worker()
    assert look(made, 1, {A: value(A, 1)}, drained=True) == []


# -- snapshots --------------------------------------------------------------------------------------------------------


def test_a_snapshot_that_nobody_acknowledged_may_be_there_or_not() -> None:
    """And once it was found, it may not go back."""
    made = account(put(1, A), snapshot(2), snapshot(3))
    made.ack(Seq(1))
    assert look(made, 3, {A: value(A, 1), S: value(S, 2)}) == []
    assert kinds(look(made, 3, {A: value(A, 1)})) == ["lost"]
    made = account(put(1, A), snapshot(2), snapshot(3), acked=1)
    assert look(made, 1, {A: value(A, 1)}) == []
    assert kinds(look(made, 1, {A: value(A, 1), S: value(S, 2)})) == ["foreign"]


def test_a_critical_snapshot_is_acknowledged_as_a_commit_is() -> None:
    """A newer one may stand for it, an older one may not."""
    steps = (snapshot(1), snapshot(2, critical=True), snapshot(3), put(4, A))
    found = {A: value(A, 4)}
    assert look(account(*steps, acked=4), 4, {**found, S: value(S, 2)}) == []
    assert look(account(*steps, acked=4), 4, {**found, S: value(S, 3)}) == []
    assert kinds(look(account(*steps, acked=4), 4, {**found, S: value(S, 1)})) == ["backwards"]
    assert kinds(look(account(*steps, acked=4), 4, found)) == ["lost"]


def test_a_mere_snapshot_counts_once_it_is_acknowledged_itself() -> None:
    """The gate does not wait for it, so the number of a commit says nothing about it."""
    made = account(snapshot(1), put(2, A), acked=2)
    assert look(made, 2, {A: value(A, 2)}) == []
    made = account(snapshot(1), put(2, A), acked=2)
    made.ack_snapshot(S, Seq(1))
    assert kinds(look(made, 2, {A: value(A, 2)})) == ["lost"]


def test_a_mere_snapshot_under_the_newest_number_is_no_loss() -> None:
    """`durable_seq` passes it as soon as all before it is acknowledged; the store's number does not, and the next host
    is given that number again."""
    made = account(put(1, A), snapshot(2), acked=2)
    assert made.all_acked
    assert look(made, 1, {A: value(A, 1)}) == []
    made.begin(Seq(2), put(2, A, host=2))
    made.ack(Seq(2))
    assert made.acked == 2
    assert look(made, 2, {A: value(A, 2, host=2)}) == []


def test_commits_and_snapshots_of_one_key_keep_their_order() -> None:
    """The later of the two wins, whichever it is; also over several looks."""
    made = account(snapshot(1, M, critical=True), put(2, M), acked=2)
    assert look(made, 2, {M: value(M, 2)}) == []
    assert kinds(look_at(made, 2, {M: value_of(M, Origin(1, Seq(1), 50))})) == ["backwards"]
    made = account(put(1, M), snapshot(2, M, critical=True), acked=2)
    assert kinds(look_at(made, 2, {M: value(M, 1)})) == ["backwards"]
    assert look(made, 2, {M: value_of(M, Origin(1, Seq(2), 50))}) == []
    made = account(snapshot(1, M, critical=True), put(2, removes=(M,)), acked=2)
    assert look(made, 2, {}) == []
    assert look(made, 2, {}) == []


def test_a_critical_snapshot_that_went_with_its_host_is_not_waited_for() -> None:
    """Commits had overtaken it, nobody acknowledged it: the acknowledgements of the next host are not about it."""
    made = account(snapshot(1, critical=True), put(2, A))
    assert look(made, 2, {A: value(A, 2)}) == []
    made.begin(Seq(3), put(3, B, host=2))
    made.ack(Seq(3))
    assert look(made, 3, {A: value(A, 2), B: value(B, 3, host=2)}) == []


# -- epochs -----------------------------------------------------------------------------------------------------------


def test_epochs_rise() -> None:
    """Two workers with one epoch would be two writers."""
    made = Account()
    assert made.greet(1) == made.greet(3) == []
    assert kinds(made.greet(3)) == ["fencing"]
    assert kinds(made.greet(2)) == ["fencing"]


# -- against a store that does it right -------------------------------------------------------------------------------


@dataclass
class Disk:
    """A store by the book: commits in order, a snapshot at any later time unless a commit of its key came between."""

    records: dict[Key, bytes] = field(default_factory=dict)
    last: int = 0

    def apply(self, seq: int, step: Step) -> None:
        self.last = seq
        if isinstance(step, Snapshot):
            self.records[step.key] = value_of(step.key, step.value)
            return
        for key in step.removes:
            self.records.pop(key, None)
        self.records.update({key: value_of(key, origin) for key, origin in step.puts.items()})


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sets(st.sampled_from([A, B, M]), min_size=1)),
        st.tuples(st.just("remove"), st.sets(st.sampled_from([A, B, M]), min_size=1)),
        st.tuples(st.sampled_from(["mere", "critical"]), st.sets(st.sampled_from([S, M]), min_size=1, max_size=1)),
    ),
    max_size=20,
)


@given(lives=st.lists(st.tuples(STEPS, st.integers(0, 20), st.integers(0, 20)), max_size=5), drops=st.randoms())
def test_a_store_by_the_book_never_offends(
    lives: list[tuple[list[tuple[str, set[Key]]], int, int]], drops: Random
) -> None:
    """Whatever is submitted, acknowledged, and lost un-acknowledged with each host; and any record taken away from, or
    put back in, what a look found is a violation."""
    disk, made = Disk(), Account()
    for host, (steps, durable, acked) in enumerate(lives, 1):
        first = disk.last + 1
        for seq, (kind, keys) in enumerate(steps, first):
            match kind:
                case "put":
                    step: Step = put(seq, *keys, host=host)
                case "remove":
                    step = Commit({}, tuple(keys))
                case _:
                    step = Snapshot(min(keys), Origin(host, Seq(seq), 50), kind == "critical")
            made.begin(Seq(seq), step)
            if seq >= first + durable:
                continue
            if isinstance(step, Snapshot) and drops.random() < 0.5:
                # Commits overtake a snapshot. One that is critical holds up what may be acknowledged.
                acked = min(acked, seq - first) if step.critical else acked
                continue
            disk.apply(seq, step)
        made.ack(Seq(min(disk.last, first - 1 + acked)))
        assert look(made, disk.last, disk.records) == []
    for key in disk.records:
        rest = {other: content for other, content in disk.records.items() if other != key}
        assert kinds(look_at(made, disk.last, rest)) == ["lost"]
    for key in {A, B, M, S} - disk.records.keys():
        assert kinds(look_at(made, disk.last, {**disk.records, key: value(key, 1)})) == ["foreign"]


# -- values -----------------------------------------------------------------------------------------------------------


@given(st.sampled_from([A, S]), st.integers(1, 99), st.integers(0, 10**9), st.integers(0, 3000), st.data())
def test_a_value_says_what_it_is(key: Key, host: int, seq: int, size: int, data: st.DataObject) -> None:
    """Whole, it names its origin; with any byte changed, cut or added, or under another key, it names none."""
    origin = Origin(host, Seq(seq), size)
    content = value_of(key, origin)
    assert origin_of(key, content) == origin
    assert origin_of(B, content) is None
    at = data.draw(st.integers(0, len(content) - 1))
    assert origin_of(key, content[:at]) is None
    assert origin_of(key, content + b"x") is None
    changed = bytes([content[at] ^ data.draw(st.integers(1, 255))])
    assert origin_of(key, content[:at] + changed + content[at + 1 :]) in (None, origin)
