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
from .rows import ChannelRow

#: How many ids one reply_channel_range holds: with timestamps and checksums all would fit in 65,535 bytes.
IDS_PER_REPLY: Final = 2700
#: How many channels or nodes one step looks at: some 30 microseconds' work.
STEP_CHANNELS: Final = 10
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
                if scid > last:
                    break
                channel = graph.channel(scid)
                if channel is None or not channel.is_announced:
                    continue
                if len(ids) == IDS_PER_REPLY:
                    until = ids[-1] >> 40
                    yield _reply(query, first, until, False, ids, stamps)
                    first, ids, stamps = until, [], []
                ids.append(scid)
                stamps.append(Pair(channel.relayable_update(0) or 0, channel.relayable_update(1) or 0))
            passed = found[-1]
            yield None
    yield _reply(query, first, end, True, ids, stamps)


def _reply(query: QueryChannelRange, first: int, end: int, complete: bool, ids: list[int], stamps: list[Pair]) -> bytes:
    timestamps = tuple(stamps) if query.query_option & WANT_TIMESTAMPS else None
    return ReplyChannelRange(query.chain_hash, first, end - first, complete, tuple(ids), timestamps).encode()


def short_channel_ids(graph: NetworkGraph, query: QueryShortChannelIds) -> Iterator[bytes | None]:
    """The gossip of the channels asked for, then reply_short_channel_ids_end; None where a channel has none. A node's
    announcement comes once, after the channels."""
    wanted: dict[bytes, None] = {}
    ours = query.chain_hash == graph.chain_hash
    if ours:
        flags = query.query_flags or (_EVERYTHING,) * len(query.short_channel_ids)
        for scid, flag in zip(query.short_channel_ids, flags, strict=True):
            channel = graph.channel(scid)
            if channel is None or not channel.is_announced:
                yield None
                continue
            yield from _channel(channel, flag)
            for node_id, want in ((channel.node_one, WANT_NODE_1), (channel.node_two, WANT_NODE_2)):
                if flag & want:
                    wanted[node_id] = None
        for node_id in wanted:
            yield _node(graph, node_id)
    yield ReplyShortChannelIdsEnd(query.chain_hash, ours).encode()


def _channel(channel: ChannelRow, flag: int) -> Iterator[bytes]:
    if flag & WANT_ANNOUNCEMENT and (announcement := channel.announcement_message) is not None:
        yield announcement
    for direction, want in enumerate((WANT_UPDATE_1, WANT_UPDATE_2)):
        if flag & want and (update := channel.update_message(direction)) is not None:
            yield update


def _node(graph: NetworkGraph, node_id: bytes) -> bytes | None:
    node = graph.node(node_id)
    return None if node is None else node.announcement_message


def backlog(graph: NetworkGraph, wanted: GossipTimestampFilter) -> Iterator[bytes | None]:
    """All we have that the filter passes: channels with an update that it passes, each behind its announcement, then
    nodes; None where a step ends without one."""
    if wanted.timestamp_range == 0:
        return
    passed: int | None = None
    while scids := graph.channel_ids_after(passed, STEP_CHANNELS):
        for scid in scids:
            channel = graph.channel(scid)
            if channel is not None and channel.is_announced:
                yield from _passing(channel, wanted)
        passed = scids[-1]
        yield None
    node_id: bytes | None = None
    while node_ids := graph.node_ids_after(node_id, STEP_CHANNELS):
        for each in node_ids:
            node = graph.node(each)
            timestamp = None if node is None else node.last_update
            if timestamp is not None and wanted.passes(timestamp) and (message := _node(graph, each)) is not None:
                yield message
        node_id = node_ids[-1]
        yield None


def _passing(channel: ChannelRow, wanted: GossipTimestampFilter) -> Iterator[bytes]:
    updates = []
    for direction in (0, 1):
        timestamp = channel.last_update(direction)
        if timestamp is not None and wanted.passes(timestamp):
            updates.append(channel.update_message(direction))
    kept = [update for update in updates if update is not None]
    if kept and (announcement := channel.announcement_message) is not None:
        yield announcement
        yield from kept
