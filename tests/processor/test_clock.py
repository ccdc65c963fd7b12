"""How a sleep of the machine is told from everything else that takes time."""

from __future__ import annotations

import pytest

from bgsuper.processor.clock import Rest, RestWatch, SystemClock, starved, suspended

from .stand_ins import FakeClock


@pytest.mark.parametrize(
    ("rest", "on_a_thread", "on_asyncio"),
    [
        (Rest(0.1, 0.0), False, False),
        (Rest(1.0, 0.0), False, False),
        (Rest(1.001, 0.0), True, False),  # starved of cycles: on asyncio another task's blocking call
        (Rest(3600.0, 3599.9), True, True),  # suspended while it rested
        (Rest(0.05, 30.0), True, True),  # suspended during its own work
        (Rest(1.0, 1.0), False, False),
    ],
)
def test_what_counts_as_a_sleep(rest: Rest, on_a_thread: bool, on_asyncio: bool) -> None:
    """Over a second, by the rule of each face."""
    assert starved(rest, 1.0) is on_a_thread
    assert suspended(rest, 1.0) is on_asyncio


def test_a_rest_is_measured_apart_from_the_work() -> None:
    """What the turn itself took counts for nothing; a suspension counts wherever it fell."""
    clock = FakeClock()
    rests = RestWatch(clock)
    clock.now += 5.0  # before the first turn
    assert rests.end() == Rest(0.0, 0.0)
    clock.now += 7.0  # the turn
    rests.begin()
    clock.now += 0.1
    assert rests.end() == pytest.approx(Rest(0.1, 0.0))
    clock.slept += 60.0  # suspended during the turn
    rests.begin()
    clock.now += 0.1
    assert rests.end() == pytest.approx(Rest(0.1, 60.0))
    rests.begin()
    assert rests.end() == pytest.approx(Rest(0.0, 0.0))


def test_being_held_up_between_two_readings_is_no_suspension() -> None:
    """Another thread may hold the interpreter for seconds between reading one clock and the other."""

    class HeldUp(FakeClock):
        between = 0.0

        def boottime(self) -> float:
            self.now += self.between
            return super().boottime()

        def monotonic(self) -> float:
            self.now += self.between
            return super().monotonic()

    clock = HeldUp()
    rests = RestWatch(clock)
    for between in (5.0, 0.0, 3.0, 9.0, 0.0, 0.0):
        clock.between = between
        assert rests.end().suspended <= 0.0
        rests.begin()


def test_the_machines_clocks_advance_together() -> None:
    """On a machine that is awake boottime and monotonic run at one rate, in seconds."""
    clock = SystemClock()
    rests = RestWatch(clock)
    rests.end()
    rests.begin()
    rest = rests.end()
    assert 0.0 <= rest.waited < 60.0
    assert abs(rest.suspended) < 60.0
    assert clock.time() > 1_600_000_000
