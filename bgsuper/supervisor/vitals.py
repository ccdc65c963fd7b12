"""How a living worker fares, by psutil. Never the truth about death (that is the pidfd's), never a wait."""

from __future__ import annotations

from typing import NamedTuple

import psutil


class Vitals(NamedTuple):
    """One look. None where the platform denies the figure."""

    status: str  #: psutil's word: running, sleeping, disk-sleep, stopped, tracing-stop, zombie, ... or "gone"
    rss_bytes: int | None = None
    cpu_s: float | None = None  #: user and system time since its start
    write_bytes: int | None = None  #: caused to be written to storage


class Watch:
    """Looks at one worker."""

    def __init__(self, pid: int) -> None:
        self._process: psutil.Process | None = None
        try:
            self._process = psutil.Process(pid)
        except (psutil.Error, OSError):
            pass  # died meanwhile, or there is no /proc: look() says so

    def look(self) -> Vitals:
        if self._process is None:
            return Vitals("unknown")
        try:
            with self._process.oneshot():
                status = self._process.status()
                if status == psutil.STATUS_ZOMBIE:
                    return Vitals(status)
                cpu = self._process.cpu_times()
                return Vitals(
                    str(status),
                    self._process.memory_info().rss,
                    cpu.user + cpu.system,
                    self._write_bytes(self._process),
                )
        except psutil.NoSuchProcess:
            return Vitals("gone")
        except Exception:  # noqa: BLE001 - psutil parses /proc, and whatever goes wrong there decides nothing
            return Vitals("unknown")

    @staticmethod
    def _write_bytes(process: psutil.Process) -> int | None:
        try:
            return int(process.io_counters().write_bytes)
        except (psutil.AccessDenied, AttributeError):
            return None  # AttributeError: no io_counters on macOS
