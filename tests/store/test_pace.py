"""How slices grow."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bgsuper.store.pace import MAX_PAUSE_S, MAX_SLICE_BYTES, PAUSES, SLICE_BYTES, Pace


def slices(took_s: Callable[[int], float], count: int = 12) -> list[int]:
    """The slices of a file on a disk where syncing n bytes takes `took_s(n)`."""
    pace = Pace()
    sizes = []
    for _ in range(count):
        sizes.append(pace.slice_bytes)
        pace.synced(took_s(pace.slice_bytes))
    return sizes


def test_a_fast_disk_gets_small_slices() -> None:
    """As long as a sync takes milliseconds, no slice is larger than the first."""
    assert set(slices(lambda n: 0.0002 + n / 2e9)) == {SLICE_BYTES}


def test_a_disk_bound_by_latency_gets_large_slices() -> None:
    """300 ms a sync, whatever its size: doubled each time, to the limit."""
    sizes = slices(lambda _: 0.3)
    assert all(b == min(2 * a, MAX_SLICE_BYTES) for a, b in pairwise(sizes))
    assert sizes[-1] == MAX_SLICE_BYTES


def test_a_disk_bound_by_bandwidth_gets_small_slices() -> None:
    """5 MB/s: one doubled slice shows it, then it is the small ones again for good."""
    assert slices(lambda n: n / 5e6) == [SLICE_BYTES, 2 * SLICE_BYTES, *[SLICE_BYTES] * 10]


@given(st.lists(st.floats(0, 1000)))
def test_bounds(took: list[float]) -> None:
    """Whatever the disk does, slices and pauses stay within their limits."""
    pace = Pace()
    for seconds in took:
        assert 0 <= pace.synced(seconds) <= min(PAUSES * seconds, MAX_PAUSE_S)
        assert SLICE_BYTES <= pace.slice_bytes <= MAX_SLICE_BYTES
