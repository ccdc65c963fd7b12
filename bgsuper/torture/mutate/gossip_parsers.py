"""What reads gossip: from a peer, from a rapid gossip sync server, from where graph and scorer were stored.

The inputs to start from are real: a slice of mainnet's gossip, and what we make of it. Rule: a value, or the one error
that is meant; what was refused changed nothing; what was taken is written again and read as the same.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random
from typing import Final

from ...errors import BgsuperError, DecodeError
from ...lightning.chain_hash import MAINNET
from ...lightning.errors import GossipRefused, MalformedGraph, MalformedMessage, MalformedScorer
from ...lightning.routing import sample
from ...lightning.routing.gossip import NetworkGraph
from ...lightning.routing.liquidity import ChannelLiquidity
from ...lightning.routing.rapid import RapidGossipSync
from ...lightning.routing.scorer_serialization import encode_header, encode_liquidity
from ...lightning.routing.scoring import ProbabilisticScorer
from ...lightning.routing.serialization import decode_channel, decode_node, encode_channel, encode_node
from ...lightning.routing.sync import P2PGossipSync
from ...lightning.wire.bigsize import encode_bigsize
from ...lightning.wire.gossip import decode_gossip
from ...lightning.wire.gossip_queries import (
    GossipTimestampFilter,
    Pair,
    QueryChannelRange,
    QueryShortChannelIds,
    ReplyChannelRange,
    ReplyShortChannelIdsEnd,
    decode_gossip_query,
)
from .mutator import mutate

#: How to make an input, what takes it, and the only errors that it may raise.
_Reader = tuple[Callable[[Random], bytes], Callable[[bytes], None], tuple[type[BgsuperError], ...]]

#: How many channels the graphs have that inputs are made from or given to.
CHANNELS: Final = 6
#: What a peer may send at once.
ROOM: Final = 1 << 20


def _mutated(seeds: Sequence[bytes], random: Random) -> bytes:
    return mutate(random, random.choice(seeds), seeds)


def _known() -> NetworkGraph:
    """Some real channels, with their updates and what their nodes say of themselves."""
    sync = P2PGossipSync(NetworkGraph(MAINNET))
    for raw in sample.messages():
        try:
            sync.handle_message(raw, sample.NOW)
        except GossipRefused:
            pass
    graph = sync.network_graph
    updated = [scid for scid, channel in graph.channels.items() if channel.one_to_two or channel.two_to_one]
    for scid in set(graph.channels) - set(updated[:CHANNELS]):
        graph.channel_failed_permanent(scid, sample.NOW)
    return NetworkGraph.read(graph.write())


def _queries(graph: NetworkGraph) -> list[bytes]:
    ids = tuple(sorted(graph.channels))
    pairs = tuple(Pair(sample.NOW - each, each) for each in range(len(ids)))
    queries = (
        QueryShortChannelIds(MAINNET, ids),
        QueryShortChannelIds(MAINNET, ids, (31,) * len(ids)),
        ReplyShortChannelIdsEnd(MAINNET, True),
        QueryChannelRange(MAINNET, 0, 0xFFFF_FFFF),
        QueryChannelRange(MAINNET, ids[0] >> 40, 1000, 3),
        ReplyChannelRange(MAINNET, 0, 0xFFFF_FFFF, True, ids),
        ReplyChannelRange(MAINNET, 0, 0xFFFF_FFFF, True, ids, pairs, pairs),
        GossipTimestampFilter(MAINNET, sample.NOW - 1000, 1000),
    )
    return [query.encode() for query in queries]


def _rapid(graph: NetworkGraph) -> bytes:
    """A snapshot of format 1 that says what `graph` does."""
    nodes, scids = sorted(graph.nodes), sorted(graph.channels)
    announced, updated, before, updates = b"", b"", 0, 0
    for scid in scids:
        channel = graph.channels[scid]
        ends = (encode_bigsize(nodes.index(node)) for node in (channel.node_one, channel.node_two))
        announced += b"\0\0" + encode_bigsize(scid - before) + b"".join(ends)
        before = scid
    before = 0
    for scid in scids:
        for direction, flags in ((0, 0b0100_0000), (1, 0b1100_0000)):
            updated += encode_bigsize(scid - before) + bytes((flags | direction,)) + struct.pack(">H", 40)
            before, updates = scid, updates + 1
    head = b"LDK\1" + MAINNET + struct.pack(">II", sample.NOW, len(nodes)) + b"".join(nodes)
    defaults = struct.pack(">IHQIIQ", updates, 40, 1000, 1000, 100, 4_000_000)
    return head + struct.pack(">I", len(scids)) + announced + defaults + updated


# -- readers ----------------------------------------------------------------------------------------------------------


def _message(content: bytes) -> None:
    assert decode_gossip(content).encode() == content


def _query(content: bytes) -> None:
    query = decode_gossip_query(content)
    assert decode_gossip_query(query.encode()) == query


def _peer(stored: bytes, content: bytes) -> None:
    """A peer in the middle of a sync says something: what it gets for that is bounded, and what we refuse changes
    nothing."""
    sync = P2PGossipSync(NetworkGraph.read(stored))
    peer, other = (sync.connect(sample.NOW, queries=True) for _ in range(2))
    other.handle_message(GossipTimestampFilter(MAINNET, 0, 0xFFFF_FFFF).encode(), sample.NOW)
    peer.sync_all(sample.NOW)
    try:
        peer.handle_message(content, sample.NOW)
    except (MalformedMessage, GossipRefused):
        assert sync.network_graph.write() == stored
        raise
    for each in (peer, other):
        for raw in each.next_messages(sample.NOW + 100, ROOM):
            assert len(raw) < 1 << 16


def _snapshot(content: bytes) -> None:
    sync = RapidGossipSync(NetworkGraph(MAINNET))
    try:
        sync.update_network_graph(content, None)
    except (DecodeError, GossipRefused):
        assert not sync.network_graph.channels
        raise
    _graph(sync.network_graph.write())


def _graph(content: bytes) -> None:
    written = NetworkGraph.read(content).write()
    assert NetworkGraph.read(written).write() == written


def _channel(content: bytes) -> None:
    channel = decode_channel(content)
    assert decode_channel(encode_channel(channel)) == channel


def _node(content: bytes) -> None:
    decode_node(content)


def _scorer(content: bytes) -> None:
    written = ProbabilisticScorer.read(content, NetworkGraph(MAINNET)).write()
    assert ProbabilisticScorer.read(written, NetworkGraph(MAINNET)).write() == written


def gossip_parsers() -> Iterator[tuple[str, _Reader]]:
    """All of them, by name."""
    graph = _known()
    stored, queries, raws = graph.write(), _queries(graph), list(sample.messages())
    taught = {scid: ChannelLiquidity(scid % 10**9, scid % 999, scid % 9999) for scid in sorted(graph.channels)}
    liquidities = (struct.pack(">Q", scid) + encode_liquidity(each) for scid, each in taught.items())
    scorer = encode_header(len(taught)) + b"".join(liquidities)
    channels = [encode_channel(each) for each in graph.channels.values()]
    nodes = [encode_node(each) for each in graph.nodes.values()]
    malformed, refused = (MalformedMessage,), (MalformedMessage, GossipRefused)
    yield "gossip messages", (partial(_mutated, raws), _message, malformed)
    yield "gossip queries", (partial(_mutated, queries), _query, malformed)
    yield "gossip, a peer", (partial(_mutated, raws + queries * 20), partial(_peer, stored), refused)
    yield "rapid gossip snapshot", (partial(_mutated, [_rapid(graph)]), _snapshot, (DecodeError, GossipRefused))
    yield "network graph", (partial(_mutated, [stored]), _graph, (MalformedGraph,))
    yield "channel records", (partial(_mutated, channels), _channel, (MalformedGraph,))
    yield "node records", (partial(_mutated, nodes), _node, (MalformedGraph,))
    yield "scorer", (partial(_mutated, [scorer]), _scorer, (MalformedScorer,))
