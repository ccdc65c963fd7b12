"""The two faces, threads and asyncio: whoever waits, cancels, stops or breaks down, nobody else is harmed."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import replace
from threading import Thread

import psutil
import pytest

from bgsuper import Key, Limits, RestartPolicy, Supervisor
from bgsuper.errors import ConfigError, WorkerError, WorkerStartFailed
from bgsuper.health import WorkerState as State
from bgsuper.key import NETWORK_GRAPH

from .hosts import PATIENCE_S, QUICK, Place, eventually, freeze, key, pid_of, send, thaw

pytestmark = pytest.mark.usefixtures("no_leaks")


# -- threads ----------------------------------------------------------------------------------------------------------


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


def test_the_thread_that_started_it_may_end(place: Place) -> None:
    """The worker is the process's, not that thread's."""
    supervisor = place.supervisor()
    starter = Thread(target=supervisor.start, args=(PATIENCE_S,))
    starter.start()
    starter.join(PATIENCE_S)
    pid = pid_of(supervisor)
    for number in range(5):
        supervisor.wait(supervisor.commit({key(number): b"x"}), PATIENCE_S)
        time.sleep(0.05)
    assert (pid_of(supervisor), supervisor.health().restarts) == (pid, 0)
    stopper = Thread(target=supervisor.stop)
    stopper.start()
    stopper.join(PATIENCE_S)
    assert supervisor.health().state is State.ENDED


def test_many_threads_start_and_stop_it_at_once(place: Place) -> None:
    """One start() has it, or a stop() came before; everybody returns, and nothing is left."""
    for round_ in range(6):
        supervisor = place.supervisor()
        outcomes: list[str] = []

        def start(supervisor: Supervisor = supervisor, outcomes: list[str] = outcomes) -> None:
            try:
                supervisor.start(PATIENCE_S)
                outcomes.append("started")
            except ConfigError:
                outcomes.append("refused")
            except WorkerStartFailed as error:
                outcomes.append(str(error))

        def stop(supervisor: Supervisor = supervisor, outcomes: list[str] = outcomes, after: int = round_) -> None:
            time.sleep(after * 0.05)  # anywhere in a start
            supervisor.stop(PATIENCE_S)
            outcomes.append("ended")

        threads = [Thread(target=target) for target in (start, start, start, stop, stop)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert not any(thread.is_alive() for thread in threads)
        assert outcomes.count("ended") == 2
        assert outcomes.count("refused") >= 2
        assert len(outcomes) == 5
        assert all("stop() " in outcome for outcome in outcomes if " " in outcome)
        assert supervisor.health().state is State.ENDED
    with place.running() as supervisor:
        supervisor.wait(supervisor.commit({key(0): b"0"}), PATIENCE_S)


def test_reads_see_every_commit_before_them(place: Place) -> None:
    """However many are on their way."""
    with place.running() as supervisor:
        for number in range(300):
            supervisor.commit({Key("app", "", "k"): b"%d" % number})
            if number % 30 == 0:
                assert int(supervisor.read(Key("app", "", "k"))) >= number


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
    eventually(lambda: not psutil.pid_exists(pid))


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


@pytest.mark.parametrize("busy", [False, True])
def test_room_that_a_submit_makes_wakes_who_waits_for_it(place: Place, busy: bool) -> None:
    """A small snapshot takes the place of a large one that waited: drain() returns, though the worker says nothing; and
    so it does if the supervisor's thread was busy just then, when nobody wakes it."""

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
            await asyncio.to_thread(eventually, lambda: supervisor._shell._armed)  # it has seen all so far, and rests
            with pytest.MonkeyPatch.context() as patch:
                if busy:
                    patch.setattr(supervisor._shell, "wake", lambda: None)
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


@pytest.mark.parametrize("steps", range(4))
def test_an_entry_that_is_cancelled_at_any_await(place: Place, steps: int) -> None:
    """Before it began, before the worker was asked for, while it starts: nothing stays."""
    supervisor = place.supervisor()

    async def main() -> None:
        entering = asyncio.ensure_future(supervisor.__aenter__())
        for _ in range(steps):
            await asyncio.sleep(0)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering

    asyncio.run(main())
    eventually(lambda: not supervisor._shell.thread.is_alive())
    assert supervisor.health().state is (State.ENDED if steps else State.IDLE)


def test_astop_that_is_cancelled_stops_all_the_same(place: Place) -> None:
    """The waiting is what ends; the next one waits for the same end, and everything is durable."""

    async def main() -> None:
        supervisor = place.supervisor()
        await asyncio.get_running_loop().run_in_executor(None, supervisor.start)
        place.plan.sync_delay_s = 0.3
        for number in range(3):
            supervisor.commit({key(number): b"%d" % number})
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(supervisor.astop(PATIENCE_S), 0.01)
        assert supervisor.health().state is State.STOPPING
        with pytest.raises(ConfigError):
            supervisor.commit({key(9): b"9"})
        place.plan.sync_delay_s = 0
        await supervisor.astop(PATIENCE_S)
        assert supervisor.health().state is State.ENDED

    asyncio.run(main())
    assert place.stored() == {key(number): b"%d" % number for number in range(3)}


def test_loops_that_are_closed_while_acknowledgements_come(place: Place) -> None:
    """Each with waiters that nobody wakes any more: they are let go of, and everybody else hears of each ack."""
    with place.running() as supervisor:
        for number in range(20):
            loop = asyncio.new_event_loop()
            seq = supervisor.commit({key(number): b"x"})
            tasks = [loop.create_task(supervisor.durable(seq)) for _ in range(5)]
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
            for task in tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # it was meant
                if not task.done():
                    task.get_coro().close()  # type: ignore[union-attr]
            supervisor.wait(seq, PATIENCE_S)
        assert not supervisor._shell.waiters._durable
        assert supervisor.failure() is None
