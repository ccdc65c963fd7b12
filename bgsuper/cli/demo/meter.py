"""How late an event loop is: it is asked to wake each millisecond, and each time says how much later it did.

Rules:
1. The schedule is absolute. A loop held up for 50 ms misses 50 wakings and is charged for each of them (49 ms, 48 ms,
   ...), so that the percentiles are those of anybody who waits for this loop, at whatever moment.
2. What the machine adds is in the figures as well: epoll rounds up to a millisecond, and other processes take their
   turn. The demo's idle act shows how much that is.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Final

#: The schedule's period, in seconds.
TICK_S: Final = 0.001
#: What is told apart, in seconds.
_BIN_S: Final = 0.00001


@dataclass(frozen=True, slots=True)
class Lateness:
    """Seconds; None before the first waking."""

    wakings: int
    p50_s: float | None
    p99_s: float | None
    p999_s: float | None
    max_s: float | None


class Histogram:
    """Latenesses, counted in bins of 10 µs; the maximum is exact."""

    def __init__(self) -> None:
        self._bins: Counter[int] = Counter()
        self._max = 0.0

    def add(self, late_s: float) -> None:
        """Count one waking that was `late_s` late."""
        self._bins[int(late_s / _BIN_S)] += 1
        self._max = max(self._max, late_s)

    def summary(self) -> Lateness:
        """The figures so far."""
        wakings = self._bins.total()
        if not wakings:
            return Lateness(0, None, None, None, None)
        p50, p99, p999 = (self._percentile(wakings * share) for share in (0.5, 0.99, 0.999))
        return Lateness(wakings, p50, p99, p999, self._max)

    def _percentile(self, rank: float) -> float:
        seen = 0
        for index in sorted(self._bins):
            seen += self._bins[index]
            if seen >= rank:
                break
        # The bin's upper edge: never better than it was.
        return min((index + 1) * _BIN_S, self._max)


class LatenessMeter:
    """Measures the running loop from `start()` to `stop()`."""

    def __init__(self) -> None:
        self.total = Histogram()
        self.act = Histogram()
        self._worst = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin the schedule on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + TICK_S
        self._timer = self._loop.call_at(self._due, self._wake)

    def stop(self) -> None:
        """End the schedule."""
        if self._timer is not None:
            self._timer.cancel()

    def next_act(self) -> Lateness:
        """The figures of the act that ends; the next one begins."""
        summary = self.act.summary()
        self.act = Histogram()
        return summary

    def take_worst(self) -> float:
        """The worst lateness since the last call, in seconds."""
        worst, self._worst = self._worst, 0.0
        return worst

    def _wake(self) -> None:
        now = self._loop.time()
        while self._due <= now:
            self._note(now - self._due)
            self._due += TICK_S
        self._timer = self._loop.call_at(self._due, self._wake)

    def _note(self, late_s: float) -> None:
        self.total.add(late_s)
        self.act.add(late_s)
        self._worst = max(self._worst, late_s)
