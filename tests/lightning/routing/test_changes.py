"""What the graph says that changed is what changed: a store that applies it equals the graph at any time."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bgsuper.key import Key, check_key
from bgsuper.lightning.chain_hash import REGTEST
from bgsuper.lightning.errors import GossipRefused, MalformedGraph
from bgsuper.lightning.routing.gossip import (
    CHANNELS,
    PRUNE_CHANNELS,
    REMOVED_SECONDS,
    STALE_SECONDS,
    NetworkGraph,
    channel_key,
    node_key,
)
from bgsuper.lightning.routing.records import NodeInfo
from bgsuper.lightning.routing.serialization import encode_channel, encode_node
from tests.lightning import gossip_network as net
from tests.lightning.gossip_network import NODES, NOW

#: Channels by number: who holds them. 1 and 4 join the same two nodes.
HOLDERS = {1: (0, 1), 2: (1, 2), 3: (0, 3), 4: (0, 1)}
scids = st.sampled_from(sorted(HOLDERS))
steps = st.integers(0, 3)


class Store(RuleBasedStateMachine):
    """A dict takes what `take_changes()` gives, whenever it is asked; between the calls anything may happen."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = NetworkGraph(REGTEST)
        self.now = NOW
        self.store: dict[Key, bytes] = {}

    @rule(scid=scids, capacity=st.sampled_from([None, 900, 5000]))
    def announce(self, scid: int, capacity: int | None) -> None:
        try:
            self.graph.update_channel_from_announcement(
                net.announcement(scid, *HOLDERS[scid]), self.now, capacity_sats=capacity
            )
        except GossipRefused:
            pass

    @rule(scid=scids, direction=st.integers(0, 1), step=steps, disable=st.booleans())
    def update(self, scid: int, direction: int, step: int, disable: bool) -> None:
        message = net.update(scid, HOLDERS[scid][direction], direction, self.now + step, disable=disable)
        try:
            self.graph.update_channel(message, self.now)
        except GossipRefused:
            pass

    @rule(number=st.integers(0, 3), step=steps)
    def speak(self, number: int, step: int) -> None:
        try:
            self.graph.update_node_from_announcement(net.node(number, self.now + step))
        except GossipRefused:
            pass

    @rule(scid=scids)
    def fail_for_good(self, scid: int) -> None:
        self.graph.channel_failed_permanent(scid, self.now)

    @rule(scid=scids)
    def fail_for_now(self, scid: int) -> None:
        self.graph.channel_failed_temporarily(scid)

    @rule(seconds=st.sampled_from([10, STALE_SECONDS // 2, STALE_SECONDS + 1]))
    def prune_later(self, seconds: int) -> None:
        self.now += seconds
        self.graph.remove_stale_channels_and_tracking(self.now)

    @rule()
    def write(self) -> None:
        """A snapshot in between must not hide that they changed."""
        self.graph.write()

    @rule()
    def commit(self) -> None:
        puts, removes = self.graph.take_changes()
        assert not puts.keys() & removes
        self.store |= puts
        for key in removes:
            self.store.pop(key, None)
        assert self.store == fresh_records(self.graph)
        assert self.graph.take_changes() == ({}, set())

    @rule()
    def restart(self) -> None:
        """The store gives the graph back, whatever the order of its records."""
        self.commit()
        restored = NetworkGraph.restore(REGTEST, reversed(self.store.items()))
        assert restored.write() == self.graph.write()
        assert restored.take_changes() == ({}, set())

    @invariant()
    def write_is_what_fresh_encoding_gives(self) -> None:
        """Records that were changed as bytes are what encoding them from the start gives."""
        copy = NetworkGraph.read(self.graph.write())
        assert copy.channels == self.graph.channels
        assert copy.nodes == self.graph.nodes
        assert {key: self.record(key) for key in fresh_records(self.graph)} == fresh_records(self.graph)

    def record(self, key: Key) -> bytes:
        """What the graph holds under the key's name."""
        ident = bytes.fromhex(key.name)
        if key[:2] == CHANNELS:
            return self.graph._channels.records[int.from_bytes(ident, "big")]
        return self.graph._nodes.records[ident]

    @invariant()
    def nodes_and_channels_agree(self) -> None:
        held: dict[bytes, set[int]] = {}
        for scid, channel in self.graph.channels.items():
            for node_id in (channel.node_one, channel.node_two):
                held.setdefault(node_id, set()).add(scid)
        assert {node_id: info.channels for node_id, info in self.graph.nodes.items()} == held


def fresh_records(graph: NetworkGraph) -> dict[Key, bytes]:
    """The records as they ought to be, encoded anew."""
    channels = {Key("gossip", "channels", f"{s:016x}"): encode_channel(c) for s, c in graph.channels.items()}
    return channels | {Key("gossip", "nodes", i.hex()): encode_node(n) for i, n in graph.nodes.items()}


TestStore = Store.TestCase
TestStore.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_keys_are_ones_that_stores_take() -> None:
    """Records go by the names that LDK's KVStore contract allows, channels as 16 hex digits."""
    graph = NetworkGraph(REGTEST)
    graph.update_channel_from_announcement(net.announcement(0xABC), NOW)
    puts, _ = graph.take_changes()
    assert all(check_key(key) for key in puts)
    assert {str(key) for key in puts} == {
        "gossip/channels/0000000000000abc",
        f"gossip/nodes/{NODES[0].public.hex()}",
        f"gossip/nodes/{NODES[1].public.hex()}",
    }


@pytest.mark.parametrize(
    "key",
    [
        Key("gossip", "channels", "zz"),
        Key("gossip", "channels", "00"),
        Key("gossip", "peers", "00"),
        Key("", "", "manager"),
    ],
)
def test_foreign_records_are_refused(key: Key) -> None:
    """A record that is none of the graph's is named in the error."""
    with pytest.raises(MalformedGraph, match=str(key)):
        NetworkGraph.restore(REGTEST, [(key, encode_node(NodeInfo()))])


def test_a_graph_that_was_read_is_a_change() -> None:
    """Whoever goes over from snapshots to records has all of it in the records after the next commit."""
    graph = NetworkGraph(REGTEST)
    for scid in (1, 2):
        graph.update_channel_from_announcement(net.announcement(scid, *HOLDERS[scid]), NOW)
    copy = NetworkGraph.read(graph.write())
    assert copy.take_changes() == graph.take_changes()


def test_a_node_that_outlived_its_channels_in_the_store() -> None:
    """The channel's removal was committed and the nodes' was not: they go with the next commit after the restart."""
    graph = NetworkGraph(REGTEST)
    graph.update_channel_from_announcement(net.announcement(1), NOW)
    graph.update_channel_from_announcement(net.announcement(2, 1, 2), NOW)
    store, _ = graph.take_changes()
    del store[channel_key(1)]
    restored = NetworkGraph.restore(REGTEST, store.items())
    assert restored.take_changes() == ({}, {node_key(NODES[0].public)})
    assert restored.take_changes() == ({}, set())


def test_pieces_do_not_change_afterwards() -> None:
    """A snapshot's pieces are bytes of their own: what happens to the graph later does not reach them."""
    graph = NetworkGraph(REGTEST)
    graph.update_channel_from_announcement(net.announcement(1), NOW)
    pieces, before = graph.pieces(), graph.write()
    graph.update_channel(net.update(1, 0, 0), NOW)
    graph.channel_failed_permanent(1, NOW)
    assert b"".join(pieces) == before != graph.write()


def test_pruning_goes_step_by_step() -> None:
    """Each step looks at some channels only, and all steps together do what the whole does; a channel that gets its
    update between two steps stays."""
    pairs = [(one, two) for one in range(4) for two in range(one + 1, 4)]
    graphs = []
    for _ in range(2):
        graph = NetworkGraph(REGTEST)
        for scid in range(1, 2 * PRUNE_CHANNELS + 2):
            graph.update_channel_from_unsigned_announcement(net.announcement(scid, *pairs[scid % 6]), NOW)
        graphs.append(graph)
    whole, stepped = graphs
    later = NOW + STALE_SECONDS + 1
    steps = stepped.pruning(later)
    next(steps)
    assert len(stepped.channels) == PRUNE_CHANNELS + 1
    last = 2 * PRUNE_CHANNELS + 1
    for graph in graphs:
        for direction in (0, 1):
            node = pairs[last % 6][direction]
            graph.update_channel_unsigned(net.update(last, node, direction, later), later)
    assert sum(1 for _ in steps) == 2
    whole.remove_stale_channels_and_tracking(later)
    assert list(stepped.channels) == [last]
    assert stepped.write() == whole.write()


def test_what_was_removed_is_forgotten_in_time_wherever_the_clock_stood() -> None:
    """A week after each removal, and not all at once."""
    graph = NetworkGraph(REGTEST)
    for scid, at in ((1, NOW), (2, NOW + 100)):
        graph.update_channel_from_announcement(net.announcement(scid), NOW)
        graph.channel_failed_permanent(scid, at)
    graph.remove_stale_channels_and_tracking(NOW + REMOVED_SECONDS)
    assert list(graph._removed_at) == [2]
    graph.remove_stale_channels_and_tracking(NOW + REMOVED_SECONDS + 100)
    assert not graph._removed_at
