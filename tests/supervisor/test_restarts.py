"""The restart budgets: what is charged to which, their windows' edges, the back-off, and what is free."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.health import DeathCause
from bgsuper.supervisor.policy import RestartPolicy
from bgsuper.supervisor.restarts import UNAVAILABLE_RETRY_S, RestartBudget, Restarts

#: Every cause that costs something.
CHARGED = [cause for cause in DeathCause if cause not in (DeathCause.ASKED, DeathCause.UNAVAILABLE)]


def restarts(**policy: float) -> Restarts:
    return Restarts(RestartPolicy(**policy), Random(0))  # type: ignore[arg-type]


# -- one budget -------------------------------------------------------------------------------------------------------


def test_the_first_restart_is_at_once_and_later_ones_back_off_within_bounds() -> None:
    """0 s, then uniformly within 0.1, 0.2, 0.4 ... s, never above the ceiling."""
    policy = RestartPolicy(intensity=40, backoff_max_s=3.0)
    for seed in range(20):
        budget = RestartBudget(policy, policy.intensity, Random(seed))
        delays = [budget.died(1000.0 + i) for i in range(40)]
        assert delays[0] == 0.0
        for i, delay in enumerate(delays[1:]):
            assert delay is not None
            assert 0.0 <= delay <= min(3.0, 0.1 * 2.0**i)
    assert max(delay or 0.0 for delay in delays) > 1.0  # it does grow


@pytest.mark.parametrize(("at", "spent"), [(59.999, True), (60.0, False), (60.001, False)])
def test_the_restart_window_slides(at: float, spent: bool) -> None:
    """More than `intensity` deaths within `period_s` is giving up; one that is a whole period old no longer counts."""
    budget = RestartBudget(RestartPolicy(), 5, Random(0))
    for _ in range(5):
        assert budget.died(0.0) is not None
    assert (budget.died(at) is None) is spent


def test_the_back_off_is_jittered() -> None:
    """Many hosts that lose their disks at once do not come back at once."""
    policy = RestartPolicy(intensity=9, backoff_first_s=8.0)
    delays = set()
    for seed in range(50):
        budget = RestartBudget(policy, 9, Random(seed))
        budget.died(0.0)
        delays.add(budget.died(0.0))
    assert len(delays) == 50


def test_a_streak_of_any_length_has_a_delay() -> None:
    """Two to the power of a year of deaths is no float."""
    budget = RestartBudget(RestartPolicy(), 10**9, Random(0))
    for number in range(3000):
        delay = budget.died(number * 1000.0)
        assert delay is not None
        assert 0.0 <= delay <= 30.0


@pytest.mark.parametrize(("up_s", "over"), [(59.999, False), (60.0, True)])
def test_the_streak_is_over_after_a_whole_period(up_s: float, over: bool) -> None:
    """Then the next restart is at once again."""
    budget = RestartBudget(RestartPolicy(backoff_first_s=1e6, backoff_max_s=1e6), 9, Random(0))
    budget.died(0.0)
    assert budget.died(1.0) != 0.0
    budget.proved_itself(up_s)
    assert (budget.died(2.0) == 0.0) is over


@given(st.lists(st.floats(0.0, 100.0), max_size=40), st.integers(1, 6))
def test_it_gives_up_exactly_when_the_window_holds_too_many(gaps: list[float], intensity: int) -> None:
    """OTP's rule, against a model that keeps every death."""
    budget = RestartBudget(RestartPolicy(), intensity, Random(0))
    now, deaths = 0.0, []
    for gap in gaps:
        now += gap
        deaths.append(now)
        recent = [death for death in deaths if death > now - 60.0]
        assert (budget.died(now) is None) is (len(recent) > intensity)


# -- by cause ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("greeted", [False, True])
def test_what_we_asked_for_is_free_and_at_once(greeted: bool) -> None:
    """A planned replacement costs nothing, however often, and no later death waits longer for it."""
    mine = restarts(intensity=1, start_intensity=1)
    for _ in range(1000):
        assert mine.delay(DeathCause.ASKED, 0.0, greeted=greeted) == 0.0
    assert mine.delay(DeathCause.CRASHED, 0.0, greeted=True) == 0.0


@pytest.mark.parametrize("greeted", [False, True])
def test_a_store_out_of_reach_is_free_and_waited_for(greeted: bool) -> None:
    """A full disk outlasts any budget; asked again at once it would be full still."""
    mine = restarts(intensity=1, start_intensity=1)
    for _ in range(1000):
        assert mine.delay(DeathCause.UNAVAILABLE, 0.0, greeted=greeted) == UNAVAILABLE_RETRY_S
    assert mine.delay(DeathCause.CRASHED, 0.0, greeted=True) == 0.0


@pytest.mark.parametrize("cause", CHARGED, ids=lambda cause: cause.name)
def test_every_other_death_is_charged(cause: DeathCause) -> None:
    """A SIGKILL from outside too: not as poison, but an OOM killer that comes each second must end somewhere."""
    mine = restarts(intensity=3, start_intensity=9)
    for _ in range(3):
        assert mine.delay(cause, 0.0, greeted=True) is not None
    assert mine.delay(cause, 0.0, greeted=True) is None


def test_a_death_before_hello_is_charged_to_both_budgets() -> None:
    """Boot loops end sooner than crash storms; but a worker that came up and crashed is no failed boot."""
    mine = restarts(intensity=50, start_intensity=2)
    for _ in range(10):
        assert mine.delay(DeathCause.CRASHED, 0.0, greeted=True) is not None
    for _ in range(2):
        assert mine.delay(DeathCause.BOOT, 0.0, greeted=False) is not None
    assert mine.delay(DeathCause.BOOT, 0.0, greeted=False) is None
    # And the other way about: the common budget counts them as well.
    mine = restarts(intensity=2, start_intensity=50)
    for _ in range(2):
        assert mine.delay(DeathCause.BOOT, 0.0, greeted=False) is not None
    assert mine.delay(DeathCause.CRASHED, 0.0, greeted=True) is None


def test_the_longer_of_both_back_offs_counts() -> None:
    """A first failed boot in the middle of a crash storm is not tried again at once."""
    mine = restarts(intensity=50, start_intensity=50, backoff_first_s=1e6, backoff_max_s=1e6)
    for _ in range(3):
        mine.delay(DeathCause.CRASHED, 0.0, greeted=True)
    delay = mine.delay(DeathCause.BOOT, 0.0, greeted=False)
    assert delay is not None
    assert delay > 0.0


def test_only_a_whole_period_proves_a_worker() -> None:
    """What it says decides whether the poison search lets go, so it is told."""
    mine = restarts()
    assert not mine.proved_itself(59.999)
    assert mine.proved_itself(60.0)


# -- syncs, and planned replacements ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("gap", "again"), [(0.0, True), (59.999, True), (60.0, False), (61.0, False)])
def test_a_second_failed_sync_counts_within_the_period(gap: float, again: bool) -> None:
    """One may be a cable, two are the disk."""
    mine = restarts()
    assert not mine.sync_failed(1000.0)
    assert mine.sync_failed(1000.0 + gap) is again


@pytest.mark.parametrize(("gap", "may"), [(0.0, False), (59.999, False), (60.0, True)])
def test_a_worker_is_recycled_once_a_period(gap: float, may: bool) -> None:
    """One large value makes every successor as large: it must not be replaced again and again."""
    mine = restarts()
    assert mine.may_recycle(1000.0)
    assert mine.may_recycle(1000.0 + gap) is may


def test_a_refused_recycling_does_not_prolong_the_wait() -> None:
    """The period is counted from the one that was done."""
    mine = restarts()
    assert mine.may_recycle(1000.0)
    for second in range(1, 60):
        assert not mine.may_recycle(1000.0 + second)
    assert mine.may_recycle(1060.0)
