"""A whole supervisor over each kind of child: whatever tells of a death, everything else is the same."""

from __future__ import annotations

import os
import signal
import threading
from functools import partial

import pytest

from bgsuper.errors import ShutdownIncomplete
from bgsuper.health import WorkerState as State
from bgsuper.supervisor import RestartPolicy
from bgsuper.supervisor.children import Child, MakeChild
from bgsuper.supervisor.children.bypid import KqueueChild, WaitingChild
from bgsuper.supervisor.children.pidfd import PidfdChild
from bgsuper.supervisor.launch import launch

from . import fake_kqueue
from .hosts import PATIENCE_S, Place, alive, eventually, freeze, host, key, pid_of, send

pytestmark = pytest.mark.usefixtures("no_leaks", "kqueue")

every_kind = pytest.mark.parametrize(
    "make_child", [PidfdChild.open, KqueueChild, WaitingChild], ids=["pidfd", "kqueue", "waiting"]
)


@pytest.fixture
def kqueue(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_kqueue.install(monkeypatch)


@every_kind
def test_killed_restarted_and_stopped(place: Place, make_child: MakeChild) -> None:
    """Every commit arrives, each death has its signal, and nothing is left."""
    with place.running(launcher=partial(launch, make_child)) as supervisor:
        for number in range(3):
            supervisor.wait(supervisor.commit({key(number): b"%d" % number}), PATIENCE_S)
            send(supervisor, signal.SIGKILL)
            eventually(lambda number=number: supervisor.health().restarts == number + 1)
        seq = supervisor.commit({key(3): b"3"})
        supervisor.wait(seq, PATIENCE_S)
        assert str(supervisor.health().last_death).startswith("signal SIGKILL")
        supervisor.stop(PATIENCE_S)
        assert supervisor.health().state is State.ENDED
    assert place.stored() == {key(number): b"%d" % number for number in range(4)}


@every_kind
def test_killed_by_the_supervisor(place: Place, make_child: MakeChild) -> None:
    """A worker that stays stopped is killed and replaced; SIGKILL goes where it should."""
    policy = RestartPolicy(stopped_grace_s=0.2, vitals_interval_s=0.05)
    with place.running(policy, launcher=partial(launch, make_child)) as supervisor:
        pid = freeze(supervisor)
        supervisor.wait(supervisor.commit({key(0): b"0"}), PATIENCE_S)
        assert pid_of(supervisor) != pid
        assert not alive(pid)


@every_kind
def test_a_start_that_fails_leaves_nothing(place: Place, make_child: MakeChild) -> None:
    """The worker says why and ends; its child is closed like any other."""
    (place.directory / "store").write_text("mine")
    with pytest.raises(Exception, match="directory"):
        place.supervisor(launcher=partial(launch, make_child)).start(PATIENCE_S)


@every_kind
def test_abandoned_by_stop_and_dead_at_last(place: Place, make_child: MakeChild) -> None:
    """Even SIGKILL did nothing in time, as in a disk's wait: stop() ends all the same, the host's loop goes on, and
    when the worker dies there is no zombie."""
    lost: list[int] = []

    def launch_unkillable() -> Child:
        child = launch(make_child)
        child.kill = lambda: lost.append(child.pid)  # type: ignore[method-assign]
        return child

    policy = RestartPolicy(kill_timeout_s=0.2, vitals_interval_s=0.05)
    supervisor = place.supervisor(policy, launcher=launch_unkillable)
    supervisor.start(PATIENCE_S)
    pid = freeze(supervisor)
    supervisor.commit({key(0): b"0"})
    with pytest.raises(ShutdownIncomplete, match="abandoned"):
        supervisor.stop(1)
    eventually(lambda: not supervisor._shell.thread.is_alive())
    assert lost
    assert alive(pid)
    assert any(thread.name == f"bgsuper-abandoned-{pid}" for thread in threading.enumerate())
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))


@every_kind
def test_a_bug_in_the_supervisors_own_thread_leaves_no_zombie(
    place: Place, make_child: MakeChild, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed, closed at once, and reaped when it is dead."""
    supervisor = place.supervisor(launcher=partial(launch, make_child))
    supervisor.start(PATIENCE_S)
    pid = pid_of(supervisor)

    def bug(now: float) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(supervisor._core, "handle_timer", bug)
    eventually(lambda: supervisor.failure() is not None)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))


HABITS_HOST = """
import os, signal, sys, threading, time
from functools import partial
from bgsuper import Key, Supervisor
from bgsuper.supervisor.children.bypid import KqueueChild, WaitingChild
from bgsuper.supervisor.children.pidfd import PidfdChild
from bgsuper.supervisor.launch import launch
from tests.supervisor import fake_kqueue
import pytest
fake_kqueue.install(pytest.MonkeyPatch())
make_child = {"pidfd": PidfdChild.open, "kqueue": KqueueChild, "waiting": WaitingChild}[sys.argv[3]]
if sys.argv[2] == "ignores":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
def reap():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.001)
if sys.argv[2] == "reaps":
    threading.Thread(target=reap, daemon=True).start()
supervisor = Supervisor(sys.argv[1], launcher=partial(launch, make_child))
supervisor.start()
for number in range(3):
    pid = supervisor.health().pid
    os.kill(pid, signal.SIGKILL)
    supervisor.wait(supervisor.commit({Key("app", "", "k"): b"%d" % number}), 30)
    while supervisor.health().pid in (pid, None):
        time.sleep(0.01)
death = supervisor.health().last_death
supervisor.stop()
print(supervisor.health().restarts, [thread.name for thread in threading.enumerate() if "bgsuper" in thread.name])
print(death)
"""


@pytest.mark.parametrize("kind", ["pidfd", "kqueue", "waiting"])
@pytest.mark.parametrize("habit", ["ignores", "reaps"])
def test_hosts_that_take_the_status_away(place: Place, habit: str, kind: str) -> None:
    """SIGCHLD ignored, or a thread that reaps everybody's children: deaths are seen, and no thread stays."""
    output, errors = host(HABITS_HOST, place.url, habit, kind).communicate(timeout=PATIENCE_S)
    restarts, death, _ = (output + "\n\n").split("\n", 2)
    assert restarts == "3 []", errors
    assert death.startswith(("signal SIGKILL", "status unknown"))


EXITING_HOST = """
import os, signal, sys, time
from functools import partial
from bgsuper import Key, Supervisor
from bgsuper.supervisor.children.bypid import WaitingChild
from bgsuper.supervisor.launch import launch
supervisor = Supervisor(sys.argv[1], launcher=partial(launch, WaitingChild))
supervisor.start()
supervisor.commit({Key("app", "", "k000001"): b"1"})
"""


def test_a_host_that_exits_with_a_waiting_thread(place: Place) -> None:
    """It drains and goes, without a warning."""
    process = host("import warnings; warnings.simplefilter('error')" + EXITING_HOST, place.url)
    assert process.communicate(timeout=PATIENCE_S) == ("", "")
    assert process.returncode == 0
    assert place.stored() == {key(1): b"1"}


#: What no macOS has, under the Pythons that are supported there.
WITHOUT_LINUX = """
import os, select, socket, time
for module, names in (
    (os, "pidfd_open P_PIDFD waitid posix_fadvise POSIX_FADV_DONTNEED memfd_create eventfd O_PATH O_TMPFILE pipe2"),
    (socket, "MSG_NOSIGNAL SO_PEERCRED SOCK_CLOEXEC SOCK_NONBLOCK"),
    (time, "CLOCK_BOOTTIME"),
):
    for name in names.split():
        delattr(module, name)
"""

MACOS_HOST = """
import os, signal, sys, threading, time
import psutil, pytest
from tests.supervisor import fake_kqueue
fake_kqueue.install(pytest.MonkeyPatch())
exec(os.environ["WITHOUT_LINUX"])
os.environ["PYTHONPATH"] = sys.argv[2]
del psutil.Process.io_counters
from bgsuper import Key, Supervisor
from bgsuper.supervisor import vitals
from bgsuper.supervisor.children.bypid import KqueueChild
def no_proc(path, mode):
    raise FileNotFoundError(path)
vitals.open = no_proc
with Supervisor(sys.argv[1]) as supervisor:
    assert isinstance(supervisor._shell._child, KqueueChild)
    for number in range(3):
        pid = supervisor.health().pid
        supervisor.wait(supervisor.commit({Key("app", "", f"k{number:06}"): b"%d" % number}), 30)
        while supervisor.health().rss_bytes is None:
            time.sleep(0.01)
        assert supervisor.health().write_bytes is None
        os.kill(pid, signal.SIGKILL)
        while supervisor.health().pid in (pid, None):
            time.sleep(0.01)
    print(supervisor.health().restarts, supervisor.health().last_death)
"""


def test_a_host_and_a_worker_without_what_only_linux_has(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as Linux can play macOS: no pidfd, no waitid, no /proc, no write_bytes; deaths and their signals all the
    same."""
    (place.directory / "python").mkdir()
    (place.directory / "python" / "sitecustomize.py").write_text(WITHOUT_LINUX)
    monkeypatch.setenv("WITHOUT_LINUX", WITHOUT_LINUX)
    url = f"sqlite://{place.directory}/store"
    output, errors = host(MACOS_HOST, url, place.directory / "python").communicate(timeout=PATIENCE_S)
    assert output.startswith("3 signal SIGKILL"), errors
    assert place.stored() == {key(number): b"%d" % number for number in range(3)}
