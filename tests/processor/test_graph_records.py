"""The graph's changes go through commits, some in each turn, and a restart finds them."""

from __future__ import annotations

from typing import Any

from bgsuper.key import NETWORK_GRAPH, Key
from bgsuper.lightning.chain_hash import REGTEST
from bgsuper.lightning.routing.gossip import CHANNELS, NODES, NetworkGraph
from bgsuper.processor.clock import suspended
from bgsuper.processor.graph_records import RECORDS, UNDER_WAY
from tests.lightning import gossip_network as net
from tests.lightning.gossip_network import NOW

from .fake_store import FakeStore
from .stand_ins import Setup


class Scene:
    """A processor over a real graph."""

    def __init__(self, **store: Any) -> None:
        self.setup = Setup(gossip=True, asleep=suspended, store=FakeStore(**store))
        self.graph = self.setup.gossip.network_graph = NetworkGraph(REGTEST)
        self.turns = self.setup.turns()
        self.turns.turn()

    def flood(self, channels: int) -> None:
        for scid in range(1, channels + 1):
            self.graph.update_channel_from_unsigned_announcement(net.announcement(scid), NOW)

    def records(self) -> dict[Key, bytes]:
        """What the commits of the graph's records add up to."""
        records: dict[Key, bytes] = {}
        for entry in self.setup.store.history:
            if entry.lane == "commit":
                records.update(entry.puts)
                for key in entry.removes:
                    records.pop(key, None)
        return {key: value for key, value in records.items() if key[:2] in (CHANNELS, NODES)}

    def restored(self) -> NetworkGraph:
        return NetworkGraph.restore(REGTEST, self.records().items())


def test_a_flood_goes_a_piece_a_turn() -> None:
    """At most so many channels, and as many nodes, in each; the loop does not rest before all of it is committed."""
    scene = Scene()
    scene.flood(2 * RECORDS + 1)
    for taken in (RECORDS, 2 * RECORDS, 2 * RECORDS + 1):
        scene.turns.turn()
        assert len(scene.restored().channels) == taken
        assert scene.turns.rest_s() == 0.0
    scene.turns.turn()
    assert scene.turns.rest_s() > 0.0
    assert scene.restored().write() == scene.graph.write()


def test_what_goes_is_removed() -> None:
    """A restart does not bring a closed channel back."""
    scene = Scene()
    scene.flood(2)
    scene.turns.turn()
    scene.graph.channel_failed_permanent(1, NOW)
    scene.turns.turn()
    assert list(scene.restored().channels) == [2]


def test_a_store_that_is_behind_gets_nothing() -> None:
    """Changes wait in the graph and merge; the loop rests meanwhile."""
    scene = Scene(writable=False)
    scene.flood(1)
    for later in range(3):
        scene.graph.update_channel_unsigned(net.update(1, 0, 0, NOW + later), NOW)
        scene.turns.turn()
    assert (scene.records(), scene.turns.rest_s() > 0.0) == ({}, True)
    scene.setup.store.writable = True
    scene.turns.turn()
    assert scene.restored().write() == scene.graph.write()
    assert len([entry for entry in scene.setup.store.history if entry.lane == "commit"]) == 1


def test_the_end_brings_the_rest() -> None:
    """All that changed is committed before the processor ends, behind the snapshot in LDK's format."""
    scene = Scene()
    scene.flood(3 * RECORDS)
    for _, write in scene.turns.final_writes():
        write()
    assert scene.restored().write() == scene.graph.write()
    snapshots = [entry.puts[NETWORK_GRAPH] for entry in scene.setup.store.history if NETWORK_GRAPH in entry.puts]
    assert snapshots == [scene.graph.write()]


def test_a_persister_without_batches_gets_snapshots_alone() -> None:
    """It takes the graph whole."""
    scene = Scene(atomic=False)
    scene.flood(1)
    scene.turns.turn()
    assert scene.records() == {}


def test_half_of_a_turn_is_a_graph_all_the_same() -> None:
    """A crash between the commits of a channel and of its nodes: the nodes have nothing to say of themselves yet."""
    graph = NetworkGraph(REGTEST)
    graph.update_channel_from_unsigned_announcement(net.announcement(1), NOW)
    graph.update_node_from_unsigned_announcement(net.node(0))
    puts, _ = graph.take_changes()
    restored = NetworkGraph.restore(REGTEST, [(key, value) for key, value in puts.items() if key[:2] == CHANNELS])
    assert restored.nodes.keys() == graph.nodes.keys()
    assert all(node.announcement_info is None for node in restored.nodes.values())


def test_few_commits_are_under_way() -> None:
    """The rest waits in the graph; the loop rests until one is acknowledged, and goes on then."""
    scene = Scene()
    scene.flood((UNDER_WAY + 2) * RECORDS)
    for _ in range(UNDER_WAY + 3):
        scene.turns.turn()
    assert len(scene.restored().channels) == UNDER_WAY * RECORDS
    assert scene.turns.rest_s() > 0.0
    scene.setup.store.ack()
    for _ in range(3):
        scene.turns.turn()
    assert scene.restored().write() == scene.graph.write()
