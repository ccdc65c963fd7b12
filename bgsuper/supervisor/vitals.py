"""How a living worker fares, by psutil. Never the truth about death (that is the children's), never a wait.

A look reads `stat`, `status`, `statm` and `io` under /proc/PID, and `stat` of one thread. None of them takes the lock
of the worker's memory map, which a worker stuck in the kernel may hold: cmdline, environ, maps and smaps would hang
with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

import psutil

T = TypeVar("T")

#: The letters of /proc/PID/stat, proc(5), in psutil's words.
THREAD_STATES: Final = {
    b"R": psutil.STATUS_RUNNING,
    b"S": psutil.STATUS_SLEEPING,
    b"D": psutil.STATUS_DISK_SLEEP,
    b"T": psutil.STATUS_STOPPED,
    b"t": psutil.STATUS_TRACING_STOP,
    b"Z": psutil.STATUS_ZOMBIE,
    b"X": psutil.STATUS_DEAD,
    b"x": psutil.STATUS_DEAD,
    b"W": psutil.STATUS_WAKING,
    b"P": psutil.STATUS_PARKED,
    b"I": psutil.STATUS_IDLE,
}


class Vitals(NamedTuple):
    """One look. None where the platform denies the figure."""

    status: str  #: psutil's word: running, sleeping, disk-sleep, stopped, tracing-stop, zombie, ... or "gone"
    rss_bytes: int | None = None
    cpu_s: float | None = None  #: user and system time since its start
    write_bytes: int | None = None  #: caused to be written to storage
    switches: int | None = None  #: context switches of its main thread, or of all where the platform counts them so
    lane_status: str | None = None  #: as `status`, of the thread that was asked about; None off Linux


class Watch:
    """Looks at one worker."""

    def __init__(self, pid: int) -> None:
        self._process: psutil.Process | None
        try:
            self._process = psutil.Process(pid)
        except Exception:  # noqa: BLE001 - died meanwhile, or there is no /proc: look() says so
            self._process = None

    def look(self, lane: int | None = None) -> Vitals:
        """How it fares now; `lane` is the native id of the worker's snapshot thread, if it has one. Never raises."""
        if self._process is None:
            return Vitals("unknown")
        process = self._process
        try:
            with process.oneshot():
                status = str(process.status())
                if status == psutil.STATUS_ZOMBIE:
                    return Vitals(status)
                return Vitals(
                    status,
                    rss_bytes=_figure(lambda: int(process.memory_info().rss)),
                    cpu_s=_figure(lambda: sum(process.cpu_times()[:2])),
                    write_bytes=_figure(lambda: int(process.io_counters().write_bytes)),
                    switches=_figure(lambda: sum(process.num_ctx_switches())),
                    lane_status=None if lane is None else thread_status(process.pid, lane),
                )
        except psutil.ZombieProcess:
            return Vitals(psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return Vitals("gone")
        except Exception:  # noqa: BLE001 - psutil parses /proc, and whatever goes wrong there decides nothing
            return Vitals("unknown")


def _figure(ask: Callable[[], T]) -> T | None:
    """None where the platform has no such figure (no io_counters on macOS), denies it, or says something odd."""
    try:
        return ask()
    except psutil.NoSuchProcess:
        raise
    except Exception:  # noqa: BLE001 - the other figures are still good
        return None


def thread_status(pid: int, thread: int) -> str | None:
    """The state of one thread in psutil's words, which has none for threads; None off Linux, or if it is gone."""
    try:
        with open(f"/proc/{pid}/task/{thread}/stat", "rb") as file:
            stat = file.read(4096)
    except OSError:
        return None
    # "tid (name) S ...": the name may hold anything, ")" too.
    return THREAD_STATES.get(stat.rpartition(b")")[2].strip()[:1])
