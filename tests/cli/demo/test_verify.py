"""The comparison: each way in which a store can differ from the model is found and names its record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bgsuper.cli.demo.verify import Findings, Found, compare, unreadable
from bgsuper.errors import StoreCorrupt
from bgsuper.key import Key, Seq
from bgsuper.lightning import chain_hash
from bgsuper.lightning.routing import sample
from bgsuper.lightning.routing.gossip import NetworkGraph
from bgsuper.lightning.routing.sync import P2PGossipSync
from bgsuper.torture.run.model import Model

KEPT, CHANGED, GONE = Key("demo", "x", "kept"), Key("demo", "x", "changed"), Key("demo", "x", "gone")
EXTRA = Key("demo", "x", "extra")


@pytest.fixture
def graph() -> NetworkGraph:
    graph = NetworkGraph(chain_hash.MAINNET)
    sync = P2PGossipSync(graph)
    for raw, _ in zip(sample.messages(), range(5), strict=False):
        sync.handle_message(raw, sample.NOW)
    return graph


@pytest.fixture
def model(graph: NetworkGraph) -> Model:
    """Three commits, all submitted, two of them acknowledged."""
    model = Model()
    puts, removes = graph.take_changes()
    model.commit(Seq(1), {**puts, KEPT: b"1", CHANGED: b"1", GONE: b"1"}, removes)
    model.commit(Seq(2), {CHANGED: b"2"}, [GONE])
    model.commit(Seq(3), {KEPT: b"3"}, ())
    model.ack(Seq(2))
    return model


@pytest.fixture
def good(model: Model, graph: NetworkGraph) -> Found:
    """The store after all three."""
    return Found(Seq(4), model.at(Seq(3)), graph.write())


def _compare(model: Model, found: Found, graph: NetworkGraph, *, ended_cleanly: bool = True) -> Findings:
    return compare(model, found, graph, ended_cleanly=ended_cleanly)


def test_a_store_as_it_must_be_has_no_problem(model: Model, good: Found, graph: NetworkGraph) -> None:
    """All is compared, and nothing found."""
    findings = _compare(model, good, graph)
    assert (findings.lost, findings.foreign, findings.graph) == ((), (), ())
    assert findings.records == len(good.records)
    assert findings.bytes == sum(map(len, good.records.values()))


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        ({KEPT: None}, "demo/x/kept: put by commit 3, missing"),
        ({CHANGED: b"1"}, "demo/x/changed: not the 1 bytes that commit 2 put"),
        ({GONE: b"1"}, "demo/x/gone: removed by commit 2, and there again"),
    ],
)
def test_a_record_that_is_not_as_acknowledged_is_lost(
    tamper: dict[Key, bytes | None], said: str, model: Model, good: Found, graph: NetworkGraph
) -> None:
    """Missing, older and resurrected records are named, each with the commit that it contradicts."""
    records = {key: value for key, value in {**good.records, **tamper}.items() if value is not None}
    findings = _compare(model, replace(good, records=records), graph)
    assert findings.lost == (said,)
    assert not findings.foreign


def test_what_nobody_submitted_is_foreign(model: Model, good: Found, graph: NetworkGraph) -> None:
    """A record out of nowhere is a problem too."""
    findings = _compare(model, replace(good, records={**good.records, EXTRA: b"?"}), graph)
    assert findings.foreign == ("demo/x/extra: 1 bytes that nobody submitted",)


def test_after_an_unclean_end_the_unacknowledged_may_be_missing(model: Model, good: Found, graph: NetworkGraph) -> None:
    """Wholly there or wholly absent, as the store's own number says; half of it is a loss."""
    before = replace(good, durable=Seq(2), records=model.at(Seq(2)), graph_snapshot=None)
    assert not _compare(model, before, graph, ended_cleanly=False).lost
    assert not _compare(model, replace(good, durable=Seq(3)), graph, ended_cleanly=False).lost
    half = replace(before, durable=Seq(3))
    assert _compare(model, half, graph, ended_cleanly=False).lost


def test_a_store_behind_its_acknowledgements_has_lost_something(model: Model, good: Found, graph: NetworkGraph) -> None:
    """Its own newest number must reach what was acknowledged, or submitted before a clean end."""
    old = replace(good, durable=Seq(1), records=model.at(Seq(2)))
    assert "newest number is 1, but 2" in _compare(model, old, graph, ended_cleanly=False).lost[0]
    assert "newest number is 1, but 3" in _compare(model, old, graph).lost[0]


def test_a_graph_that_differs_is_found(model: Model, good: Found, graph: NetworkGraph) -> None:
    """In its snapshot, in its records, and where those cannot be one graph at all."""
    assert "missing" in _compare(model, replace(good, graph_snapshot=None), graph).graph[0]
    assert "is not the graph's" in _compare(model, replace(good, graph_snapshot=b"?"), graph).graph[0]
    graph.last_rapid_gossip_sync_timestamp = 1
    assert len(_compare(model, good, graph).graph) == 2
    records = {key: value for key, value in good.records.items() if key[:2] != ("gossip", "nodes")}
    assert "not the one that ran" in _compare(model, replace(good, records=records), graph).graph[-1]
    damaged = {key: b"?" if key[:2] == ("gossip", "nodes") else value for key, value in good.records.items()}
    assert "no graph can be built" in _compare(model, replace(good, records=damaged), graph).graph[-1]


def test_a_store_that_cannot_be_opened_is_a_loss() -> None:
    """The store's own words come out."""
    assert unreadable(StoreCorrupt("damaged")).lost == ("the store cannot be read again: damaged",)
