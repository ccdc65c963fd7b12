"""stop()'s one deadline, cut in two: until `kill_at` the worker may drain; what is left is for SIGKILL to work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: What of the time stop() keeps for SIGKILL to work, as a share and in seconds at most.
KILL_SHARE: Final = 0.2
KILL_RESERVE_S: Final = 2.0
#: Less than this is too little for the kernel to end a healthy process.
KILL_LEAST_S: Final = 0.05


@dataclass(slots=True)
class Stop:
    """When to stop waiting for the worker, and when to give up on its death; None while nobody asked."""

    kill_at: float | None = None
    stop_by: float | None = None
    out_of_time: bool = False  #: `kill_at` has come

    @property
    def asked(self) -> bool:
        return self.stop_by is not None

    def ask(self, now: float, timeout: float) -> bool:
        """Whether that is the first time. Asked again, it can only tighten the deadline."""
        first = self.stop_by is None
        stop_by = now + max(timeout, 2 * KILL_LEAST_S)
        if self.stop_by is None or stop_by < self.stop_by:
            self.stop_by = stop_by
            kill_at = stop_by - min(KILL_RESERVE_S, max(KILL_LEAST_S, KILL_SHARE * timeout))
            self.kill_at = kill_at if self.kill_at is None else min(self.kill_at, kill_at)
        return first

    def timers(self) -> list[float | None]:
        """When it must be looked at next."""
        return [None if self.out_of_time else self.kill_at, self.stop_by]

    def runs_out(self, now: float) -> bool:
        """Whether the time to drain is over, told once."""
        if self.kill_at is None or now < self.kill_at or self.out_of_time:
            return False
        self.out_of_time = True
        return True

    def drained(self, now: float) -> bool:
        """Whether no successor may be launched any more."""
        return self.kill_at is not None and (self.out_of_time or now >= self.kill_at)

    def over(self, now: float) -> bool:
        return self.stop_by is not None and now >= self.stop_by
