"""What one turn does, in which order, and when."""

from __future__ import annotations

import logging

import pytest

from bgsuper.errors import ConfigError
from bgsuper.key import MANAGER, NETWORK_GRAPH, SCORER
from bgsuper.processor.clock import starved, suspended
from bgsuper.processor.interfaces import TRACE
from bgsuper.processor.timers import Timers

from .fake_store import FakeStore
from .stand_ins import Manager, Monitor, RecordManager, Setup, WholeMonitor

EVENTS = ["manager events", "monitor events", "peer events"]


def test_startup_ticks_the_manager_before_anything_else() -> None:
    """The seed's startup tick, and no other."""
    setup = Setup()
    steps = setup.lifetime().steps()
    next(steps)
    assert setup.calls == ["manager tick", *EVENTS]


def test_order_of_events() -> None:
    """The manager's, then the monitor's, then the peers (LDK #1436); the graph learns before the user's handler."""
    setup = Setup()
    turns = setup.turns()
    setup.manager.events = ["opened"]
    setup.monitor.events = ["spendable"]
    turns.turn()
    assert setup.calls == [
        "manager events",
        "graph learns opened",
        "handler opened",
        "monitor events",
        "graph learns spendable",
        "handler spendable",
        "peer events",
        "manager write",
    ]


def test_without_gossip_the_handler_is_called_alone() -> None:
    """And nothing is ever pruned."""
    setup = Setup(gossip=False)
    turns = setup.turns()
    setup.manager.events = ["opened"]
    setup.clock.now += 4000.0
    turns.turn()
    assert "handler opened" in setup.calls
    assert "prune" not in setup.calls
    assert [entry for entry in setup.store.history if entry.lane == "snapshot"] == []


@pytest.mark.parametrize(
    ("call", "times"),
    [
        ("manager tick", [60.0, 120.0, 180.0]),
        ("peer tick", [10.0, 20.0, 30.0]),
        ("prune", [60.0, 3660.0, 7260.0]),
        ("graph write", [60.0, 3660.0, 7260.0]),
        ("decay", [30.0, 330.0, 630.0]),
        ("scorer write", [30.0, 330.0, 630.0]),
        ("archive", [15.0, 615.0, 1215.0]),
        ("rebroadcast", [30.0, 60.0, 90.0]),
        ("sweep", [30.0, 60.0, 90.0]),
        ("onion tick", [10.0, 20.0, 30.0]),
    ],
)
def test_timers_reach_their_objects_on_time_and_only_then(call: str, times: list[float]) -> None:
    """Turns come all the time; the calls come when they are due. The machine does not sleep between them."""
    setup = Setup(
        scorer=True,
        asleep=suspended,
        monitor=WholeMonitor,
        onion_messenger=True,
        sweeper=True,
        store=FakeStore(prompt=True),
    )
    turns = setup.turns()
    start = setup.clock.now
    for at in times:
        setup.clock.now = start + at - 0.001
        turns.turn()
        assert call not in setup.calls.take()
        setup.clock.now = start + at
        turns.turn()
        assert setup.calls.take().count(call) == 1
        turns.turn()
        assert call not in setup.calls.take()


def test_the_rest_ends_when_the_next_timer_is_due() -> None:
    """At most a tenth of a second, and never past a timer."""
    setup = Setup(asleep=suspended)
    turns = setup.turns()
    assert turns.rest_s() == 0.1
    setup.clock.now += 9.97
    assert turns.rest_s() == pytest.approx(0.03)
    setup.clock.now += 0.03
    turns.turn()
    assert turns.rest_s() == 0.1


@pytest.mark.parametrize("slept_for", [5.0, 10.0])
def test_a_machine_that_slept_disconnects_all_peers_and_skips_that_ping(slept_for: float) -> None:
    """The seed: after a rest of over a second the sockets may be dead. The next ping is a whole period later, whether
    or not one was due."""
    setup = Setup(timers=Timers(freshness=1000.0, first_prune=1000.0))
    turns = setup.turns()
    turns.turn()
    setup.calls.clear()
    setup.clock.now += slept_for
    turns.turn()
    assert setup.calls.take() == ["disconnect all", *EVENTS]
    for _ in range(10):
        setup.clock.now += 0.999
        turns.turn()
    assert "peer tick" not in setup.calls
    assert "disconnect all" not in setup.calls
    setup.clock.now += 0.02
    turns.turn()
    assert setup.calls.count("peer tick") == 1


def test_a_slow_handler_disconnects_nobody() -> None:
    """LDK #1269: only the rest is measured, not the processor's own work."""
    setup = Setup(asleep=starved)
    turns = setup.turns()

    def slow(event: object) -> None:
        setup.clock.now += 30.0

    setup.handler = slow
    setup.manager.events = ["slow"]
    turns.turn()
    setup.clock.now += 0.1
    turns.turn()
    assert "disconnect all" not in setup.calls
    assert setup.calls.count("peer tick") == 1


@pytest.mark.parametrize(("blocked", "slept", "disconnects"), [(30.0, 0.0, 0), (0.0, 1.5, 1), (30.0, 1.5, 1)])
def test_on_asyncio_only_a_suspension_disconnects(blocked: float, slept: float, disconnects: int) -> None:
    """Another task's blocking call holds up the loop and must not disconnect peers."""
    setup = Setup(asleep=suspended)
    turns = setup.turns()
    turns.turn()
    setup.clock.now += blocked
    setup.clock.slept += slept
    turns.turn()
    assert setup.calls.count("disconnect all") == disconnects
    turns.turn()
    assert setup.calls.count("disconnect all") == disconnects


# -- the manager -------------------------------------------------------------------------------------------------------


def test_a_dirty_manager_is_written_once_and_a_clean_one_is_not() -> None:
    """The flag decides, and it is cleared."""
    setup = Setup()
    turns = setup.turns()
    turns.turn()
    assert setup.store.history == []
    setup.manager.change()
    turns.turn()
    turns.turn()
    assert [(entry.puts, entry.lane) for entry in setup.store.history] == [({MANAGER: b"manager 1"}, "critical")]


def test_an_update_during_a_write_makes_it_dirty_again() -> None:
    """The flag is cleared before the snapshot is taken, so what the snapshot lacks is written by the next."""
    setup = Setup(store=FakeStore(prompt=True))
    turns = setup.turns()
    setup.manager.change()
    setup.manager.while_writing = setup.manager.change
    turns.turn()
    assert setup.store.durable[MANAGER] == b"manager 1"
    turns.turn()
    assert setup.store.durable[MANAGER] == b"manager 2"
    assert not setup.manager.dirty


def test_one_whole_manager_is_under_way_at_a_time() -> None:
    """What changes while a write is under way merges into the next one, and is never lost."""
    setup = Setup()
    turns = setup.turns()
    for _ in range(5):
        setup.manager.change()
        turns.turn()
    assert [entry.puts[MANAGER] for entry in setup.store.history] == [b"manager 1"]
    setup.store.ack()
    turns.turn()
    assert [entry.puts[MANAGER] for entry in setup.store.history] == [b"manager 1", b"manager 5"]


def test_events_go_on_while_writes_hang() -> None:
    """Nothing waits for the store: events, ticks and pings go on with a write that never ends."""
    setup = Setup(asleep=suspended)
    turns = setup.turns()
    setup.manager.change()
    for number in range(100):
        setup.clock.now += 1.0
        setup.manager.events = [number]
        turns.turn()
    assert setup.handled == list(range(100))
    assert setup.calls.count("peer tick") == 10
    assert setup.calls.count("manager tick") == 1
    assert len(setup.store.pending) == 2  # the manager and the pruned graph


def test_a_manager_that_cannot_be_persisted_is_refused_at_once() -> None:
    """Neither write() nor take_changes(): the host hears of it before the first tick."""
    setup = Setup()
    setup.manager = Monitor(setup.calls)
    setup.manager.timer_tick_occurred = lambda: setup.calls.append("tick")
    with pytest.raises(ConfigError, match="Monitor"):
        setup.turns()
    assert setup.calls == []


class ManagerOfBothKinds(RecordManager):
    def get_and_clear_needs_persistence(self) -> bool:
        return bool(self.puts)

    def write(self) -> bytes:
        return b"whole"


@pytest.mark.parametrize(
    ("manager", "store_is_atomic", "atomic"),
    [
        (Manager, True, False),
        (RecordManager, True, True),
        (ManagerOfBothKinds, True, True),
        (ManagerOfBothKinds, False, False),
    ],
)
def test_by_records_if_both_can_else_whole(manager: type, store_is_atomic: bool, atomic: bool) -> None:
    """A user's persister has no batches, so a manager that can do both is persisted whole there."""
    setup = Setup(manager=manager(), store=FakeStore(atomic=store_is_atomic))
    assert setup.turns().atomic is atomic


# -- graph and scorer --------------------------------------------------------------------------------------------------


def test_prune_then_persist_the_graph() -> None:
    """The prune is told the time of day; the write is a snapshot that nothing waits for."""
    setup = Setup(asleep=suspended)
    turns = setup.turns()
    setup.clock.now += 60.0
    turns.turn()
    assert setup.gossip is not None
    assert setup.gossip.network_graph.pruned_at == [int(setup.clock.time())]
    [entry] = setup.store.history
    assert (entry.puts, entry.lane) == ({NETWORK_GRAPH: b"graph 1"}, "snapshot")


def test_a_failed_write_of_the_graph_is_logged_once_and_tried_again_next_time(caplog: pytest.LogCaptureFixture) -> None:
    """It does not end the processor, nor hold anything up."""
    setup = Setup(asleep=suspended)
    turns = setup.turns()
    setup.store.refuse_snapshots_of[NETWORK_GRAPH] = lambda: PermissionError(13, "test")
    setup.clock.now += 60.0
    with caplog.at_level(logging.ERROR):
        turns.turn()
        setup.store.ack()
        turns.turn()
        turns.turn()
    text = "Error: Failed to persist network graph, check your disk and permissions [Errno 13] test"
    assert [record.getMessage() for record in caplog.records] == [text]
    setup.store.refuse_snapshots_of.clear()
    setup.clock.now += 3600.0
    turns.turn()
    setup.store.ack()
    assert setup.store.durable[NETWORK_GRAPH] == b"graph 2"


def test_a_failed_write_of_the_scorer_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """LDK's test_scorer_persist_error, in the loop. A persister's own TimeoutError is an error like any other."""

    def timed_out() -> Exception:
        error = TimeoutError("the backup service is slow")
        error.__cause__ = Exception("remote traceback")
        return error

    setup = Setup(asleep=suspended, scorer=True)
    turns = setup.turns()
    setup.store.refuse_snapshots_of[SCORER] = timed_out
    setup.clock.now += 300.0
    with caplog.at_level(logging.ERROR):
        turns.turn()
        setup.store.ack()
        turns.turn()
    assert "Failed to persist scorer, check your disk and permissions the backup service is slow" in caplog.text


# -- back-pressure -----------------------------------------------------------------------------------------------------


def test_nothing_is_taken_while_the_store_is_behind() -> None:
    """Rule 9: `Backlogged` is never raised after a mutation (the stand-in would raise it). Peers are not read
    meanwhile; events, ticks and pings go on; afterwards one write holds everything."""
    setup = Setup(asleep=suspended, scorer=True)
    turns = setup.turns()
    setup.store.writable = False
    for _ in range(400):
        setup.clock.now += 1.0
        setup.manager.change()
        turns.turn()
    assert not setup.peers.reading
    assert setup.store.history == []
    assert setup.calls.count("peer tick") == 40
    assert setup.calls.count("prune") == 1
    setup.store.writable = True
    turns.turn()
    assert setup.peers.reading
    assert [entry.puts for entry in setup.store.history] == [
        {MANAGER: b"manager 400"},
        {NETWORK_GRAPH: b"graph 1"},
        {SCORER: b"scores 3"},
    ]


def test_each_submission_asks_whether_the_store_takes_it() -> None:
    """A large manager may fill the backlog by itself: the graph then waits."""

    class FullAfterOne(FakeStore):
        def _submit(self, entry):  # type: ignore[no-untyped-def]
            seq = super()._submit(entry)
            self.writable = False
            return seq

    setup = Setup(asleep=suspended, scorer=True, store=FullAfterOne())
    turns = setup.turns()
    setup.manager.change()
    setup.clock.now += 300.0
    turns.turn()
    assert [list(entry.puts) for entry in setup.store.history] == [[MANAGER]]
    for _ in range(2):
        setup.store.ack()
        setup.store.writable = True
        turns.turn()
    assert [list(entry.puts) for entry in setup.store.history] == [[MANAGER], [NETWORK_GRAPH], [SCORER]]


def test_the_seeds_lines_are_logged_at_trace(caplog: pytest.LogCaptureFixture) -> None:
    """Word for word, below DEBUG. After a sleep the peers go first: the manager's tick then finds them gone."""
    setup = Setup()
    with caplog.at_level(TRACE, logger="tests.processor"):
        turns = setup.turns()
        setup.manager.change()
        turns.turn()
        setup.store.ack()
        setup.clock.now += 60.0
        turns.turn()
        for _ in range(20):
            setup.clock.now += 0.5
            turns.turn()
    assert [record.getMessage() for record in caplog.records] == [
        "Calling ChannelManager's timer_tick_occurred on startup",
        "Persisting ChannelManager...",
        "Done persisting ChannelManager.",
        "100ms sleep took more than a second, disconnecting peers.",
        "Calling ChannelManager's timer_tick_occurred",
        "Pruning network graph of stale entries",
        "Persisting network graph",
        "Calling PeerManager's timer_tick_occurred",
    ]
    assert {record.levelno for record in caplog.records} == {TRACE}
    assert logging.getLevelName(TRACE) == "TRACE"
