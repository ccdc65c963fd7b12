"""What may be on the disk after a power cut: the account of everything that was submitted and acknowledged, kept apart
from all that is judged by it. Pure.

Rules that `Model.problems` holds a recovered store to:
1. It holds exactly the commits up to one number: none half, none out of order, nothing that nobody submitted.
2. That number is not below what was acknowledged.
3. A key's value is its newest commit, or a snapshot of it that came later; never an older one than was acknowledged.
4. A snapshot is there only with every commit that was submitted before it.

Events carry the time at which they happened, so that a disk's log can be judged at any instant: what was acknowledged
before it must be there, what was submitted after it cannot be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ...key import Key, Seq

#: How many lines a report has at most; one cut can spoil every record.
MOST_PROBLEMS: Final = 8


class Committed(NamedTuple):
    """A commit was submitted. Times are nanoseconds of the monotonic clock, read before the submission."""

    at: int
    seq: Seq
    puts: Mapping[Key, bytes]
    removes: frozenset[Key]


class Snapshotted(NamedTuple):
    """A snapshot was submitted."""

    at: int
    seq: Seq
    key: Key
    content: bytes
    critical: bool


class Acknowledged(NamedTuple):
    """All commits and critical snapshots up to `seq` were seen to be durable; the time is read afterwards."""

    at: int
    seq: Seq


class Claimed(NamedTuple):
    """A host was told, when it started, that all commits up to `seq` are durable."""

    at: int
    seq: Seq


class SnapshotAcknowledged(NamedTuple):
    """The snapshot `seq`, or a newer one of its key, was seen to be durable."""

    at: int
    seq: Seq


@dataclass(frozen=True, slots=True)
class Found:
    """What a recovered store claims and holds."""

    last_commit: Seq
    last_seq: Seq
    records: Mapping[Key, bytes]  #: snapshots' contents among them

    @classmethod
    def nothing(cls) -> Found:
        """A new store."""
        return cls(Seq(0), Seq(0), {})


class Recovered(NamedTuple):
    """This was read after a recovery. Whatever else was submitted before never was."""

    at: int
    found: Found


Event = Committed | Snapshotted | Acknowledged | Claimed | SnapshotAcknowledged | Recovered


class _Value(NamedTuple):
    seq: Seq
    content: bytes | None  #: None: removed


_NONE: Final = Seq(0)


@dataclass(slots=True)
class Model:
    """What was durable at the last recovery, and all that happened since."""

    settled: Found = field(default_factory=Found.nothing)
    commits: list[Committed] = field(default_factory=list)
    snapshots: dict[Seq, Snapshotted] = field(default_factory=dict)
    acked: Seq = _NONE
    _acked_snapshots: dict[Key, Seq] = field(default_factory=dict)

    def happen(self, event: Event) -> None:
        """Take note of `event`; they come in the order of their times."""
        match event:
            case Committed():
                self.commits.append(event)
            case Snapshotted():
                self.snapshots[event.seq] = event
            case Acknowledged(seq=seq):
                self.acked = max(self.acked, seq)
                for snapshot in self.snapshots.values():
                    if snapshot.critical and snapshot.seq <= seq:
                        self._ack_snapshot(snapshot)
            case Claimed(seq=seq):
                self.acked = max(self.acked, seq)
            case SnapshotAcknowledged(seq=seq):
                self._ack_snapshot(self.snapshots[seq])
            case Recovered(found=found):
                self.settled, self.acked = found, found.last_commit
                self.commits, self.snapshots, self._acked_snapshots = [], {}, {}

    def _ack_snapshot(self, snapshot: Snapshotted) -> None:
        key = snapshot.key
        self._acked_snapshots[key] = max(snapshot.seq, self._acked_snapshots.get(key, Seq(0)))

    def newest_commit(self, seq: Seq) -> Seq:
        """The newest commit up to the number `seq`; 0 if there is none."""
        seqs = [self.settled.last_commit, *(commit.seq for commit in self.commits)]
        return max((commit for commit in seqs if commit <= seq), default=Seq(0))

    # -- judging ------------------------------------------------------------------------------------------------------

    def problems(self, found: Found) -> list[str]:
        """In what way `found` breaks the rules; empty if it keeps them."""
        problems = list(self._wrong_numbers(found))
        there = self._committed_at(found.last_commit)
        for key in sorted(there.keys() | found.records.keys() | {s.key for s in self.snapshots.values()}):
            problem = self._wrong_value(key, found, there.get(key))
            if problem:
                problems.append(f"{key}: {problem}")
        if len(problems) > MOST_PROBLEMS:
            problems[MOST_PROBLEMS:] = [f"... and {len(problems) - MOST_PROBLEMS} more"]
        return problems

    def _wrong_numbers(self, found: Found) -> Iterable[str]:
        submitted = [self.settled.last_commit, *(commit.seq for commit in self.commits)]
        acknowledged = self.newest_commit(self.acked)
        if found.last_commit < acknowledged:
            yield f"lost: commit {acknowledged} was acknowledged, the newest one there is {found.last_commit}"
        if found.last_commit not in submitted:
            yield f"the store claims commit {found.last_commit}, which nobody submitted"
        if found.last_seq not in {*submitted, *self.snapshots, self.settled.last_seq}:
            yield f"the store claims the number {found.last_seq}, which nobody gave out"
        if found.last_seq < found.last_commit:
            yield f"the store's newest number, {found.last_seq}, is below its newest commit, {found.last_commit}"

    def _wrong_value(self, key: Key, found: Found, committed: _Value | None) -> str | None:
        content = found.records.get(key)
        committed = committed or _Value(Seq(0), None)
        later = [s for s in self.snapshots.values() if s.key == key and s.seq > committed.seq]
        candidates = [committed, *(_Value(s.seq, s.content) for s in later)]
        matching = [value.seq for value in candidates if value.content == content]
        if not matching:
            return self._unmatched(key, content, candidates)
        acknowledged = self._acked_snapshots.get(key, Seq(0))
        if max(matching) < acknowledged:
            return f"goes backwards: the snapshot {acknowledged} was acknowledged, {max(matching)} is there"
        if max(matching) == committed.seq:
            return None
        early = [c.seq for c in self.commits if found.last_commit < c.seq < min(matching)]
        return f"the snapshot {min(matching)} is there without the commit {early[0]} before it" if early else None

    def _unmatched(self, key: Key, content: bytes | None, candidates: list[_Value]) -> str:
        wanted = " or ".join(f"that of {seq}" if value is not None else f"none ({seq})" for seq, value in candidates)
        if content is None:
            return f"missing; the value should be {wanted}"
        known = [c.seq for c in self.commits if c.puts.get(key) == content]
        known += [s.seq for s in self.snapshots.values() if (s.key, s.content) == (key, content)]
        if known:
            return f"has the value of {known[-1]}; it should be {wanted}"
        if self.settled.records.get(key) == content:
            return f"has the value that it had before {self.settled.last_seq}; it should be {wanted}"
        return f"has {len(content)} bytes that nobody submitted; it should be {wanted}"

    def _committed_at(self, seq: Seq) -> dict[Key, _Value]:
        """Each key's newest value in the commit lane once all up to `seq` is there."""
        # What is settled is older than all that was submitted since.
        values = {key: _Value(Seq(0), content) for key, content in self.settled.records.items()}
        for commit in self.commits:
            if commit.seq > seq:
                break
            values.update((key, _Value(commit.seq, content)) for key, content in commit.puts.items())
            values.update((key, _Value(commit.seq, None)) for key in commit.removes)
        return values
