"""The asyncio face: stop, cancellation, and what other tasks may do meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from bgsuper.errors import ReplayEvent, ShutdownIncomplete
from bgsuper.key import MANAGER, NETWORK_GRAPH, Key
from bgsuper.processor import tasks
from bgsuper.processor.tasks import process_events

from .fake_store import FakeStore
from .stand_ins import FakeClock, Manager, Message, RecordManager, Setup
from .test_background import STILL

A = Key("channels", "", "a")
FINAL = {MANAGER: b"manager 0", NETWORK_GRAPH: b"graph 0"}
#: Only being woken makes it turn, but for a look at `stop` now and then.
QUICK = replace(STILL, rest=0.005, asleep=1.0, replay=0.001)


def processing(
    setup: Setup, stop: asyncio.Event, persister: object = None, stop_timeout: float = 10.0
) -> Coroutine[None, None, None]:
    return process_events(
        setup.store if persister is None else persister,  # type: ignore[arg-type]
        lambda event: setup.handler(event),
        setup.monitor,
        setup.manager,
        setup.gossip,
        setup.peers,
        setup.logger,
        scorer=setup.scorer,
        onion_messenger=setup.onion_messenger,
        sweeper=setup.sweeper,
        timers=QUICK,
        stop=stop,
        stop_timeout=stop_timeout,
    )


async def until(condition: object) -> None:
    """Let other tasks run until `condition()` holds, for at most ten seconds."""
    async with asyncio.timeout(10.0):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0)


def prompt_setup(**arguments: object) -> Setup:
    return Setup(store=FakeStore(prompt=True), **arguments)  # type: ignore[arg-type]


def test_runs_until_stop_is_set() -> None:
    """Then the final writes; the host's supervisor goes on."""
    setup = prompt_setup()

    async def main() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(processing(setup, stop))
        setup.manager.events = ["opened"]
        await until(lambda: setup.handled == ["opened"])
        stop.set()
        await task

    asyncio.run(main())
    assert setup.store.durable == {**FINAL, MANAGER: b"manager 1"}
    assert not setup.store.stopped
    assert (setup.store.subscribers, setup.manager.callbacks) == ([], [])


def test_cancelling_it_is_stopping_it() -> None:
    """The final writes happen, though they take a while, and then the cancellation goes on."""
    setup = Setup()

    async def main() -> None:
        task = asyncio.create_task(processing(setup, asyncio.Event()))
        await until(lambda: setup.calls)
        task.cancel()
        for expected in ([MANAGER], [NETWORK_GRAPH]):
            await until(lambda: setup.store.pending)
            assert list(setup.store.pending[0].puts) == expected
            task.cancel()  # again: it changes nothing
            await asyncio.sleep(0.01)
            assert not task.done()
            setup.store.ack()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(main())
    assert setup.store.durable == FINAL


def test_a_full_executor_of_the_hosts_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start and stop do not wait for the host's own blocking calls."""
    setup = prompt_setup()
    monkeypatch.setattr("bgsuper.supervisor.Supervisor", lambda target: setup.store)
    leave = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, leave.wait, 10.0)
        stop = asyncio.Event()
        task = asyncio.create_task(processing(setup, stop, "sqlite:state"))
        await until(lambda: setup.calls)
        stop.set()
        await asyncio.wait_for(task, 5.0)
        leave.set()
        await busy

    asyncio.run(main())
    assert setup.store.stopped


def test_the_end_of_the_loop_cancels_it() -> None:
    """``asyncio.run`` cancels what is left; that is a stop as well."""
    setup = prompt_setup()
    kept = []

    async def main() -> None:
        kept.append(asyncio.create_task(processing(setup, asyncio.Event())))
        await until(lambda: setup.calls)

    asyncio.run(main())
    assert setup.store.durable == FINAL
    assert kept[0].cancelled()


def test_an_error_takes_the_place_of_the_cancellation() -> None:
    """It must reach its owner; here the final writes hang."""
    setup = Setup()

    async def main() -> None:
        task = asyncio.create_task(processing(setup, asyncio.Event(), stop_timeout=0.05))
        await until(lambda: setup.calls)
        task.cancel()
        with pytest.raises(ShutdownIncomplete):
            await task

    asyncio.run(main())


def test_a_failure_wakes_it_and_is_raised() -> None:
    """From another thread, as the supervisor's."""
    setup = Setup()

    async def main() -> None:
        task = asyncio.create_task(processing(setup, asyncio.Event()))
        await until(lambda: setup.calls)
        thread = threading.Thread(target=setup.store.fail, args=[lambda: PermissionError(13, "test")])
        thread.start()
        with pytest.raises(PermissionError):
            await asyncio.wait_for(task, 10.0)
        thread.join()

    asyncio.run(main())
    assert setup.calls[-1] == "disconnect all"


def test_acks_from_another_thread_release_what_is_held() -> None:
    """In order, after their commits."""
    manager = RecordManager()
    setup = Setup(manager=manager, gossip=False)

    async def main() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(processing(setup, stop))
        for number in range(20):
            manager.put(A, b"%d" % number, Message(str(number), "alice", (A,)))
            await until(lambda: setup.store.pending)
            assert len(manager.released) == number
            thread = threading.Thread(target=setup.store.ack)
            thread.start()
            await until(lambda number=number: len(manager.released) == number + 1)
            thread.join()
        stop.set()
        await task

    asyncio.run(main())
    assert manager.released == [str(number) for number in range(20)]


def test_other_tasks_run_while_a_handler_asks_for_replays() -> None:
    """And the replays come by themselves, though nothing wakes the loop."""
    setup = prompt_setup()
    left = [20]

    def refuse(event: object) -> None:
        left[0] -= 1
        if left[0]:
            raise ReplayEvent

    setup.handler = refuse
    setup.manager.events = ["refused"]

    async def main() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(processing(setup, stop))
        turns = 0
        while setup.manager.events:
            await asyncio.sleep(0)
            turns += 1
        assert turns > 20
        stop.set()
        await task

    asyncio.run(main())
    assert left == [0]


def test_other_tasks_run_however_busy_it_is() -> None:
    """A manager that is dirty after each turn wakes it at once, for ever; nobody starves."""

    class Restless(Manager):
        def process_pending_events(self, handler: object) -> None:
            self.change()

    setup = prompt_setup(manager=Restless())

    async def main() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(processing(setup, stop))
        for _ in range(100):
            await asyncio.sleep(0)
        assert setup.manager.changes >= 30
        stop.set()
        await task

    asyncio.run(main())


@pytest.mark.parametrize(("blocked", "suspended", "disconnects"), [(30.0, 0.0, False), (0.0, 30.0, True)])
def test_only_a_suspension_disconnects(
    monkeypatch: pytest.MonkeyPatch, blocked: float, suspended: float, disconnects: bool
) -> None:
    """Another task's blocking call moves both clocks while the processor rests; a suspension moves boottime alone."""
    clock = FakeClock()
    monkeypatch.setattr(tasks, "CLOCK", clock)
    setup = prompt_setup()

    async def main() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(processing(setup, stop))
        await until(lambda: setup.calls)
        clock.now += blocked
        clock.slept += suspended
        turns = setup.calls.count("peer events")
        await until(lambda: setup.calls.count("peer events") > turns + 1)
        stop.set()
        await task

    asyncio.run(main())
    assert ("disconnect all" in setup.calls) is disconnects


def test_its_own_supervisor_is_started_and_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off the loop, which goes on meanwhile; also when it is cancelled during the start."""
    setup = prompt_setup()
    may_start = threading.Event()

    class Slow(FakeStore):
        def start(self, timeout: float = 30.0) -> object:  # type: ignore[override]
            assert may_start.wait(10.0)
            return super().start(timeout)

    setup.store = Slow(prompt=True, started=False)
    monkeypatch.setattr("bgsuper.supervisor.Supervisor", lambda target: setup.store)

    async def main() -> None:
        task = asyncio.create_task(processing(setup, asyncio.Event(), "sqlite:state"))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()
        may_start.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert setup.store.started
    assert setup.store.stopped
    assert setup.store.durable == FINAL


def test_a_closed_loop_is_tolerated() -> None:
    """The supervisor's thread may call after the host's loop is gone."""

    async def main() -> tasks._Naps:
        return tasks._Naps()

    naps = asyncio.run(main())
    naps.wake()
    naps.wake()


def test_many_wakings_are_one_call_into_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many acks come in one turn."""

    async def main() -> int:
        naps = tasks._Naps()
        calls = []
        monkeypatch.setattr(naps.loop, "call_soon_threadsafe", lambda call: (calls.append(call), call()))
        for _ in range(1000):
            naps.wake()
        assert len(calls) == 1
        await naps.rest(1000.0)
        naps.wake()
        await naps.rest(1000.0)
        return len(calls)

    assert asyncio.run(main()) == 2
