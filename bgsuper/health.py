"""What health reports: how the worker fares, in words and figures. Plain data, imported by everybody.

Rule: no state without evidence. `Health.evidence` and each `Transition` say in words what psutil, the kernel or the
worker said that made the supervisor think so; docs/operating.md says what to do about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from .key import Seq


class WorkerState(Enum):
    """The worker as its supervisor sees it."""

    IDLE = "idle"  #: not started yet
    STARTING = "starting"  #: launched, no HELLO yet
    READY = "ready"  #: acknowledging what it is sent
    LAGGING = "lagging"  #: the oldest un-acknowledged commit is older than the limit
    DISK_STALLED = "disk stalled"  #: uninterruptible in the kernel, nothing moves: the disk does not answer
    DISK_FULL = "disk full"  #: no space; the worker retries, nothing is lost
    RETRYING = "retrying"  #: the store is out of reach for now; the worker retries, nothing is lost
    STOPPED = "stopped"  #: stopped by a signal or a debugger (psutil: stopped, tracing-stop)
    HUNG = "hung"  #: work waits, nothing is done, and it is not the disk; about to be killed
    BLOATED = "bloated"  #: more memory than the limit; finishing what it has, to be replaced
    DYING = "dying"  #: killed by us, or ending by itself; not yet provably dead
    WEDGED = "wedged"  #: SIGKILL sent and still alive: stuck in the kernel; no successor may start
    EXITED = "exited"  #: dead; its successor is due
    STOPPING = "stopping"  #: draining on our request
    ENDED = "ended"  #: stopped by us, everything acknowledged
    FAILED = "failed"  #: given up; the error comes out of join() and stop()


class DeathCause(Enum):
    """Why a worker died, as far as its exit status and its last words tell."""

    ASKED = "asked"  #: we asked it to end: stop(), or a planned replacement
    OUTSIDE = "outside"  #: a signal that was not ours: an operator, the OOM killer, a service manager
    KILLED = "killed"  #: SIGKILL by us: it hung, was stopped too long, said nonsense, or stop() ran out of time
    CRASHED = "crashed"  #: by its own doing: a fault signal, an exception of no store's, an exit nobody asked for
    BOOT = "boot"  #: before HELLO, and not for its store's sake; or it could not be launched at all
    STORE = "store"  #: the store, or the user's persister, refused: not to be tried again
    SYNC = "sync"  #: the disk refused a sync
    UNAVAILABLE = "unavailable"  #: the store could not be opened for now: no space or descriptors, or somebody looks
    UNKNOWN = "unknown"  #: another part of the host took the exit status


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state."""

    at: float  #: seconds since 1970 by the clock on the wall, as it stands when the log is read
    before: WorkerState
    state: WorkerState
    evidence: str  #: what it rests on, in words
    pid: int | None  #: the worker's; None while there is none
    cause: DeathCause | None = None  #: where a death is what happened


@dataclass(frozen=True, slots=True)
class Behind:
    """The store was found to be older than its high-water mark says: an old backup, most likely."""

    mark: Seq  #: the highest number, of a commit or a critical snapshot, that is known to have been acknowledged
    store: Seq  #: the newest number, of a commit or a snapshot, that the store had when it was found


@dataclass(frozen=True, slots=True)
class Health:
    """One look at the worker. Durations are seconds, sizes bytes; None where the platform denies the figure."""

    state: WorkerState
    since_s: float  #: how long it has been in that state
    evidence: str  #: why we say so, in words
    atomic: bool  #: False: the target has no atomic batches, or the manager is persisted whole
    gate: Literal["open", "holding", "shut"]
    pid: int | None
    epoch: int
    restarts: int
    last_death: str | None
    last_cause: DeathCause | None
    submitted: Seq
    durable: Seq
    unacked_bytes: int
    oldest_unacked_s: float | None
    sync_last_s: float | None  #: the newest group's transaction, sync included
    sync_p99_s: float | None  #: over the last 1,024 groups
    rss_bytes: int | None
    cpu_percent: float | None
    write_bytes: int | None
    behind: Behind | None = None  #: until `Supervisor.proven_current()`; see docs/operating.md
