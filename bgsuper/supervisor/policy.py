"""What the host may set: limits of what is un-acknowledged, and when a dead worker is replaced. Data, and one counter.

OTP's words: more than `intensity` deaths within `period_s` is giving up.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields
from random import Random

from ..errors import ConfigError


def _positive(policy: Limits | RestartPolicy) -> None:
    for field in fields(policy):
        value = getattr(policy, field.name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ConfigError(
                f"expected {type(policy).__name__}.{field.name} to be a positive number, got {value!r:.80}"
            )


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be un-acknowledged, in bytes of values, and 200 more for each commit, snapshot and record."""

    soft_bytes: int = 64 * 1024 * 1024  #: from here on `writable` is False and `drain()` waits
    hard_bytes: int = 256 * 1024 * 1024  #: from here on `commit()` and `snapshot()` raise `Backlogged`
    lagging_s: float = 5.0  #: an un-acknowledged commit older than this makes the worker LAGGING

    def __post_init__(self) -> None:
        _positive(self)
        if self.soft_bytes >= self.hard_bytes:
            raise ConfigError(f"soft_bytes ({self.soft_bytes}) must be below hard_bytes ({self.hard_bytes})")


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a dead worker is replaced, and how long anything may take. Durations in seconds."""

    intensity: int = 5  #: so many deaths within `period_s` are survived
    period_s: float = 60.0
    start_intensity: int = 3  #: the same for successors that die before HELLO
    backoff_first_s: float = 0.1  #: the second restart waits up to this long, each later one up to twice as long
    backoff_max_s: float = 30.0
    hello_timeout_s: float = 30.0  #: a successor that has not said HELLO by then is killed
    kill_timeout_s: float = 5.0  #: alive so long after SIGKILL is WEDGED
    stopped_grace_s: float = 10.0  #: a worker stopped by a signal is killed after this long
    vitals_interval_s: float = 1.0  #: how often psutil looks

    def __post_init__(self) -> None:
        _positive(self)


class RestartBudget:
    """Counts deaths; says how long to wait before the next start, or that it is enough."""

    def __init__(self, policy: RestartPolicy, intensity: int, random: Random) -> None:
        self._policy, self._intensity, self._random = policy, intensity, random
        self._deaths: deque[float] = deque()
        self._streak = 0

    def died(self, now: float) -> float | None:
        """Record a death. Seconds until the successor may start (0 for the first in a row), or None: budget spent."""
        policy = self._policy
        self._deaths.append(now)
        while self._deaths[0] <= now - policy.period_s:
            self._deaths.popleft()
        if len(self._deaths) > self._intensity:
            return None
        self._streak += 1
        if self._streak == 1:
            return 0.0
        ceiling = min(policy.backoff_max_s, policy.backoff_first_s * 2.0 ** min(self._streak - 2, 60))
        return self._random.uniform(0.0, ceiling)

    def proved_itself(self, up_s: float) -> None:
        """A worker has been up for `up_s` and made something durable: after a whole period the streak is over."""
        if up_s >= self._policy.period_s:
            self._streak = 0
