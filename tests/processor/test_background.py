"""The thread face: start, join, stop, and what happens to one that nobody stopped."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bgsuper.errors import ReplayEvent, ShutdownIncomplete
from bgsuper.key import MANAGER, NETWORK_GRAPH, Key
from bgsuper.processor.background import BackgroundProcessor
from bgsuper.processor.timers import Timers

from .fake_store import FakeStore
from .stand_ins import Flag, Manager, Message, RecordManager, Setup

A = Key("channels", "", "a")
#: Nothing happens by itself: only what wakes the thread makes it turn.
STILL = Timers(
    freshness=1e5,
    ping=1e5,
    first_prune=1e5,
    first_scorer=1e5,
    rebroadcast=1e5,
    first_archive=1e5,
    onion_messenger=1e5,
    sweeper=1e5,
    rest=1e4,
    asleep=1e5,
)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Each test ends its threads."""
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("bgsuper")] == []


def start(setup: Setup, persister: object = None, timers: Timers = STILL) -> BackgroundProcessor:
    return BackgroundProcessor.start(
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
        timers=timers,
    )


def prompt_setup(**arguments: object) -> Setup:
    return Setup(store=FakeStore(prompt=True), **arguments)  # type: ignore[arg-type]


def test_leaving_the_context_manager_stops_it() -> None:
    """The seed's Drop: the final writes are durable when it returns; the host's supervisor goes on."""
    setup = prompt_setup()
    with start(setup) as processor:
        assert isinstance(processor, BackgroundProcessor)
    assert setup.store.durable == {MANAGER: b"manager 0", NETWORK_GRAPH: b"graph 0"}
    assert not setup.store.stopped
    processor.stop()
    processor.join()


def test_leaving_it_by_an_exception_stops_it_as_well() -> None:
    """And the exception goes on."""
    setup = prompt_setup()
    with pytest.raises(KeyError, match="mine"), start(setup):
        raise KeyError("mine")
    assert MANAGER in setup.store.durable


def test_leaving_it_by_an_exception_notes_what_else_went_wrong() -> None:
    """The exception under way stays the one to hear of."""
    setup = Setup()
    setup.store.fail(lambda: PermissionError(13, "test"))
    with pytest.raises(KeyError, match="mine") as caught, start(setup):
        raise KeyError("mine")
    assert "PermissionError: [Errno 13] test" in caught.value.__notes__[0]


def test_leaving_it_raises_what_ended_it() -> None:
    """Nothing is swallowed."""
    setup = prompt_setup()
    setup.store.refuse_snapshots_of[NETWORK_GRAPH] = lambda: OSError("test")
    with pytest.raises(OSError, match="test"), start(setup):
        pass


def test_an_update_wakes_it_and_so_does_the_ack() -> None:
    """It rests for hours here, so only being woken brings the change to the store and the output out."""
    manager = RecordManager()
    setup = Setup(manager=manager, gossip=False)
    submitted, released = Flag(), Flag()
    commit, release = setup.store.commit, manager.release
    setup.store.commit = lambda *args: (commit(*args), submitted.set())[0]  # type: ignore[method-assign]
    manager.release = lambda output: (release(output), released.set())[0]  # type: ignore[method-assign]
    with start(setup) as processor:
        manager.put(A, b"1", Message("answer", None, (A,)))
        submitted.wait()
        assert manager.released == []
        assert processor.health().gate == "holding"
        setup.store.ack()
        released.wait()
        assert processor.health().gate == "open"
        setup.store.prompt = True
    assert manager.released == ["answer"]


def test_a_replay_wakes_it() -> None:
    """Nothing else would: it rests for hours here."""
    setup = prompt_setup()
    refusals = [ReplayEvent(), ReplayEvent()]
    handled = Flag()

    def refuse(event: object) -> None:
        if refusals:
            raise refusals.pop()
        handled.set()

    setup.handler = refuse
    with start(setup):
        setup.manager.events.append("event")
        setup.manager.change()
        handled.wait()


def test_a_failure_wakes_it_and_comes_out_of_join_and_stop_each_time_anew() -> None:
    """For several threads at once; the traceback of one is not the other's."""
    setup = Setup()
    processor = start(setup)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(processor.join), pool.submit(processor.join), pool.submit(processor.join, 10.0)]
        setup.store.fail(lambda: PermissionError(13, "test"))
        errors = [future.exception(10.0) for future in waiting]
    for again in (processor.stop, processor.join):
        with pytest.raises(PermissionError) as caught:
            again()
        errors.append(caught.value)
    assert {type(error) for error in errors} == {PermissionError}
    assert len({id(error) for error in errors}) == len(errors)
    assert processor.health().gate == "shut"


def test_concurrent_stops_and_joins() -> None:
    """All return, and it stops once."""
    setup = prompt_setup()
    processor = start(setup)
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(call) for call in [processor.stop, processor.join] * 4]
        assert [call.exception(10.0) for call in calls] == [None] * 8
    assert [list(entry.puts) for entry in setup.store.history] == [[MANAGER], [NETWORK_GRAPH]]


def test_join_with_a_timeout() -> None:
    """`TimeoutError` while it runs; it goes on running."""
    setup = prompt_setup()
    with start(setup) as processor, pytest.raises(TimeoutError):
        processor.join(0.01)


def test_stop_in_an_event_handler_only_asks() -> None:
    """A thread cannot join itself; the error, if any, comes out of join()."""
    setup = prompt_setup()
    processors: list[BackgroundProcessor] = []
    handled = Flag()

    def stop(event: object) -> None:
        processors[0].stop()
        handled.set()

    setup.handler = stop
    processors.append(start(setup))
    setup.manager.events = ["the end"]
    setup.manager.change()
    handled.wait()
    processors[0].join(10.0)
    assert setup.store.durable[MANAGER] == b"manager 2"


def test_stop_is_bounded_when_a_handler_never_returns() -> None:
    """`ShutdownIncomplete`. Once the handler returns, the first stop's deadline is over, so nothing waits."""
    setup = prompt_setup()
    entered, leave = Flag(), Flag()

    def stuck(event: object) -> None:
        entered.set()
        leave.wait()

    setup.handler = stuck
    processor = start(setup)
    setup.manager.events = ["slow"]
    setup.manager.change()
    entered.wait()
    with pytest.raises(ShutdownIncomplete, match="handler"):
        processor.stop(0.01)
    setup.store.prompt = False
    leave.set()
    with pytest.raises(ShutdownIncomplete, match="not durable"):
        processor.stop(10.0)


def test_a_short_stop_beside_a_long_one_blames_the_writes() -> None:
    """Not a handler: the loop has ended, and only the store is late. The long one goes on, and succeeds."""
    setup = Setup()
    submitted = Flag()
    processor = start(setup)
    snapshot = setup.store.snapshot
    setup.store.snapshot = lambda *args, **options: (snapshot(*args, **options), submitted.set())[0]  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(processor.stop, 30.0)
        submitted.wait()
        with pytest.raises(ShutdownIncomplete, match="final write of the channel manager is not durable yet") as caught:
            processor.stop(0.01)
        assert "handler" not in str(caught.value)
        assert caught.value.unacked == 1
        setup.store.prompt = True
        setup.store.ack()
        assert long.exception(10.0) is None


def test_stop_is_bounded_when_the_disk_hangs() -> None:
    """The host's supervisor: told apart from a lost write by its own stop()."""
    setup = Setup()
    processor = start(setup)
    began = time.monotonic()
    with pytest.raises(ShutdownIncomplete, match="final write of the channel manager is not durable") as caught:
        processor.stop(0.05)
    assert time.monotonic() - began < 5.0
    assert caught.value.unacked == 1
    assert not setup.store.stopped


# -- health ------------------------------------------------------------------------------------------------------------


def test_the_health_log_is_the_supervisors() -> None:
    """Word for word; also of one that ended."""
    setup = prompt_setup()
    with start(setup) as processor:
        assert processor.health_log() == setup.store.health_log()
    assert [entry.evidence for entry in processor.health_log()] == ["a stand-in"]


@pytest.mark.parametrize(("manager", "atomic"), [(Manager, False), (RecordManager, True)])
def test_health_is_the_supervisors_with_gate_and_atomic(manager: Callable[[], object], atomic: bool) -> None:
    """A manager persisted whole voids "one commit is atomic"."""
    setup = prompt_setup(manager=manager())
    with start(setup) as processor:
        health = processor.health()
    assert (health.gate, health.atomic, health.evidence) == ("open", atomic, "a stand-in")


# -- left un-stopped ---------------------------------------------------------------------------------------------------


def test_garbage_collected_while_it_runs() -> None:
    """`ResourceWarning`, and it stops with its final writes when it looks next: the collection wakes nobody."""
    setup = prompt_setup()
    processors = [start(setup, timers=Timers())]
    [thread] = [thread for thread in threading.enumerate() if thread.name == "bgsuper-processor"]
    with pytest.warns(ResourceWarning, match="garbage-collected"):
        processors.clear()
    thread.join(10.0)
    assert setup.store.durable == {MANAGER: b"manager 0", NETWORK_GRAPH: b"graph 0"}


def test_a_stopped_one_is_collected_in_silence() -> None:
    """Warnings are errors in these tests."""
    processor = start(prompt_setup())
    processor.stop()
    del processor
    gc.collect()


EXIT = """
from tests.processor.test_background import prompt_setup, start
setup = prompt_setup()
ack = setup.store.ack
setup.store.ack = lambda *args: (ack(*args), print(*setup.store.durable, flush=True))
processor = start(setup)
"""


def test_left_running_at_interpreter_exit() -> None:
    """The final writes still happen, then the interpreter exits; a warning says so."""
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", EXIT],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["manager", "manager", "network_graph"], done
    assert "still ran when the interpreter exited" in done.stderr
