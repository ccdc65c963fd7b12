"""The jobs of the timers: who is asked for what; pruning after rapid sync; a sweeper that fails."""

from __future__ import annotations

import logging

import pytest

from bgsuper.key import NETWORK_GRAPH
from bgsuper.processor.clock import suspended

from .fake_store import FakeStore
from .stand_ins import Rapid, Setup, WholeMonitor


def test_what_is_done_at_the_start() -> None:
    """Before the first events: the manager's tick, the rebroadcast (LDK #2208), the scorer's decay."""
    setup = Setup(scorer=True, monitor=WholeMonitor, onion_messenger=True, sweeper=True)
    next(setup.lifetime().steps())
    assert setup.calls[:4] == ["manager tick", "rebroadcast", "decay", "manager events"]


def test_who_has_no_job_is_not_asked() -> None:
    """A day with the plainest of nodes."""
    setup = Setup(gossip=False, asleep=suspended)
    turns = setup.turns()
    for _ in range(24):
        setup.clock.now += 3600.0
        turns.turn()
    assert set(setup.calls) == {"manager tick", "peer tick", "manager events", "monitor events", "peer events"}


def test_a_rapid_syncs_graph_is_pruned_once_it_is_complete_and_not_before() -> None:
    """At once then, and each hour after that; each prune is followed by a write (LDK #1433, #1517)."""
    setup = Setup(gossip=Rapid, asleep=suspended, store=FakeStore(prompt=True))
    turns = setup.turns()
    setup.clock.now += 1e6
    turns.turn()
    assert setup.store.history == []
    assert setup.gossip.network_graph.pruned_at == []
    setup.gossip.synced = True
    turns.turn()
    turns.turn()
    first = int(setup.clock.time())
    assert setup.gossip.network_graph.pruned_at == [first]
    assert [entry.puts for entry in setup.store.history] == [{NETWORK_GRAPH: b"graph 1"}]
    setup.clock.now += 3599.9
    turns.turn()
    assert len(setup.store.history) == 1
    setup.clock.now += 0.1
    turns.turn()
    assert setup.gossip.network_graph.pruned_at == [first, first + 3600]


def test_a_rapid_sync_that_was_complete_before_the_start() -> None:
    """Its graph is pruned in the first turn."""
    setup = Setup(gossip=Rapid)
    setup.gossip.synced = True
    turns = setup.turns()
    turns.turn()
    turns.turn()
    assert setup.calls.count("prune") == 1


def test_a_rapid_syncs_graph_is_written_at_the_end_all_the_same() -> None:
    """Complete or not."""
    setup = Setup(gossip=Rapid, store=FakeStore(prompt=True))
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    next(steps)
    lifetime.request_stop(30.0)
    assert list(steps) == []
    assert setup.store.durable[NETWORK_GRAPH] == b"graph 0"


def test_a_sweeper_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """Its errors end nothing, and are not swallowed either."""
    setup = Setup(sweeper=True, asleep=suspended)
    assert setup.sweeper is not None
    setup.sweeper.raises = OSError("no change script")
    turns = setup.turns()
    for _ in range(3):
        setup.clock.now += 30.0
        turns.turn()
    assert setup.calls.count("sweep") == 3
    line = "The sweeper failed, and will try again: OSError: no change script"
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [line] * 3


@pytest.mark.parametrize("job", ["rebroadcast", "archive", "onion tick", "peer tick", "decay"])
def test_any_other_job_that_fails_ends_the_processor(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a change must never be committed."""
    setup = Setup(scorer=True, monitor=WholeMonitor, onion_messenger=True, sweeper=True, asleep=suspended)
    lifetime = setup.lifetime()
    steps = lifetime.steps()
    next(steps)
    append = setup.calls.append

    def fail(call: str) -> None:
        append(call)
        if call == job:
            raise KeyError(call)

    monkeypatch.setattr(setup.calls, "append", fail, raising=False)
    setup.clock.now += 60.0
    with pytest.raises(KeyError, match=job):
        next(steps)
    assert lifetime.turns.gate_state == "shut"
