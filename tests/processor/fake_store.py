"""A `Durability` in memory: what is durable, and when, is the test's to say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from bgsuper.errors import Backlogged
from bgsuper.health import Health, Transition, WorkerState
from bgsuper.key import Key, Seq


class Entry(NamedTuple):
    seq: int
    puts: dict[Key, bytes]
    removes: tuple[Key, ...]
    lane: str  # "commit", "critical" or "snapshot"


@dataclass
class FakeStore:
    """Nothing is durable before `ack()`, unless `prompt`."""

    prompt: bool = False
    writable: bool = True
    atomic: bool = True
    pending: list[Entry] = field(default_factory=list)
    history: list[Entry] = field(default_factory=list)  #: all that was submitted
    durable: dict[Key, bytes] = field(default_factory=dict)  #: what a restart would find
    submitted: int = 0
    failed: Callable[[], Exception] | None = None
    refuse_snapshots_of: dict[Key, Callable[[], Exception]] = field(default_factory=dict)
    snapshot_errors: dict[int, Callable[[], Exception]] = field(default_factory=dict)
    subscribers: list[Callable[[], None]] = field(default_factory=list)
    started: bool = True
    stopped: bool = False
    stop_error: Exception | None = None

    def start(self, timeout: float = 30.0) -> Seq:
        self.started = True
        return self.durable_seq

    def stop(self, timeout: float = 30.0) -> None:
        self.stopped = True
        if self.stop_error is not None:
            raise self.stop_error

    def commit(self, puts: Mapping[Key, bytes], removes: Collection[Key] = ()) -> Seq:
        return self._submit(Entry(self.submitted + 1, dict(puts), tuple(removes), "commit"))

    def snapshot(self, key: Key, pieces: Iterable[bytes], *, critical: bool = False) -> Seq:
        lane = "critical" if critical else "snapshot"
        return self._submit(Entry(self.submitted + 1, {key: b"".join(pieces)}, (), lane))

    def _submit(self, entry: Entry) -> Seq:
        if self.failed is not None:
            raise self.failed()
        if not self.writable:
            raise Backlogged("submitted while not writable")
        self.submitted = entry.seq
        self.pending.append(entry)
        self.history.append(entry)
        if self.prompt:
            self.ack()
        return Seq(entry.seq)

    @property
    def durable_seq(self) -> Seq:
        return Seq(min((entry.seq - 1 for entry in self.pending if entry.lane != "snapshot"), default=self.submitted))

    def failure(self) -> BaseException | None:
        return self.failed() if self.failed is not None else None

    def wait(self, seq: Seq, timeout: float | None = None) -> None:
        assert timeout == 0, "nobody may wait for the store"
        if seq in self.snapshot_errors:
            raise self.snapshot_errors[seq]()
        if any(entry.seq == seq for entry in self.pending) or seq > self.durable_seq:
            if self.failed is not None:
                raise self.failed()
            raise TimeoutError

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.subscribers.append(callback)
        return lambda: self.subscribers.remove(callback)

    def health(self) -> Health:
        return Health(
            state=WorkerState.READY,
            since_s=1.0,
            evidence="a stand-in",
            atomic=self.atomic,
            gate="open",
            pid=None,
            epoch=1,
            restarts=0,
            last_death=None,
            last_cause=None,
            submitted=Seq(self.submitted),
            durable=self.durable_seq,
            unacked_bytes=0,
            oldest_unacked_s=None,
            sync_last_s=None,
            sync_p99_s=None,
            rss_bytes=None,
            cpu_percent=None,
            write_bytes=None,
        )

    def health_log(self) -> tuple[Transition, ...]:
        return (Transition(0.0, WorkerState.STARTING, WorkerState.READY, "a stand-in", pid=7),)

    # -- the test's side ----------------------------------------------------------------------------------------------

    def ack(self, upto: int | None = None) -> None:
        """All up to `upto` becomes durable, or fails if it is a snapshot to be refused."""
        for entry in [entry for entry in self.pending if upto is None or entry.seq <= upto]:
            self.pending.remove(entry)
            refusal = self.refuse_snapshots_of.get(next(iter(entry.puts), None))  # type: ignore[arg-type]
            if entry.lane == "snapshot" and refusal is not None:
                self.snapshot_errors[entry.seq] = refusal
                continue
            self.durable.update(entry.puts)
            for key in entry.removes:
                self.durable.pop(key, None)
        self.notify()

    def fail(self, error: Callable[[], Exception]) -> None:
        """The worker fails for good."""
        self.failed = error
        self.notify()

    def become_writable(self, writable: bool) -> None:
        self.writable = writable
        self.notify()

    def notify(self) -> None:
        for callback in list(self.subscribers):
            callback()
