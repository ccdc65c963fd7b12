"""Workers stuck in the kernel, where SIGKILL may not reach them: reported, never doubled, and nothing acknowledged is
lost. With disk-sleep that anybody can bring about (CLONE_VFORK), and as root with a frozen file system."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from bgsuper import Key, PersisterRef, RestartPolicy, Supervisor
from bgsuper.errors import BgsuperError, ShutdownIncomplete, StoreLocked, WorkerStartFailed
from bgsuper.health import DeathCause
from bgsuper.health import WorkerState as State
from bgsuper.key import MANAGER, NETWORK_GRAPH
from bgsuper.torture.power.frozen import FreezableDisk, mounted
from bgsuper.torture.power.loopmount import NoDisk

from . import persisters
from .hosts import PATIENCE_S, ROOT, alive, eventually, key, pid_of, send, state_is

pytestmark = pytest.mark.usefixtures("no_leaks")

#: Looks often, and calls a worker hung long before the disk sleeps of these tests end: the disk is no hang.
LOOKS = RestartPolicy(
    vitals_interval_s=0.1, hung_s=0.8, kill_timeout_s=0.3, backoff_first_s=0.01, backoff_max_s=0.05, intensity=50
)
#: What a busy machine may add to a time that is bounded.
SLACK_S = 5.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FreezableDisk]:
    """A file system of its own that can be frozen."""
    try:
        with mounted(tmp_path) as disk:
            yield disk
    except NoDisk as reason:
        pytest.skip(str(reason))


def url(disk: FreezableDisk) -> str:
    return f"sqlite://{disk.path}/store"


def submit(supervisor: Supervisor, numbers: range) -> None:
    for number in numbers:
        supervisor.commit({key(number): b"%d" % number})


def expected(numbers: range) -> dict[Key, bytes]:
    return {key(number): b"%d" % number for number in numbers}


def stored(disk: FreezableDisk) -> dict[Key, bytes]:
    """What a fresh worker finds."""
    with Supervisor(url(disk)) as supervisor:
        return dict(supervisor.scan("app"))


def states(supervisor: Supervisor) -> list[State]:
    return [transition.state for transition in supervisor.health_log()]


def in_disk_sleep(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_DISK_SLEEP


def looked_at(times: int) -> None:
    """Let the worker be looked at so often: that nothing happens meanwhile is what is tested."""
    time.sleep(times * LOOKS.vitals_interval_s)


def idle(pid: int) -> bool:
    """Whether the worker's main thread has nothing to do, not even a checkpoint, which comes after 50 ms."""
    before = psutil.Process(pid).num_ctx_switches()
    time.sleep(0.3)
    return bool(psutil.Process(pid).num_ctx_switches() == before)


def gone(pid: int) -> None:
    """Wait until an abandoned worker is dead; its status is ours to take, since its supervisor never will."""
    eventually(lambda: not alive(pid), f"process {pid} ends")
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


# -- disk-sleep that passes -------------------------------------------------------------------------------------------


def sleeper(directory: Path, seconds: float, times: int = 1) -> PersisterRef:
    """A persister that is in disk-sleep for so long, so often, whenever it persists the manager."""
    config = {"directory": str(directory), "seconds": seconds, "times": times}
    return PersisterRef(f"{persisters.__name__}:Uninterruptible", config)


def test_in_disk_sleep_it_is_reported_and_left_alone(tmp_path: Path) -> None:
    """DISK_STALLED with its evidence, no matter that it gets nothing done for longer than a hang may take; then READY
    again, the same worker, nothing charged, nothing lost."""
    with Supervisor(sleeper(tmp_path, 2.0), restart=LOOKS) as supervisor:
        pid = pid_of(supervisor)
        began = time.monotonic()
        seq = supervisor.snapshot(MANAGER, [b"manager"], critical=True)
        eventually(state_is(supervisor, State.DISK_STALLED))
        reported = time.monotonic() - began
        assert in_disk_sleep(pid)
        health = supervisor.health()
        assert "disk-sleep" in health.evidence
        assert health.gate == "holding"
        supervisor.wait(seq, PATIENCE_S)
        assert time.monotonic() - began >= 2.0
        assert reported < 2.0, "it was reported while it lasted"
        eventually(state_is(supervisor, State.READY))
        health = supervisor.health()
        assert (health.pid, health.restarts, health.last_death) == (pid, 0, None)
        assert states(supervisor) == [State.STARTING, State.READY, State.DISK_STALLED, State.READY]
    assert (tmp_path / "manager").read_bytes() == b"manager"


def test_a_slow_disk_that_answers_is_neither_stalled_nor_hung(tmp_path: Path) -> None:
    """Often in disk-sleep, never for long, and for much longer altogether than a hang may take: nothing is said of it,
    though nothing that can be counted is done."""
    seconds = LOOKS.vitals_interval_s / 2
    with Supervisor(sleeper(tmp_path, seconds, round(3 * LOOKS.hung_s / seconds)), restart=LOOKS) as supervisor:
        seq = supervisor.snapshot(MANAGER, [b"manager"], critical=True)
        supervisor.wait(seq, PATIENCE_S)
        assert states(supervisor) == [State.STARTING, State.READY]
        assert supervisor.health().restarts == 0


def test_disk_sleep_that_a_kill_ends(tmp_path: Path) -> None:
    """stop() kills it in time, and what it leaves behind, a child that holds the pipe open, holds up nothing."""
    supervisor = Supervisor(sleeper(tmp_path, 3600), restart=LOOKS)
    supervisor.start(PATIENCE_S)
    pid = pid_of(supervisor)
    supervisor.snapshot(MANAGER, [b"manager"], critical=True)
    eventually(state_is(supervisor, State.DISK_STALLED))
    (child,) = psutil.Process(pid).children()
    try:
        with pytest.raises(ShutdownIncomplete) as caught:
            supervisor.stop(1)
        assert (caught.value.unacked, caught.value.outcome) == (1, "killed")
        assert not alive(pid)
        assert child.is_running()
    finally:
        child.kill()


# -- a frozen file system ---------------------------------------------------------------------------------------------


def test_a_frozen_disk_is_reported_and_goes_on_when_thawed(disk: FreezableDisk) -> None:
    """In the middle of a stream of commits: DISK_STALLED, no restart, and everything durable after the thaw."""
    with Supervisor(url(disk), restart=LOOKS) as supervisor:
        pid = pid_of(supervisor)
        submit(supervisor, range(2000))
        eventually(lambda: supervisor.durable_seq > 0)
        with disk.frozen():
            submit(supervisor, range(2000, 2100))
            eventually(state_is(supervisor, State.DISK_STALLED))
            looked_at(15)
            assert states(supervisor)[1:] == [State.READY, State.DISK_STALLED], "nothing else is said of it meanwhile"
            assert supervisor.durable_seq < supervisor.health().submitted
            assert in_disk_sleep(pid)
        supervisor.wait(supervisor.health().submitted, PATIENCE_S)
        eventually(state_is(supervisor, State.READY))
        assert (supervisor.health().pid, supervisor.health().restarts) == (pid, 0)
    assert stored(disk) == expected(range(2100))


def test_a_stuck_snapshot_thread_is_seen(disk: FreezableDisk) -> None:
    """The main thread only sleeps, and psutil shows that one alone: the snapshot thread's own state is looked at."""
    content = os.urandom(2**20) * 32
    with Supervisor(url(disk), restart=replace(LOOKS, hung_s=PATIENCE_S)) as supervisor:
        pid = pid_of(supervisor)
        seq = supervisor.snapshot(NETWORK_GRAPH, [content])
        eventually(lambda: list((disk.path / "store" / "snapshots").iterdir()), "it has begun to write")
        with disk.frozen():
            eventually(state_is(supervisor, State.DISK_STALLED))
            assert "snapshot thread" in supervisor.health().evidence
            assert not in_disk_sleep(pid)
        supervisor.wait(seq, PATIENCE_S)
        assert supervisor.read(NETWORK_GRAPH) == content
        eventually(state_is(supervisor, State.READY))
        assert supervisor.health().restarts == 0


def test_stop_is_bounded_though_nothing_can_end_the_worker(disk: FreezableDisk) -> None:
    """SIGKILL stays pending: WEDGED, then abandoned. After the thaw it dies, and the next host finds everything that
    was acknowledged."""
    supervisor = Supervisor(url(disk), restart=LOOKS)
    supervisor.start(PATIENCE_S)
    pid = pid_of(supervisor)
    submit(supervisor, range(50))
    supervisor.wait(supervisor.health().submitted, PATIENCE_S)
    with disk.frozen():
        submit(supervisor, range(50, 60))
        eventually(lambda: in_disk_sleep(pid))
        began = time.monotonic()
        with pytest.raises(ShutdownIncomplete) as caught:
            supervisor.stop(2)
        assert time.monotonic() - began < 2 + SLACK_S
        assert (caught.value.unacked, caught.value.outcome) == (10, "abandoned")
        assert in_disk_sleep(pid)
        assert states(supervisor)[-3:] == [State.DYING, State.WEDGED, State.FAILED]
        assert supervisor.health().restarts == 0
    gone(pid)
    found = stored(disk)
    assert expected(range(50)).items() <= found.items() <= expected(range(60)).items()


def test_a_second_host_gets_no_worker_while_the_first_ones_is_stuck(disk: FreezableDisk) -> None:
    """It learns that the store is locked, or that there is no HELLO; either way soon. The first goes on undisturbed."""
    with Supervisor(url(disk), restart=LOOKS) as supervisor:
        submit(supervisor, range(20))
        supervisor.wait(supervisor.health().submitted, PATIENCE_S)
        pid, epoch = pid_of(supervisor), supervisor.health().epoch
        second = Supervisor(url(disk), restart=LOOKS)
        with disk.frozen():
            submit(supervisor, range(20, 40))
            eventually(lambda: in_disk_sleep(pid))
            began = time.monotonic()
            with pytest.raises((StoreLocked, WorkerStartFailed)):
                second.start(1)
            assert time.monotonic() - began < 1 + LOOKS.kill_timeout_s + SLACK_S
            stuck = second.health().pid
            with suppress(BgsuperError):
                second.stop(1)
            assert second.health().epoch == 0
        if stuck is not None:
            gone(stuck)
        supervisor.wait(supervisor.health().submitted, PATIENCE_S)
        assert (supervisor.health().pid, supervisor.health().epoch, supervisor.health().restarts) == (pid, epoch, 0)
    assert stored(disk) == expected(range(40))


def test_killed_from_outside_it_has_no_successor_before_it_is_dead(disk: FreezableDisk) -> None:
    """An operator's SIGKILL stays pending, so nothing is started beside it; after the thaw everything is replayed."""
    with Supervisor(url(disk), restart=LOOKS) as supervisor:
        pid, epoch = pid_of(supervisor), supervisor.health().epoch
        submit(supervisor, range(2000))
        eventually(lambda: supervisor.durable_seq > 0)
        with disk.frozen():
            submit(supervisor, range(2000, 2100))
            eventually(lambda: in_disk_sleep(pid))
            send(supervisor, signal.SIGKILL)
            eventually(state_is(supervisor, State.DISK_STALLED))
            looked_at(15)
            health = supervisor.health()
            assert (health.pid, health.restarts, health.last_death) == (pid, 0, None)
            assert states(supervisor)[1:] == [State.READY, State.DISK_STALLED]
            assert supervisor.durable_seq < health.submitted
        supervisor.wait(supervisor.health().submitted, PATIENCE_S)
        health = supervisor.health()
        assert (health.restarts, health.epoch, health.last_cause) == (1, epoch + 1, DeathCause.OUTSIDE)
    assert stored(disk) == expected(range(2100))


def test_a_successor_that_cannot_open_the_store_is_not_doubled(disk: FreezableDisk) -> None:
    """An idle worker is killed while the disk is frozen: its successor gets stuck before HELLO. It is not killed for
    being late, which would free nobody; there is no third beside it; and after the thaw it is it that goes on."""
    with Supervisor(url(disk), restart=replace(LOOKS, hello_timeout_s=1.0)) as supervisor:
        submit(supervisor, range(20))
        supervisor.wait(supervisor.health().submitted, PATIENCE_S)
        eventually(lambda: idle(pid_of(supervisor)))
        with disk.frozen():
            send(supervisor, signal.SIGKILL)
            eventually(lambda: supervisor.health().restarts == 1)
            eventually(lambda: "disk-sleep" in supervisor.health().evidence)
            stuck = pid_of(supervisor)
            submit(supervisor, range(20, 40))
            eventually(lambda: supervisor.health().since_s > 3.0, "three times its deadline")
            health = supervisor.health()
            assert (health.state, health.pid, health.restarts) == (State.STARTING, stuck, 1)
            assert in_disk_sleep(stuck)
        supervisor.wait(supervisor.health().submitted, PATIENCE_S)
        assert (supervisor.health().restarts, supervisor.health().pid) == (1, stuck)
    assert stored(disk) == expected(range(40))


# -- hosts whose worker is stuck --------------------------------------------------------------------------------------

HOST = """
import sys, time
from bgsuper import Key, RestartPolicy, Supervisor
supervisor = Supervisor(sys.argv[1], restart=RestartPolicy(kill_timeout_s=0.3, vitals_interval_s=0.05))
supervisor.start()
def submit(first, last):
    for number in range(first, last):
        seq = supervisor.commit({Key("app", "", f"k{number:06}"): b"%d" % number})
    return seq
supervisor.wait(submit(0, 20))
print(supervisor.health().pid, flush=True)
sys.stdin.readline()
submit(20, 40)
while supervisor._core.backlog.has_output or supervisor._shell._out:
    time.sleep(0.001)
print("sent", flush=True)
sys.stdin.readline()
"""
#: What the interpreter's exit may take: see `bgsuper.supervisor.supervisor.EXIT_TIMEOUT_S`.
EXIT_S = 10.0


@pytest.mark.parametrize(
    ("end", "bound"), [("exits", EXIT_S), (signal.SIGTERM, 0.0), (signal.SIGKILL, 0.0)], ids=["exits", "TERM", "KILL"]
)
def test_a_host_ends_though_its_worker_cannot(disk: FreezableDisk, end: signal.Signals | str, bound: float) -> None:
    """At its own exit and at a signal's. After the thaw its orphan ends too; what was acknowledged is there, and so is,
    if the host was killed, what it had sent."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOST, url(disk)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        worker = int(process.stdout.readline())
        with disk.frozen():
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "sent\n"
            eventually(lambda: in_disk_sleep(worker))
            began = time.monotonic()
            if isinstance(end, signal.Signals):
                process.send_signal(end)
            _, errors = process.communicate("\n", timeout=PATIENCE_S)
            assert time.monotonic() - began < bound + SLACK_S
            assert process.returncode == (-end if isinstance(end, signal.Signals) else 0), errors
            assert in_disk_sleep(worker)
        found = stored(disk)
        assert not alive(worker)
        assert found == expected(range(40)) or (end == "exits" and expected(range(20)).items() <= found.items())
    finally:
        process.kill()
        process.communicate()
