"""Workers that cannot be started: start() raises what is wrong, and leaves nothing behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bgsuper import Supervisor
from bgsuper.errors import (
    ConfigError,
    StoreForeign,
    StoreLocked,
    StoreUnwritable,
    WorkerStartFailed,
)
from bgsuper.supervisor.launch import PidfdChild

from .hosts import PATIENCE_S, Place, key, pid_of

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.mark.parametrize("url", ["sqlite:", "postgres://x/y", "nonsense", "sqlite:///a?faults=", "sqlite:///a#b"])
def test_a_bad_url_is_raised_by_start(url: str) -> None:
    """As ConfigError, with what to write instead."""
    with pytest.raises(ConfigError):
        Supervisor(url).start(PATIENCE_S)


def test_a_bad_directory_is_raised_by_start(tmp_path: Path) -> None:
    """What is there is neither ours nor writable, and stays as it is."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreUnwritable):
        Supervisor(f"sqlite://{tmp_path}/file").start(PATIENCE_S)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letters.txt").write_text("mine")
    with pytest.raises(StoreForeign):
        Supervisor(f"sqlite://{tmp_path}/other").start(PATIENCE_S)
    assert os.listdir(tmp_path / "other") == ["letters.txt"]


def test_two_supervisors_on_one_store(place: Place) -> None:
    """The second one learns at once who holds it."""
    with place.running() as supervisor:
        with pytest.raises(StoreLocked) as caught:
            place.supervisor().start(PATIENCE_S)
        assert caught.value.pid == pid_of(supervisor)
        assert caught.value.epoch == supervisor.health().epoch
        supervisor.wait(supervisor.commit({key(0): b"0"}), PATIENCE_S)


def test_a_launch_that_fails_is_raised_by_start(place: Place) -> None:
    """Whatever a launcher raises."""
    for error in (OSError("no memory"), ValueError("a bug of the launcher")):

        def launcher(error: Exception = error) -> PidfdChild:
            raise error

        with pytest.raises(WorkerStartFailed, match=str(error)):
            place.supervisor(launcher=launcher).start(PATIENCE_S)


def test_a_worker_that_cannot_be_watched_is_not_left_behind(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor for its pidfd: it is killed, and everything that was opened for it closed."""

    def no_more(pid: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", no_more)
    with pytest.raises(WorkerStartFailed, match="Too many open files"):
        place.supervisor().start(PATIENCE_S)


def test_a_thread_that_cannot_be_had_is_raised_by_start(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has begun: nothing is left open, and stop() has nothing to do."""
    supervisor = place.supervisor()

    def no_more() -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(supervisor._shell.thread, "start", no_more)
    with pytest.raises(WorkerStartFailed, match="can't start new thread"):
        supervisor.start(PATIENCE_S)
    supervisor.stop()


def foreign_program(*command: str) -> PidfdChild:
    """A launcher's result that is no worker at all."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
    assert process.stderr is not None
    os.set_blocking(process.stderr.fileno(), False)
    return PidfdChild(process, os.pidfd_open(process.pid), ours)


def test_a_worker_that_dies_at_once_says_why(place: Place) -> None:
    """What the interpreter printed is in the message."""

    def launcher() -> PidfdChild:
        return foreign_program(sys.executable, "-c", "import sys; sys.exit('no module named luck')")

    with pytest.raises(WorkerStartFailed, match="no module named luck"):
        place.supervisor(launcher=launcher).start(PATIENCE_S)


def test_a_worker_without_a_word_misses_the_deadline(place: Place) -> None:
    """It is killed, and start() raises in time."""
    began = time.monotonic()
    with pytest.raises(WorkerStartFailed, match="HELLO"):
        place.supervisor(launcher=lambda: foreign_program("sleep", "3600")).start(0.3)
    assert time.monotonic() - began < PATIENCE_S


def test_a_program_that_talks_nonsense_is_no_worker(place: Place) -> None:
    """Its bytes are refused, and it is killed."""
    script = """import os, time
for fd in range(3, 99):
    if os.path.exists(f"/proc/self/fd/{fd}"):
        os.write(fd, b"nonsense" * 9)
time.sleep(99)"""
    with pytest.raises(WorkerStartFailed):
        place.supervisor(launcher=lambda: foreign_program(sys.executable, "-c", script)).start(PATIENCE_S)
