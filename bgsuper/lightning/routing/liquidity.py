"""What a scorer believes of one channel: bounds of its liquidity, and a history of them (LDK `ChannelLiquidity`).

Liquidity is what the channel's lesser node could send to the other one, in msat. The lower bound is kept as an offset
from zero, the upper one as an offset from the capacity; seen from the other node the two change places. Both offsets
halve with `OFFSET_HALF_LIFE`, so that bounds grow apart again; the history decays only where no payment brings news.

A history is 32 leaky buckets of fixed-point numbers with 5 fractional bits: how often the offset was in that part of
the capacity. Parts are small at both ends, where most channels' liquidity is. Times are nanoseconds since 1970.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Final

NS_PER_S: Final = 1_000_000_000
OFFSET_HALF_LIFE: Final = 30 * 60 * NS_PER_S
HISTORY_HALF_LIFE: Final = 14 * 24 * 3600 * NS_PER_S

BUCKETS: Final = 32
#: Where each bucket starts, in 2^-14ths of the capacity.
BUCKET_STARTS: Final = (
    0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3072, 4096, 6144,
    8192, 10240, 12288, 13312, 14336, 15360, 15872, 16128, 16256, 16320, 16352, 16368, 16376, 16380, 16382, 16383,
)  # fmt: skip
_POSITIONS: Final = 1 << 14
_ONE: Final = 32
_MAX_BUCKET: Final = 0xFFFF


def no_history() -> array[int]:
    """32 empty buckets of 16 bits."""
    return array("H", bytes(2 * BUCKETS))


@dataclass(slots=True)
class ChannelLiquidity:
    """Both bounds of one channel, and their histories."""

    last_updated: int  #: when either bound was last set, or decayed
    min_offset_msat: int = 0
    max_offset_msat: int = 0
    min_history: array[int] = field(default_factory=no_history)
    max_history: array[int] = field(default_factory=no_history)
    history_updated: int = 0  #: when a payment last brought news, or the history decayed

    def is_worth_keeping(self) -> bool:
        """Whether it says anything that a channel never heard of does not."""
        return bool(self.min_offset_msat or self.max_offset_msat or any(self.min_history) or any(self.max_history))

    def decay(self, now: int) -> None:
        """Time has passed until `now`."""
        elapsed = max(0, now - self.last_updated)
        left = 0.5 ** (elapsed / OFFSET_HALF_LIFE)
        self.min_offset_msat = int(self.min_offset_msat * left)
        self.max_offset_msat = int(self.max_offset_msat * left)
        self.last_updated = now
        quiet = max(0, now - self.history_updated)
        if quiet > HISTORY_HALF_LIFE:
            factor = int(1024.0 * 0.5 ** (quiet / HISTORY_HALF_LIFE))
            for history in (self.min_history, self.max_history):
                for bucket, value in enumerate(history):
                    history[bucket] = value * factor // 1024
            self.history_updated = now

    def directed(self, from_lesser_node: bool, capacity_msat: int) -> DirectedLiquidity:
        """As seen from the node that sends."""
        return DirectedLiquidity(self, from_lesser_node, capacity_msat)


class DirectedLiquidity:
    """A channel's liquidity in one direction, given a capacity: what a payment teaches about it."""

    def __init__(self, liquidity: ChannelLiquidity, from_lesser_node: bool, capacity_msat: int) -> None:
        self._liquidity, self._straight, self._capacity_msat = liquidity, from_lesser_node, capacity_msat

    @property
    def min_msat(self) -> int:
        """At least this much can be sent."""
        return self._min_offset

    @property
    def max_msat(self) -> int:
        """At most this much can be sent."""
        return max(0, self._capacity_msat - self._max_offset)

    def failed_at_channel(self, amount_msat: int, now: int) -> None:
        """It could not send `amount_msat`."""
        if amount_msat < self.max_msat:
            self._set_max(amount_msat, now)
        self._track(0, now)

    def failed_downstream(self, amount_msat: int, now: int) -> None:
        """It could send `amount_msat`; a later channel could not."""
        if amount_msat > self.min_msat:
            self._set_min(amount_msat, now)
        self._track(0, now)

    def successful(self, amount_msat: int, now: int) -> None:
        """It sent `amount_msat`, which is on the other side now."""
        self._set_max(max(0, self.max_msat - amount_msat), now)
        self._track(amount_msat, now)

    def _set_min(self, amount_msat: int, now: int) -> None:
        self._min_offset = amount_msat
        if amount_msat > self.max_msat:
            self._max_offset = 0
        self._liquidity.last_updated = now

    def _set_max(self, amount_msat: int, now: int) -> None:
        self._max_offset = max(0, self._capacity_msat - amount_msat)
        if amount_msat < self._min_offset:
            self._min_offset = 0
        self._liquidity.last_updated = now

    def _track(self, paid_msat: int, now: int) -> None:
        """Count where the bounds were before `paid_msat` moved to the other side."""
        lower, upper = self._min_offset + paid_msat, max(0, self._max_offset - paid_msat)
        liquidity = self._liquidity
        histories = (liquidity.min_history, liquidity.max_history)
        for history, offset in zip(histories if self._straight else histories[::-1], (lower, upper), strict=True):
            _count(history, offset, self._capacity_msat)
        liquidity.history_updated = now

    @property
    def _min_offset(self) -> int:
        return self._liquidity.min_offset_msat if self._straight else self._liquidity.max_offset_msat

    @_min_offset.setter
    def _min_offset(self, msat: int) -> None:
        if self._straight:
            self._liquidity.min_offset_msat = msat
        else:
            self._liquidity.max_offset_msat = msat

    @property
    def _max_offset(self) -> int:
        return self._liquidity.max_offset_msat if self._straight else self._liquidity.min_offset_msat

    @_max_offset.setter
    def _max_offset(self, msat: int) -> None:
        if self._straight:
            self._liquidity.max_offset_msat = msat
        else:
            self._liquidity.min_offset_msat = msat


def _count(history: array[int], offset_msat: int, capacity_msat: int) -> None:
    """One more datum at `offset_msat`: all others leak a little. An offset beyond the capacity counts for nothing."""
    position = offset_msat * _POSITIONS // (capacity_msat + 1)
    if position >= _POSITIONS:
        return
    for bucket, value in enumerate(history):
        history[bucket] = value * 2047 // 2048
    bucket = bisect_right(BUCKET_STARTS, position) - 1
    history[bucket] = min(_MAX_BUCKET, history[bucket] + _ONE)
