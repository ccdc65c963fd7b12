"""Events on their way to the handler: order, learning, and `ReplayEvent`."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import ReplayEvent
from bgsuper.key import MANAGER, NETWORK_GRAPH
from bgsuper.processor.clock import suspended
from bgsuper.processor.interfaces import EventHandler
from bgsuper.processor.timers import Timers

from .fake_store import FakeStore
from .ldk_events import PaymentPathSuccessful
from .stand_ins import Calls, Monitor, NotifyingMonitor, Setup


class Refusing:
    """A handler that raises `ReplayEvent` for some events, a number of times each."""

    def __init__(self, setup: Setup, **times: int) -> None:
        self.setup = setup
        self.times = dict(times)

    def __call__(self, event: object) -> None:
        self.setup.handle(event)
        if self.times.get(str(event), 0) > 0:
            self.times[str(event)] -= 1
            raise ReplayEvent("the database is locked")


def refusing(**times: int) -> Setup:
    setup = Setup(onion_messenger=True, asleep=suspended)
    setup.handler = Refusing(setup, **times)
    return setup


def test_the_order_of_providers() -> None:
    """The manager's, the monitor's, the onion messenger's, then the peers (LDK #1436, #2723)."""
    setup = Setup(onion_messenger=True)
    turns = setup.turns()
    turns.turn()
    assert setup.calls == ["manager events", "monitor events", "onion events", "peer events"]


@pytest.mark.parametrize("provider", ["manager", "monitor", "onion_messenger"])
def test_that_event_and_later_ones_are_replayed_in_order(provider: str) -> None:
    """The pass ends with the event that was refused; what was handled before it does not come again."""
    setup = refusing(second=1)
    turns = setup.turns()
    getattr(setup, provider).events = ["first", "second", "third"]
    turns.turn()
    assert setup.handled == ["first", "second"]
    setup.clock.now += setup.timers.replay
    turns.turn()
    assert setup.handled == ["first", "second", "second", "third"]
    setup.clock.now += 10.0
    turns.turn()
    assert len(setup.handled) == 4


def test_other_providers_go_on() -> None:
    """In the same turn, and while the refused event waits; the peers and the writes as well."""
    setup = refusing(refused=1)
    turns = setup.turns()
    setup.manager.events = ["refused"]
    setup.monitor.events = ["of the monitor"]
    setup.manager.change()
    turns.turn()
    setup.monitor.events = ["of the monitor, later"]
    turns.turn()
    assert setup.handled == ["refused", "of the monitor", "of the monitor, later"]
    assert setup.calls.count("peer events") == 2
    assert [list(entry.puts) for entry in setup.store.history] == [[MANAGER]]


def test_it_wakes_itself_and_not_before_its_time() -> None:
    """LDK #2995. Turns that something else causes do not bring the event back sooner: no busy loop."""
    setup = refusing(refused=1)
    turns = setup.turns()
    setup.manager.events = ["refused"]
    turns.turn()
    assert turns.rest_s() == pytest.approx(setup.timers.replay) == 0.05
    for _ in range(49):
        setup.clock.now += 0.001
        turns.turn()
    assert turns.rest_s() == pytest.approx(0.001)
    assert setup.handled == ["refused"]
    setup.clock.now += 0.0011
    turns.turn()
    assert setup.handled == ["refused"] * 2
    assert turns.rest_s() == setup.timers.rest


@pytest.mark.parametrize("replay", [0.05, 0.5])
def test_a_handler_that_fails_for_ever_costs_little(replay: float) -> None:
    """Ten seconds of turns, one each millisecond: one call per `Timers.replay`, though the handler changes the manager
    each time, which wakes the loop."""
    setup = Setup(asleep=suspended, timers=Timers(replay=replay), store=FakeStore(prompt=True))

    def refuse(event: object) -> None:
        setup.handled.append(event)
        setup.manager.change()
        raise ReplayEvent

    setup.handler = refuse
    turns = setup.turns()
    setup.manager.events = ["refused"]
    for _ in range(10_000):
        turns.turn()
        setup.clock.now += 0.001
    assert len(setup.handled) == pytest.approx(10.0 / replay, rel=0.05)


def test_graph_and_scorer_learn_once_however_often_it_is_replayed() -> None:
    """Or a handler whose database is locked would make a channel look worse and worse."""
    setup = Setup(scorer=True, asleep=suspended)
    left = [3]

    def refuse(event: object) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise ReplayEvent

    setup.handler = refuse
    turns = setup.turns()
    success = PaymentPathSuccessful()
    setup.manager.events = [success]
    for _ in range(10):
        turns.turn()
        setup.clock.now += 0.1
    assert left[0] == -1
    assert setup.calls.count(f"graph learns {success}") == 1
    assert [lesson[0] for lesson in setup.scorer.learned] == ["time_passed", "payment_path_successful"]


def test_an_equal_event_later_on_is_another_one() -> None:
    """Two payments may fail in the same way."""
    setup = Setup(asleep=suspended)
    setup.handler = Refusing(setup, paid=1)
    turns = setup.turns()
    setup.manager.events = ["paid", "paid"]
    turns.turn()
    setup.clock.now += 1.0
    turns.turn()
    setup.manager.events = ["paid"]
    turns.turn()
    assert setup.handled == ["paid"] * 4
    assert setup.calls.count("graph learns paid") == 3


def test_an_event_that_is_not_replayed_is_forgotten() -> None:
    """Some of LDK's never are (FundingGenerationReady of a connection that ended); an equal one is then news."""
    setup = Setup(asleep=suspended)
    setup.handler = Refusing(setup, funding=1)
    turns = setup.turns()
    setup.manager.events = ["funding"]
    turns.turn()
    setup.manager.events.clear()
    setup.clock.now += 1.0
    turns.turn()
    setup.manager.events = ["funding"]
    turns.turn()
    assert setup.calls.count("graph learns funding") == 2


#: What may happen: a number of events come to one of three providers, or some time passes and there is a turn.
STEPS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)) | st.floats(0.0, 0.2), max_size=40)


@given(STEPS, st.dictionaries(st.integers(0, 20), st.integers(1, 3)))
def test_each_providers_events_are_handled_in_order_and_learnt_once(
    steps: list[tuple[int, int] | float], refusals: dict[int, int]
) -> None:
    """Whatever is refused, however often, and whenever the turns come: none is lost, none overtakes another of its
    provider, none is handled again after it was handled, and none is asked about before its time."""
    setup = Setup(onion_messenger=True, asleep=suspended, store=FakeStore(prompt=True))
    assert setup.onion_messenger is not None
    queues = [setup.manager.events, setup.monitor.events, setup.onion_messenger.events]
    came: list[list[int]] = [[], [], []]
    left, refused_at = dict(refusals), dict[int, float]()
    done: list[int] = []

    def handle(event: int) -> None:
        assert setup.clock.now >= refused_at.get(event, 0.0) + setup.timers.replay
        if left.get(event, 0) > 0:
            left[event] -= 1
            refused_at[event] = setup.clock.now
            raise ReplayEvent
        done.append(event)

    setup.handler = handle
    turns = setup.turns()
    number = 0
    for step in [*steps, *[1.0] * 70]:
        if isinstance(step, float):
            setup.clock.now += step
            turns.turn()
            continue
        provider, count = step
        for _ in range(count):
            queues[provider].append(number)
            came[provider].append(number)
            number += 1
    for events in came:
        assert [event for event in done if event in events] == events
    learned = [call for call in setup.calls if call.startswith("graph learns")]
    assert len(learned) == len(set(learned)) == len(done) == number


class TwoQueues(Monitor):
    """A chain monitor that goes on with its other channels, and says nothing of the replay, as LDK's."""

    def __init__(self, calls: Calls) -> None:
        super().__init__(calls)
        self.queues: list[list[object]] = [[], []]

    def process_pending_events(self, handler: EventHandler) -> None:
        for queue in self.queues:
            try:
                while queue:
                    handler(queue[0])
                    del queue[0]
            except ReplayEvent:
                continue


def test_a_provider_of_several_queues_may_go_on_with_the_others() -> None:
    """Each event is learnt from once, and none comes back before its time."""
    setup = Setup(asleep=suspended, monitor=TwoQueues)
    setup.handler = Refusing(setup, a=2, b=1)
    turns = setup.turns()
    setup.monitor.queues = [["a", "a2"], ["b", "b2"]]
    for _ in range(5):
        turns.turn()
        turns.turn()
        setup.clock.now += 0.05
    assert setup.handled == ["a", "b", "a", "b", "b2", "a", "a2"]
    assert [call for call in setup.calls if call.startswith("graph learns")] == [
        "graph learns a",
        "graph learns b",
        "graph learns b2",
        "graph learns a2",
    ]


def test_a_stop_leaves_the_event_to_the_next_start() -> None:
    """The final writes are made; the event is still with its provider."""
    setup = refusing(refused=1000)
    setup.store.prompt = True
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    setup.manager.events = ["refused"]
    next(steps)
    lifetime.request_stop(30.0)
    assert list(steps) == []
    assert set(setup.store.durable) == {MANAGER, NETWORK_GRAPH}
    assert setup.manager.events == ["refused"]
    assert lifetime.turns.gate_state == "open"


def test_another_exception_after_a_replay_ends_it() -> None:
    """`ReplayEvent` is the only one that does not."""
    setup = refusing(refused=1)
    turns = setup.turns()
    setup.manager.events = ["refused"]
    turns.turn()

    def broken(event: object) -> None:
        raise KeyError(event)

    setup.handler = broken
    setup.clock.now += 0.05
    with pytest.raises(KeyError, match="refused"):
        turns.turn()


def test_the_wish_is_logged_without_the_event(caplog: pytest.LogCaptureFixture) -> None:
    """An event may carry a preimage."""
    setup = refusing(secret=1)
    turns = setup.turns()
    setup.manager.events = ["secret"]
    with caplog.at_level(logging.DEBUG):
        turns.turn()
    [record] = [record for record in caplog.records if record.levelno == logging.DEBUG]
    assert record.getMessage() == "The event handler asks for a replay: the database is locked"


@pytest.mark.parametrize("provider", ["monitor", "onion_messenger"])
def test_monitor_and_messenger_events_wake_it(provider: str) -> None:
    """LDK #2090; nobody is left subscribed at the end."""
    setup = Setup(onion_messenger=True, monitor=NotifyingMonitor)
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    next(steps)
    getattr(setup, provider).push("event")
    assert setup.woken == 1
    next(steps)
    assert setup.handled == ["event"]
    setup.store.prompt = True
    lifetime.request_stop(1.0)
    assert list(steps) == []
    assert getattr(setup, provider).callbacks == []
