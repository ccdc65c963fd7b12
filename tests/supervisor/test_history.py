"""What is remembered of a worker's changes of state, and how loudly the log speaks of them."""

from __future__ import annotations

import logging

import pytest

from bgsuper.health import DeathCause, Transition, WorkerState
from bgsuper.supervisor.history import KEPT, LEVELS, History, level


def transition(number: int, state: WorkerState = WorkerState.READY, cause: DeathCause | None = None) -> Transition:
    return Transition(float(number), WorkerState.STARTING, state, "because", 17, cause)


def test_it_remembers_the_last_ones_in_order() -> None:
    """Bounded: a disk that comes and goes for a year must not fill the memory."""
    history = History()
    for number in range(3 * KEPT):
        history.add(transition(number))
    assert [kept.at for kept in history.all()] == [float(number) for number in range(2 * KEPT, 3 * KEPT)]
    assert KEPT == 256


def test_each_change_is_told_once() -> None:
    """In order; what was told is still remembered."""
    history = History()
    history.add(transition(1))
    history.add(transition(2))
    assert [told.at for told in history.untold()] == [1.0, 2.0]
    assert history.untold() == []
    history.add(transition(3))
    assert [told.at for told in history.untold()] == [3.0]
    assert len(history.all()) == 3


def test_what_nobody_comes_for_is_bounded_too() -> None:
    """The newest ones are what a late listener hears."""
    history = History()
    for number in range(KEPT + 10):
        history.add(transition(number))
    assert [told.at for told in history.untold()] == [float(number) for number in range(10, KEPT + 10)]


def test_what_it_gives_away_is_a_copy() -> None:
    """Nobody who reads it changes it."""
    history = History()
    history.add(transition(1))
    history.all().clear()
    assert len(history.all()) == 1


@pytest.mark.parametrize("state", WorkerState, ids=lambda state: state.name)
def test_every_state_has_its_level(state: WorkerState) -> None:
    """None is forgotten by whoever adds one; what an operator must act on is at least an error."""
    assert level(transition(1, state)) == LEVELS[state]
    alarming = {
        WorkerState.DISK_STALLED: logging.ERROR,
        WorkerState.DISK_FULL: logging.ERROR,
        WorkerState.HUNG: logging.ERROR,
        WorkerState.WEDGED: logging.CRITICAL,
        WorkerState.FAILED: logging.CRITICAL,
    }
    assert LEVELS[state] >= alarming.get(state, logging.DEBUG)
    assert (LEVELS[state] >= logging.ERROR) is (state in alarming)


@pytest.mark.parametrize("cause", DeathCause, ids=lambda cause: cause.name)
def test_a_death_that_was_asked_for_is_nothing_to_warn_of(cause: DeathCause) -> None:
    """All the others are."""
    asked = cause is DeathCause.ASKED
    assert level(transition(1, WorkerState.EXITED, cause)) == (logging.INFO if asked else logging.WARNING)
