"""An orphan that hangs ends itself; one that gets on, or whose host lives, never does."""

from __future__ import annotations

import os

import pytest

from bgsuper.worker import orphan

HOST = os.getppid()


class EndedError(Exception):
    """The process would be gone."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time that passes by sleeping alone."""
    now = [1000.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def end(status: int) -> None:
        raise EndedError(status)

    monkeypatch.setattr(orphan.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(orphan.time, "sleep", sleep)
    monkeypatch.setattr(orphan.os, "_exit", end)
    return now


def test_one_that_hangs_ends_itself(clock: list[float]) -> None:
    """After its patience, and not before."""
    now = clock
    with pytest.raises(EndedError):
        orphan.mind(HOST + 1, lambda: ["transaction", 7, 0, 0])
    assert now[0] == 1000.0 + orphan.PATIENCE_S


def test_one_that_gets_on_has_all_the_time_it_needs(clock: list[float]) -> None:
    """Its last work may take as long as that of a worker with a host."""
    now = clock
    with pytest.raises(EndedError):
        orphan.mind(HOST + 1, lambda: ["transaction", min(int(now[0]) // 50, 40), 0, 0])
    assert now[0] >= 2000.0 + orphan.PATIENCE_S


def test_one_whose_host_lives_is_the_hosts_to_judge(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """It was asked to end, or its pipe was closed: it has a supervisor."""
    now = clock
    monkeypatch.setattr(orphan.os, "getppid", lambda: HOST if now[0] < 5000.0 else 1)
    with pytest.raises(EndedError):
        orphan.mind(HOST, lambda: ["transaction", 7, 0, 0])
    assert now[0] == pytest.approx(5000.0 + orphan.PATIENCE_S, abs=2 * orphan.LOOK_S)
