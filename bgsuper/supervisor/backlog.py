"""The backlog: everything submitted and not yet acknowledged, in order, and what of it to send next. Sans-IO.

Rules:
1. A number is given once. Commits are acknowledged in order, cumulatively; `durable` never goes back.
2. After a worker's death everything un-acknowledged is sent again to its successor, commits in order, before any
   snapshot. What the successor claims in HELLO is checked against what was acknowledged and what was submitted.
3. Snapshots are latest-wins per key: one that waits is replaced by a newer one; one on the wire is not. Whoever waits
   for the older one is served by the newer one. At most one per key is in flight, one on the wire.
4. A commit that touches a key overtakes that key's earlier snapshots: they are not sent again, and count as durable
   with it.
5. Commits pass between the chunks of a snapshot, unless one of them touches its key: that one must come after it, or
   the worker would take the snapshot for the newer value.
6. `one_at_a_time` (something submitted is suspected of killing workers): a commit or snapshot goes out only when the
   worker has nothing else in hand, so that whatever it dies of is known.
7. `Backlogged` is raised only from the hard limit on, judged before adding: a `writable` backlog takes any commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple, NoReturn

from ..errors import Backlogged, FrameError, StoreInconsistent
from ..ipc.frames import Kind
from ..ipc.messages import Commit, check_commit_size, encode_commits, encode_message, frame_count
from ..key import Key, Seq, check_key
from .policy import Limits

#: What each commit, snapshot and record costs beside its value, about: its key, and what holds it together.
OVERHEAD_BYTES = 200
#: One `take()` returns at most so many commits and about so many bytes: the thread that encodes them holds the GIL.
TAKE_COMMITS = 32
TAKE_BYTES = 64 * 1024


class _Pending(NamedTuple):
    """A commit, when it was submitted, and what it counts for."""

    commit: Commit
    at: float
    size: int


class _Snapshot(NamedTuple):
    seq: Seq
    key: Key
    pieces: tuple[bytes, ...]
    critical: bool
    size: int


class _Promise:
    """A snapshot's number somebody may wait for, until it, a newer one of its key or a later commit is durable."""

    __slots__ = ("at", "critical", "overtaken_by", "seq")

    def __init__(self, seq: Seq, critical: bool, at: float) -> None:
        self.seq, self.critical, self.at = seq, critical, at
        self.overtaken_by: Seq | None = None


class Backlog:
    """See the module's rules. Not thread-safe: the shell's lock guards it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.submitted = Seq(0)
        self.acked_commit = Seq(0)  #: the newest commit known to be durable
        self.unacked_bytes = 0
        self.one_at_a_time = False
        self._newest_commit = Seq(0)
        self._sent: deque[_Pending] = deque()
        self._queued: deque[_Pending] = deque()
        self._waiting: dict[Key, _Snapshot] = {}
        self._in_flight: dict[Key, _Snapshot] = {}
        self._promises: dict[Key, deque[_Promise]] = {}
        self._wire: Iterator[bytes] | None = None  #: the snapshot being sent, frame by frame
        self._wire_frames = 0  #: and how many are left
        self._wire_key: Key | None = None
        self._wire_first = False  #: a queued commit touches that key

    # -- the host's side ----------------------------------------------------------------------------------------------

    def opened(self, last_commit: Seq, last_seq: Seq) -> None:
        """The store's first HELLO: numbers go on from there."""
        self.acked_commit = self._newest_commit = last_commit
        self.submitted = last_seq

    @property
    def writable(self) -> bool:
        return self.unacked_bytes < self._limits.soft_bytes

    def commit(self, puts: Mapping[Key, bytes], removes: Collection[Key], now: float) -> Seq:
        """Number and queue one atomic batch. Raises `Backlogged`, `ConfigError`, `TypeError`: then nothing changed."""
        if self.unacked_bytes >= self._limits.hard_bytes:
            self._refuse()
        items = []
        payload = 0
        for key, value in puts.items():
            if type(value) is not bytes:
                raise TypeError(
                    f"expected the value of {key} to be bytes, got {type(value).__name__}: pass an immutable copy"
                )
            items.append((check_key(key), value))
            payload += len(value)
        gone = tuple(map(check_key, removes)) if removes else ()
        check_commit_size(puts, gone, payload)
        size = payload + OVERHEAD_BYTES * (1 + len(items) + len(gone))
        seq = Seq(self.submitted + 1)
        commit = Commit(seq, self._newest_commit, tuple(items), gone)
        self.submitted = self._newest_commit = seq
        self.unacked_bytes += size
        self._queued.append(_Pending(commit, now, size))
        if self._promises:
            self._overtake(commit)
        return seq

    def snapshot(self, key: Key, pieces: Iterable[bytes], critical: bool, now: float) -> Seq:
        """Number and queue a whole value. The pieces are kept, not joined. Raises as `commit` does."""
        if self.unacked_bytes >= self._limits.hard_bytes:
            self._refuse()
        key = check_key(key)
        kept = tuple(pieces)
        for piece in kept:
            if type(piece) is not bytes:
                raise TypeError(
                    f"expected the pieces of {key} to be bytes, got {type(piece).__name__}: pass immutable copies"
                )
        content = sum(map(len, kept))
        check_commit_size((key,), (), content)
        seq = Seq(self.submitted + 1)
        self.submitted = seq
        replaced = self._waiting.pop(key, None)
        if replaced is not None:
            self.unacked_bytes -= replaced.size
        # A critical promise that rests on the replaced one now rests on this one, so it must be written as critical.
        critical_now = critical or (replaced is not None and replaced.critical)
        self._waiting[key] = _Snapshot(seq, key, kept, critical_now, content + OVERHEAD_BYTES)
        self.unacked_bytes += content + OVERHEAD_BYTES
        self._promises.setdefault(key, deque()).append(_Promise(seq, critical, now))
        return seq

    def _refuse(self) -> NoReturn:
        raise Backlogged(
            f"{self.unacked_bytes} bytes are un-acknowledged, the hard limit is {self._limits.hard_bytes}: "
            "check `writable` before submitting, or await drain()"
        )

    def _overtake(self, commit: Commit) -> None:
        for key in (*(key for key, _ in commit.puts), *commit.removes):
            for promise in self._promises.get(key, ()):
                promise.overtaken_by = promise.overtaken_by or commit.seq
            waiting = self._waiting.pop(key, None)
            if waiting is not None:
                self.unacked_bytes -= waiting.size
            self._wire_first = self._wire_first or key == self._wire_key

    # -- what is durable ----------------------------------------------------------------------------------------------

    @property
    def durable(self) -> Seq:
        """All commits and critical snapshots up to this number are durable."""
        bound = self._sent_or_queued()
        limit = bound.commit.seq - 1 if bound is not None else self.submitted
        for promises in self._promises.values():
            for promise in promises:
                if promise.critical:
                    limit = min(limit, promise.seq - 1)
                    break
        return Seq(limit)

    def is_durable(self, seq: Seq) -> bool:
        """Whether everything up to `seq` that matters is durable, and `seq` itself even if it is a mere snapshot."""
        if seq > self.durable:
            return False
        return not any(promise.seq == seq for promises in self._promises.values() for promise in promises)

    def settled(self, seq: int) -> bool:
        """Whether nothing up to `seq` is on its way any more, mere snapshots included."""
        waits = any(promise.seq <= seq for promises in self._promises.values() for promise in promises)
        return seq <= self.durable and not waits

    @property
    def in_hand(self) -> bool:
        """Whether the worker was given anything that it has not acknowledged."""
        return bool(self._sent or self._in_flight)

    @property
    def unacked(self) -> int:
        """How many commits and snapshots are submitted and not acknowledged."""
        return len(self._sent) + len(self._queued) + sum(map(len, self._promises.values()))

    def oldest(self) -> float | None:
        """When the oldest un-acknowledged commit or critical snapshot was submitted."""
        bound = self._sent_or_queued()
        oldest = bound.at if bound is not None else None
        # Asked for in every pass of the shell: each key's promises are in order, so one look at each key is enough.
        for promises in self._promises.values():
            first = next((promise.at for promise in promises if promise.critical), None)
            if first is not None and (oldest is None or first < oldest):
                oldest = first
        return oldest

    def _sent_or_queued(self) -> _Pending | None:
        if self._sent:
            return self._sent[0]
        return self._queued[0] if self._queued else None

    # -- the worker's side --------------------------------------------------------------------------------------------

    def replay(self, last_commit: Seq) -> None:
        """A successor said HELLO with `last_commit`: drop what it has, queue the rest again.

        Raises `StoreInconsistent` if it lacks what was acknowledged, or has what was never submitted.
        """
        if not self.acked_commit <= last_commit <= self._newest_commit:
            raise StoreInconsistent(
                f"the store's newest commit is {last_commit}, but {self.acked_commit} was acknowledged and "
                f"{self._newest_commit} was submitted: another program wrote to it, or it was replaced; restore it"
            )
        while self._queued:
            self._sent.append(self._queued.popleft())
        self._queued, self._sent = self._sent, self._queued
        self._forget(self._queued, last_commit)
        self._end_wire()
        for key, snapshot in self._in_flight.items():
            promises = self._promises.get(key)
            newer = self._waiting.get(key)
            if newer is not None:
                # Whoever waits for the older one is served by the newer one, with the same care.
                self._waiting[key] = newer._replace(critical=newer.critical or snapshot.critical)
                self.unacked_bytes -= snapshot.size
            elif promises and not all(promise.overtaken_by for promise in promises):
                self._waiting[key] = snapshot
            else:
                self.unacked_bytes -= snapshot.size
        self._in_flight.clear()

    def acked(self, seq: int) -> None:
        """ACK: commits up to `seq` are durable. `FrameError` if that cannot be."""
        newest = self._sent[-1].commit.seq if self._sent else self.acked_commit
        if not self.acked_commit <= seq <= newest:
            raise FrameError(f"an ACK of {seq} came, but {self.acked_commit} is acknowledged and {newest} was sent")
        self._forget(self._sent, Seq(seq))

    def _forget(self, pending: deque[_Pending], upto: Seq) -> None:
        while pending and pending[0].commit.seq <= upto:
            self.unacked_bytes -= pending.popleft().size
        self.acked_commit = max(self.acked_commit, upto)
        if not self._promises:
            return
        for key, promises in list(self._promises.items()):
            while promises and promises[0].overtaken_by is not None and promises[0].overtaken_by <= upto:
                promises.popleft()
            if not promises:
                del self._promises[key]

    def snapshot_done(self, seq: int) -> tuple[Key, list[Seq]]:
        """SNAPSHOT_ACK or SNAPSHOT_FAILED: the key, and the numbers that this one settles. `FrameError` if none such
        is in flight."""
        snapshot = next((snapshot for snapshot in self._in_flight.values() if snapshot.seq == seq), None)
        if snapshot is None:
            raise FrameError(f"the worker speaks of snapshot {seq}, but none such is in flight")
        key = snapshot.key
        del self._in_flight[key]
        self.unacked_bytes -= snapshot.size
        settled = []
        promises = self._promises.get(key, deque())
        while promises and promises[0].seq <= seq:
            promise = promises.popleft()
            settled.append(promise.seq)
        if not promises:
            self._promises.pop(key, None)
        return key, settled

    def drop_snapshot(self, seq: Seq) -> tuple[Key, list[Seq]] | None:
        """Give up a snapshot in flight, unless it is critical; as `snapshot_done`."""
        snapshot = next((snapshot for snapshot in self._in_flight.values() if snapshot.seq == seq), None)
        return None if snapshot is None or snapshot.critical else self.snapshot_done(seq)

    # -- sending ------------------------------------------------------------------------------------------------------

    @property
    def next_commit(self) -> Seq | None:
        """The oldest commit that is not on its way, if there is one."""
        return self._queued[0].commit.seq if self._queued else None

    @property
    def has_output(self) -> bool:
        if self.one_at_a_time and self._wire is None and (self._sent or self._in_flight):
            return False
        return bool(self._queued) or self._wire is not None or self._next_snapshot() is not None

    @property
    def unsent(self) -> bool:
        """Whether anything is yet to be put on the wire, now or later."""
        return bool(self._queued or self._waiting) or self._wire is not None

    @property
    def half_sent(self) -> bool:
        """Whether a snapshot is on the wire, and more of it is to come."""
        return self._wire is not None

    def alone(self) -> Seq | None:
        """The number of the only thing that the worker has in hand, if it is only one."""
        if len(self._sent) + len(self._in_flight) != 1:
            return None
        if self._sent:
            return self._sent[0].commit.seq
        return next(iter(self._in_flight.values())).seq

    def describe(self, seq: Seq) -> str:
        """What was submitted under a number that is not acknowledged, in words; values are nobody's to read."""
        for pending in (*self._sent, *self._queued):
            if pending.commit.seq == seq:
                keys = [*(key for key, _ in pending.commit.puts), *pending.commit.removes]
                more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
                return f"commit {seq} ({', '.join(map(str, keys[:3]))}{more})"
        for snapshot in (*self._in_flight.values(), *self._waiting.values()):
            if snapshot.seq == seq:
                return f"snapshot {seq} ({snapshot.key})"
        return str(seq)

    def take(self) -> Iterator[bytes]:
        """The frames to send next, as bytes pieces; encoding happens as they are drawn. Empty if nothing waits."""
        if not self.has_output:
            return iter(())
        if self._queued and not self._wire_first and not (self.one_at_a_time and self._wire is not None):
            return self._take_commits()
        if self._wire is None:
            snapshot = self._next_snapshot()
            if snapshot is None:
                return iter(())
            del self._waiting[snapshot.key]
            self._in_flight[snapshot.key] = snapshot
            fields = [*snapshot.key, snapshot.critical]
            self._wire = encode_message(Kind.SNAPSHOT, snapshot.seq, fields, snapshot.pieces)
            self._wire_frames = frame_count(snapshot.size - OVERHEAD_BYTES)
            self._wire_key = snapshot.key
        return self.take_rest()

    def take_rest(self) -> Iterator[bytes]:
        """The next frame of the snapshot on the wire."""
        wire = self._wire
        assert wire is not None
        self._wire_frames -= 1
        if not self._wire_frames:
            self._end_wire()
        return islice(wire, 1)

    def _end_wire(self) -> None:
        self._wire = self._wire_key = None
        self._wire_first = False

    def _take_commits(self) -> Iterator[bytes]:
        batch: list[Commit] = []
        size = 0
        most = 1 if self.one_at_a_time else TAKE_COMMITS
        while self._queued and len(batch) < most:
            if batch and size + self._queued[0].size > TAKE_BYTES:
                break  # one that is large goes alone: with others it might exceed what a message may hold
            pending = self._queued.popleft()
            self._sent.append(pending)
            batch.append(pending.commit)
            size += pending.size
        return encode_commits(batch)

    def _next_snapshot(self) -> _Snapshot | None:
        return next((s for key, s in self._waiting.items() if key not in self._in_flight), None)
