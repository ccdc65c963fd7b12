"""From start to end without a thread: the steps, the final writes, and what ends them."""

from __future__ import annotations

import traceback

import pytest

from bgsuper.errors import ShutdownIncomplete
from bgsuper.key import MANAGER, NETWORK_GRAPH, SCORER, Key
from bgsuper.processor.lifetime import same_again

from .stand_ins import Message, RecordManager, Setup

A = Key("channels", "", "a")


def rest(steps: object) -> float:
    return next(steps)  # type: ignore[call-overload, no-any-return]


def test_runs_until_it_is_asked_to_stop() -> None:
    """Each step is a turn; it subscribes at its start and leaves nothing behind."""
    setup = Setup()
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    assert setup.store.subscribers == []
    assert [rest(steps) for _ in range(3)] == [0.1, 0.1, 0.1]
    assert (len(setup.store.subscribers), len(setup.manager.callbacks)) == (1, 1)
    assert not lifetime.stopping
    setup.store.prompt = True
    lifetime.request_stop(30.0)
    assert lifetime.stopping
    assert list(steps) == []
    assert (setup.store.subscribers, setup.manager.callbacks) == ([], [])


def test_what_wakes_it() -> None:
    """A persistable update, an ack, a failure, and the request to stop."""
    setup = Setup()
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    rest(steps)
    for number, wake in enumerate([setup.manager.change, setup.store.ack, lambda: lifetime.request_stop(1.0)], 1):
        wake()
        assert setup.woken == number


def test_a_deadline_can_be_set_without_waking_anybody() -> None:
    """A garbage collection may run inside the lock that waking takes; the loop sees it at the end of its rest."""
    setup = Setup(store=None)
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    rest(steps)
    lifetime.set_deadline(30.0)
    assert setup.woken == 0
    assert lifetime.stopping
    setup.store.prompt = True
    assert list(steps) == []


def test_the_final_writes_are_in_order_and_one_durable_before_the_next() -> None:
    """The manager (also a clean one, as in the seed), then the scorer, then the graph."""
    setup = Setup(scorer=True)
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    rest(steps)
    lifetime.request_stop(30.0)
    submitted = []
    for _ in range(3):
        assert rest(steps) == 30.0
        assert rest(steps) == 30.0
        [entry] = setup.store.pending
        submitted.append((*entry.puts, entry.lane))
        setup.store.ack()
    assert list(steps) == []
    assert submitted == [(MANAGER, "critical"), (SCORER, "snapshot"), (NETWORK_GRAPH, "snapshot")]
    assert setup.store.durable == {MANAGER: b"manager 0", SCORER: b"scores 1", NETWORK_GRAPH: b"graph 0"}


def test_the_final_write_takes_what_changed_since_the_last_turn() -> None:
    """By records: the rest of the changes, and the outputs that waited for them leave."""
    manager = RecordManager()
    setup = Setup(manager=manager, gossip=False)
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    rest(steps)
    manager.put(A, b"1", Message("answer", None, (A,)))
    lifetime.request_stop(30.0)
    rest(steps)
    assert manager.released == []
    setup.store.ack()
    assert list(steps) == []
    assert setup.store.durable == {A: b"1"}
    assert manager.released == ["answer"]


def test_without_changes_it_still_waits_for_what_was_submitted() -> None:
    """By records nothing is written at the end if nothing changed; the last commit must be durable all the same."""
    manager = RecordManager()
    setup = Setup(manager=manager, gossip=False)
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    manager.put(A, b"1")
    rest(steps)
    lifetime.request_stop(30.0)
    rest(steps)
    rest(steps)
    setup.store.ack()
    assert list(steps) == []
    assert len(setup.store.history) == 1


def test_the_final_writes_wait_until_the_store_takes_them() -> None:
    """A backlog at the end is no error, if it goes in time."""
    setup = Setup(gossip=False)
    setup.store.writable = False
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    rest(steps)
    lifetime.request_stop(30.0)
    rest(steps)
    rest(steps)
    assert setup.store.history == []
    setup.store.become_writable(True)
    setup.store.prompt = True
    assert list(steps) == []
    assert setup.store.durable == {MANAGER: b"manager 0"}


@pytest.mark.parametrize("writable", [True, False])
def test_the_final_writes_are_bounded(writable: bool) -> None:
    """`ShutdownIncomplete` at the deadline, which later requests do not move, and the gate is shut."""
    setup = Setup()
    setup.store.writable = writable
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    rest(steps)
    lifetime.request_stop(30.0)
    lifetime.request_stop(3000.0)
    rest(steps)
    setup.clock.now += 29.0
    assert rest(steps) == pytest.approx(1.0)
    setup.clock.now += 1.0
    with pytest.raises(ShutdownIncomplete) as caught:
        rest(steps)
    assert caught.value.unacked == (1 if writable else 0)
    assert setup.store.subscribers == []


def test_what_holds_up_a_stop_is_said_rightly() -> None:
    """Of a turn that does not end, of a thread that gets no time, of a store that does not take or finish the final
    writes (and which), and of the supervisor's own stop: only the first is the handler's fault."""
    setup = Setup()
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    said: list[str] = []

    def ask() -> str:
        error = lifetime.still_running(0.5)
        assert str(error).startswith("the background processor still runs 0.5 s after stop(): ")
        return f"{error.unacked} {str(error).partition('stop(): ')[2]}"

    def slow(event: object) -> None:
        setup.clock.now += 2.0
        said.append(ask())

    setup.handler = slow
    setup.manager.events = ["slow"]
    rest(steps)
    setup.clock.now += 3.0
    said.append(ask())
    setup.store.writable = False
    lifetime.request_stop(30.0)
    rest(steps)
    rest(steps)
    said.append(ask())
    setup.store.become_writable(True)
    rest(steps)
    said.append(ask())
    setup.store.ack()
    rest(steps)
    said.append(ask())
    setup.store.ack()
    assert list(steps) == []
    said.append(ask())
    left, still = "un-acknowledged commits and snapshots", "join() tells how that ends"
    assert said == [
        "0 an event handler or a node object has held it up for 2.0 s; nothing is written meanwhile",
        "1 it was woken and has not run for 3.0 s: the machine is too busy",
        f"1 the final write of the channel manager is not yet taken by the store; {left}: 1 (a stand-in); {still}",
        f"2 the final write of the channel manager is not durable yet; {left}: 2 (a stand-in); {still}",
        f"1 the final write of the network graph is not durable yet; {left}: 1 (a stand-in); {still}",
        f"0 its own supervisor is still being stopped; {still}",
    ]


def test_a_late_graph_is_not_called_acknowledged() -> None:
    """No output waits for it, so it is in no difference of sequence numbers."""
    setup = Setup()
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    rest(steps)
    lifetime.request_stop(30.0)
    rest(steps)
    rest(steps)
    setup.store.ack()
    rest(steps)
    setup.clock.now += 30.0
    with pytest.raises(ShutdownIncomplete, match="of the network graph is not durable") as caught:
        rest(steps)
    assert caught.value.unacked == 1


def test_a_failure_ends_it_without_final_writes() -> None:
    """The seed's in-loop manager error: at once, nothing more is written, neither manager nor graph."""
    setup = Setup()
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    setup.manager.change()
    rest(steps)
    setup.store.fail(lambda: PermissionError(13, "test"))
    submitted = len(setup.store.history)
    with pytest.raises(PermissionError):
        rest(steps)
    assert len(setup.store.history) == submitted
    assert lifetime.turns.gate_state == "shut"
    assert setup.calls[-1] == "disconnect all"
    assert setup.store.subscribers == []


@pytest.mark.parametrize("when", ["before", "while waiting", "while not writable"])
def test_a_failure_during_the_final_writes_comes_out(when: str) -> None:
    """Of the manager: the graph is not written any more."""
    setup = Setup()
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    rest(steps)
    lifetime.request_stop(30.0)
    setup.store.writable = when != "while not writable"
    if when != "before":
        rest(steps)
    setup.store.fail(lambda: PermissionError(13, "test"))
    with pytest.raises(PermissionError):
        list(steps)
    assert NETWORK_GRAPH not in [key for entry in setup.store.history for key in entry.puts]


def test_a_failure_comes_out_at_the_end_also_when_there_is_nothing_left_to_write() -> None:
    """By records and without changes no submission would meet it."""
    setup = Setup(manager=RecordManager(), gossip=False)
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    rest(steps)
    lifetime.request_stop(30.0)
    setup.store.fail(lambda: PermissionError(13, "test"))
    with pytest.raises(PermissionError):
        list(steps)


def test_a_final_write_of_the_graph_that_fails_comes_out() -> None:
    """The only way for a graph's error to come out; the manager is durable by then."""
    setup = Setup()
    setup.store.prompt = True
    setup.store.refuse_snapshots_of[NETWORK_GRAPH] = lambda: OSError("test")
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    rest(steps)
    lifetime.request_stop(30.0)
    with pytest.raises(OSError, match="test"):
        list(steps)
    assert setup.store.durable == {MANAGER: b"manager 0"}


@pytest.mark.parametrize("culprit", ["node object", "handler"])
def test_an_exception_inside_a_turn_is_fail_stop(culprit: str) -> None:
    """Half a change must never be committed: no final writes, the gate is shut, the exception comes out."""
    setup = Setup()
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    rest(steps)
    setup.manager.change()
    if culprit == "node object":
        setup.manager.raises = KeyError("test")
    else:

        def broken(event: object) -> None:
            raise KeyError("test")

        setup.handler = broken
        setup.manager.events = ["event"]
    with pytest.raises(KeyError, match="test"):
        rest(steps)
    assert setup.store.history == []
    assert lifetime.turns.gate_state == "shut"
    assert setup.calls[-1] == "disconnect all"


def test_peers_that_cannot_be_disconnected_do_not_hide_the_cause() -> None:
    """The first error is the one to hear of; the second is logged."""
    setup = Setup()

    def broken() -> None:
        raise RuntimeError("second")

    setup.peers.disconnect_all_peers = broken  # type: ignore[method-assign]
    setup.manager.raises = KeyError("first")
    with pytest.raises(KeyError, match="first"):
        list(setup.lifetime().steps())


def test_an_abandoned_lifetime_ends_its_subscriptions() -> None:
    """A face that never comes back, with its generator closed."""
    setup = Setup()
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    rest(steps)
    steps.close()  # type: ignore[attr-defined]
    assert (setup.store.subscribers, setup.manager.callbacks) == ([], [])
    assert lifetime.turns.gate_state == "open"


class Demanding(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("cannot be copied")


@pytest.mark.parametrize(
    "error",
    [PermissionError(13, "test", "/some/file"), ShutdownIncomplete("late", unacked=3, outcome="killed"), KeyError("a")],
)
def test_same_again_is_another_object_that_says_the_same(error: Exception) -> None:
    """Kind, arguments, attributes, notes, cause; and a traceback of its own."""
    error.add_note("a note")
    with pytest.raises(type(error)):
        raise error from OSError("cause")
    twin = same_again(error)
    assert twin is not error
    assert (type(twin), twin.args, vars(twin)) == (type(error), error.args, vars(error))
    assert str(twin.__cause__) == "cause"
    with pytest.raises(type(error)):
        raise twin
    assert len(traceback.extract_tb(twin.__traceback__)) > len(traceback.extract_tb(error.__traceback__))


class Fickle(Exception):
    def __reduce__(self) -> tuple[type, tuple[str]]:
        return ValueError, ("another story",)


@pytest.mark.parametrize("error", [Demanding(1, 2), Fickle("mine")])
def test_same_again_gives_up_on_classes_that_cannot_be_copied(error: Exception) -> None:
    """Better the shared object than none, or than one that says something else."""
    assert same_again(error) is error
