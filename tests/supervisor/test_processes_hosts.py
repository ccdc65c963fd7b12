"""Hosts that die, fork, reap and exit; workers that cannot be started; two hosts at one store."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from bgsuper import Key, Limits, PersisterRef, RestartPolicy, Supervisor
from bgsuper.errors import (
    BgsuperError,
    ConfigError,
    StoreForeign,
    StoreLocked,
    StoreUnwritable,
    WorkerError,
    WorkerStartFailed,
)
from bgsuper.health import WorkerState as State
from bgsuper.key import MANAGER, NETWORK_GRAPH
from bgsuper.supervisor.launch import PidfdChild, launch

from .hosts import PATIENCE_S, QUICK, Place, alive, eventually, freeze, host, key, pid_of, send, thaw
from .persisters import DiskOfMineError

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
    assert (output, errors) == ("3\n", "")


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

    def launcher() -> PidfdChild:
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


# -- start ------------------------------------------------------------------------------------------------------------


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
    with pytest.raises(RuntimeError, match="can't start new thread"):
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


def test_a_supervisor_is_started_once(place: Place) -> None:
    """And used between start and stop only."""
    supervisor = place.supervisor()
    with pytest.raises(ConfigError):
        supervisor.commit({key(0): b"0"})
    supervisor.start(PATIENCE_S)
    with pytest.raises(ConfigError):
        supervisor.start()
    supervisor.stop()
    supervisor.stop()
    for call in (supervisor.start, lambda: supervisor.commit({key(0): b"0"})):
        with pytest.raises(ConfigError):
            call()
    with pytest.raises(WorkerError):
        supervisor.read(key(0))


def test_a_bug_in_the_supervisors_own_thread_reaches_everybody(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a thread that is gone, and its worker does not outlive it."""
    supervisor = place.supervisor()
    supervisor.start(PATIENCE_S)
    pid = pid_of(supervisor)
    freeze(supervisor)
    seq = supervisor.commit({key(0): b"0"})
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            supervisor.wait(seq)
        except WorkerError as error:
            errors.append(error)

    thread = Thread(target=wait)
    thread.start()

    def bug(now: float) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(supervisor._core, "handle_timer", bug)
    thread.join(PATIENCE_S)
    assert "a bug" in str(errors[0])
    with pytest.raises(WorkerError, match="a bug"):
        supervisor.stop()
    with pytest.raises(WorkerError, match="a bug"):
        supervisor.commit({key(1): b"1"})
    eventually(lambda: not alive(pid))
    os.waitpid(pid, 0)


# -- threads and asyncio ----------------------------------------------------------------------------------------------


def test_many_threads_submit_wait_and_stop_at_once(place: Place) -> None:
    """Whoever got a number sees it durable; after stop() all are refused; every stop() returns."""
    with place.running() as supervisor:
        done: list[int] = []
        stops: list[str] = []

        def submit(lane: int) -> None:
            try:
                for number in range(10_000):
                    seq = supervisor.commit({key(lane * 10_000 + number): b"x"})
                    if number % 50 == 0:
                        supervisor.wait(seq, PATIENCE_S)
                    done.append(seq)
            except ConfigError:
                pass

        def stop() -> None:
            supervisor.stop(PATIENCE_S)
            stops.append("stopped")

        submitters = [Thread(target=submit, args=(lane,)) for lane in range(4)]
        for thread in submitters:
            thread.start()
        eventually(lambda: len(done) > 500)
        stoppers = [Thread(target=stop) for _ in range(3)]
        for thread in stoppers:
            thread.start()
        for thread in (*submitters, *stoppers):
            thread.join(PATIENCE_S)
        assert stops == ["stopped"] * 3
        assert sorted(done) == list(range(1, supervisor.health().submitted + 1))
    assert len(place.stored()) == len(done)


def test_stop_does_not_wait_for_a_back_off_to_end(place: Place) -> None:
    """Nothing is left to write: it ends at once, though a restart is a long way off."""
    slow = RestartPolicy(backoff_first_s=3600, backoff_max_s=3600, vitals_interval_s=0.05)
    with place.running(slow) as supervisor:
        for restarts in (1, 1):
            supervisor.wait(supervisor.commit({key(0): b"0"}), PATIENCE_S)
            send(supervisor, signal.SIGKILL)
            eventually(lambda restarts=restarts: supervisor.health().restarts == restarts)
        eventually(lambda: supervisor.health().state is State.EXITED)
        began = time.monotonic()
        supervisor.stop(60)
        assert time.monotonic() - began < 10


def test_a_stop_that_comes_as_the_thread_goes_to_wait_is_not_lost(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its last look at the core, before it is armed: the action is seen all the same."""
    slow = RestartPolicy(backoff_first_s=3600, backoff_max_s=3600, vitals_interval_s=0.05)
    with place.running(slow) as supervisor:
        for restarts in (1, 1):
            supervisor.wait(supervisor.commit({key(0): b"0"}), PATIENCE_S)
            send(supervisor, signal.SIGKILL)
            eventually(lambda restarts=restarts: supervisor.health().restarts == restarts)
        eventually(lambda: supervisor.health().state is State.EXITED)
        shell, core = supervisor._shell, supervisor._core
        send_as_ever = shell._send

        def send_then_stop() -> None:
            send_as_ever()
            with shell.lock:
                core.stop(time.monotonic(), 3600)
                shell.wake()

        monkeypatch.setattr(shell, "_send", send_then_stop)
        supervisor.commit({key(1): b"1"})
        eventually(lambda: supervisor.health().state is State.ENDED)
    assert place.stored() == {key(0): b"0", key(1): b"1"}


def test_asyncio_waits_without_a_thread_each(place: Place) -> None:
    """durable(), drain() and astop(); cancelling a waiter harms nobody and leaves nothing."""

    async def main() -> None:
        limits = Limits(soft_bytes=1_000_000, hard_bytes=2_000_000)
        async with Supervisor(place.url, restart=QUICK, limits=limits) as supervisor:
            await asyncio.gather(*(supervisor.durable(supervisor.commit({key(n): b"x"})) for n in range(100)))
            freeze(supervisor)
            while supervisor.writable:
                seq = supervisor.commit({key(0): bytes(100_000)})
            for waiting in (supervisor.durable(seq), supervisor.drain()):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(waiting, 0.02)
            assert not supervisor._shell.waiters._durable
            assert not supervisor._shell.waiters._drain
            waiters = [asyncio.ensure_future(supervisor.durable(seq)) for _ in range(3)]
            waiters.append(asyncio.ensure_future(supervisor.drain()))
            await asyncio.sleep(0)
            waiters[0].cancel()
            thaw(supervisor)
            results = await asyncio.wait_for(asyncio.gather(*waiters, return_exceptions=True), PATIENCE_S)
            assert isinstance(results[0], asyncio.CancelledError)
            assert results[1:] == [None, None, None]

    asyncio.run(main())


def test_room_that_a_submit_makes_wakes_who_waits_for_it(place: Place) -> None:
    """A small snapshot takes the place of a large one that waited: drain() returns, though the worker says nothing."""

    async def main() -> None:
        limits = Limits(soft_bytes=1_000_000, hard_bytes=9_000_000)
        patient = replace(QUICK, stopped_grace_s=3600)
        async with Supervisor(place.url, restart=patient, limits=limits) as supervisor:
            freeze(supervisor)
            # From here on nothing changes that would wake anybody.
            await asyncio.to_thread(eventually, lambda: supervisor.health().state is State.STOPPED)
            supervisor.snapshot(NETWORK_GRAPH, [bytes(900_000)])
            await asyncio.to_thread(eventually, lambda: bool(supervisor._core.backlog._in_flight))
            supervisor.snapshot(NETWORK_GRAPH, [bytes(2_000_000)])
            waiter = asyncio.ensure_future(supervisor.drain())
            await asyncio.sleep(0)
            assert not supervisor.writable
            supervisor.snapshot(NETWORK_GRAPH, [b"small"])
            try:
                await asyncio.wait_for(waiter, PATIENCE_S)
            finally:
                thaw(supervisor)

    asyncio.run(main())


def test_a_start_that_is_cancelled_leaves_nothing_running(place: Place) -> None:
    """Whoever cancelled it has no supervisor to stop: it ends by itself."""
    place.plan.sync_delay_s = 600
    supervisor = place.supervisor()

    async def main() -> None:
        entering = asyncio.ensure_future(supervisor.__aenter__())
        while supervisor.health().state is not State.STARTING:
            await asyncio.sleep(0.001)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering

    asyncio.run(main())
    eventually(lambda: not supervisor._shell.thread.is_alive())
    assert supervisor.health().state is State.ENDED


def test_a_loop_that_is_closed_under_a_waiter_harms_nobody(place: Place) -> None:
    """Its waiter is gone; the supervisor goes on."""
    with place.running() as supervisor:
        freeze(supervisor)
        seq = supervisor.commit({key(0): b"0"})
        loop = asyncio.new_event_loop()
        task = loop.create_task(supervisor.durable(seq))
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
        thaw(supervisor)
        supervisor.wait(seq, PATIENCE_S)
        supervisor.wait(supervisor.commit({key(1): b"1"}), PATIENCE_S)
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # it was meant
        task.get_coro().close()  # type: ignore[union-attr]


def test_a_subscriber_that_fails_harms_nobody(place: Place) -> None:
    """It is logged; the next one is still called."""
    with place.running() as supervisor:
        called: list[int] = []

        def bad() -> None:
            raise ValueError("a bug of the subscriber")

        supervisor.subscribe(bad)
        end = supervisor.subscribe(lambda: called.append(1))
        supervisor.wait(supervisor.commit({key(0): b"0"}), PATIENCE_S)
        eventually(lambda: called)
        end()
        end()


# -- persisters -------------------------------------------------------------------------------------------------------


def persister(tmp_path: Path, name: str = "Files", **config: str) -> PersisterRef:
    return PersisterRef(
        f"tests.supervisor.persisters:{name}", {"directory": str(tmp_path), **config}, raises=(DiskOfMineError,)
    )


def test_a_persister_takes_whole_values(tmp_path: Path) -> None:
    """Its return means durable; there is no batch and nothing to read."""
    with Supervisor(persister(tmp_path)) as supervisor:
        assert not supervisor.health().atomic
        supervisor.wait(supervisor.snapshot(MANAGER, [b"one", b"two"], critical=True), PATIENCE_S)
        assert (tmp_path / "manager").read_bytes() == b"onetwo"
        with pytest.raises(ConfigError):
            supervisor.commit({MANAGER: b"x"})


def test_what_a_persister_raises_for_the_manager_ends_it_as_itself(tmp_path: Path) -> None:
    """The same type, text and attributes, out of wait() and stop(), not retried."""
    supervisor = Supervisor(persister(tmp_path, fails="manager"))
    supervisor.start(PATIENCE_S)
    seq = supervisor.snapshot(MANAGER, [b"state"], critical=True)
    for call in (lambda: supervisor.wait(seq, PATIENCE_S), supervisor.stop):
        with pytest.raises(DiskOfMineError, match="cannot write the manager") as caught:
            call()
        assert caught.value.code == 7
        assert "in _write" in str(caught.value.__cause__)
    assert supervisor.health().restarts == 0


def test_what_a_persister_raises_for_the_graph_is_for_whoever_waits(tmp_path: Path) -> None:
    """The worker goes on; wait() and snapshot_failure() tell."""
    with Supervisor(persister(tmp_path, fails="graph")) as supervisor:
        seq = supervisor.snapshot(NETWORK_GRAPH, [b"graph"])
        with pytest.raises(DiskOfMineError, match="cannot write the graph"):
            supervisor.wait(seq, PATIENCE_S)
        with pytest.raises(DiskOfMineError):
            asyncio.run(supervisor.durable(seq))
        assert isinstance(supervisor.snapshot_failure(NETWORK_GRAPH), DiskOfMineError)
        supervisor.wait(supervisor.snapshot(MANAGER, [b"state"], critical=True), PATIENCE_S)
        assert supervisor.health().restarts == 0


def test_a_persister_that_ends_the_process(tmp_path: Path) -> None:
    """os._exit: the exit status is in the report, and the budget bounds it."""
    supervisor = Supervisor(persister(tmp_path, "Exits"), restart=RestartPolicy(intensity=1))
    supervisor.start(PATIENCE_S)
    seq = supervisor.snapshot(NETWORK_GRAPH, [b"graph"])
    with pytest.raises(WorkerError, match="exit status 7"):
        supervisor.wait(seq, PATIENCE_S)
    with pytest.raises(WorkerError, match="exit status 7"):
        supervisor.stop()


@pytest.mark.parametrize("config", [{"a": object()}, {"a": {1: 2}}, {"a": "x" * 2_000_000}, {"a": 2**70}])
def test_a_persisters_config_must_fit_the_pipe(config: dict[str, object]) -> None:
    """Told where it is written, not when a worker chokes on it."""
    with pytest.raises(ConfigError):
        PersisterRef("package.module:Class", config)


@pytest.mark.parametrize("path", ["no_such_module:Class", "tests.supervisor.persisters:Nothing", "os:getcwd"])
def test_a_persister_that_is_none_is_raised_by_start(path: str) -> None:
    """With Python's own words."""
    with pytest.raises((ConfigError, BgsuperError)):
        Supervisor(PersisterRef(path)).start(PATIENCE_S)


def test_reads_see_every_commit_before_them(place: Place) -> None:
    """However many are on their way."""
    with place.running() as supervisor:
        for number in range(300):
            supervisor.commit({Key("app", "", "k"): b"%d" % number})
            if number % 30 == 0:
                assert int(supervisor.read(Key("app", "", "k"))) >= number
