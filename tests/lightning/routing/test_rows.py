"""Rows: what is read of a record, or changed in it, is what decoding all of it and encoding it again would give."""

from __future__ import annotations

import gc
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from bgsuper.lightning.chain_hash import REGTEST
from bgsuper.lightning.routing.gossip import NetworkGraph
from bgsuper.lightning.routing.liquidity import ChannelLiquidity
from bgsuper.lightning.routing.records import ChannelInfo, ChannelUpdateInfo, NodeAnnouncementInfo, NodeInfo
from bgsuper.lightning.routing.rows import ChannelRow, NodeRow, new_node
from bgsuper.lightning.routing.scorer_serialization import encode_liquidity
from bgsuper.lightning.routing.scoring import ProbabilisticScorer
from bgsuper.lightning.routing.serialization import encode_channel, encode_node
from tests.lightning import gossip_network as net
from tests.lightning.gossip_network import NOW

u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
#: Sizes about those at which the length of a length changes: of a message, of an Opt, of a stream.
sizes = st.one_of(st.integers(130, 300), st.integers(65_300, 65_533))


def message(kind: int) -> st.SearchStrategy[bytes | None]:
    """None, or something of that type: rows do not look into messages."""
    return st.none() | sizes.map(lambda size: kind.to_bytes(2, "big") + bytes(size))


directions = st.none() | st.builds(ChannelUpdateInfo, u32, st.booleans(), u16, u64, u64, u32, u32, message(258))
ids = st.binary(min_size=33, max_size=33)
features = st.sampled_from([0, 1, 250, 251, 253, 65_000]).map(bytes)
channels = st.builds(ChannelInfo, features, ids, ids, directions, directions, st.none() | u64, message(256), u64)
announcements = st.builds(
    NodeAnnouncementInfo,
    features,
    u32,
    st.binary(min_size=3, max_size=3),
    st.binary(min_size=32, max_size=32),
    st.sampled_from([b"", b"\x01" + bytes(6)]),
    message(257),
)
#: As short channel ids they are sparse, as they are on a chain.
scids = st.sets(u64, min_size=1, max_size=80).map(frozenset)
nodes = st.builds(NodeInfo, st.none() | announcements, scids)


@given(channels)
def test_a_channels_fields(info: ChannelInfo) -> None:
    """Each by itself, and all together."""
    row = ChannelRow(encode_channel(info))
    assert row.info() == info
    assert (row.node_one, row.node_two, row.capacity_sats) == (info.node_one, info.node_two, info.capacity_sats)
    assert row.is_announced == (info.announcement_message is not None)
    for direction, terms in enumerate((info.one_to_two, info.two_to_one)):
        assert row.last_update(direction) == (None if terms is None else terms.last_update)
        assert row.update_message(direction) == (None if terms is None else terms.last_update_message)


@given(channels, st.integers(0, 1), directions)
def test_a_channel_with_other_terms(info: ChannelInfo, direction: int, terms: ChannelUpdateInfo | None) -> None:
    """One direction changes, lengths before it included; nothing else does."""
    changed = replace(info, two_to_one=terms) if direction else replace(info, one_to_two=terms)
    assert ChannelRow(encode_channel(info)).with_terms(direction, terms) == encode_channel(changed)


@given(nodes)
def test_a_nodes_fields(info: NodeInfo) -> None:
    """Each by itself, and all together."""
    row, said = NodeRow(encode_node(info)), info.announcement_info
    assert row.info() == info
    assert row.last_update == (None if said is None else said.last_update)
    assert row.announcement_message == (None if said is None else said.announcement_message)


@given(nodes, u64)
def test_a_nodes_channels(info: NodeInfo, scid: int) -> None:
    """They come and go, in order; a node without one is none."""
    row = NodeRow(encode_node(info))
    assert all(each in row for each in info.channels)
    for gone in info.channels:
        rest = info.channels - {gone}
        assert row.without_channel(gone) == (encode_node(replace(info, channels=rest)) if rest else None)
    if scid not in info.channels:
        assert scid not in row
        assert row.with_channel(scid) == encode_node(replace(info, channels=info.channels | {scid}))


@given(nodes, announcements)
def test_a_node_speaks_anew(info: NodeInfo, said: NodeAnnouncementInfo) -> None:
    """Its announcement changes, its channels stay."""
    assert NodeRow(encode_node(info)).with_announcement(said) == encode_node(replace(info, announcement_info=said))


def test_a_new_node() -> None:
    """It has one channel, and says nothing of itself."""
    assert new_node(7) == encode_node(NodeInfo(None, frozenset({7})))


def objects_of_the_collector() -> int:
    """How many objects the collector walks through when it looks at all."""
    gc.collect()
    return len(gc.get_objects())


def test_a_graph_holds_nothing_that_the_collector_walks_through() -> None:
    """With 300 channels, their updates and nodes' announcements, as many tracked objects as with one."""
    graph = NetworkGraph(REGTEST)
    counts = []
    for scids in (range(1), range(1, 301)):
        for scid in scids:
            graph.update_channel_from_unsigned_announcement(net.announcement(scid), NOW, capacity_sats=5_000_000)
            for direction in (0, 1):
                graph.update_channel_unsigned(net.update(scid, direction, direction), NOW)
        for number in (0, 1):
            graph.update_node_from_unsigned_announcement(net.node(number, NOW + scids.stop))
        counts.append(objects_of_the_collector())
    assert len(graph.channels) == 301
    assert counts[1] - counts[0] < 30


def test_a_scorer_holds_nothing_that_the_collector_walks_through() -> None:
    """Nor does what payments taught."""
    scorer = ProbabilisticScorer(NetworkGraph(REGTEST))
    before = objects_of_the_collector()
    for scid in range(300):
        scorer._channels.put(scid, encode_liquidity(ChannelLiquidity(scid)))
    assert objects_of_the_collector() - before < 30
    assert scorer.channels[299].last_updated == 299
