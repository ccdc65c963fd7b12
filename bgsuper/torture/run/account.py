"""The outside world's knowledge of a store: what was begun, sent and acknowledged, and so what must be there. Pure.

Rules, for the store that a new host finds at its newest number D:
1. D is not below what was acknowledged, nor below what the dead host's worker had received if nothing kept it from
   finishing; nor is it above what was begun.
2. Its records are exactly the commits up to D: none lost, none half, none out of order, none of those that a host began
   in vain.
3. The value of a key that snapshots write is the newest commit's or a later snapshot, and never a snapshot older than
   one that was acknowledged, or found there before.
4. Each value is whole, and says that it belongs to its key.
5. Epochs rise: no two workers ever had the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ...key import Key, Seq
from .model import Model
from .values import Origin, origin_of, value_of
from .workload import Commit, Snapshot, Step

What = Literal["lost", "altered", "backwards", "foreign", "ahead", "fencing", "stuck", "failed"]

#: How many violations of one look are kept; a store that lost all says the same a thousand times.
MOST_VIOLATIONS: Final = 50


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must never be. `what` is its kind, `text` one line that names key and numbers."""

    what: What
    text: str


class Account:
    """What is known of one store, over all its hosts."""

    def __init__(self) -> None:
        self.model: Model[Origin] = Model()
        self.begun = Seq(0)  #: the newest number that a host said it was about to submit
        self.acked = Seq(0)  #: the newest commit or critical snapshot that is acknowledged
        #: Those that are not. A mere snapshot is acknowledged by itself, however far the numbers around it are.
        self._unacked: deque[Seq] = deque()
        self.received = Seq(0)  #: what the worker of the present host was sent, whole
        self.commits = self.snapshots = 0
        self.epoch = 0
        #: Snapshots that may be a key's value, in order, and for each key those that it cannot fall behind.
        self._snapshots: dict[Key, list[Snapshot]] = {}
        self._floor: dict[Key, Seq] = {}
        self._received_snapshots: dict[Key, Seq] = {}

    # -- what a host says ---------------------------------------------------------------------------------------------

    def begin(self, seq: Seq, step: Step) -> None:
        """A host is about to submit `step` under `seq`."""
        self.begun = seq
        if isinstance(step, Commit):
            self.commits += 1
            self.model.commit(seq, step.puts, step.removes)
            self._unacked.append(seq)
        else:
            self.snapshots += 1
            if step.critical:
                self._unacked.append(seq)
            self._snapshots.setdefault(step.key, []).append(step)

    def ack(self, seq: Seq) -> None:
        """All commits and critical snapshots up to `seq` are acknowledged."""
        if not self._unacked or seq < self._unacked[0]:
            return
        while self._unacked and self._unacked[0] <= seq:
            self.acked = self._unacked.popleft()
        self.model.ack(self.acked)
        for key, snapshots in self._snapshots.items():
            for snapshot in snapshots:
                if snapshot.critical and snapshot.value.seq <= seq:
                    self._raise_floor(key, snapshot.value.seq)

    @property
    def all_acked(self) -> bool:
        """Whether every commit and critical snapshot of the present host is acknowledged."""
        return not self._unacked

    def ack_snapshot(self, key: Key, seq: Seq) -> None:
        """That very snapshot, or what took its place, is acknowledged."""
        self._raise_floor(key, seq)

    def receive(self, seq: Seq, key: Key | None) -> None:
        """The worker's end of the pipe has all of the commit `seq`, or of the snapshot of `key`."""
        if key is None:
            self.received = max(self.received, seq)
        else:
            self._received_snapshots[key] = seq

    def new_worker(self) -> None:
        """The host launched another worker: what the one before had received was replayed, or is acknowledged."""
        self.received = Seq(0)
        self._received_snapshots.clear()

    def greet(self, epoch: int) -> list[Violation]:
        """A worker says HELLO with `epoch`: rule 5."""
        before, self.epoch = self.epoch, max(epoch, self.epoch)
        if epoch > before:
            return []
        return [Violation("fencing", f"a worker has the epoch {epoch}, but there was one with {before}")]

    def _raise_floor(self, key: Key, seq: Seq) -> None:
        floor = self._floor[key] = max(seq, self._floor.get(key, Seq(0)))
        snapshots = self._snapshots.get(key, [])
        while snapshots and snapshots[0].value.seq < floor:
            del snapshots[0]

    @property
    def snapshot_keys(self) -> Collection[Key]:
        """Every key that a snapshot was ever submitted for."""
        return self._snapshots.keys()

    # -- what a new host finds ----------------------------------------------------------------------------------------

    def look(self, durable: Seq, namespaces: Collection[tuple[str, str]], *, drained: bool) -> Look:
        """A new host opened the store and found `durable` as its newest number; it will read `namespaces`. `drained`:
        nothing kept the dead host's worker from making durable what it had received."""
        violations = []
        if durable < self.acked:
            violations.append(
                Violation("lost", f"the store's newest number is {durable}, but {self.acked} was acknowledged")
            )
        elif drained and durable < self.received:
            violations.append(
                Violation(
                    "lost", f"the store's newest number is {durable}, but the worker had received {self.received}"
                )
            )
        if durable > self.begun:
            violations.append(
                Violation("ahead", f"the store's newest number is {durable}, but nothing after {self.begun} was begun")
            )
        if drained:
            for key, seq in self._received_snapshots.items():
                self._raise_floor(key, seq)
        self.model.settle(durable)
        settled = self.model.acked
        for key, snapshots in self._snapshots.items():
            self._snapshots[key] = [each for each in snapshots if each.value.seq <= settled]
        self.begun = self.acked = settled
        self._unacked.clear()
        self.new_worker()
        return Look(self, namespaces, violations)

    def judge(self, key: Key, value: bytes | None, commit: Origin | None) -> Violation | None:
        """`value` is what the store has under `key`, None if nothing; `commit` what the commits put there."""
        changed_in, floor = self.model.changed_in(key), self._floor.get(key, Seq(0))
        later = [each.value for each in self._snapshots.get(key, ()) if each.value.seq > max(changed_in, floor - 1)]
        if floor > changed_in:
            allowed: list[Origin | None] = [*later]
        else:
            allowed = [commit, *later]
        if value is None:
            return None if None in allowed else Violation("lost", f"{key}: {_expected(allowed)}, missing")
        if any(each is not None and value == value_of(key, each) for each in reversed(allowed)):
            return None
        return self._blame(key, value, allowed)

    def close_look(self, found: Mapping[Key, bytes]) -> None:
        """`found` is what the keys of snapshots have: durable now, so it may not go back. A snapshot that is not there
        will never be, and what was removed need not be known any more."""
        for key, snapshots in self._snapshots.items():
            value = found.get(key)
            there = [each for each in snapshots if value is not None and value == value_of(key, each.value)]
            self._snapshots[key] = there
            self._floor.pop(key, None)
            for each in there:
                self._raise_floor(key, each.value.seq)
        self.model.forget_removed()

    def _blame(self, key: Key, value: bytes, allowed: list[Origin | None]) -> Violation:
        origin = origin_of(key, value)
        if origin is None:
            return Violation("altered", f"{key}: {len(value)} bytes that are damaged or another key's")
        said = f"{key}: what host {origin.host} submitted as {origin.seq}"
        known = [each.seq for each in allowed if each is not None]
        if not known:
            return Violation("foreign", f"{said}, but it should not be there")
        if origin.seq < min(known):
            return Violation("backwards", f"{said}; {_expected(allowed)}")
        return Violation("foreign", f"{said}, which nobody acknowledged; {_expected(allowed)}")


class Look:
    """A comparison under way: give it each record that is read, then take its violations."""

    def __init__(self, account: Account, namespaces: Collection[tuple[str, str]], violations: list[Violation]) -> None:
        self._account = account
        self.violations = violations  #: so far
        records = account.model.at(account.acked)
        self._missing = {key: origin for key, origin in records.items() if key[:2] in namespaces}
        #: The keys of snapshots, and what was found there.
        self._unseen = {key for key in account.snapshot_keys if key[:2] in namespaces}
        self._found: dict[Key, bytes] = {}
        self.records = self.bytes = 0

    def see(self, key: Key, value: bytes) -> None:
        """The store has `value` under `key`."""
        self.records += 1
        self.bytes += len(value)
        if key in self._unseen:
            self._unseen.discard(key)
            self._found[key] = value
        self._add(self._account.judge(key, value, self._missing.pop(key, None)))

    def finish(self) -> list[Violation]:
        """Nothing more is there: every violation, at most `MOST_VIOLATIONS`."""
        for key in self._missing.keys() | self._unseen:
            self._add(self._account.judge(key, None, self._missing.get(key)))
        self._account.close_look(self._found)
        return self.violations[:MOST_VIOLATIONS]

    def _add(self, violation: Violation | None) -> None:
        if violation is not None:
            self.violations.append(violation)


def _expected(allowed: list[Origin | None]) -> str:
    """What was to be there, in words."""
    numbers = [str(each.seq) for each in allowed if each is not None]
    return f"expected that of {' or '.join(numbers[-3:])}" if numbers else "expected nothing"
