"""Time for the processor, and how it notices that the machine slept.

Three clocks: `monotonic` runs the timers (Linux's stops while the machine is suspended), `boottime` goes on during
suspension, `time` is seconds since the Unix epoch. A suspended machine finds its sockets dead, so the processor
disconnects all peers when it wakes. How it notices is a rule of the face that runs it:

- `starved`, on a thread of its own (the seed's rule): its rest, meant to last a tenth of a second, took over a second,
  or the machine was suspended. An app in the background gets no cycles; its sockets may be dead as well.
- `suspended`, on asyncio: only the suspension itself counts, which is what `boottime` gained on `monotonic`. A rest
  there also lasts as long as other tasks hold up the loop, and their blocking calls must not disconnect peers.

Neither counts the time that the processor's own work took: a slow event handler disconnects nobody.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol


class Clock(Protocol):
    """All in seconds."""

    def monotonic(self) -> float: ...
    def boottime(self) -> float: ...
    def time(self) -> float: ...


class SystemClock:
    """The machine's clocks. Without CLOCK_BOOTTIME, and not on macOS, a suspension cannot be told from a long rest."""

    def monotonic(self) -> float:
        return time.monotonic()

    def boottime(self) -> float:
        return time.clock_gettime(_BOOTTIME) if _BOOTTIME is not None else time.monotonic()

    def time(self) -> float:
        return time.time()


def _boottime_id() -> int | None:
    if sys.platform == "darwin":
        # Python's time.monotonic() is mach_absolute_time there, which stops in suspend; CLOCK_MONOTONIC does not.
        return time.CLOCK_MONOTONIC
    return getattr(time, "CLOCK_BOOTTIME", None)


_BOOTTIME = _boottime_id()


class Rest(NamedTuple):
    """What the clocks say of one rest between two turns, in seconds."""

    waited: float  #: how long it took, suspension included
    suspended: float  #: how long the machine was suspended since the end of the last rest


#: Whether a rest means that the machine slept, given the limit in seconds.
SleepRule = Callable[[Rest, float], bool]


def starved(rest: Rest, limit: float) -> bool:
    """For a thread of its own."""
    return rest.waited > limit or rest.suspended > limit


def suspended(rest: Rest, limit: float) -> bool:
    """For asyncio."""
    return rest.suspended > limit


class RestWatch:
    """Measures rests; the loop says when one begins and ends."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began: float | None = None
        self._most = self._lead()[1]

    def begin(self) -> None:
        """A turn ended."""
        self._began = self._clock.boottime()

    def end(self) -> Rest:
        """A turn begins; nothing was waited for before the first."""
        waited = 0.0 if self._began is None else self._clock.boottime() - self._began
        least, most = self._lead()
        rest = Rest(waited, least - self._most)
        self._most = most
        return rest

    def _lead(self) -> tuple[float, float]:
        """Bounds of what boottime is ahead of monotonic. The thread may be held up between two readings, and that must
        not look like a suspension."""
        before = self._clock.monotonic()
        boottime = self._clock.boottime()
        return boottime - self._clock.monotonic(), boottime - before
