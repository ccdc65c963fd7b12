"""A worker that cannot start is a typed error at start(), in words, well before the deadline; and nothing is left."""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bgsuper.errors import WorkerStartFailed
from bgsuper.supervisor.children import Child
from bgsuper.supervisor.children.bypid import WaitingChild
from bgsuper.supervisor.children.pidfd import PidfdChild
from bgsuper.supervisor.launch import launch

from .hosts import PATIENCE_S, Place, host

pytestmark = pytest.mark.usefixtures("no_leaks")


# -- no interpreter ---------------------------------------------------------------------------------------------------


def not_there(path: Path) -> None:
    pass


def not_executable(path: Path) -> None:
    path.write_text("#!/bin/sh\n")


def not_a_program(path: Path) -> None:
    path.write_text("x")
    path.chmod(0o700)


def a_directory(path: Path) -> None:
    path.mkdir()


def without_an_interpreter_of_its_own(path: Path) -> None:
    path.write_text("#!/nowhere/sh\n")
    path.chmod(0o700)


@pytest.mark.parametrize(
    ("make", "number"),
    [
        (not_there, errno.ENOENT),
        (not_executable, errno.EACCES),
        (not_a_program, errno.ENOEXEC),
        (a_directory, errno.EACCES),
        (without_an_interpreter_of_its_own, errno.ENOENT),
    ],
)
def test_no_interpreter(place: Place, make: object, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path is in the message, and what is wrong with it."""
    program = place.directory / "python"
    make(program)  # type: ignore[operator]
    monkeypatch.setattr(sys, "executable", str(program))
    began = time.monotonic()
    with pytest.raises(WorkerStartFailed) as caught:
        place.supervisor().start(PATIENCE_S)
    assert time.monotonic() - began < PATIENCE_S / 2
    assert os.strerror(number) in str(caught.value)
    assert str(program) in str(caught.value)


@pytest.mark.parametrize("executable", ["", None])
def test_an_embedded_interpreter_without_a_program(
    place: Place, executable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What to do is in the message."""
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(WorkerStartFailed, match=r"set sys\.executable to a Python"):
        place.supervisor().start(PATIENCE_S)


def test_a_program_that_is_no_python(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends at once, and its own words are in the message."""
    program = place.directory / "python"
    program.write_text("#!/bin/sh\necho 'I am a shell' >&2\nexit 3\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(WorkerStartFailed, match=r"(?s)exit status 3.*I am a shell"):
        place.supervisor().start(PATIENCE_S)


IGNORING_HOST = """
import gc, signal, sys, warnings
from bgsuper.errors import WorkerStartFailed
from bgsuper.supervisor import Supervisor
warnings.simplefilter("error")
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
sys.executable = "/nowhere/python"
try:
    Supervisor(sys.argv[1]).start(20)
except WorkerStartFailed as error:
    print("/nowhere/python" in str(error))
gc.collect()
"""


def test_no_interpreter_in_a_host_that_ignores_sigchld(place: Place) -> None:
    """The kernel has taken what Popen waits for; nobody warns of a program that still runs, since none ever did."""
    output, errors = host(IGNORING_HOST, place.url).communicate(timeout=PATIENCE_S)
    assert output == "True\n", errors
    assert "still running" not in errors


# -- no descriptors, no processes, no memory --------------------------------------------------------------------------

#: Each tries with one more descriptor left, until a worker comes up.
SHORT_OF_DESCRIPTORS = """
import gc, os, resource, sys, warnings
from bgsuper import Supervisor
import bgsuper.supervisor
warnings.simplefilter("always")
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held, failures = [], []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
while held:
    supervisor = Supervisor(sys.argv[1])
    try:
        supervisor.start(20)
        break
    except Exception as error:
        failures.append(f"{type(error).__name__} {error}")
    supervisor._shell.thread.ident and supervisor._shell.thread.join()
    del supervisor
    gc.collect()
    again = []
    try:
        while True:
            again.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    assert len(again) == len(failures) - 1, f"{len(failures) - 1} were free before start(), {len(again)} after it"
    for descriptor in again:
        os.close(descriptor)
    os.close(held.pop())
supervisor.stop()
print(len(failures), all("Too many open files" in failure for failure in failures))
print("\\n".join(failures), file=sys.stderr)
"""


def test_short_of_descriptors_at_every_step_of_the_launch(place: Place) -> None:
    """However many are left: an error that says so, all that was opened closed again, and a worker once there are
    enough."""
    output, errors = host(SHORT_OF_DESCRIPTORS, place.url).communicate(timeout=PATIENCE_S)
    count, all_said = output.split()
    assert all_said == "True", errors
    assert int(count) > 5
    assert "ResourceWarning" not in errors


#: As root a limit of processes means nothing.
SHORT_OF_PROCESSES = """
import os, resource, sys
from bgsuper import Supervisor
import bgsuper.supervisor
from bgsuper.supervisor.launch import launch
if not os.getuid():
    os.setresuid(65534, 65534, 65534)
def launcher():
    limits = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (1, limits[1]))
    try:
        return launch()
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, limits)
try:
    Supervisor(sys.argv[1], launcher=launcher).start(20)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_no_process_to_be_had(place: Place) -> None:
    """RLIMIT_NPROC."""
    output, errors = host(SHORT_OF_PROCESSES, place.url).communicate(timeout=PATIENCE_S)
    assert output.startswith("WorkerStartFailed"), errors
    assert os.strerror(errno.EAGAIN) in output


@pytest.mark.parametrize("mib", [1, 10, 14, 19])
def test_a_worker_without_memory(place: Place, mib: int) -> None:
    """It dies in the loader, in the interpreter, in an import: whoever ran out of memory says so in its own words."""
    import resource

    def launcher() -> Child:
        limits = resource.getrlimit(resource.RLIMIT_AS)
        # The host has more already, and asks for little meanwhile.
        resource.setrlimit(resource.RLIMIT_AS, (mib << 20, limits[1]))
        try:
            return launch()
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)

    began = time.monotonic()
    with pytest.raises(WorkerStartFailed, match=r"(?i)memory|failed to map segment|SIGKILL|SIGSEGV"):
        place.supervisor(launcher=launcher).start(PATIENCE_S)
    assert time.monotonic() - began < PATIENCE_S


# -- launched, and not to be watched ----------------------------------------------------------------------------------


class Refusal(Exception):
    pass


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), RuntimeError("no thread"), Refusal()])
def test_what_cannot_be_watched_does_not_live(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed and reaped, every descriptor closed, and Popen has nothing to warn of."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 3600\n")  # the end of the pipe does not end it
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    pids: list[int] = []

    def refuse(process: subprocess.Popen[bytes], ours: socket.socket) -> Child:
        pids.append(process.pid)
        raise error

    with pytest.raises(Refusal if isinstance(error, Refusal) else OSError):
        launch(refuse)
    gc.collect()
    assert not os.path.exists(f"/proc/{pids[0]}")


def test_a_thread_that_cannot_be_had_leaves_no_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a thread is what waits."""
    import threading

    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    with pytest.raises(OSError, match=r"cannot be watched: can't start new thread"):
        launch(WaitingChild)


def test_a_pidfd_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last descriptor was taken meanwhile."""

    def no_more(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", no_more)
    with pytest.raises(OSError, match=r"cannot be watched: .*Too many open files"):
        launch(PidfdChild.open)


# -- what a worker is given -------------------------------------------------------------------------------------------


def test_a_worker_has_a_session_of_its_own_and_nothing_of_its_hosts() -> None:
    """Ctrl-C does not reach it; of the host's descriptors it has its end of the pipe, though others are inheritable."""
    inheritable = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(inheritable, True)
    child = launch()
    try:
        assert os.getsid(child.pid) == child.pid
        held = {name: os.readlink(f"/proc/{child.pid}/fd/{name}") for name in os.listdir(f"/proc/{child.pid}/fd")}
        assert str(inheritable) not in held or held[str(inheritable)] != "/dev/null"
        assert [held[name] for name in "01"] == ["/dev/null"] * 2
        assert held["2"].startswith("pipe:")
    finally:
        os.close(inheritable)
        child.kill()
        assert child.reap().signal in (signal.SIGKILL, None)
        child.close()
