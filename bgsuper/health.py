"""What health reports: how the worker fares, in words and figures. Plain data, imported by everybody."""

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
    DISK_FULL = "disk full"  #: no space; the worker retries, nothing is lost
    STOPPED = "stopped"  #: stopped by a signal or a debugger (psutil: stopped, tracing-stop)
    DYING = "dying"  #: killed by us, not yet provably dead
    WEDGED = "wedged"  #: SIGKILL sent and still alive: stuck in the kernel; no successor may start
    EXITED = "exited"  #: dead; its successor is due
    STOPPING = "stopping"  #: draining on our request
    ENDED = "ended"  #: stopped by us, everything acknowledged
    FAILED = "failed"  #: given up; the error comes out of join() and stop()


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
    submitted: Seq
    durable: Seq
    unacked_bytes: int
    oldest_unacked_s: float | None
    sync_last_s: float | None  #: the newest group's transaction, sync included
    sync_p99_s: float | None  #: over the last 1,024 groups
    rss_bytes: int | None
    cpu_percent: float | None
    write_bytes: int | None
