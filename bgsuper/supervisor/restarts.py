"""When a dead worker is replaced, and when that is given up. OTP's words: more than `intensity` deaths within
`period_s` is giving up. Sans-IO."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Final

from ..health import DeathCause
from .policy import RestartPolicy

#: How long a successor waits if the last one could not open the store for now.
UNAVAILABLE_RETRY_S: Final = 2.0
#: So many times the intensity of starts may fail in a row that fail too slowly for the period.
SLOW_BOOTS: Final = 3


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


class Restarts:
    """The budgets of one supervisor, by cause of death."""

    def __init__(self, policy: RestartPolicy, random: Random) -> None:
        self._policy = policy
        self._crashes = RestartBudget(policy, policy.intensity, random)
        self._boot_failures = RestartBudget(policy, policy.start_intensity, random)
        self._failed_syncs: deque[float] = deque()
        self._failed_boots = 0  #: in a row, however slowly
        self._recycled_at: float | None = None

    def delay(self, cause: DeathCause, now: float, *, greeted: bool) -> float | None:
        """A worker died: seconds until its successor may start, or None: no more. What we asked for, and a store
        that cannot be had for now, are not charged; a death before HELLO is charged to both budgets."""
        if cause is DeathCause.ASKED:
            return 0.0
        if cause is DeathCause.UNAVAILABLE:
            return UNAVAILABLE_RETRY_S
        delay = self._crashes.died(now)
        self._failed_boots = 0 if greeted else self._failed_boots + 1
        if self._failed_boots > SLOW_BOOTS * self._policy.start_intensity:
            return None
        if greeted or delay is None:
            return delay
        boot_delay = self._boot_failures.died(now)
        return None if boot_delay is None else max(delay, boot_delay)

    def proved_itself(self, up_s: float) -> bool:
        """A worker made something durable: whether it has been up for long enough to be trusted."""
        self._crashes.proved_itself(up_s)
        self._boot_failures.proved_itself(up_s)
        return up_s >= self._policy.period_s

    def sync_failed(self, now: float) -> bool:
        """Whether that is once too often within the period."""
        while self._failed_syncs and self._failed_syncs[0] <= now - self._policy.period_s:
            self._failed_syncs.popleft()
        again = bool(self._failed_syncs)
        self._failed_syncs.append(now)
        return again

    def may_recycle(self, now: float) -> bool:
        """Whether a worker that is too large is to be replaced: once a period, or one large value would have it
        replaced again and again."""
        if self._recycled_at is not None and now - self._recycled_at < self._policy.period_s:
            return False
        self._recycled_at = now
        return True
