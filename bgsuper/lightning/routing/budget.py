"""What a peer may cost us: a token bucket.

Sans-IO; `now` is in seconds. A clock that goes back gives nothing then, and time goes on from there: else a peer in
debt would stay so until the clock has caught up.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much a peer may cost: `burst` at once, `rate` a second in the long run."""

    rate: float
    burst: float


class Budget:
    """Full at first; whatever was spent comes back at the allowance's rate."""

    def __init__(self, allowance: Allowance, now: float) -> None:
        self._allowance = allowance
        self._left = allowance.burst
        self._at = now

    def spend(self, cost: float, now: float) -> None:
        """Charge `cost`, which may leave it in debt: then nothing more should be done for the peer for a while."""
        self._refill(now)
        self._left -= cost

    def wait_s(self, now: float) -> float:
        """Seconds until it is out of debt; 0 if it is not in debt."""
        self._refill(now)
        return max(0.0, -self._left / self._allowance.rate)

    def _refill(self, now: float) -> None:
        elapsed, self._at = max(0.0, now - self._at), now
        self._left = min(self._allowance.burst, self._left + elapsed * self._allowance.rate)
