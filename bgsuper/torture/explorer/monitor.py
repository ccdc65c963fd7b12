"""What must hold, whatever dies: the rules, and what one must have seen to check them.

The monitor stands outside: it sees what the host submits, every word that a worker says, every entry that it writes,
and the disk's true state. Each rule has a name, which a `Violation` carries:

    acked          what a worker acknowledged, or said in HELLO, survives a power cut from that very moment on
    whole          what is in the store is exactly the commits up to the number that it claims, in order, each whole
    unsubmitted    nothing is in the store that the host did not submit
    backwards      no record ever goes back to an older snapshot or commit, once it was certain
    one-writer     nobody opens the store beside another that has it; no fenced writer writes; epochs rise
    gate           no output leaves before its cause would survive a power cut
    read           a read sees every commit before it, and nothing is read as absent that is there
    recovery       opening the store again, and once more, changes nothing and never fails
    gave-up        the supervisor fails only for what nobody can mend (a sync that failed twice, a first start)
    at-rest        left in peace, everything that a living host submitted becomes durable, and its gate is open
    code           the code under test raises nothing of its own
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from ...errors import StoreFull, SyncFailed, WorkerStartFailed
from ...ipc.frames import Kind
from ...ipc.remote import RemoteException
from ...key import Key, Seq
from .disk import Content, Disk
from .effects import Append, RemoveFile, Say, Script, Sync
from .host import Host
from .store import ModelStore


class Violation(Exception):
    """A rule is broken."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(rule, text)  # so that it can be pickled
        self.rule = rule

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


class Commit(NamedTuple):
    seq: int
    changes: tuple[tuple[Key, bytes | None], ...]


class Snapshot(NamedTuple):
    key: Key
    content: bytes


class Monitor:
    """See the module's rules."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []  #: what the living host submitted, and what it found; ascending
        self.snapshots: dict[int, Snapshot] = {}
        self.acked = 0  #: the newest commit that anybody said to be durable
        self.acked_snapshots: dict[Key, int] = {}
        self.epoch = 0  #: the greatest that was claimed
        self.stamps: dict[Key, int] = {}  #: what each record certainly came from when last looked at

    # -- the host -----------------------------------------------------------------------------------------------------

    def submitted(self, seq: int, changes: Iterable[tuple[Key, bytes | None]]) -> None:
        self.commits.append(Commit(seq, tuple(changes)))

    def submitted_snapshot(self, seq: int, key: Key, content: bytes) -> None:
        self.snapshots[seq] = Snapshot(key, content)

    def host_opened(self, last_commit: int, last_seq: int) -> None:
        """A new host goes on from what its worker found: what its predecessor had submitted beyond that is no more."""
        self.commits = [commit for commit in self.commits if commit.seq <= last_commit]
        self.snapshots = {seq: snapshot for seq, snapshot in self.snapshots.items() if seq <= last_seq}

    def released(self, outputs: list[Seq], disk: Disk) -> None:
        if not outputs:
            return
        certain = disk.certain()
        for seq in outputs:
            snapshot = self.snapshots.get(seq)
            newest = certain.last_commit if snapshot is None else self._stamp(certain, snapshot.key)
            if newest < seq:
                raise Violation("gate", f"the output of {seq} left, but {seq} would not survive a power cut")

    def answered(self, answer: object, after: int, key: Key, submitted: int) -> None:
        if isinstance(answer, RemoteException):
            return  # a read that failed is not an answer; the host knows
        assert isinstance(answer, list)
        before = [commit for commit in self.commits if commit.seq <= after and key in dict(commit.changes)]
        allowed = [dict(commit.changes)[key] for commit in before[-1:]] or [None]
        allowed += [
            dict(commit.changes)[key]
            for commit in self.commits
            if after < commit.seq <= submitted and key in dict(commit.changes)
        ]
        found = answer[0][1] if answer else None
        if found not in allowed:
            raise Violation("read", f"a read of {key} after commit {after} gave {found!r}, expected one of {allowed}")

    def host_failed(self, host: Host, failed_syncs: int, deaths: int, shortages: int) -> None:
        """Whether the supervisor may give up after so many failed syncs, deaths of processes, shortages of space."""
        match host.core.failure():
            case SyncFailed():
                expected = failed_syncs >= (2 if host.core.greeted else 1)
            case WorkerStartFailed():
                expected = deaths >= 1  # a first start that fails is the host's to know at once
            case StoreFull():
                # Neither a first start nor a stop() waits for space.
                expected = shortages >= 1 and (not host.core.greeted or host.core.stopping)
            case _:
                expected = False
        if not expected:
            failure = host.core.failure()
            raise Violation("gave-up", f"the supervisor gave up: {type(failure).__name__}: {failure}")

    # -- the worker ---------------------------------------------------------------------------------------------------

    def opens(self, others: int) -> None:
        if others:
            raise Violation("one-writer", "a worker opened the store beside another that has it open")

    def launches(self, predecessor_lives: bool) -> None:
        if predecessor_lives:
            raise Violation("one-writer", "a successor was launched while its predecessor lived")

    def writes(self, effect: Append) -> None:
        if effect.entry.epoch < self.epoch:
            raise Violation("one-writer", f"epoch {effect.entry.epoch} wrote, but {self.epoch} had been claimed")

    def says(self, word: Say, disk: Disk) -> None:
        match word.kind:
            case Kind.HELLO:
                self._hello(word, disk.certain())
            case Kind.ACK:
                certain = disk.certain()
                if word.seq > certain.last_commit:
                    raise Violation(
                        "acked",
                        f"{word.seq} was acknowledged, but only {certain.last_commit} would survive a power cut",
                    )
                self.acked = max(self.acked, word.seq)
            case Kind.SNAPSHOT_ACK:
                key = self.snapshots[word.seq].key
                if self._stamp(disk.certain(), key) < word.seq:
                    raise Violation("acked", f"snapshot {word.seq} was acknowledged, but would not survive a power cut")
                self.acked_snapshots[key] = max(self.acked_snapshots.get(key, 0), word.seq)
                self.check(disk)

    def _hello(self, word: Say, certain: Content) -> None:
        epoch, last_commit, last_seq, _, _ = word.fields
        if (epoch, last_commit) != (certain.epoch, certain.last_commit):
            raise Violation(
                "acked",
                f"HELLO claimed epoch {epoch} and commit {last_commit}, but after a power cut it would be "
                f"{certain.epoch} and {certain.last_commit}",
            )
        if last_seq != max(certain.last_commit, certain.last_snapshot):
            raise Violation("acked", f"HELLO claimed {last_seq}, but {certain.last_snapshot} is the last snapshot")
        if certain.epoch <= self.epoch:
            raise Violation("one-writer", f"epoch {epoch} came after epoch {self.epoch}")
        self.epoch = certain.epoch

    # -- the disk -----------------------------------------------------------------------------------------------------

    def check(self, disk: Disk) -> None:
        """What is certain now is all that was acknowledged, is whole, and has not gone back."""
        certain = disk.certain()
        if certain.last_commit < self.acked:
            raise Violation(
                "acked", f"{self.acked} was acknowledged, but {certain.last_commit} is the last that is left"
            )
        for key, seq in self.acked_snapshots.items():
            if self._stamp(certain, key) < seq:
                raise Violation("acked", f"snapshot {seq} of {key} was acknowledged, and is gone")
        self.check_content(certain)
        for key, value in certain.values.items():
            if value.stamp < self.stamps.get(key, 0):
                raise Violation("backwards", f"{key} went from {self.stamps[key]} back to {value.stamp}")
            if value.file is not None and not disk.is_certain(value.file):
                raise Violation("acked", f"{key} points to {value.file}, which would not survive a power cut")
            self.stamps[key] = value.stamp

    def check_content(self, content: Content) -> None:
        """`content` is what was submitted up to the number that it claims, no more and no less."""
        expected: dict[Key, tuple[int, bytes | None]] = {}
        last = 0
        for seq, changes in self.commits:
            if seq > content.last_commit:
                break
            last = seq
            for key, value in changes:
                expected[key] = (seq, value)
        if last != content.last_commit:
            raise Violation("unsubmitted", f"the store's last commit is {content.last_commit}, which nobody submitted")
        for key in expected.keys() | content.values.keys():
            stamp, value = expected.get(key, (0, None))
            found = content.values.get(key)
            if found is None:
                raise Violation("whole", f"{key} is missing; commit {stamp} wrote it")
            if found.file is not None:
                snapshot = self.snapshots.get(found.stamp)
                if snapshot is None or snapshot.key != key:
                    raise Violation("unsubmitted", f"{key} holds a snapshot {found.stamp} that nobody submitted")
                if found.stamp < stamp:
                    raise Violation("backwards", f"{key} holds snapshot {found.stamp}, but commit {stamp} is newer")
            elif (found.stamp, found.value) != (stamp, value):
                raise Violation("whole", f"{key} holds {found.value!r} of {found.stamp}, expected {value!r} of {stamp}")

    @staticmethod
    def _stamp(content: Content, key: Key) -> int:
        found = content.values.get(key)
        return found.stamp if found is not None else 0

    # -- at rest ------------------------------------------------------------------------------------------------------

    def at_rest(self, host: Host, disk: Disk) -> None:
        """Nothing is left to do: everything is durable, and recovers to the same, twice."""
        self.drained(host)
        certain = disk.certain()
        newest = self.commits[-1].seq if self.commits else 0
        if certain.last_commit != newest:
            raise Violation("at-rest", f"{newest} was submitted, but {certain.last_commit} is the last that is durable")
        self.check(disk)
        self._recovers(disk, certain)

    @staticmethod
    def drained(host: Host) -> None:
        """A host to which nothing happens any more has nothing left that waits."""
        Monitor.ended(host)
        if host.core.backlog.unacked_bytes:
            raise Violation("at-rest", f"{host.core.backlog.unacked_bytes} bytes are kept for nothing")
        if host.questions:
            raise Violation("at-rest", f"{len(host.questions)} reads will never be answered")

    @staticmethod
    def ended(host: Host) -> None:
        """A host that stopped in good order has nothing un-acknowledged left, though a read may go without answer."""
        if host.core.backlog.unacked:
            raise Violation("at-rest", f"{host.core.backlog.unacked} commits and snapshots will never be acknowledged")
        if host.gate is not None and host.gate.state != "open":
            raise Violation("at-rest", "outputs are held, and nothing will let them out")

    def _recovers(self, disk: Disk, before: Content) -> None:
        disk = disk.copy()
        disk.cut("")
        for _ in range(2):
            script: Script = deque()
            store = ModelStore(disk, script, deque())
            store.open()
            for effect in script:
                match effect:
                    case Append(at, entry):
                        disk.write(at, entry)
                    case Sync():
                        disk.sync()
                    case RemoveFile(name):
                        disk.remove_file(name)
            after = disk.certain()
            if (after.values, after.last_commit, after.last_snapshot) != (
                before.values,
                before.last_commit,
                before.last_snapshot,
            ):
                raise Violation("recovery", "opening the store once more changed what is in it")
            self.check(disk)
