"""Our answers to a peer's gossip queries (BOLT 7), made message by message as the peer takes them.

Each function is a generator over the graph as it changes: nothing is copied, and no step grows with the graph. A peer
gets what we may relay: announcements with their proofs, never what only a server told us (rapid gossip sync).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..wire.gossip_queries import (
    WANT_ANNOUNCEMENT,
    WANT_NODE_1,
    WANT_NODE_2,
    WANT_TIMESTAMPS,
    WANT_UPDATE_1,
    WANT_UPDATE_2,
    GossipTimestampFilter,
    Pair,
    QueryChannelRange,
    QueryShortChannelIds,
    ReplyChannelRange,
    ReplyShortChannelIdsEnd,
)
from .gossip import NetworkGraph
from .records import ChannelInfo, ChannelUpdateInfo

#: How many ids one reply_channel_range holds: with timestamps and checksums all would fit in 65,535 bytes.
IDS_PER_REPLY: Final = 2700
#: How many channels one step looks at.
STEP_CHANNELS: Final = 100
#: A block height has three bytes in a short channel id.
_END_OF_BLOCKS: Final = 1 << 24
_EVERYTHING: Final = WANT_ANNOUNCEMENT | WANT_UPDATE_1 | WANT_UPDATE_2 | WANT_NODE_1 | WANT_NODE_2


def channel_range(graph: NetworkGraph, query: QueryChannelRange) -> Iterator[bytes | None]:
    """The reply_channel_range messages; None where a step ends without one.

    Each begins where the one before ended, as CLN before 0.10 demands; the last one is complete and reaches the end of
    the query. A query for another chain, or for no blocks, gets one that is empty.
    """
    end = query.end_blocknum
    first, ids, stamps = query.first_blocknum, list[int](), list[Pair]()
    if query.chain_hash == graph.chain_hash and first < _END_OF_BLOCKS:
        passed, last = (first << 40) - 1, (min(end, _END_OF_BLOCKS) << 40) - 1
        while (found := graph.channel_ids_after(passed, STEP_CHANNELS)) and found[0] <= last:
            for scid in found:
                channel = graph.channels[scid]
                if scid > last:
                    break
                if channel.announcement_message is None:
                    continue
                if len(ids) == IDS_PER_REPLY:
                    until = ids[-1] >> 40
                    yield _reply(query, first, until, False, ids, stamps)
                    first, ids, stamps = until, [], []
                ids.append(scid)
                stamps.append(Pair(_stamp(channel.one_to_two), _stamp(channel.two_to_one)))
            passed = found[-1]
            yield None
    yield _reply(query, first, end, True, ids, stamps)


def _reply(query: QueryChannelRange, first: int, end: int, complete: bool, ids: list[int], stamps: list[Pair]) -> bytes:
    timestamps = tuple(stamps) if query.query_option & WANT_TIMESTAMPS else None
    return ReplyChannelRange(query.chain_hash, first, end - first, complete, tuple(ids), timestamps).encode()


def _stamp(terms: ChannelUpdateInfo | None) -> int:
    return 0 if terms is None else terms.last_update


def short_channel_ids(graph: NetworkGraph, query: QueryShortChannelIds) -> Iterator[bytes | None]:
    """The gossip of the channels asked for, then reply_short_channel_ids_end; None where a channel has none. A node's
    announcement comes once, after the channels."""
    wanted: dict[bytes, None] = {}
    ours = query.chain_hash == graph.chain_hash
    if ours:
        flags = query.query_flags or (_EVERYTHING,) * len(query.short_channel_ids)
        for scid, flag in zip(query.short_channel_ids, flags, strict=True):
            channel = graph.channels.get(scid)
            if channel is None or channel.announcement_message is None:
                yield None
                continue
            yield from _channel(channel, flag)
            for node_id, want in ((channel.node_one, WANT_NODE_1), (channel.node_two, WANT_NODE_2)):
                if flag & want:
                    wanted[node_id] = None
        for node_id in wanted:
            yield _node(graph, node_id)
    yield ReplyShortChannelIdsEnd(query.chain_hash, ours).encode()


def _channel(channel: ChannelInfo, flag: int) -> Iterator[bytes]:
    if flag & WANT_ANNOUNCEMENT and channel.announcement_message is not None:
        yield channel.announcement_message
    for terms, want in ((channel.one_to_two, WANT_UPDATE_1), (channel.two_to_one, WANT_UPDATE_2)):
        if flag & want and terms is not None and terms.last_update_message is not None:
            yield terms.last_update_message


def _node(graph: NetworkGraph, node_id: bytes) -> bytes | None:
    node = graph.nodes.get(node_id)
    info = None if node is None else node.announcement_info
    return None if info is None else info.announcement_message


def backlog(graph: NetworkGraph, wanted: GossipTimestampFilter) -> Iterator[bytes | None]:
    """All we have that the filter passes: channels with an update that it passes, each behind its announcement, then
    nodes; None where a step ends without one."""
    passed: int | None = None
    while scids := graph.channel_ids_after(passed, STEP_CHANNELS):
        for scid in scids:
            channel = graph.channels.get(scid)
            if channel is not None:
                yield from _passing(channel, wanted)
        passed = scids[-1]
        yield None
    node_id: bytes | None = None
    while node_ids := graph.node_ids_after(node_id, STEP_CHANNELS):
        for each in node_ids:
            node = graph.nodes.get(each)
            info = None if node is None else node.announcement_info
            if info is not None and info.announcement_message is not None and wanted.passes(info.last_update):
                yield info.announcement_message
        node_id = node_ids[-1]
        yield None


def _passing(channel: ChannelInfo, wanted: GossipTimestampFilter) -> Iterator[bytes]:
    updates = [
        terms.last_update_message
        for terms in (channel.one_to_two, channel.two_to_one)
        if terms is not None and terms.last_update_message is not None and wanted.passes(terms.last_update)
    ]
    if channel.announcement_message is not None and updates:
        yield channel.announcement_message
        yield from updates
