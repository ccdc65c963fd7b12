"""The table of timers: each fires on time and only then."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import ConfigError
from bgsuper.processor.timers import Schedule, Timer, Timers

STEP = 0.001


@pytest.mark.parametrize(
    ("timer", "expected"),
    [
        (Timer.FRESHNESS, [60.0, 120.0, 180.0]),
        (Timer.PING, [10.0, 20.0, 30.0]),
        (Timer.PRUNE, [60.0, 3660.0, 7260.0]),
        (Timer.SCORER, [30.0, 330.0, 630.0]),
        (Timer.ARCHIVE, [15.0, 615.0, 1215.0]),
        (Timer.REBROADCAST, [30.0, 60.0, 90.0]),
        (Timer.SWEEPER, [30.0, 60.0, 90.0]),
        (Timer.ONION_MESSENGER, [10.0, 20.0, 30.0]),
    ],
)
def test_fires_on_time_and_only_then(timer: Timer, expected: list[float]) -> None:
    """Not one step early, and not up to a second late as in the seed."""
    start = 5000.0
    schedule = Schedule(Timers(), [timer], start)
    for at in expected:
        assert schedule.fire(start + at - STEP) == []
        assert schedule.due_in(start + at - STEP) == pytest.approx(STEP)
        assert schedule.due_in(start + at) == 0.0
        assert schedule.fire(start + at) == [timer]
        assert schedule.fire(start + at) == []


def test_after_a_pause_it_fires_once() -> None:
    """Periods that were missed are not made up for; the next one counts from the firing."""
    schedule = Schedule(Timers(), [Timer.PING], 0.0)
    assert schedule.fire(1000.0) == [Timer.PING]
    assert schedule.fire(1009.999) == []
    assert schedule.fire(1010.0) == [Timer.PING]


def test_restart_begins_a_period_without_firing() -> None:
    """What a sleep of the machine does to the ping."""
    schedule = Schedule(Timers(), [Timer.PING, Timer.FRESHNESS], 0.0)
    schedule.restart(Timer.PING, 8.0)
    assert schedule.fire(17.999) == []
    assert schedule.fire(18.0) == [Timer.PING]


def test_only_the_chosen_timers_fire() -> None:
    """A node without gossip never prunes."""
    schedule = Schedule(Timers(), [Timer.PING, Timer.FRESHNESS], 0.0)
    assert schedule.fire(1e6) == [Timer.FRESHNESS, Timer.PING]


@given(st.lists(st.floats(0, 100), max_size=50))
def test_due_in_names_the_moment_of_the_next_firing(waits: list[float]) -> None:
    """A face that rests for `due_in` seconds is never late, and never turns for nothing."""
    now = 0.0
    schedule = Schedule(Timers(), list(Timer), now)
    for wait in waits:
        now += wait
        due = schedule.due_in(now)
        assert due >= 0.0
        assert (due == 0.0) == bool(schedule.fire(now))


@pytest.mark.parametrize("bad", [0, 0.0, -1, float("nan"), float("inf"), "60", None])
@pytest.mark.parametrize("name", [field.name for field in fields(Timers)])
def test_a_period_is_a_positive_number_of_seconds(name: str, bad: object) -> None:
    """Anything else is refused at once, by its name."""
    with pytest.raises(ConfigError, match=f"Timers.{name} in seconds"):
        Timers(**{name: bad})  # type: ignore[arg-type]


def test_a_rest_is_shorter_than_a_sleep() -> None:
    """Otherwise each rest would disconnect all peers."""
    with pytest.raises(ConfigError, match="asleep"):
        Timers(rest=1.0)
    assert Timers(rest=0.999).rest == 0.999


def test_the_table_is_frozen_and_holds_ldks_periods() -> None:
    """v0.0.106: 60, 10, 60, 3,600; what came since: reference in the table. `replay`, `rest` and the scorer's first are
    our own."""
    timers = Timers()
    assert asdict(timers) == {
        "freshness": 60,
        "ping": 10,
        "first_prune": 60,
        "prune": 3600,
        "first_scorer": 30,
        "scorer": 300,
        "rebroadcast": 30,
        "first_archive": 15,
        "archive": 600,
        "onion_messenger": 10,
        "sweeper": 30,
        "replay": 0.05,
        "rest": 0.1,
        "asleep": 1,
    }
    with pytest.raises(FrozenInstanceError):
        timers.ping = 1.0  # type: ignore[misc]
