"""A token bucket: what is spent comes back, at most what there was at first."""

from __future__ import annotations

from bgsuper.lightning.routing.budget import Allowance, Budget


def test_debt_and_its_end() -> None:
    """A burst is free; then there is a wait, which the rate ends."""
    budget = Budget(Allowance(rate=10, burst=100), 0.0)
    budget.spend(100, 0.0)
    assert budget.wait_s(0.0) == 0.0
    budget.spend(50, 0.0)
    assert budget.wait_s(0.0) == 5.0
    assert budget.wait_s(2.0) == 3.0
    assert budget.wait_s(5.0) == 0.0


def test_time_gives_no_more_than_a_burst() -> None:
    """However long nothing was spent."""
    budget = Budget(Allowance(rate=10, burst=100), 0.0)
    budget.spend(150, 1e9)
    assert budget.wait_s(1e9) == 5.0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """And takes nothing: a debt ends as soon as it would have, not when the clock has caught up."""
    budget = Budget(Allowance(rate=10, burst=100), 4000.0)
    budget.spend(150, 4000.0)
    assert budget.wait_s(400.0) == 5.0
    assert budget.wait_s(403.0) == 2.0
    assert budget.wait_s(405.0) == 0.0
