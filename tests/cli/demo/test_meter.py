"""The lateness figures."""

from __future__ import annotations

import asyncio
import time

import pytest

from bgsuper.cli.demo.meter import Histogram, LatenessMeter


def test_percentiles_of_known_latenesses() -> None:
    """Within a bin's width, and never above the exact maximum."""
    histogram = Histogram()
    for index in range(1, 1001):
        histogram.add(index / 1000)
    summary = histogram.summary()
    assert summary.wakings == 1000
    assert summary.p50_s == pytest.approx(0.5, abs=2e-5)
    assert summary.p99_s == pytest.approx(0.99, abs=2e-5)
    assert summary.p999_s == pytest.approx(0.999, abs=2e-5)
    assert summary.max_s == 1.0


def test_no_wakings_no_figures() -> None:
    """None, not 0: nothing was measured."""
    assert Histogram().summary().max_s is None


def test_a_loop_held_up_is_charged_for_every_waking_it_missed() -> None:
    """50 ms of blocking are about 50 latenesses, evenly spread: no co-ordinated omission."""

    async def hold_up() -> LatenessMeter:
        meter = LatenessMeter()
        meter.start()
        time.sleep(0.05)
        await asyncio.sleep(0.001)
        meter.stop()
        return meter

    meter = asyncio.run(hold_up())
    summary = meter.total.summary()
    assert summary.wakings >= 49
    assert summary.max_s is not None
    assert summary.p50_s is not None
    assert summary.max_s >= 0.049
    assert 0.3 * summary.max_s < summary.p50_s < 0.7 * summary.max_s
    assert meter.take_worst() == summary.max_s
    assert meter.take_worst() == 0.0
    assert meter.next_act() == summary
    assert meter.next_act().wakings == 0
