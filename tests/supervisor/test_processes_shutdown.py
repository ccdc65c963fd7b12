"""stop() means durable and is bounded, whatever the worker, the host's threads or a terminal do meanwhile."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from bgsuper import Limits, Supervisor
from bgsuper.errors import PoisonCommit, ShutdownIncomplete, WorkerStartFailed
from bgsuper.health import DeathCause
from bgsuper.health import WorkerState as State
from bgsuper.key import MANAGER

from .hosts import (
    PATIENCE_S,
    QUICK,
    ROOT,
    Place,
    alive,
    eventually,
    freeze,
    host,
    key,
    persister,
    pid_of,
    send,
    state_is,
    states,
    thaw,
)
from .persisters import BAD

pytestmark = pytest.mark.usefixtures("no_leaks")


class Stopping(Thread):
    """stop() on a thread of its own."""

    def __init__(self, supervisor: Supervisor, timeout: float) -> None:
        super().__init__()
        self._supervisor, self._timeout = supervisor, timeout
        self.error: BaseException | None = None
        self.took = 0.0
        self.start()

    def run(self) -> None:
        began = time.monotonic()
        try:
            self._supervisor.stop(self._timeout)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.error = error
        self.took = time.monotonic() - began


# -- bounded ----------------------------------------------------------------------------------------------------------


def test_stop_is_bounded_however_slow_the_disk(place: Place) -> None:
    """ShutdownIncomplete says how much was left and that the worker was killed."""
    supervisor = place.supervisor()
    supervisor.start(PATIENCE_S)
    place.plan.sync_delay_s = 600
    for number in range(3):
        supervisor.commit({key(number): b"%d" % number})
    with pytest.raises(ShutdownIncomplete) as caught:
        supervisor.stop(1)
    assert (caught.value.unacked, caught.value.outcome) == (3, "killed")
    assert supervisor.health().state is State.FAILED
    place.plan.sync_delay_s = 0


def test_stop_is_bounded_with_a_stopped_worker(place: Place) -> None:
    """SIGKILL works on what SIGSTOP stopped."""
    supervisor = place.supervisor()
    supervisor.start(PATIENCE_S)
    freeze(supervisor)
    supervisor.commit({key(0): b"0"})
    with pytest.raises(ShutdownIncomplete, match="killed"):
        supervisor.stop(1)


def test_stop_before_the_first_hello(place: Place) -> None:
    """Whoever waits in start() learns of it."""
    from threading import Thread

    place.plan.sync_delay_s = 600
    supervisor = place.supervisor()
    errors: list[BaseException] = []

    def start() -> None:
        try:
            supervisor.start(PATIENCE_S)
        except WorkerStartFailed as error:
            errors.append(error)

    thread = Thread(target=start)
    thread.start()
    eventually(state_is(supervisor, State.STARTING))
    supervisor.stop(5)
    thread.join(PATIENCE_S)
    assert len(errors) == 1
    assert "stop() was called" in str(errors[0])


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_worker_stopped_by_a_signal_while_it_drains(place: Place, goes_on: bool) -> None:
    """Continued in time, it finishes; else it is killed in time."""
    supervisor = place.supervisor()
    supervisor.start(PATIENCE_S)
    place.plan.sync_delay_s = 0.1
    for number in range(3):
        supervisor.commit({key(number): b"%d" % number})
    stopping = Stopping(supervisor, PATIENCE_S if goes_on else 1)
    eventually(state_is(supervisor, State.STOPPING))
    freeze(supervisor)
    eventually(lambda: "psutil says stopped" in supervisor.health().evidence, "it is told")
    if goes_on:
        thaw(supervisor)
    stopping.join(PATIENCE_S)
    if goes_on:
        assert stopping.error is None
        assert place.stored() == {key(number): b"%d" % number for number in range(3)}
    else:
        assert isinstance(stopping.error, ShutdownIncomplete)
        assert stopping.error.outcome == "killed"
        assert stopping.took < 1 + 1 + 2, "its timeout, the time to wind up, and a busy machine"


def test_a_thread_that_a_persister_left_running(tmp_path: Path) -> None:
    """Python waits for it at its own end; stop() does not for ever, and nothing was lost, so nothing is raised."""
    supervisor = Supervisor(persister(tmp_path, "Faulty", fault="linger"), restart=QUICK)
    supervisor.start(PATIENCE_S)
    supervisor.snapshot(MANAGER, [BAD], critical=True)
    stopping = Stopping(supervisor, 0.6)
    stopping.join(PATIENCE_S)
    assert stopping.error is None
    assert supervisor.health().state is State.ENDED
    assert (tmp_path / "manager").read_bytes() == BAD


def lagging(place: Place, supervisor: Supervisor) -> State:
    place.plan.sync_delay_s = 600
    return State.LAGGING


def disk_full(place: Place, supervisor: Supervisor) -> State:
    place.plan.full = 1
    return State.DISK_FULL


def retrying(place: Place, supervisor: Supervisor) -> State:
    pid = pid_of(supervisor)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))
    return State.RETRYING


def bloated(place: Place, supervisor: Supervisor) -> State:
    place.plan.sync_delay_s = 600
    supervisor._core._worker.doctor.policy = replace(QUICK, rss_soft_bytes=1)
    return State.BLOATED


@pytest.mark.parametrize("trouble", [lagging, disk_full, retrying, bloated])
def test_stop_is_bounded_in_every_trouble(place: Place, trouble: object) -> None:
    """What it waits for may never come: the worker is killed in time, and what is left is counted."""
    assert callable(trouble)
    supervisor = place.supervisor(limits=Limits(lagging_s=0.1))
    supervisor.start(PATIENCE_S)
    pid = pid_of(supervisor)
    state = trouble(place, supervisor)
    supervisor.commit({key(0): b"0"})
    supervisor.snapshot(MANAGER, [b"manager"], critical=True)
    eventually(state_is(supervisor, state))
    stopping = Stopping(supervisor, 0.6)
    stopping.join(PATIENCE_S)
    assert isinstance(stopping.error, ShutdownIncomplete)
    assert stopping.error.outcome == "killed"
    assert stopping.error.unacked >= 1
    assert stopping.took < 1 + 1 + 2
    assert not alive(pid)
    assert states(supervisor)[-3:] == [State.STOPPING, State.EXITED, State.FAILED]


# -- deaths while it drains -------------------------------------------------------------------------------------------


def test_killed_after_it_was_told_to_end(place: Place) -> None:
    """SHUTDOWN is sent, the last commit is not acknowledged: a successor is launched for it, and told the same."""
    supervisor = place.supervisor()
    supervisor.start(PATIENCE_S)
    place.plan.sync_delay_s = 0.5
    supervisor.commit({key(0): b"0"})
    stopping = Stopping(supervisor, PATIENCE_S)
    eventually(lambda: supervisor._core._worker.shutdown_sent)
    send(supervisor, signal.SIGKILL)
    eventually(lambda: supervisor.health().restarts == 1)
    place.plan.sync_delay_s = 0
    stopping.join(PATIENCE_S)
    assert stopping.error is None
    died = [transition.cause for transition in supervisor.health_log() if transition.state is State.EXITED]
    assert died == [DeathCause.OUTSIDE, DeathCause.ASKED]
    assert place.stored() == {key(0): b"0"}


@pytest.mark.parametrize("fault", ["exit_quietly", "segfault"])
def test_what_ends_every_worker_while_it_drains(tmp_path: Path, fault: str) -> None:
    """Told to end, and gone without having finished, is a crash like any other: no endless row of successors."""
    supervisor = Supervisor(persister(tmp_path, "Faulty", fault=fault), restart=QUICK)
    supervisor.start(PATIENCE_S)
    freeze(supervisor)
    supervisor.snapshot(MANAGER, [BAD], critical=True)
    stopping = Stopping(supervisor, 3)
    eventually(state_is(supervisor, State.STOPPING))
    thaw(supervisor)
    stopping.join(PATIENCE_S)
    assert isinstance(stopping.error, PoisonCommit)
    assert states(supervisor).count(State.EXITED) == 4


# -- signals ----------------------------------------------------------------------------------------------------------

STARTING_HOST = """
import sys
from bgsuper import Supervisor
print("starting", flush=True)
Supervisor(sys.argv[1]).start()
"""


def session(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A host app of its own that leads a group, as a terminal's does."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_group_is_signalled_while_it_starts(place: Place, number: signal.Signals) -> None:
    """Ctrl-C comes out of start() as it should; SIGTERM ends the host. No worker stays, and the store is sound."""
    place.plan.sync_delay_s = 0.4
    process = session(STARTING_HOST, place.url)
    assert process.stdout is not None
    process.stdout.readline()
    eventually(lambda: (place.directory / "store").exists(), "the worker opens the store")
    began = time.monotonic()
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert time.monotonic() - began < 8
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in errors) is (number is signal.SIGINT)
    place.plan.sync_delay_s = 0
    assert place.stored() == {}


DRAINING_HOST = """
import signal, sys, threading
from bgsuper import Key, Supervisor
asked = threading.Event()
if sys.argv[2] == "asks":
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
with Supervisor(sys.argv[1]) as supervisor:
    for number in range(100):
        supervisor.commit({Key("app", "", f"k{number:06}"): b"%d" % number})
    while supervisor._core.backlog.has_output or supervisor._shell._out:
        pass
    print(supervisor.health().pid, flush=True)
    if sys.argv[2] == "asks":
        asked.wait()
    supervisor.commit({Key("app", "", "last"): b"words"})
"""


def test_ctrl_c_while_it_drains(place: Place) -> None:
    """It comes out of stop(), and the exit of the interpreter drains what is left all the same."""
    process = session(DRAINING_HOST, place.url, "drains")
    assert process.stdout is not None
    process.stdout.readline()
    place.plan.sync_delay_s = 0.5
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode in (-signal.SIGINT, 0), errors
    place.plan.sync_delay_s = 0
    assert len(place.stored()) == 101


@pytest.mark.parametrize("habit", ["asks", "dies"])
def test_a_service_manager_signals_both(place: Place, habit: str) -> None:
    """As systemd does, the whole control group: one that has a handler still makes its last words durable; of one that
    dies at once, everything is durable that its worker had received."""
    process = session(DRAINING_HOST, place.url, habit)
    assert process.stdout is not None
    place.plan.sync_delay_s = 0.05
    worker = int(process.stdout.readline())
    for pid in (worker, process.pid):
        os.kill(pid, signal.SIGTERM)
    place.plan.sync_delay_s = 0
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == (0 if habit == "asks" else -signal.SIGTERM), errors
    eventually(lambda: not alive(worker))
    found = place.stored()
    assert {key(number): b"%d" % number for number in range(100)}.items() <= found.items()
    if habit == "asks":
        assert len(found) == 101


# -- the host's exit --------------------------------------------------------------------------------------------------

CARELESS_HOST = """
import sys
from bgsuper import Key, PersisterRef, Supervisor
from bgsuper.key import MANAGER
from tests.supervisor.persisters import DiskOfMineError
failing = []
for _ in range(4):
    failing.append(Supervisor(PersisterRef(
        "tests.supervisor.persisters:Files", {"directory": sys.argv[2], "fails": "manager"}, raises=(DiskOfMineError,)
    )))
    failing[-1].start()
    failing[-1].snapshot(MANAGER, [b"state"], critical=True)
supervisor = Supervisor(sys.argv[1])
supervisor.start()
for number in range(300):
    supervisor.commit({Key("app", "", f"k{number:06}"): b"%d" % number})
"""


def test_an_error_at_exit_keeps_no_other_supervisor_from_being_stopped(place: Place) -> None:
    """Whatever class a persister's error has: it is logged, and what the others have is made durable."""
    process = host(CARELESS_HOST, place.url, place.directory)
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output) == (0, "")
    assert errors.count("a supervisor left running at exit did not stop well: ('cannot write the manager', 7)") == 4
    assert "Traceback" not in errors
    assert len(place.stored()) == 300


STUCK_HOST = """
import os, signal, sys
from bgsuper import Key, Supervisor
import bgsuper.supervisor.supervisor as module
module.EXIT_TIMEOUT_S = 0.6
supervisor = Supervisor(sys.argv[1])
supervisor.start()
os.kill(supervisor.health().pid, signal.SIGSTOP)
supervisor.commit({Key("app", "", "k"): b"v"})
print(supervisor.health().pid, flush=True)
"""


def test_a_host_that_exits_while_its_worker_is_stopped(place: Place) -> None:
    """Bounded, and not in silence; the worker is killed."""
    process = host(STUCK_HOST, place.url)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    began = time.monotonic()
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert time.monotonic() - began < 1 + 1 + 3
    assert process.returncode == 0
    assert "did not stop well" in errors
    assert "1 commits and snapshots were never acknowledged" in errors
    eventually(lambda: not alive(worker))
