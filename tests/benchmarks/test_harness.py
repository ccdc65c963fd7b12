"""Percentiles and verdicts."""

from __future__ import annotations

import math

import pytest

from benchmarks.harness import at_least, at_most, medians, percentile


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 5), (0.9, 9), (0.99, 10), (1.0, 10)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: float) -> None:
    """Nearest rank: never between two values, never outside."""
    assert percentile(range(1, 11), share) == value


def test_the_percentile_of_nothing_is_not_a_number() -> None:
    """An empty cell never looks like a fast one."""
    assert math.isnan(percentile([], 0.5))
    assert not at_most("", math.nan, 1, "ms").holds
    assert not at_least("", math.nan, 1, "ms").holds


def test_a_limit_is_inclusive() -> None:
    """At most and at least hold at the limit."""
    assert at_most("", 1.0, 1.0, "ms").holds
    assert not at_most("", 1.1, 1.0, "ms").holds
    assert at_least("", 1.0, 1.0, "ms").holds
    assert not at_least("", 0.9, 1.0, "ms").holds


def test_the_median_is_of_each_figure_by_itself() -> None:
    """One run that was disturbed in one figure moves no other."""
    runs = [{"a": 1.0, "b": 30.0}, {"a": 99.0, "b": 10.0}, {"a": 2.0, "b": 20.0}]
    assert medians(runs) == {"a": 2.0, "b": 20.0}
