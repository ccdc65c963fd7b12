"""Vitals describe, and never decide: whatever psutil does, there is an answer."""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil
import pytest

from bgsuper import PersisterRef, RestartPolicy, Supervisor, WorkerState
from bgsuper.errors import WorkerStartFailed
from bgsuper.supervisor.vitals import Vitals, Watch


def test_a_living_process_is_described() -> None:
    """This one runs, has memory and has used the processor."""
    vitals = Watch(os.getpid()).look()
    assert vitals.status in ("running", "sleeping")
    assert vitals.rss_bytes is not None
    assert vitals.rss_bytes > 1_000_000
    assert vitals.cpu_s is not None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (psutil.NoSuchProcess(1), "gone"),
        (psutil.AccessDenied(1), "unknown"),
        (RuntimeError("/proc/1/io file was empty"), "unknown"),
        (ValueError("a field was missing"), "unknown"),
        (PermissionError(13, "no"), "unknown"),
    ],
)
def test_whatever_psutil_raises_is_an_answer(error: Exception, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An odd line in /proc must not end the supervisor."""

    def fail(_: object) -> object:
        raise error

    watch = Watch(os.getpid())
    monkeypatch.setattr(psutil.Process, "io_counters", fail)
    monkeypatch.setattr(psutil.Process, "status", fail)
    assert watch.look() == Vitals(status)


@pytest.mark.usefixtures("no_leaks")
def test_looks_can_be_switched_off(tmp_path: Path) -> None:
    """An interval without end is no interval that select() refuses."""
    policy = RestartPolicy(vitals_interval_s=math.inf)
    with Supervisor(f"sqlite://{tmp_path}/store", restart=policy) as supervisor:
        assert supervisor.health().state is WorkerState.READY


@pytest.mark.usefixtures("no_leaks")
def test_a_config_that_cannot_be_packed_is_a_failed_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is no UTF-8 has no place in a message: an error at start, not a bug in bgsuper."""
    monkeypatch.syspath_prepend("/nowhere/\udcff")
    with pytest.raises(WorkerStartFailed, match="surrogates"):
        Supervisor(PersisterRef("tests.supervisor.persisters:Files", {"directory": "x"})).start()
