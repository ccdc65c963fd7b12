"""The asyncio face, cancelled or closed wherever it may be."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from bgsuper.key import MANAGER, NETWORK_GRAPH, SCORER, Key, Seq

from .fake_store import FakeStore
from .stand_ins import Setup
from .test_tasks import FINAL, processing, prompt_setup, until


class Stepwise(FakeStore):
    """Its start, its writes and its stop take until the test lets them."""

    def __init__(self) -> None:
        super().__init__(started=False)
        self.may_start, self.may_stop = threading.Event(), threading.Event()
        self.starting = self.stopping = False

    def start(self, timeout: float = 30.0) -> Seq:
        self.starting = True
        assert self.may_start.wait(10.0)
        return super().start(timeout)

    def stop(self, timeout: float = 30.0) -> None:
        self.stopping = True
        assert self.may_stop.wait(10.0)
        super().stop(timeout)

    def awaits(self, *keys: Key) -> bool:
        return [key for entry in self.pending for key in entry.puts] == list(keys)


@pytest.fixture
def stepwise(monkeypatch: pytest.MonkeyPatch) -> Stepwise:
    store = Stepwise()
    monkeypatch.setattr("bgsuper.supervisor.Supervisor", lambda target: store)
    return store


#: Where it awaits, in order: what tells that it is there, and what lets it go on.
AWAITS: dict[str, tuple[Callable[[Stepwise], bool], Callable[[Stepwise], object]]] = {
    "start": (lambda store: store.starting, lambda store: store.may_start.set()),
    "rest": (lambda store: bool(store.subscribers), lambda store: None),
    "manager": (lambda store: store.awaits(MANAGER), lambda store: store.ack()),
    "scorer": (lambda store: store.awaits(SCORER), lambda store: store.ack()),
    "graph": (lambda store: store.awaits(NETWORK_GRAPH), lambda store: store.ack()),
    "stop": (lambda store: store.stopping, lambda store: store.may_stop.set()),
}


@pytest.mark.parametrize("cancelled_at", [[name] for name in AWAITS] + [list(AWAITS), ["start", "stop"]], ids="+".join)
def test_a_cancellation_harms_nothing_wherever_it_comes(stepwise: Stepwise, cancelled_at: list[str]) -> None:
    """LDK #4598. At each await, and at all of them, three times over: all final writes, its supervisor stopped, nobody
    subscribed any more, and `CancelledError` at the end."""
    setup = Setup(store=stepwise, scorer=True)
    visited = []

    async def main() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(processing(setup, stop, "sqlite:state"))
        for name, (there, go_on) in AWAITS.items():
            await until(lambda there=there: there(stepwise))
            visited.append(name)
            if name in cancelled_at:
                for _ in range(3):
                    task.cancel()
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                    assert not task.done()
            elif name == "rest" and "start" not in cancelled_at:
                stop.set()
            go_on(stepwise)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(main())
    assert visited == list(AWAITS)
    assert setup.store.durable == {**FINAL, SCORER: b"scores 1"}
    assert setup.store.stopped
    assert (setup.store.subscribers, setup.manager.callbacks) == ([], [])
    assert "disconnect all" not in setup.calls


def test_cancelled_before_it_began() -> None:
    """Nothing was touched."""
    setup = Setup()

    async def main() -> None:
        task = asyncio.create_task(processing(setup, asyncio.Event()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert (setup.calls, setup.store.history, setup.store.subscribers) == ([], [], [])


def test_a_handler_may_cancel_the_task_it_runs_in() -> None:
    """The turn ends first: what it changed is written, and no event is lost or handled twice."""
    setup = prompt_setup()

    def cancel(event: object) -> None:
        setup.handle(event)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    setup.handler = cancel
    setup.manager.events = ["first", "second"]

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(processing(setup, asyncio.Event()))

    asyncio.run(main())
    assert setup.handled == ["first", "second"]
    assert setup.store.durable == {**FINAL, MANAGER: b"manager 1"}


def test_under_a_timeout_of_asyncios() -> None:
    """The final writes, and then `TimeoutError` as of any other task."""
    setup = prompt_setup()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await processing(setup, asyncio.Event())

    asyncio.run(main())
    assert setup.store.durable == FINAL


@pytest.mark.parametrize("closed_at", ["start", "rest", "manager", "stop"])
def test_closed_with_its_loop(stepwise: Stepwise, closed_at: str) -> None:
    """It may not await any more: its supervisor is stopped all the same, on another thread, and a warning says that the
    final writes are missing."""
    setup = Setup(store=stepwise)
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    coroutine = processing(setup, stop, "sqlite:state")

    async def main() -> None:
        task = loop.create_task(coroutine)
        for name in ("start", "rest", "manager", "graph", "stop"):
            there, go_on = AWAITS[name]
            await until(lambda there=there: there(stepwise))
            if name == closed_at:
                break
            stop.set() if name == "rest" else go_on(stepwise)
        task._log_destroy_pending = False  # type: ignore[attr-defined]

    loop.run_until_complete(main())
    loop.close()
    with pytest.warns(ResourceWarning, match="without its final writes"):
        coroutine.close()
    assert (setup.store.subscribers, setup.manager.callbacks) == ([], [])
    stepwise.may_start.set()
    stepwise.may_stop.set()
    for thread in threading.enumerate():
        if thread.name.startswith("bgsuper-aside"):
            thread.join(10.0)
    assert stepwise.stopped
