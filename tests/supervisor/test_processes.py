"""Real workers that die at any point: nothing acknowledged is lost, nothing un-synced is acknowledged."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest

from bgsuper import Key, Supervisor
from bgsuper.errors import Backlogged, RestartBudgetSpent, SyncFailed, WorkerStartFailed
from bgsuper.health import DeathCause
from bgsuper.health import WorkerState as State
from bgsuper.ipc.remote import RemoteTraceback
from bgsuper.key import NETWORK_GRAPH
from bgsuper.supervisor import Limits, RestartPolicy
from bgsuper.supervisor.children import Child
from bgsuper.supervisor.launch import launch

from .hosts import PATIENCE_S, QUICK, Place, alive, eventually, freeze, key, pid_of, send, state_is, thaw

pytestmark = pytest.mark.usefixtures("no_leaks")


def expected(numbers: range) -> dict[Key, bytes]:
    return {key(number): b"%d" % number for number in numbers}


# -- SIGKILL ----------------------------------------------------------------------------------------------------------


def test_killed_before_the_first_hello(place: Place) -> None:
    """start() says so at once."""
    place.plan.kill_before_sync = 1
    with pytest.raises(WorkerStartFailed, match="died before HELLO: signal SIGKILL"):
        place.supervisor().start(PATIENCE_S)


def test_a_successor_killed_before_its_hello(place: Place) -> None:
    """It has one too, and what waited is durable."""
    with place.running() as supervisor:
        supervisor.wait(supervisor.commit({key(0): b"0"}), PATIENCE_S)
        freeze(supervisor)
        seq = supervisor.commit({key(1): b"1"})
        place.plan.kill_before_sync = 1
        send(supervisor, signal.SIGKILL)
        supervisor.wait(seq, PATIENCE_S)
        assert place.plan.kill_before_sync == 0
        assert supervisor.health().restarts == 2
        assert [transition.cause for transition in supervisor.health_log() if transition.state is State.EXITED] == [
            DeathCause.OUTSIDE,
            DeathCause.OUTSIDE,
        ]
    assert place.stored() == expected(range(2))


@pytest.mark.parametrize("where", ["kill_before_sync", "kill_after_sync", "kill_before_write"])
def test_killed_around_a_sync_everything_is_replayed_and_nothing_lost(place: Place, where: str) -> None:
    """In the middle of a transaction, between its write and its sync, between its sync and its ack."""
    with place.running() as supervisor:
        for number in range(40):
            if number % 10 == 5:
                setattr(place.plan, where, 1)
            seq = supervisor.commit({key(number): b"%d" % number})
            supervisor.wait(seq, PATIENCE_S)
            assert getattr(place.plan, where) == 0 or number % 10 > 5
        assert supervisor.health().restarts == 4
        assert "SIGKILL" in str(supervisor.health().last_death)
    assert place.stored() == expected(range(40))


def test_nothing_is_acknowledged_whose_sync_never_was(place: Place) -> None:
    """The commit is readable in the page cache: the successor syncs it before HELLO, and only then is it durable."""
    with place.running() as supervisor:
        place.plan.kill_before_sync = 1
        syncs, first = place.plan.syncs, supervisor.health().epoch
        seen: list[tuple[int, int, bool]] = []
        supervisor.subscribe(
            lambda: seen.append((supervisor.health().epoch, place.plan.syncs, supervisor.durable_seq >= 1))
        )
        seq = supervisor.commit({key(0): b"0"})
        supervisor.wait(seq, PATIENCE_S)
        assert all(done == syncs and not durable for epoch, done, durable in seen if epoch == first)
        assert all(done > syncs for epoch, done, _ in seen if epoch > first)
        assert supervisor.health().epoch == first + 1
        assert supervisor.read(key(0)) == b"0"


def test_killed_in_the_middle_of_a_frame(place: Place) -> None:
    """A snapshot larger than any socket buffer is half on its way; all of it is sent again, behind the commits."""
    content = os.urandom(1 << 20) * 20
    with place.running() as supervisor:
        freeze(supervisor)
        snapshot = supervisor.snapshot(NETWORK_GRAPH, [content])
        eventually(lambda: bool(supervisor._shell._out), "the pipe is full")
        commit = supervisor.commit({key(1): b"1"})
        send(supervisor, signal.SIGKILL)
        supervisor.wait(commit, PATIENCE_S)
        supervisor.wait(snapshot, PATIENCE_S)
        assert supervisor.read(NETWORK_GRAPH) == content
        assert supervisor.health().restarts == 1
        assert supervisor.health().unacked_bytes == 0


def test_killed_again_and_again_under_load(place: Place) -> None:
    """Between any two commits: all of them arrive, in order, each once."""
    with place.running() as supervisor:
        for number in range(600):
            supervisor.commit({key(number): b"%d" % number, Key("app", "", "newest"): b"%d" % number})
            if number % 100 == 50:
                pid = supervisor.health().pid
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
        supervisor.wait(supervisor.health().submitted, PATIENCE_S)
        assert supervisor.health().restarts >= 1
        assert supervisor.read(Key("app", "", "newest")) == b"599"
    assert place.stored() == {**expected(range(600)), Key("app", "", "newest"): b"599"}


def test_killed_while_it_drains_for_stop(place: Place) -> None:
    """stop() means durable: a successor is launched for what is left."""
    with place.running() as supervisor:
        freeze(supervisor)
        for number in range(100):
            supervisor.commit({key(number): b"%d" % number})
        place.plan.kill_before_sync = 1
        thaw(supervisor)
        supervisor.stop(PATIENCE_S)
        assert supervisor.health().restarts == 1
        assert supervisor.health().state is State.ENDED
    assert place.stored() == expected(range(100))


def test_sigterm_drains_and_a_successor_goes_on(place: Place) -> None:
    """systemd signals both processes at once: what the worker had received is durable, the rest replayed."""
    with place.running() as supervisor:
        for number in range(300):
            supervisor.commit({key(number): b"%d" % number})
            if number == 150:
                send(supervisor, signal.SIGTERM)
        supervisor.wait(supervisor.health().submitted, PATIENCE_S)
        eventually(lambda: supervisor.health().restarts == 1)
        eventually(state_is(supervisor, State.READY))
        assert supervisor.health().last_cause is DeathCause.OUTSIDE
    assert place.stored() == expected(range(300))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_the_terminals_signals_are_the_hosts_to_handle(place: Place, number: signal.Signals) -> None:
    """Ctrl-C and a hang-up change nothing for the worker."""
    with place.running() as supervisor:
        pid = pid_of(supervisor)
        send(supervisor, number)
        supervisor.wait(supervisor.commit({key(0): b"0"}), PATIENCE_S)
        assert pid_of(supervisor) == pid
        assert os.getsid(pid) == pid  # Ctrl-C does not even reach it


def test_a_crash_storm_ends_it_with_everything_still_counted(place: Place) -> None:
    """RestartBudgetSpent out of wait() and stop(), each an object of its own; the backlog is intact."""
    storm = RestartPolicy(intensity=2, backoff_first_s=0.001, backoff_max_s=0.001)
    with place.running(storm) as supervisor:
        place.plan.sync_delay_s = 0.05
        seq = supervisor.commit({key(0): b"0"})
        pids: set[int] = set()

        def kill_each() -> bool:
            health = supervisor.health()
            if health.pid is not None and health.state is not State.STARTING and health.pid not in pids:
                pids.add(health.pid)
                os.kill(health.pid, signal.SIGKILL)
                supervisor.commit({key(len(pids)): b"x"}) if supervisor.failure() is None else None
            return supervisor.failure() is not None

        eventually(kill_each)
        errors = []
        for call in (lambda: supervisor.wait(supervisor.health().submitted, 5), supervisor.stop, supervisor.stop):
            with pytest.raises(RestartBudgetSpent) as caught:
                call()
            errors.append(caught.value)
        assert len({id(error) for error in errors}) == 3
        assert seq
        assert supervisor.health().submitted > supervisor.durable_seq
        assert supervisor.health().gate == "shut"


# -- SIGSTOP ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("busy", [False, True])
def test_a_stopped_worker_is_reported_and_goes_on_when_continued(place: Place, busy: bool) -> None:
    """STOPPED, then READY again: no restart, be it stopped in the middle of a sync. Meanwhile submitting goes on."""
    with place.running() as supervisor:
        changes: list[State] = []
        supervisor.subscribe(lambda: changes.append(supervisor.health().state))
        if busy:
            place.plan.sync_delay_s = 0.5
            supervisor.commit({key(1): b"1"})
            eventually(lambda: not supervisor._core.backlog.has_output)
        pid = freeze(supervisor)
        eventually(state_is(supervisor, State.STOPPED))
        eventually(lambda: State.STOPPED in changes, "subscribers are told of a change of state")
        place.plan.sync_delay_s = 0
        seq = supervisor.commit({key(0): b"0"})
        thaw(supervisor)
        supervisor.wait(seq, PATIENCE_S)
        eventually(state_is(supervisor, State.READY))
        assert (supervisor.health().restarts, pid_of(supervisor)) == (0, pid)


def stop_at_launch(*which: int) -> Callable[[], Child]:
    """A launcher whose first, second, ... workers are stopped by a signal before they say a word."""
    numbers = count()

    def launcher() -> Child:
        child = launch()
        if next(numbers) in which:
            os.kill(child.pid, signal.SIGSTOP)
        return child

    return launcher


def test_stopped_before_its_hello(place: Place) -> None:
    """A first worker: start() says at its deadline what it saw. A successor has one too, after its own deadline."""
    with pytest.raises(WorkerStartFailed, match="psutil says stopped"):
        place.supervisor(launcher=stop_at_launch(0)).start(0.5)
    with place.running(replace(QUICK, hello_timeout_s=0.5), launcher=stop_at_launch(1)) as supervisor:
        send(supervisor, signal.SIGKILL)
        supervisor.wait(supervisor.commit({key(0): b"0"}), PATIENCE_S)
        assert supervisor.health().restarts >= 2
        assert supervisor.health().last_cause is DeathCause.KILLED
        assert "no HELLO within the deadline" in str(supervisor.health().last_death)


def test_a_worker_that_stays_stopped_is_killed_and_replaced(place: Place) -> None:
    """SIGTERM would only stay pending."""
    with place.running(RestartPolicy(stopped_grace_s=0.2, vitals_interval_s=0.05)) as supervisor:
        pid = freeze(supervisor)
        seq = supervisor.commit({key(0): b"0"})
        supervisor.wait(seq, PATIENCE_S)
        assert pid_of(supervisor) != pid
        assert not alive(pid)
        assert "stopped by a signal" in str(supervisor.health().last_death)
        assert supervisor.health().last_cause is DeathCause.KILLED


def test_a_worker_that_never_reads_costs_neither_time_nor_memory(place: Place) -> None:
    """Submitting goes on until the hard limit, then raises at once; reading again, everything arrives."""
    limits = Limits(soft_bytes=2_000_000, hard_bytes=4_000_000)
    with place.running(limits=limits) as supervisor:
        freeze(supervisor)
        number = 0
        while supervisor.health().unacked_bytes < limits.hard_bytes:
            supervisor.commit({key(number): bytes(50_000)})
            number += 1
        with pytest.raises(Backlogged):
            supervisor.commit({key(number): b""})
        assert not supervisor.writable
        assert 4_000_000 <= supervisor.health().unacked_bytes < 4_100_000
        with pytest.raises(TimeoutError):
            supervisor.wait(supervisor.health().submitted, 0.01)
        thaw(supervisor)
        supervisor.wait(supervisor.health().submitted, PATIENCE_S)
        assert supervisor.writable
        assert supervisor.health().submitted == number


def test_submitting_to_a_worker_that_never_reads(place: Place, record_property: pytest.RecordProperty) -> None:
    """A host's loop goes on while thousands of commits pile up: the figures are reported, and held to far more than
    they are, lest a busy machine fail the test."""
    took: list[float] = []
    late: list[float] = []

    async def ticks() -> None:
        while True:
            at = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append(time.perf_counter() - at - 0.001)

    async def main(supervisor: Supervisor) -> None:
        ticking = asyncio.ensure_future(ticks())
        for number in range(5_000):
            began = time.perf_counter()
            supervisor.commit({key(number): bytes(1000)})
            took.append(time.perf_counter() - began)
            if number % 10 == 0:
                await asyncio.sleep(0)
        ticking.cancel()

    with place.running(replace(QUICK, stopped_grace_s=3600)) as supervisor:
        freeze(supervisor)
        asyncio.run(main(supervisor))
        thaw(supervisor)
        supervisor.wait(supervisor.health().submitted, PATIENCE_S)
    took.sort()
    record_property("submit_p99_us", took[int(len(took) * 0.99)] * 1e6)
    record_property("loop_lag_max_ms", max(late) * 1e3)
    print(f"submit p99 {took[int(len(took) * 0.99)] * 1e6:.0f} us, loop lag max {max(late) * 1e3:.1f} ms")
    assert took[len(took) // 2] < 0.001
    assert took[int(len(took) * 0.99)] < 0.05
    assert max(late) < 0.5


# -- the disk ---------------------------------------------------------------------------------------------------------


def test_one_failed_sync_is_survived_without_loss(place: Place) -> None:
    """A fresh worker, told to distrust the page cache, writes it all again."""
    with place.running() as supervisor:
        place.plan.fail_syncs = 1
        for number in range(20):
            supervisor.commit({key(number): b"%d" % number})
        supervisor.wait(supervisor.health().submitted, PATIENCE_S)
        assert "SyncFailed" in str(supervisor.health().last_death)
        assert supervisor.health().last_cause is DeathCause.SYNC
        assert supervisor._core.distrust_cache
        assert place.plan.refused == 1
    assert place.stored() == expected(range(20))


def test_two_failed_syncs_are_the_disks_fault(place: Place) -> None:
    """SyncFailed comes out of wait() and stop(), a fresh object each, with the worker's traceback."""
    with place.running() as supervisor:
        place.plan.fail_syncs = 1000
        seq = supervisor.commit({key(0): b"0"})
        errors = []
        for call in (lambda: supervisor.wait(seq, PATIENCE_S), supervisor.stop, supervisor.stop):
            with pytest.raises(SyncFailed) as caught:
                call()
            assert isinstance(caught.value.__cause__, RemoteTraceback)
            assert "Traceback" in str(caught.value.__cause__)
            errors.append(caught.value)
        assert len({id(error) for error in errors}) == 3
        with pytest.raises(SyncFailed):
            supervisor.commit({key(1): b"1"})


def test_a_full_disk_is_waited_out(place: Place) -> None:
    """DISK_FULL, no restart charged, nothing lost; READY when there is space again."""
    with place.running() as supervisor:
        place.plan.full = 1
        for number in range(20):
            supervisor.commit({key(number): b"%d" % number})
        eventually(state_is(supervisor, State.DISK_FULL))
        assert supervisor.durable_seq == 0
        place.plan.full = 0
        supervisor.wait(supervisor.health().submitted, PATIENCE_S)
        assert (supervisor.health().state, supervisor.health().restarts) == (State.READY, 0)
    assert place.stored() == expected(range(20))


def test_a_disk_that_fills_up_while_it_idles_harms_nobody(place: Place) -> None:
    """A checkpoint that finds no space is a chore put off: the commits it would move are durable."""
    with place.running() as supervisor:
        place.plan.sync_delay_s = 0.05
        seq = supervisor.commit({key(0): b"0"})
        supervisor.wait(seq, PATIENCE_S)
        place.plan.full = 1
        eventually(lambda: place.plan.refused > 0, "a checkpoint is refused")
        place.plan.full = 0
        supervisor.wait(supervisor.commit({key(1): b"1"}), PATIENCE_S)
        assert supervisor.health().restarts == 0


def test_a_worker_killed_on_a_full_disk_has_a_successor_when_there_is_space(place: Place) -> None:
    """Its successor cannot even open the store; that is the disk's state, not a failure."""
    with place.running(RestartPolicy(intensity=2, start_intensity=1, vitals_interval_s=0.05)) as supervisor:
        place.plan.full = 1
        seq = supervisor.commit({key(0): b"0"})
        eventually(state_is(supervisor, State.DISK_FULL))
        send(supervisor, signal.SIGKILL)
        eventually(lambda: supervisor.health().restarts >= 2)
        assert supervisor.failure() is None
        assert "StoreFull" in str(supervisor.health().last_death)
        assert supervisor.health().last_cause is DeathCause.UNAVAILABLE
        place.plan.full = 0
        supervisor.wait(seq, PATIENCE_S)


def test_what_an_idle_worker_costs(place: Place, record_property: pytest.RecordProperty) -> None:
    """The figures are reported; the memory is held to 30 MiB."""
    import psutil

    with Supervisor(f"sqlite://{place.directory}/plain", restart=QUICK) as supervisor:
        supervisor.wait(supervisor.commit({key(0): b"0"}), PATIENCE_S)
        process = psutil.Process(pid_of(supervisor))
        eventually(lambda: supervisor.health().rss_bytes is not None)
        rss, cpu = process.memory_info().rss, process.cpu_times()
        record_property("rss_mib", rss / 2**20)
        record_property("cpu_s", cpu.user + cpu.system)
        print(f"idle worker: {rss / 2**20:.1f} MiB, {cpu.user + cpu.system:.2f} s of CPU since its start")
        assert rss <= 30 * 2**20
