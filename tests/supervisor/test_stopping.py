"""stop()'s deadline: what of it may be used to drain, what is kept for SIGKILL, and that nothing ever lifts it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.supervisor.stopping import KILL_LEAST_S, KILL_RESERVE_S, KILL_SHARE, Stop

TIMEOUTS = st.floats(0.0, 1e6)


def test_before_anybody_asked_nothing_is_due() -> None:
    """A supervisor runs for years."""
    stop = Stop()
    assert not stop.asked
    assert stop.timers() == [None, None]
    assert (stop.runs_out(1e9), stop.drained(1e9), stop.over(1e9)) == (False, False, False)


@pytest.mark.parametrize(
    ("timeout", "kill_at", "stop_by"),
    [
        (100.0, 98.0, 100.0),  # 2 s at most
        (10.0, 8.0, 10.0),
        (1.0, 0.8, 1.0),  # a fifth
        (0.1, 0.05, 0.1),  # what the kernel needs at least
        (0.0, 0.05, 0.1),
        (-5.0, 0.05, 0.1),
    ],
)
def test_the_deadline_is_cut_in_two(timeout: float, kill_at: float, stop_by: float) -> None:
    """First the worker may drain, then SIGKILL must have time to work; even with no time at all there is a little."""
    stop = Stop()
    assert stop.ask(1000.0, timeout)
    assert stop.timers() == [pytest.approx(1000 + kill_at), pytest.approx(1000 + stop_by)]
    assert (KILL_SHARE, KILL_RESERVE_S, KILL_LEAST_S) == (0.2, 2.0, 0.05)


def test_the_time_to_drain_runs_out_once() -> None:
    """The kill is asked for once; from then on only the end is due, and no successor may be launched."""
    stop = Stop()
    stop.ask(1000.0, 10.0)
    assert not stop.runs_out(1007.999)
    assert not stop.drained(1007.999)
    assert stop.drained(1008.0)  # by the clock alone, whoever looks first
    assert stop.runs_out(1008.0)
    assert not stop.runs_out(1008.0)
    assert stop.drained(1000.0)  # and for good
    assert stop.timers() == [None, 1010.0]
    assert not stop.over(1009.999)
    assert stop.over(1010.0)


def test_asked_again_it_only_tightens() -> None:
    """A host that exits must not wait for a patient stop(); nor may an impatient one be called off."""
    stop = Stop()
    assert stop.ask(1000.0, 100.0)
    assert not stop.ask(1000.0, 1000.0)
    assert stop.timers() == [1098.0, 1100.0]
    assert not stop.ask(1001.0, 10.0)
    assert stop.timers() == [1009.0, 1011.0]


def test_a_second_stop_after_the_kill_revives_nobody() -> None:
    """What ran out of time stays so; only the last deadline may come nearer."""
    stop = Stop()
    stop.ask(1000.0, 30.0)
    assert stop.runs_out(1028.0)
    stop.ask(1028.0, 1.0)
    assert stop.drained(1028.0)
    assert not stop.runs_out(1028.9)
    assert stop.timers() == [None, 1029.0]


@given(st.lists(st.tuples(st.floats(0.0, 100.0), TIMEOUTS), min_size=1, max_size=10))
def test_no_stop_ever_lifts_the_deadline_of_another(stops: list[tuple[float, float]]) -> None:
    """Both parts of it never move to later, the first is never after the second, and the kernel has time between."""
    stop, now = Stop(), 1000.0
    before: tuple[float, float] | None = None
    for number, (gap, timeout) in enumerate(stops):
        now += gap
        assert stop.ask(now, timeout) is (number == 0)
        assert stop.kill_at is not None
        assert stop.stop_by is not None
        if before is not None:
            assert stop.kill_at <= before[0]
            assert stop.stop_by <= before[1]
        assert stop.stop_by <= now + max(timeout, 2 * KILL_LEAST_S)
        assert stop.stop_by - stop.kill_at >= KILL_LEAST_S - 1e-6
        before = stop.kill_at, stop.stop_by
