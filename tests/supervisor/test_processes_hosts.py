"""Hosts that die, fork, reap and exit, and two hosts at one store."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest

from bgsuper import Supervisor
from bgsuper.errors import NotFound, StoreLocked, StoreUnavailable
from bgsuper.health import DeathCause
from bgsuper.health import WorkerState as State
from bgsuper.key import MANAGER, NETWORK_GRAPH
from bgsuper.store.api import StoreView
from bgsuper.store.schemes import open_view
from bgsuper.supervisor.children import Child
from bgsuper.supervisor.launch import launch

from .hosts import PATIENCE_S, QUICK, ROOT, Place, alive, eventually, host, key, persister, pid_of, send
from .persisters import BAD

pytestmark = pytest.mark.usefixtures("no_leaks")


# -- hosts that die ---------------------------------------------------------------------------------------------------

DYING_HOST = """
import os, signal, sys, time
from bgsuper import Key, Supervisor
supervisor = Supervisor(sys.argv[1])
supervisor.start()
pid = supervisor.health().pid
os.kill(pid, signal.SIGSTOP)
for number in range(200):
    supervisor.commit({Key("app", "", f"k{number:06}"): b"%d" % number})
while supervisor._core.backlog.has_output or supervisor._shell._out:
    time.sleep(0.001)
print(pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_host_had_sent_becomes_durable_and_its_orphan_ends(place: Place) -> None:
    """200 small commits fit the pipe: the worker was stopped while they came, and finds them when it goes on. The next
    host waits for the orphan instead of failing."""
    process = host(DYING_HOST, place.url)
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL, errors
    orphan = int(output)
    place.plan.sync_delay_s = 0.2
    waiting = Supervisor(place.url)
    starter = Thread(target=waiting.start, args=(PATIENCE_S,))
    starter.start()
    os.kill(orphan, signal.SIGCONT)
    starter.join(PATIENCE_S)
    place.plan.sync_delay_s = 0
    assert not alive(orphan)
    found = dict(waiting.scan("app"))
    waiting.stop()
    assert found == {key(number): b"%d" % number for number in range(200)}


CUT_OFF_HOST = """
import os, signal, sys, time
from bgsuper import Key, Supervisor
from bgsuper.key import NETWORK_GRAPH
supervisor = Supervisor(sys.argv[1])
supervisor.start()
supervisor.wait(supervisor.commit({Key("app", "", "k000000"): b"0"}))
pid = supervisor.health().pid
os.kill(pid, signal.SIGSTOP)
supervisor.snapshot(NETWORK_GRAPH, [bytes(1 << 20)] * 20)
while not supervisor._shell._out:
    time.sleep(0.001)
print(pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_host_that_was_killed_in_the_middle_of_a_frame(place: Place) -> None:
    """Half of a snapshot is no snapshot: its orphan ends. As long as it lives, the next host learns who holds the
    store, in bounded time."""
    process = host(CUT_OFF_HOST, place.url)
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL, errors
    orphan = int(output)
    began = time.monotonic()
    with pytest.raises(StoreLocked) as caught:
        place.supervisor().start(1)
    assert time.monotonic() - began < 5
    assert caught.value.pid == orphan
    os.kill(orphan, signal.SIGCONT)
    eventually(lambda: not alive(orphan))
    with place.running() as supervisor:
        assert dict(supervisor.scan("app")) == {key(0): b"0"}
        with pytest.raises(NotFound):
            supervisor.read(NETWORK_GRAPH)


def test_who_looks_into_the_store_between_two_workers_ends_no_node(tmp_path: Path) -> None:
    """The successor waits, and is tried again uncharged, until nobody looks any more; a first start is told."""
    url = f"sqlite://{tmp_path}/store"
    looking: list[StoreView] = []

    def launch_while_somebody_looks() -> Child:
        if (tmp_path / "store").exists() and not looking:
            looking.append(open_view(url))
        return launch()

    supervisor = Supervisor(url, restart=QUICK, launcher=launch_while_somebody_looks)
    supervisor.start(4)
    send(supervisor, signal.SIGKILL)
    eventually(lambda: supervisor.health().last_cause is DeathCause.UNAVAILABLE)
    with pytest.raises(StoreUnavailable, match="somebody looks into the store"):
        Supervisor(url).start(1)
    seq = supervisor.commit({key(1): b"1"})
    looking[0].close()
    supervisor.wait(seq, PATIENCE_S)
    supervisor.stop(PATIENCE_S)


FORKING_HOST = """
import os, signal, sys, time
from bgsuper import Key, Supervisor
from bgsuper.errors import WorkerError
supervisor = Supervisor(sys.argv[1])
supervisor.start()
child = os.fork()
if not child:
    read, commit = (lambda: supervisor.read(Key("", "", "k"))), (lambda: supervisor.commit({}))
    for call in (supervisor.stop, supervisor.health, commit, read):
        try:
            call()
        except WorkerError:
            print("refused", flush=True)
    time.sleep(3600 if sys.argv[2] == "linger" else 0)
    sys.exit(0)
if sys.argv[2] == "linger":
    seq = supervisor.commit({Key("app", "", "k000001"): b"1"})
    supervisor.wait(seq)
    print(supervisor.health().pid, child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
_, status = os.waitpid(child, 0)
print("child", status, flush=True)
supervisor.wait(supervisor.commit({Key("app", "", "k000001"): b"1"}))
supervisor.stop()
print("stopped", flush=True)
"""


def test_a_forked_copy_of_the_host_is_refused_and_harmless(place: Place) -> None:
    """It may use nothing, exits cleanly, and the original goes on."""
    output, errors = host(FORKING_HOST, place.url, "exit").communicate(timeout=PATIENCE_S)
    assert (output.split("\n"), errors) == (["refused"] * 4 + ["child 0", "stopped", ""], "")


def test_the_worker_sees_its_host_die_though_a_forked_copy_lives(place: Place) -> None:
    """A copy of the host must not keep an orphan alive."""
    process = host(FORKING_HOST, place.url, "linger")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(5)]
    worker, child = map(int, next(line for line in lines if line[0].isdigit()).split())
    try:
        process.wait(PATIENCE_S)
        eventually(lambda: not alive(worker))
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()
    assert place.stored() == {key(1): b"1"}


EXITING_HOST = """
import sys
from bgsuper import Key, Supervisor
supervisor = Supervisor(sys.argv[1])
supervisor.start()
for number in range(300):
    supervisor.commit({Key("app", "", f"k{number:06}"): b"%d" % number})
"""


def test_a_host_that_just_exits_leaves_everything_durable(place: Place) -> None:
    """The interpreter's exit drains, in silence."""
    process = host(EXITING_HOST, place.url)
    assert process.communicate(timeout=PATIENCE_S) == ("", "")
    assert process.returncode == 0
    assert len(place.stored()) == 300


INTERRUPTED_HOST = """
import signal, sys, time
from bgsuper import Key, Supervisor
with Supervisor(sys.argv[1]) as supervisor:
    try:
        print(supervisor.commit({Key("app", "", "k000001"): b"1"}), flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        supervisor.commit({Key("app", "", "k000002"): b"2"})
"""


def test_ctrl_c_reaches_the_host_alone(place: Place) -> None:
    """The whole group is interrupted; the host still writes its last words."""
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED_HOST, place.url], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert place.stored() == {key(1): b"1", key(2): b"2"}


# -- hosts with habits ------------------------------------------------------------------------------------------------

REAPING_HOST = """
import os, signal, sys, threading, time
from bgsuper import Key, Supervisor
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
supervisor = Supervisor(sys.argv[1])
supervisor.start()
for number in range(3):
    pid = supervisor.health().pid
    os.kill(pid, signal.SIGKILL)
    supervisor.wait(supervisor.commit({Key("app", "", "k"): b"%d" % number}), 30)
    while supervisor.health().pid in (pid, None):
        time.sleep(0.01)
supervisor.stop()
print(supervisor.health().restarts)
"""


@pytest.mark.parametrize("habit", ["ignores", "reaps"])
def test_a_death_is_seen_though_another_takes_the_status(place: Place, habit: str) -> None:
    """SIGCHLD ignored, or a thread that reaps everybody's children: the pidfd tells all the same."""
    output, errors = host(REAPING_HOST, place.url, habit).communicate(timeout=PATIENCE_S)
    assert output == "3\n"
    # Kernels from 6.15 on remember a status that somebody else took.
    assert len(re.findall(r"DYING -> EXITED \((?:outside|unknown)\)", errors)) == 3, errors


#: Each worker is killed while the host has more to send than the pipe holds.
SIGPIPE_HOST = """
import os, signal, sys
from bgsuper import Key, Supervisor
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
supervisor = Supervisor(sys.argv[1])
supervisor.start()
for number in range(3):
    pid = supervisor.health().pid
    os.kill(pid, signal.SIGSTOP)
    for _ in range(50):
        supervisor.commit({Key("app", "", "k"): bytes(60000)})
    os.kill(pid, signal.SIGKILL)
    for _ in range(2000):
        supervisor.commit({Key("app", "", "k"): b"x"})
    supervisor.wait(supervisor.health().submitted, 30)
supervisor.stop()
print("survived")
"""


def test_a_host_that_leaves_sigpipe_at_its_default(place: Place) -> None:
    """As many command line tools do: it must not die with its worker."""
    process = host(SIGPIPE_HOST, place.url)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output) == (0, "survived\n")


def test_a_host_with_thousands_of_descriptors(place: Place) -> None:
    """The pipe's descriptor is above 1023, in the host and in its worker: neither uses select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1200 and hard < 1200:
        pytest.skip(f"only {hard} descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1050)]
    try:
        with place.running() as supervisor:
            assert supervisor._shell._child is not None
            assert supervisor._shell._child.socket.fileno() > 1023
            pid = pid_of(supervisor)
            time.sleep(1.2)  # one heartbeat
            supervisor.wait(supervisor.commit({key(0): b"0"}), PATIENCE_S)
            assert pid_of(supervisor) == pid
            send(supervisor, signal.SIGKILL)
            supervisor.wait(supervisor.commit({key(1): b"1"}), PATIENCE_S)
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_grandchild_that_holds_everything_open_hides_no_death(place: Place) -> None:
    """A process that the worker started keeps its pipe and standard error: the death is seen, and buried at once."""
    children: list[subprocess.Popen[bytes]] = []

    def launcher() -> Child:
        child = launch()
        if not children:
            # As good as a grandchild: it holds the worker's standard error by way of /proc.
            with open(f"/proc/{child.pid}/fd/2", "wb", buffering=0) as stderr:
                children.append(subprocess.Popen(["sleep", "3600"], stderr=stderr, stdin=subprocess.DEVNULL))
        return child

    try:
        with place.running(launcher=launcher) as supervisor:
            send(supervisor, signal.SIGKILL)
            supervisor.wait(supervisor.commit({key(0): b"0"}), PATIENCE_S)
            assert supervisor.health().restarts == 1
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_a_process_that_a_persister_left_behind_hides_no_death(tmp_path: Path) -> None:
    """It holds all that the worker had open, its end of the pipe too. The worker's end is seen all the same, both when
    it is killed and when it is told to end."""
    children: list[int] = []

    def beget(supervisor: Supervisor) -> None:
        supervisor.wait(supervisor.snapshot(MANAGER, [BAD], critical=True), PATIENCE_S)
        children.append(int((tmp_path / "child").read_text()))

    try:
        with Supervisor(persister(tmp_path, "Faulty", fault="beget"), restart=QUICK) as supervisor:
            beget(supervisor)
            send(supervisor, signal.SIGKILL)
            eventually(lambda: supervisor.health().restarts == 1)
            beget(supervisor)
        assert supervisor.health().state is State.ENDED
        assert all(alive(child) for child in children)
        assert len(children) == 2
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


# -- hosts without a guard --------------------------------------------------------------------------------------------

UNGUARDED_HOST = """
import sys
from bgsuper import Key, PersisterRef, Supervisor
from bgsuper.errors import ConfigError
print("the host's main ran", flush=True)

class Mine:
    pass

supervisor = Supervisor(sys.argv[1])
supervisor.start()
supervisor.wait(supervisor.commit({Key("app", "", "k000001"): b"1"}))
supervisor.stop()
try:
    Supervisor(PersisterRef("__main__:Mine")).start()
except ConfigError as error:
    print(error)
"""


def test_a_script_without_a_guard_is_no_fork_bomb(place: Place) -> None:
    """No worker imports the host's main, and a persister that is defined there is refused with a word about it."""
    script = place.directory / "app.py"
    script.write_text(UNGUARDED_HOST)
    process = subprocess.run(
        [sys.executable, script, place.url], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert process.stdout.count("the host's main ran") == 1
    assert "__main__:Mine" in process.stdout
    assert place.stored() == {key(1): b"1"}
