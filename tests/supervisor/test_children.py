"""Children of every kind know of a death at once, signal nobody else, and leave no zombie."""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from bgsuper.supervisor.children import Child, Exit, MakeChild, best_child, launched
from bgsuper.supervisor.children.bypid import KqueueChild, WaitingChild
from bgsuper.supervisor.children.pidfd import PidfdChild

from . import fake_kqueue
from .hosts import PATIENCE_S, eventually, host

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),  # Python 3.12; it is what is tested
]

KINDS: list[MakeChild] = [PidfdChild.open, KqueueChild, WaitingChild]
every_kind = pytest.mark.parametrize("make_child", KINDS, ids=["pidfd", "kqueue", "waiting"])


def started(*command: str, stdin: int = subprocess.DEVNULL) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.close()
    return subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE), ours


def sleeper() -> tuple[subprocess.Popen[bytes], socket.socket]:
    return started("sleep", "3600")


@pytest.fixture
def kqueue(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_kqueue.install(monkeypatch)


def is_readable(child: Child) -> bool:
    poll = select.poll()
    poll.register(child.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def wait_readable(child: Child) -> None:
    poll = select.poll()
    poll.register(child.fileno(), select.POLLIN)
    assert poll.poll(PATIENCE_S * 1000), "its death is never seen"


def state(pid: int) -> str:
    """The letter of proc(5), or nothing once it is reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


# -- death ------------------------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.usefixtures("kqueue")
@pytest.mark.parametrize(
    ("script", "exit_"),
    [
        ("exit 7", Exit(7, None)),
        ("exit 0", Exit(0, None)),
        ("kill -SEGV $$", Exit(None, signal.SIGSEGV)),
        ("kill -40 $$", Exit(None, 40)),
    ],
)
def test_a_death_is_readable_and_has_its_status(make_child: MakeChild, script: str, exit_: Exit) -> None:
    """Of a process that ends by itself; not readable before, and reaped after."""
    process, ours = started("sh", "-c", f"read line; {script}", stdin=subprocess.PIPE)
    child = make_child(process, ours)
    assert not is_readable(child)
    assert process.stdin is not None
    process.stdin.close()
    wait_readable(child)
    assert child.reap() == exit_
    child.close()
    assert state(child.pid) == ""


@every_kind
@pytest.mark.usefixtures("kqueue")
def test_killed(make_child: MakeChild) -> None:
    """By SIGKILL; a second one, after its death, goes nowhere."""
    child = make_child(*sleeper())
    assert not is_readable(child)
    child.kill()
    wait_readable(child)
    child.kill()
    child.dump()
    assert state(child.pid) == "Z"
    assert child.reap() == Exit(None, signal.SIGKILL)
    child.kill()
    child.close()
    assert state(child.pid) == ""


@every_kind
@pytest.mark.usefixtures("kqueue")
def test_a_zombie_at_once(make_child: MakeChild) -> None:
    """Dead before anybody could watch it: kqueue does not know it any more, and it is dead all the same."""
    process, ours = started("true")
    eventually(lambda: state(process.pid) == "Z")
    child = make_child(process, ours)
    wait_readable(child)
    assert child.reap() == Exit(0, None)
    child.close()


@every_kind
@pytest.mark.usefixtures("kqueue")
def test_a_dump_is_asked_for_by_sigusr2(make_child: MakeChild) -> None:
    """Which a process that does not expect it dies of."""
    child = make_child(*sleeper())
    child.dump()
    wait_readable(child)
    assert child.reap() == Exit(None, signal.SIGUSR2)
    child.close()


@pytest.mark.parametrize(
    ("exit_", "words"),
    [
        (Exit.of(0x0700), "exit status 7"),
        (Exit.of(signal.SIGKILL), "signal SIGKILL"),
        (Exit.of(0x80 | signal.SIGSEGV), "signal SIGSEGV"),
        (Exit.of(40), "signal 40"),
        (Exit(None, None), "status unknown: another part of the host reaped it"),
    ],
)
def test_an_exit_in_words(exit_: Exit, words: str) -> None:
    """As they stand in a report; a core dump is no part of it."""
    assert str(exit_) == words


# -- others who reap --------------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.usefixtures("kqueue")
def test_reaped_by_another(make_child: MakeChild) -> None:
    """Seen all the same; the kernel may know how it ended."""
    child = make_child(*sleeper())
    os.kill(child.pid, signal.SIGKILL)
    os.waitpid(child.pid, 0)
    wait_readable(child)
    assert child.reap() in (Exit(None, signal.SIGKILL), Exit(None, None))
    child.close()


@pytest.mark.skipif(tuple(map(int, os.uname().release.split(".")[:2])) < (6, 15), reason="needs Linux 6.15")
@pytest.mark.parametrize(("script", "exit_"), [("exit 7", Exit(7, None)), ("kill -SEGV $$", Exit(None, 11))])
def test_the_kernel_keeps_the_status_of_who_was_reaped(script: str, exit_: Exit) -> None:
    """For whoever holds the pidfd."""
    process, ours = started("sh", "-c", f"read line; {script}", stdin=subprocess.PIPE)
    child = PidfdChild.open(process, ours)
    assert process.stdin is not None
    process.stdin.close()
    os.waitpid(child.pid, 0)
    assert child.reap() == exit_
    child.close()


def test_an_old_kernel_keeps_no_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not know the question."""
    import fcntl

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    child = PidfdChild.open(*sleeper())
    child.kill()
    os.waitpid(child.pid, 0)
    assert child.reap() == Exit(None, None)
    child.close()


@pytest.mark.parametrize("make_child", KINDS[1:], ids=["kqueue", "waiting"])
@pytest.mark.usefixtures("kqueue")
def test_a_pid_is_signalled_only_while_it_is_the_workers(
    make_child: MakeChild, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another part of the host reaped it, and its pid is another process's: that one lives."""
    child = make_child(*sleeper())
    os.kill(child.pid, signal.SIGKILL)
    os.waitpid(child.pid, 0)
    wait_readable(child)
    signalled: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: signalled.append(pid))
    child.kill()
    assert child.reap() == Exit(None, None)
    child.dump()
    assert signalled == []
    child.close()


def test_a_status_that_comes_a_moment_after_the_death(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS tells of an exit first, and lets it be waited for then."""
    fake_kqueue.install(monkeypatch, fake_kqueue.EarlyKqueue)
    process, ours = sleeper()
    child = KqueueChild(process, ours)
    wait_readable(child)
    naps: list[float] = []

    def nap(duration: float) -> None:
        naps.append(duration)
        if len(naps) == 3:
            os.kill(child.pid, signal.SIGKILL)
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    monkeypatch.setattr(launched.time, "sleep", nap)  # type: ignore[attr-defined]
    assert child.reap() == Exit(None, signal.SIGKILL)
    assert len(naps) == 3
    child.close()


# -- the abandoned ----------------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.usefixtures("kqueue")
def test_an_abandoned_worker_is_reaped_when_it_dies(make_child: MakeChild) -> None:
    """No zombie of the host, and no thread or descriptor once it is dead; nothing waits meanwhile."""
    child = make_child(*sleeper())
    child.close()
    assert any(thread.name == f"bgsuper-abandoned-{child.pid}" for thread in threading.enumerate())
    assert state(child.pid) in "SR"
    os.kill(child.pid, signal.SIGKILL)
    eventually(lambda: state(child.pid) == "")


@every_kind
@pytest.mark.usefixtures("kqueue")
def test_an_abandoned_worker_that_another_reaps(make_child: MakeChild) -> None:
    """Is forgotten all the same."""
    child = make_child(*sleeper())
    child.close()
    os.kill(child.pid, signal.SIGKILL)
    try:
        os.waitpid(child.pid, 0)
    except ChildProcessError:
        pass  # the thread was first


@every_kind
@pytest.mark.usefixtures("kqueue")
def test_closed_after_its_death_it_is_no_zombie(make_child: MakeChild) -> None:
    """Without reap(), as when the supervisor's own thread fails; it takes no thread."""
    child = make_child(*sleeper())
    child.kill()
    wait_readable(child)
    child.close()
    assert state(child.pid) == ""
    assert not any(thread.name.startswith("bgsuper-abandoned") for thread in threading.enumerate())


@every_kind
@pytest.mark.usefixtures("kqueue")
def test_abandoned_without_a_thread_to_be_had(make_child: MakeChild, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the interpreter's exit, or for want of memory: it is said, and close() does not fail."""
    child = make_child(*sleeper())

    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        child.close()
    os.kill(child.pid, signal.SIGKILL)
    os.waitpid(child.pid, 0)


@every_kind
@pytest.mark.usefixtures("kqueue")
def test_no_popen_waits_for_a_worker(make_child: MakeChild) -> None:
    """Nor warns of it: it is not parked where the next Popen of whoever would wait for it by pid."""
    child = make_child(*sleeper())
    pid = child.pid
    child.close()
    del child
    gc.collect()
    assert all(parked.pid != pid for parked in subprocess._active)  # type: ignore[attr-defined]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: state(pid) == "")


@every_kind
@pytest.mark.usefixtures("kqueue")
def test_a_forked_copy_of_the_host_closes_it_and_waits_for_nobody(make_child: MakeChild) -> None:
    """It is not its child; the original still has it."""
    child = make_child(*sleeper())
    child.kill()
    wait_readable(child)
    copy = os.fork()
    if not copy:
        try:
            child._take_status = None  # type: ignore[attr-defined]
            child.close()
            os._exit(threading.active_count() - 1)
        except BaseException:  # noqa: BLE001 - a forked copy of the tests must not go on
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 0
    assert child.reap() == Exit(None, signal.SIGKILL)
    child.close()


def test_a_waiting_thread_is_heard_though_a_forked_copy_holds_its_pipe() -> None:
    """One that was made behind Python's back, and closed nothing."""
    child = WaitingChild(*sleeper())
    read_end, write_end = os.pipe()
    copy = os.fork()
    if not copy:
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    os.close(read_end)
    child.kill()
    wait_readable(child)
    child.reap()
    child.close()
    os.close(write_end)
    os.waitpid(copy, 0)


ABANDONING_HOST = """
import os, signal, socket, subprocess, sys, time
from bgsuper.supervisor.children.bypid import WaitingChild
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
for _ in range(20):
    ours, theirs = socket.socketpair()
    theirs.close()
    child = WaitingChild(subprocess.Popen(["sleep", "3600"], stderr=subprocess.PIPE), ours)
    child.close()
    os.kill(child.pid, signal.SIGKILL)
    while os.path.exists(f"/proc/{child.pid}"):
        time.sleep(0.001)
print("alive")
"""


def test_a_waiting_thread_kills_no_host() -> None:
    """One that has SIGPIPE at its default, as many a command line tool, when nobody listens to the thread any more."""
    process = host(ABANDONING_HOST)
    assert process.communicate(timeout=PATIENCE_S) == ("alive\n", "")


# -- which kind -------------------------------------------------------------------------------------------------------


def test_linux_has_pidfds() -> None:
    """Where the tests run, at least."""
    assert best_child() == PidfdChild.open


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM, errno.EACCES])
def test_a_kernel_that_grants_no_pidfd(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """gVisor, WSL 1, a container's seccomp filter: a thread waits, or kqueue where there is one."""

    def refuse(_: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert best_child() is WaitingChild
    fake_kqueue.install(monkeypatch)
    assert best_child() is KqueueChild


@pytest.mark.parametrize("call", ["os.waitid", "signal.pidfd_send_signal"])
def test_a_kernel_that_grants_half_of_it(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux 5.3 opens a pidfd, and cannot wait for it."""

    def refuse(*_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(call, refuse)
    assert best_child() is WaitingChild


def test_a_python_without_pidfds(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS."""
    monkeypatch.delattr(os, "pidfd_open")
    fake_kqueue.install(monkeypatch)
    assert best_child() is KqueueChild


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_want_of_descriptors_decides_nothing(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes, and the next launch has a pidfd."""

    def refuse(_: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(OSError, match=os.strerror(number)):
        best_child()
