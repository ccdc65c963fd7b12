"""The causes of death, as a table over everything that can be known of one."""

from __future__ import annotations

import signal
from itertools import product

import pytest

from bgsuper.health import DeathCause
from bgsuper.supervisor.children import Exit
from bgsuper.supervisor.death import VERDICTS, cause_of

OWN = [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGTRAP]
OTHERS = [number for number in signal.Signals if number not in OWN]
UNKNOWN = Exit(None, None)
STATUSES = [
    UNKNOWN,
    *(Exit(code, None) for code in (0, 1, 2, 137, 255)),
    *(Exit(None, int(number)) for number in signal.Signals),
    Exit(None, 63),  # a number that this Python has no name for
]


def cause(
    status: Exit, *, verdict: str | None = None, killed: bool = False, asked: bool = False, greeted: bool = True
) -> DeathCause:
    return cause_of(status, verdict=verdict, killed=killed, asked=asked, greeted=greeted)


def test_it_is_total_and_keeps_its_order_of_precedence() -> None:
    """Every status, verdict and history of a worker has one cause: its last words come first, then what we did to it,
    then what we asked of it, then its status."""
    flags = (False, True)
    for status, verdict, killed, asked, greeted in product(STATUSES, [None, *VERDICTS], flags, flags, flags):
        found = cause_of(status, verdict=verdict, killed=killed, asked=asked, greeted=greeted)
        assert isinstance(found, DeathCause)
        if verdict is not None:
            boot = verdict == "crash" and not greeted
            assert found is (DeathCause.BOOT if boot else VERDICTS[verdict])
        elif killed:
            assert found is DeathCause.KILLED
        elif asked and status.signal is None:
            assert found is DeathCause.ASKED
        else:
            assert found in (DeathCause.UNKNOWN, DeathCause.OUTSIDE, DeathCause.CRASHED, DeathCause.BOOT)
            assert (found is DeathCause.UNKNOWN) is (status == UNKNOWN)
            assert (found is DeathCause.BOOT) <= (not greeted)
            assert (found is DeathCause.CRASHED) <= greeted


@pytest.mark.parametrize(
    ("verdict", "is_"),
    [
        ("fatal", DeathCause.STORE),
        ("sync", DeathCause.SYNC),
        ("unavailable", DeathCause.UNAVAILABLE),
        ("crash", DeathCause.CRASHED),
    ],
)
def test_its_last_words_are_believed(verdict: str, is_: DeathCause) -> None:
    """It knew better than any exit status can tell, even if something killed it a moment later."""
    assert cause(Exit(1, None), verdict=verdict) is is_
    assert cause(Exit(None, signal.SIGKILL), verdict=verdict) is is_


@pytest.mark.parametrize("number", OWN, ids=lambda number: number.name)
def test_the_kernels_signals_to_who_misbehaves_are_its_own_doing(number: signal.Signals) -> None:
    """Also if we had asked it to end meanwhile: a worker that segfaults while it drains is a crash."""
    assert cause(Exit(None, number)) is DeathCause.CRASHED
    assert cause(Exit(None, number), asked=True) is DeathCause.CRASHED
    assert cause(Exit(None, number), greeted=False) is DeathCause.BOOT


@pytest.mark.parametrize("number", OTHERS, ids=lambda number: number.name)
def test_any_other_signal_came_from_outside(number: signal.Signals) -> None:
    """SIGKILL by an operator or the OOM killer, SIGTERM by a service manager: no fault of anything submitted. Before
    HELLO just as well, and while it was asked to end."""
    assert cause(Exit(None, number)) is DeathCause.OUTSIDE
    assert cause(Exit(None, number), greeted=False) is DeathCause.OUTSIDE
    assert cause(Exit(None, number), asked=True) is DeathCause.OUTSIDE


def test_our_own_sigkill_is_ours() -> None:
    """The very same status means another thing if we sent it; a status that somebody took away changes nothing."""
    for status in (Exit(None, signal.SIGKILL), UNKNOWN, Exit(0, None)):
        assert cause(status, killed=True) is DeathCause.KILLED


@pytest.mark.parametrize("code", [0, 1, 255])
def test_an_exit_is_asked_for_or_a_crash(code: int) -> None:
    """Even status 0: a worker that ends though nobody asked is broken."""
    assert cause(Exit(code, None), asked=True) is DeathCause.ASKED
    assert cause(Exit(code, None)) is DeathCause.CRASHED
    assert cause(Exit(code, None), greeted=False) is DeathCause.BOOT


def test_a_status_that_was_taken_away_is_no_crash() -> None:
    """The host reaped it, or ignores SIGCHLD: unknown, unless it was asked to end, which it then did."""
    assert cause(UNKNOWN) is DeathCause.UNKNOWN
    assert cause(UNKNOWN, greeted=False) is DeathCause.UNKNOWN
    assert cause(UNKNOWN, asked=True) is DeathCause.ASKED
