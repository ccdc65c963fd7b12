"""RapidGossipSync: the whole network from a server's snapshot, in a megabyte or two (LDK `lightning-rapid-gossip-sync`,
format 1).

    "LDK" 01 | chain_hash[32] | u32 seen | u32 n, n x node_id[33] | u32 a, a x Announcement | u32 u, u x Update
    Announcement = u16 features length, features | BigSize scid, less the one before | BigSize node 1 | BigSize node 2
    Update       = BigSize scid, less the one before | u8 flags | [u16 cltv] [u64 min] [u32 base] [u32 ppm] [u64 max]

Before the first Update, if there is one, stand the defaults of its five fields. Flags: 1 the direction, 2 disabled, 4
to 64 which fields follow (max, ppm, base, min, cltv, in this order of bits), 128: what does not follow stays as it was,
else it is the default's.

1. The server is trusted with what it says and leaves out, for nothing in a snapshot is signed; its bytes are not
   trusted. All of them are decoded before the first is applied: `MalformedSnapshot` leaves the graph as it was.
2. Both go in steps of about a millisecond. What is learnt meanwhile by other ways stays if it is newer.
3. Everything is dated a week before the snapshot's newest entry, so that a peer's own word comes over it (LDK).
4. Entries that the graph refuses are counted, not errors: an update may be for a channel that is closed by now.
"""

from __future__ import annotations

import struct
import time
from collections import Counter
from collections.abc import Callable, Generator
from typing import Final, NamedTuple

from ...errors import DecodeError
from ..errors import GossipRefused, MalformedSnapshot, MissingTerms, Stale, WrongChain
from ..wire.bigsize import decode_bigsize
from ..wire.gossip import ChannelUpdate
from .gossip import STALE_SECONDS, NetworkGraph
from .network_update import learn_from_event

PREFIX: Final = b"LDK"
VERSION: Final = 1
#: How much older than its newest entry all of a snapshot is taken to be.
BACKDATED_SECONDS: Final = 7 * 24 * 3600
#: More nodes or channels than these are nonsense (LDK: ten times an estimate of the network).
MAX_NODES: Final = 200_000
MAX_CHANNELS: Final = 600_000
#: How many entries one step decodes, and how many it applies.
DECODE_ENTRIES: Final = 300
APPLY_ENTRIES: Final = 60

_HEAD: Final = struct.Struct(">32sI")
_COUNT: Final = struct.Struct(">I")
_FEATURES: Final = struct.Struct(">H")
_DEFAULTS: Final = struct.Struct(">HQIIQ")
_NODE_ID_BYTES: Final = 33
_SIGNATURE: Final = bytes(64)

_INCREMENTAL: Final = 0b1000_0000
_STANDARD_FLAGS: Final = 0b0000_0011
_DIRECTION: Final = 1
#: Flag and form of each field that may follow, in the order in which they do.
_FIELDS: Final = (
    (0b0100_0000, struct.Struct(">H")),
    (0b0010_0000, struct.Struct(">Q")),
    (0b0001_0000, struct.Struct(">I")),
    (0b0000_1000, struct.Struct(">I")),
    (0b0000_0100, struct.Struct(">Q")),
)


class Terms(NamedTuple):
    """The five fields of an update."""

    cltv_expiry_delta: int  #: blocks
    htlc_minimum_msat: int
    fee_base_msat: int
    fee_proportional_millionths: int
    htlc_maximum_msat: int


class _Announcement(NamedTuple):
    features: bytes
    short_channel_id: int
    node_id_1: bytes
    node_id_2: bytes


class _Update(NamedTuple):
    short_channel_id: int
    flags: int
    fields: tuple[int | None, ...]  # as `Terms`; None for what does not follow


class _Snapshot:
    """What a snapshot holds, decoded."""

    def __init__(self, chain_hash: bytes, seen: int) -> None:
        self.chain_hash, self.seen = chain_hash, seen
        self.announcements: list[_Announcement] = []
        self.updates: list[_Update] = []
        self.defaults = Terms(0, 0, 0, 0, 0)


class RapidGossipSync:
    """Applies a server's snapshots to `network_graph`. `clock` gives the time of events, in seconds since 1970."""

    def __init__(self, network_graph: NetworkGraph, *, clock: Callable[[], int] = lambda: int(time.time())) -> None:
        self.network_graph: Final = network_graph
        self._clock = clock
        self._complete = False
        #: Announcements and updates that were applied.
        self.applied = 0
        #: Those that were not, by the class of the error.
        self.refused: Final[Counter[type[Exception]]] = Counter()

    def is_initial_sync_complete(self) -> bool:
        """Whether a snapshot with updates was applied since the start."""
        return self._complete

    def update_network_graph(self, data: bytes, now: int | None) -> int:
        """Apply the snapshot `data`; returns its newest timestamp, to ask the server for what came after it.

        `now` is in seconds since 1970; None applies a snapshot of any age, and prunes nothing (tests). Raises
        `MalformedSnapshot`, `WrongChain`, or `Stale` for one that is more than two weeks old: then the graph is as it
        was.
        """
        steps = self.steps(data, now)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return int(end.value)

    def steps(self, data: bytes, now: int | None) -> Generator[None, None, int]:
        """`update_network_graph` in steps of about a millisecond; its result is the generator's."""
        snapshot = yield from _decode(data)
        self._check(snapshot, now)
        dated = max(0, snapshot.seen - BACKDATED_SECONDS)
        for done, announcement in enumerate(snapshot.announcements, 1):
            if len(self.network_graph.channels) <= MAX_CHANNELS:
                self._announce(announcement, dated)
            if done % APPLY_ENTRIES == 0:
                yield
        if not snapshot.updates:
            return snapshot.seen
        for done, update in enumerate(snapshot.updates, 1):
            self._update(update, snapshot, dated, now)
            if done % APPLY_ENTRIES == 0:
                yield
        self.network_graph.last_rapid_gossip_sync_timestamp = snapshot.seen
        if now is not None:
            yield from self.network_graph.pruning(now)
        self._complete = True
        return snapshot.seen

    def handle_event(self, event: object) -> None:
        """Learn from a failed payment (`network_update.learn_from_event`)."""
        learn_from_event(self.network_graph, event, self._clock())

    def _check(self, snapshot: _Snapshot, now: int | None) -> None:
        graph = self.network_graph
        if snapshot.chain_hash != graph.chain_hash:
            raise WrongChain(
                f"expected a snapshot of the chain {graph.chain_hash.hex()}, got one of {snapshot.chain_hash.hex()}: "
                "ask a server of the right network"
            )
        if now is not None and snapshot.seen < now - STALE_SECONDS:
            raise Stale(
                f"the snapshot's newest entry is {now - snapshot.seen} s old, {STALE_SECONDS} at most: "
                "ask a server that is up to date, and look at this machine's clock"
            )

    def _announce(self, announcement: _Announcement, dated: int) -> None:
        features, scid, node_id_1, node_id_2 = announcement
        try:
            self.network_graph.add_channel_from_partial_announcement(scid, None, dated, features, node_id_1, node_id_2)
        except GossipRefused as error:
            self.refused[type(error)] += 1
        else:
            self.applied += 1

    def _update(self, update: _Update, snapshot: _Snapshot, dated: int, now: int | None) -> None:
        base = self._known_terms(update) if update.flags & _INCREMENTAL else snapshot.defaults
        if base is None:
            self.refused[MissingTerms] += 1
            return
        terms = Terms(*(old if new is None else new for old, new in zip(base, update.fields, strict=True)))
        message = ChannelUpdate(
            _SIGNATURE,
            snapshot.chain_hash,
            update.short_channel_id,
            dated,
            1,
            update.flags & _STANDARD_FLAGS,
            *terms,
        )
        try:
            self.network_graph.update_channel_unsigned(message, dated if now is None else now)
        except GossipRefused as error:
            self.refused[type(error)] += 1
        else:
            self.applied += 1

    def _known_terms(self, update: _Update) -> Terms | None:
        channel = self.network_graph.channels.get(update.short_channel_id)
        if channel is None:
            return None
        known = channel.two_to_one if update.flags & _DIRECTION else channel.one_to_two
        return None if known is None else Terms(*(getattr(known, name) for name in Terms._fields))


def _decode(data: bytes) -> Generator[None, None, _Snapshot]:
    """The `_Snapshot` in `data` is the generator's result; raises `MalformedSnapshot`."""
    try:
        return (yield from _decoded(data))
    except struct.error:
        raise MalformedSnapshot(f"the snapshot ends at byte {len(data)}, in the middle: fetch it again") from None
    except MalformedSnapshot:
        raise
    except DecodeError as error:
        raise MalformedSnapshot(f"the snapshot is damaged ({error}): fetch it again") from None


def _decoded(data: bytes) -> Generator[None, None, _Snapshot]:
    if data[:3] != PREFIX or len(data) < 4:
        raise MalformedSnapshot(f"expected a snapshot that starts with 'LDK', got {data[:4].hex() or 'nothing'}")
    if data[3] != VERSION:
        raise MalformedSnapshot(f"expected a snapshot of version {VERSION}, got {data[3]}: ask the server for that one")
    chain_hash, seen = _HEAD.unpack_from(data, 4)
    snapshot = _Snapshot(chain_hash, seen)
    count, offset = _number(data, 4 + _HEAD.size, MAX_NODES, "nodes")
    stop = offset + count * _NODE_ID_BYTES
    if stop > len(data):
        raise MalformedSnapshot(f"the snapshot announces {count} nodes and ends at byte {len(data)}: fetch it again")
    nodes = [data[at : at + _NODE_ID_BYTES] for at in range(offset, stop, _NODE_ID_BYTES)]
    yield
    count, offset = _number(data, stop, MAX_CHANNELS, "channels")
    scid = 0
    for done in range(1, count + 1):
        scid, offset = _announcement(data, offset, scid, nodes, snapshot)
        if done % DECODE_ENTRIES == 0:
            yield
    count, offset = _number(data, offset, MAX_CHANNELS, "updates")
    if count:
        snapshot.defaults = Terms(*_DEFAULTS.unpack_from(data, offset))
        offset += _DEFAULTS.size
    scid = 0
    for done in range(1, count + 1):
        scid, offset = _one_update(data, offset, scid, snapshot)
        if done % DECODE_ENTRIES == 0:
            yield
    return snapshot


def _number(data: bytes, offset: int, most: int, of: str) -> tuple[int, int]:
    count = int(_COUNT.unpack_from(data, offset)[0])
    if count > most:
        raise MalformedSnapshot(f"the snapshot announces {count} {of}, {most} at most make sense: ask another server")
    return count, offset + _COUNT.size


def _announcement(data: bytes, offset: int, scid: int, nodes: list[bytes], snapshot: _Snapshot) -> tuple[int, int]:
    """Decode one announcement, after that of `scid`; its own, and where it ends."""
    start = offset + _FEATURES.size
    stop = start + int(_FEATURES.unpack_from(data, offset)[0])
    scid, offset = _next_scid(data, stop, scid)
    one, offset = decode_bigsize(data, offset, len(data))
    two, offset = decode_bigsize(data, offset, len(data))
    if max(one, two) >= len(nodes):
        raise MalformedSnapshot(f"the snapshot names node {max(one, two)} of {len(nodes)}: ask another server")
    snapshot.announcements.append(_Announcement(data[start:stop], scid, nodes[one], nodes[two]))
    return scid, offset


def _one_update(data: bytes, offset: int, scid: int, snapshot: _Snapshot) -> tuple[int, int]:
    """Decode one update, after one of `scid`; its own, and where it ends."""
    scid, offset = _next_scid(data, offset, scid)
    if offset >= len(data):
        raise MalformedSnapshot(f"the snapshot ends at byte {len(data)}, in the middle: fetch it again")
    flags = data[offset]
    offset += 1
    fields: list[int | None] = []
    for flag, form in _FIELDS:
        if flags & flag:
            fields.append(form.unpack_from(data, offset)[0])
            offset += form.size
        else:
            fields.append(None)
    snapshot.updates.append(_Update(scid, flags, tuple(fields)))
    return scid, offset


def _next_scid(data: bytes, offset: int, before: int) -> tuple[int, int]:
    delta, offset = decode_bigsize(data, offset, len(data))
    if before + delta >= 1 << 64:
        raise MalformedSnapshot(f"a short channel id of the snapshot passes 8 bytes, at byte {offset}: fetch it again")
    return before + delta, offset
