"""How a large file is written beside commits that must not wait: in slices, each synced, with pauses between.

A commit's sync waits for whatever the file system has in flight, so the slice bounds what a commit pays. Measured, p99
of commits beside back-to-back 30 MiB snapshots, where without them it is 1.6 ms (`benchmarks/snapshots.py`): in one
piece 51 ms; slices of 256 KiB with a pause as long as each took 14.5 ms, three times as long 4.5 ms; slices of 128 KiB
with four times as long 3.3 ms, but then a snapshot took over 2 s at times. In `PAUSES` the two are weighed.

Where a sync costs much whatever its size (a busy or distant disk), small slices would only multiply it: the slice
doubles as long as a doubled one does not take longer.
"""

from __future__ import annotations

from typing import Final

SLICE_BYTES: Final = 128 * 1024
MAX_SLICE_BYTES: Final = 4 * 1024 * 1024
MAX_PAUSE_S: Final = 0.01
#: How many times as long as a slice the pause after it is.
PAUSES: Final = 3
#: A sync that takes longer is slow enough to look for larger slices.
_SLOW_S: Final = 0.02
#: A doubled slice that takes more than this times its predecessor is bound by bandwidth.
_LONGER: Final = 1.5


class Pace:
    """For one file. `slice_bytes` is how much to write before the next sync."""

    def __init__(self) -> None:
        self.slice_bytes = SLICE_BYTES
        self._took_s = 0.0
        self._growing = True

    def synced(self, took_s: float) -> float:
        """A slice was written and synced in `took_s` seconds: how many seconds to pause."""
        if self._growing and took_s > _SLOW_S:
            if self.slice_bytes > SLICE_BYTES and took_s > _LONGER * self._took_s:
                self._growing = False
                self.slice_bytes //= 2
            else:
                self.slice_bytes = min(2 * self.slice_bytes, MAX_SLICE_BYTES)
        self._took_s = took_s
        return min(PAUSES * took_s, MAX_PAUSE_S)
