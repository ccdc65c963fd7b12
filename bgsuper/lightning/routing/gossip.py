"""The network graph: what gossip says of channels and nodes, taken by LDK's rules (rust-lightning `routing::gossip`).

1. A channel enters by an announcement with four good signatures. Nothing here looks at the chain: a caller that
   looked up the funding output passes its amount, and may then replace what was unproven.
2. An update enters if its channel is known, the node at its direction's start signed it, its timestamp is newer than
   the last one's, at most two weeks old and at most a day ahead, and its maximum fits the channel.
3. A node's announcement enters if the node has a channel, signed it, and its timestamp is newer.
4. Cheap checks come before signatures, so that an echo costs microseconds and not a curve operation.
5. A refused message is a typed `GossipRefused` and changes nothing.
6. A channel that failed for good or went stale is not taken again for a week, since its announcement still goes round.
7. Every node has a channel; with the last one it goes.

Methods take `now`, seconds since 1970. Who persists the graph asks for `take_changes()` after each turn, or for
`pieces()` when it wants the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Final, Self

from ...key import Key
from ..errors import (
    AlreadyAnnounced,
    FromTheFuture,
    Implausible,
    MalformedGraph,
    NotNewer,
    RecentlyRemoved,
    Stale,
    UnknownChannel,
    UnknownNode,
    WrongChain,
)
from ..wire.addresses import known_length
from ..wire.gossip import ChannelAnnouncement, ChannelUpdate, GossipMessage, NodeAnnouncement, scid_text
from .records import ChannelInfo, ChannelUpdateInfo, NodeAnnouncementInfo, NodeInfo
from .rows import ChannelRow, NodeRow, new_node
from .serialization import (
    decode_channel,
    decode_graph,
    decode_node,
    encode_channel,
    encode_header,
    encode_node,
    encode_node_count,
    encode_trailer,
)
from .table import DecodedRecords, RecordTable, TableCopy
from .verification import verify_channel_announcement, verify_channel_update, verify_node_announcement

#: How old the newest word of a direction may be (BOLT 7, "Recommendation on Pruning Stale Entries").
STALE_SECONDS: Final = 14 * 24 * 3600
#: How far ahead of our clock an update may be dated.
FUTURE_SECONDS: Final = 24 * 3600
#: How long a removed channel is not taken again.
REMOVED_SECONDS: Final = 7 * 24 * 3600
#: All the bitcoin there will be.
MAX_VALUE_MSAT: Final = 21_000_000 * 100_000_000 * 1000
#: How much that we do not understand a message may hold and still be kept and relayed.
MAX_EXCESS_BYTES: Final = 1024

#: How many channels one step of pruning looks at: about a millisecond's work if all of them go.
PRUNE_CHANNELS: Final = 25
#: How many records one piece of a snapshot has: about a millisecond's work if all of them have to be encoded.
PIECE_RECORDS: Final = 100

#: The namespaces of the graph's records: `put` by `NetworkGraph.take_changes`, scanned for `NetworkGraph.restore`.
#: Their first part is no key's name, since a file store could not hold both.
CHANNELS: Final = ("gossip", "channels")
NODES: Final = ("gossip", "nodes")


def relayable(message: GossipMessage) -> bool:
    """Whether the message holds so little beyond what we understand that it is kept and passed on, and its sender
    does not forbid that."""
    if isinstance(message, ChannelUpdate) and message.dont_forward:
        return False
    excess = len(message.excess)
    if isinstance(message, NodeAnnouncement):
        excess += len(message.addresses) - known_length(message.addresses)
    return excess <= MAX_EXCESS_BYTES


class NetworkGraph:
    """The channels and nodes of one chain. All refusals are `GossipRefused`s."""

    def __init__(self, chain_hash: bytes) -> None:
        self.chain_hash: Final = chain_hash
        #: The time of the last rapid gossip sync snapshot applied, if any; stored with the graph.
        self.last_rapid_gossip_sync_timestamp: int | None = None
        self._channels: RecordTable[int] = RecordTable(channel_key)
        self._nodes: RecordTable[bytes] = RecordTable(node_key)
        self._removed_at: dict[int, int] = {}  # the oldest first
        #: Every channel by its short channel id, read-only. It is decoded when it is asked for, in some microseconds;
        #: `channel` is for who wants a field or two of many.
        self.channels: Final[Mapping[int, ChannelInfo]] = DecodedRecords(
            self._channels.records, lambda record: ChannelRow(record).info()
        )
        #: Every node by its id, in the same way.
        self.nodes: Final[Mapping[bytes, NodeInfo]] = DecodedRecords(
            self._nodes.records, lambda record: NodeRow(record).info()
        )

    def channel(self, short_channel_id: int) -> ChannelRow | None:
        """A channel as it is now, to look at some of its fields."""
        record = self._channels.get(short_channel_id)
        return None if record is None else ChannelRow(record)

    def node(self, node_id: bytes) -> NodeRow | None:
        """The same of a node."""
        record = self._nodes.get(node_id)
        return None if record is None else NodeRow(record)

    def channel_ids_after(self, passed: int | None, count: int) -> list[int]:
        """The next short channel ids after `passed`, at most `count`, in their order; from the first one if None."""
        return self._channels.ids_after(passed, count)

    def node_ids_after(self, passed: bytes | None, count: int) -> list[bytes]:
        """The same of node ids."""
        return self._nodes.ids_after(passed, count)

    # -- channels -----------------------------------------------------------------------------------------------------

    def update_channel_from_announcement(
        self, message: ChannelAnnouncement, now: int, *, capacity_sats: int | None = None
    ) -> None:
        """Add the channel that `message` proves. `capacity_sats` is its funding output's amount, if the caller saw the
        output unspent with the message's bitcoin keys."""
        self._check_announcement(message, now, proven=capacity_sats is not None)
        verify_channel_announcement(message)
        self._add_channel(message, now, capacity_sats, message.encode() if relayable(message) else None)

    def check_channel_announcement(self, message: ChannelAnnouncement, now: int) -> None:
        """All that `update_channel_from_checked_announcement` will check if the funding output is found, and the
        signatures."""
        self._check_announcement(message, now, proven=True)
        verify_channel_announcement(message)

    def update_channel_from_checked_announcement(
        self, message: ChannelAnnouncement, now: int, *, capacity_sats: int | None
    ) -> None:
        """Add the channel of a `message` whose signatures were found good before."""
        self._check_announcement(message, now, proven=capacity_sats is not None)
        self._add_channel(message, now, capacity_sats, message.encode() if relayable(message) else None)

    def update_channel_from_unsigned_announcement(
        self, message: ChannelAnnouncement, now: int, *, capacity_sats: int | None = None
    ) -> None:
        """The same without a look at the signatures, for a source that is trusted; the message is never relayed."""
        self._check_announcement(message, now, proven=capacity_sats is not None)
        self._add_channel(message, now, capacity_sats, None)

    def add_channel_from_partial_announcement(
        self,
        short_channel_id: int,
        capacity_sats: int | None,
        received_time: int,
        features: bytes,
        node_id_1: bytes,
        node_id_2: bytes,
    ) -> None:
        """Add a channel on the word of a source that is trusted and passes on nobody's announcement (rapid gossip
        sync)."""
        if node_id_1 >= node_id_2:
            raise Implausible(f"expected node_id_1 < node_id_2 for {scid_text(short_channel_id)}: drop it")
        if short_channel_id in self.channels:
            raise AlreadyAnnounced(f"the channel {scid_text(short_channel_id)} is known: drop its announcement")
        self._add(
            short_channel_id,
            ChannelInfo(features, node_id_1, node_id_2, None, None, capacity_sats, None, received_time),
        )

    def _check_announcement(self, message: ChannelAnnouncement, now: int, *, proven: bool) -> None:
        scid = message.short_channel_id
        if message.node_id_1 >= message.node_id_2:
            raise Implausible(f"expected node_id_1 < node_id_2 in the announcement of {scid_text(scid)}: drop it")
        if message.bitcoin_key_1 == message.bitcoin_key_2:
            raise Implausible(f"expected two bitcoin keys in the announcement of {scid_text(scid)}, got one: drop it")
        self._check_chain(message)
        known = self.channel(scid)
        if known is not None:
            same_nodes = (known.node_one, known.node_two) == (message.node_id_1, message.node_id_2)
            if not proven or (known.capacity_sats is not None and same_nodes):
                raise AlreadyAnnounced(f"the channel {scid_text(scid)} is known: drop its announcement")
        removed = self._removed_at.get(scid)
        if removed is not None and now - removed < REMOVED_SECONDS:
            raise RecentlyRemoved(
                f"the channel {scid_text(scid)} was removed {now - removed} seconds ago: drop its announcement"
            )

    def _add_channel(
        self, message: ChannelAnnouncement, now: int, capacity_sats: int | None, kept: bytes | None
    ) -> None:
        scid = message.short_channel_id
        known, one_to_two, two_to_one = self.channel(scid), None, None
        if known is not None:
            if (known.node_one, known.node_two) == (message.node_id_1, message.node_id_2):
                # What its nodes said of it holds on, where LDK waits for them to say it again.
                one_to_two = _fitting(known.terms(0), capacity_sats)
                two_to_one = _fitting(known.terms(1), capacity_sats)
            else:
                self._remove_channel(scid)
        self._add(
            scid,
            ChannelInfo(
                features=message.features,
                node_one=message.node_id_1,
                node_two=message.node_id_2,
                one_to_two=one_to_two,
                two_to_one=two_to_one,
                capacity_sats=capacity_sats,
                announcement_message=kept,
                announcement_received_time=now,
            ),
        )

    def _add(self, scid: int, channel: ChannelInfo) -> None:
        self._join(channel.node_one, scid)
        self._join(channel.node_two, scid)
        self._channels.put(scid, encode_channel(channel))

    def _join(self, node_id: bytes, scid: int) -> None:
        node = self.node(node_id)
        if node is None:
            self._nodes.put(node_id, new_node(scid))
        elif scid not in node:
            self._nodes.put(node_id, node.with_channel(scid))

    def update_channel(self, message: ChannelUpdate, now: int) -> None:
        """Set the terms of one direction of a channel."""
        channel = self._verified_update(message, now)
        self._set_direction(channel, message, message.encode() if relayable(message) else None)

    def update_channel_unrelayed(self, message: ChannelUpdate, now: int) -> None:
        """The same, signature and all, for an update that did not come as gossip; the message is never relayed."""
        self._set_direction(self._verified_update(message, now), message, None)

    def update_channel_unsigned(self, message: ChannelUpdate, now: int) -> None:
        """The same without a look at the signature, for a source that is trusted; the message is never relayed."""
        self._set_direction(self._check_update(message, now), message, None)

    def _verified_update(self, message: ChannelUpdate, now: int) -> ChannelRow:
        channel = self._check_update(message, now)
        verify_channel_update(message, channel.node_two if message.direction else channel.node_one)
        return channel

    def _check_update(self, message: ChannelUpdate, now: int) -> ChannelRow:
        self._check_chain(message)
        timestamp, most = message.timestamp, message.htlc_maximum_msat
        if timestamp < now - STALE_SECONDS:
            raise Stale(f"{_update(message)} is dated {now - timestamp} s ago, {STALE_SECONDS} at most: drop it")
        if timestamp > now + FUTURE_SECONDS:
            raise FromTheFuture(
                f"{_update(message)} is dated {timestamp - now} s ahead, {FUTURE_SECONDS} at most: "
                "drop it; if all are, set this machine's clock"
            )
        channel = self.channel(message.short_channel_id)
        if channel is None:
            raise UnknownChannel(
                f"{_update(message)} is for a channel never announced: drop it, or ask for the channel"
            )
        capacity_sats = channel.capacity_sats
        limit = MAX_VALUE_MSAT if capacity_sats is None else capacity_sats * 1000
        if most > min(limit, MAX_VALUE_MSAT):
            raise Implausible(f"{_update(message)} allows {most} msat where {limit} are possible: drop it")
        known = channel.last_update(message.direction)
        if known is not None and known >= timestamp:
            raise NotNewer(f"{_update(message)} is dated {timestamp}, we have one of {known}: drop it")
        return channel

    def _set_direction(self, channel: ChannelRow, message: ChannelUpdate, kept: bytes | None) -> None:
        terms = ChannelUpdateInfo.of(message, kept)
        self._channels.put(message.short_channel_id, channel.with_terms(message.direction, terms))

    def _check_chain(self, message: ChannelAnnouncement | ChannelUpdate) -> None:
        if message.chain_hash != self.chain_hash:
            raise WrongChain(
                f"expected a message for the chain {self.chain_hash.hex()}, "
                f"got one for {message.chain_hash.hex()}: drop it"
            )

    # -- nodes --------------------------------------------------------------------------------------------------------

    def update_node_from_announcement(self, message: NodeAnnouncement) -> None:
        """Take what a node with a channel says of itself."""
        node = self._check_node(message)
        verify_node_announcement(message)
        self._set_node(node, message, message.encode() if relayable(message) else None)

    def update_node_from_unsigned_announcement(self, message: NodeAnnouncement) -> None:
        """The same without a look at the signature, for a source that is trusted; the message is never relayed."""
        self._set_node(self._check_node(message), message, None)

    def _check_node(self, message: NodeAnnouncement) -> NodeRow:
        node = self.node(message.node_id)
        if node is None:
            raise UnknownNode(f"the node {message.node_id.hex()} has no announced channel: drop its announcement")
        known = node.last_update
        if known is not None and known >= message.timestamp:
            raise NotNewer(
                f"the announcement of node {message.node_id.hex()} is dated {message.timestamp}, "
                f"we have one of {known}: drop it"
            )
        return node

    def _set_node(self, node: NodeRow, message: NodeAnnouncement, kept: bytes | None) -> None:
        self._nodes.put(message.node_id, node.with_announcement(NodeAnnouncementInfo.of(message, kept)))

    # -- failures and age ---------------------------------------------------------------------------------------------

    def channel_failed_permanent(self, short_channel_id: int, now: int) -> None:
        """Remove a channel that is closed, and the nodes for which it was the last; no-op if it is unknown."""
        if short_channel_id in self.channels:
            self._remove_channel(short_channel_id)
            self._note_removed(short_channel_id, now)

    def channel_failed_temporarily(self, short_channel_id: int) -> None:
        """Disable both directions until newer updates come (LDK v0.0.106 `close_channel_from_update`)."""
        for direction in (0, 1):
            channel = self.channel(short_channel_id)
            terms = None if channel is None else channel.terms(direction)
            if channel is not None and terms is not None and terms.enabled:
                disabled = channel.with_terms(direction, replace(terms, enabled=False))
                self._channels.put(short_channel_id, disabled)

    def remove_stale_channels_and_tracking(self, now: int) -> None:
        """`pruning`, all of it at once."""
        for _ in self.pruning(now):
            pass

    def pruning(self, now: int) -> Iterator[None]:
        """Forget directions without an update for two weeks, then channels that lack a direction and were announced
        more than two weeks ago: some channels at each step, so that none takes longer because the graph is large.

        One missing direction suffices, as in LDK since #1735 (v0.0.112): the seed (v0.0.106) asked for both. A channel
        whose other end never speaks cannot be used through, and most of those are closed. Also ends the week in which
        a removed channel is not taken again. No-op if `now` is before 1970-01-15 or after 2106, as in LDK.
        """
        if not STALE_SECONDS <= now <= 0xFFFF_FFFF:
            return
        oldest, passed = now - STALE_SECONDS, None
        while scids := self._channels.ids_after(passed, PRUNE_CHANNELS):
            for scid in scids:
                self._prune(scid, oldest, now)
            passed = scids[-1]
            yield
        while over := [
            scid for scid, at in islice(self._removed_at.items(), PRUNE_CHANNELS) if now - at >= REMOVED_SECONDS
        ]:
            for scid in over:
                del self._removed_at[scid]
            yield

    def _prune(self, scid: int, oldest: int, now: int) -> None:
        channel = ChannelRow(self._channels.records[scid])
        old = [direction for direction in (0, 1) if (channel.last_update(direction) or 0) < oldest]
        if old and channel.announcement_received_time < oldest:
            self._remove_channel(scid)
            self._note_removed(scid, now)
            return
        for direction in old:
            if channel.last_update(direction) is not None:
                record = channel.with_terms(direction, None)
                self._channels.put(scid, record)
                channel = ChannelRow(record)

    def _note_removed(self, scid: int, now: int) -> None:
        self._removed_at.pop(scid, None)
        self._removed_at[scid] = now

    def _remove_channel(self, scid: int) -> None:
        channel = ChannelRow(self._channels.remove(scid))
        for node_id in (channel.node_one, channel.node_two):
            rest = NodeRow(self._nodes.records[node_id]).without_channel(scid)
            if rest is None:
                self._nodes.remove(node_id)
            else:
                self._nodes.put(node_id, rest)

    # -- persistence --------------------------------------------------------------------------------------------------

    def take_changes(self, limit: int | None = None) -> tuple[dict[Key, bytes], set[Key]]:
        """(records to put, keys to remove) since the last call; of at most `limit` channels and as many nodes, the
        others come with the next one. Applied to a store, all of them make its records equal the graph's. What is
        removed may never have been stored."""
        puts, removes = self._channels.take_changes(limit)
        node_puts, node_removes = self._nodes.take_changes(limit)
        return puts | node_puts, removes | node_removes

    def pieces(self) -> Iterator[bytes]:
        """`write()` as it would be now, in pieces that are made one by one: changes of the graph between them leave the
        later ones alone, and none takes longer because the graph is large."""
        return _pieces(
            encode_header(self.chain_hash, len(self.channels)),
            self._channels.copy(),
            encode_node_count(len(self.nodes)),
            self._nodes.copy(),
            encode_trailer(self.last_rapid_gossip_sync_timestamp),
        )

    def write(self) -> bytes:
        """The graph in LDK's format. Equal graphs have equal bytes."""
        return b"".join(self.pieces())

    @classmethod
    def read(cls, data: bytes) -> Self:
        """The graph that `write()`, or LDK, wrote: all of it is a change to a store. Raises `MalformedGraph`."""
        stored = decode_graph(data)
        graph = cls(stored.chain_hash)
        graph.last_rapid_gossip_sync_timestamp = stored.rapid_gossip_sync_timestamp
        graph._load(stored.channels, stored.nodes)
        graph._channels.mark_changed(graph.channels)
        graph._nodes.mark_changed(graph.nodes)
        return graph

    @classmethod
    def restore(cls, chain_hash: bytes, records: Iterable[tuple[Key, bytes]]) -> Self:
        """The graph whose records, in any order, a store holds under `CHANNELS` and `NODES`; raises
        `MalformedGraph`. A channel may have been committed before its nodes: those say nothing of themselves then. A
        node may have outlived its last channel: its record is left out, and its removal a change."""
        channels: dict[int, bytes] = {}
        nodes: dict[bytes, NodeAnnouncementInfo | None] = {}
        for key, record in records:
            try:
                ident = bytes.fromhex(key.name)
            except ValueError:
                raise MalformedGraph(f"expected a graph record with a name in hex, got {key}: remove it") from None
            if key[:2] == CHANNELS and len(ident) == 8:
                channels[int.from_bytes(ident, "big")] = encode_channel(decode_channel(record))
            elif key[:2] == NODES:
                nodes[ident] = decode_node(record)
            else:
                raise MalformedGraph(f"expected a record of the network graph, got {key}: remove it")
        for channel in map(ChannelRow, channels.values()):
            for node_id in (channel.node_one, channel.node_two):
                nodes.setdefault(node_id, None)
        graph = cls(chain_hash)
        graph._load(channels, nodes)
        graph._nodes.mark_changed(node_id for node_id in nodes if node_id not in graph.nodes)
        return graph

    def _load(self, channels: Mapping[int, bytes], nodes: Mapping[bytes, NodeAnnouncementInfo | None]) -> None:
        members: dict[bytes, list[int]] = {}
        for scid, record in channels.items():
            channel = ChannelRow(record)
            for node_id in (channel.node_one, channel.node_two):
                if node_id not in nodes:
                    raise MalformedGraph(
                        f"the channel {scid_text(scid)} belongs to a node that is not stored, {node_id.hex()}: "
                        "restore the graph or sync anew"
                    )
                members.setdefault(node_id, []).append(scid)
        self._channels.load(channels.items())
        self._nodes.load(
            (node_id, encode_node(NodeInfo(nodes[node_id], frozenset(scids)))) for node_id, scids in members.items()
        )


def _pieces(
    header: bytes, channels: TableCopy[int], node_count: bytes, nodes: TableCopy[bytes], trailer: bytes
) -> Iterator[bytes]:
    yield header
    while channels.left:
        channel_records = channels.step(PIECE_RECORDS)
        yield b"".join(part for scid, record in channel_records for part in (scid.to_bytes(8, "big"), record))
    yield node_count
    while nodes.left:
        node_records = nodes.step(PIECE_RECORDS)
        yield b"".join(part for item in node_records for part in item)
    yield trailer


def _fitting(terms: ChannelUpdateInfo | None, capacity_sats: int | None) -> ChannelUpdateInfo | None:
    """`terms`, unless they allow more than the channel has."""
    if terms is None or (capacity_sats is not None and terms.htlc_maximum_msat > capacity_sats * 1000):
        return None
    return terms


def channel_key(short_channel_id: int) -> Key:
    """The name of a channel's record in a store."""
    return Key(*CHANNELS, f"{short_channel_id:016x}")


def node_key(node_id: bytes) -> Key:
    """The name of a node's record in a store."""
    return Key(*NODES, node_id.hex())


def _update(message: ChannelUpdate) -> str:
    return f"the channel_update for {scid_text(message.short_channel_id)}, direction {message.direction},"
