"""LDK's bytes for the network graph and its records (rust-lightning v0.1 `routing::gossip`, `Writeable`).

    NetworkGraph = 01 01 | chain_hash[32] | u64 n, n x (u64 scid, ChannelInfo) | u64 m, m x (node_id[33], NodeInfo)
                   | {1 u32 rapid gossip sync timestamp, optional}
    ChannelInfo  = {0 features, 1 u64 received, 2 node_one, 4 Opt(Update), 6 node_two, 8 Opt(Update),
                    10 Opt(u64 capacity in sats), 12 Opt(channel_announcement)}
    Update       = {0 u32 timestamp, 2 u8 enabled, 4 u16 cltv delta, 6 u64 min, 8 Opt(u64 max),
                    10 {0 u32 base, 2 u32 ppm}, 12 Opt(channel_update)}
    NodeInfo     = {2 NodeAnn, optional, 4 scids as raw u64s}
    NodeAnn      = {0 features, 2 u32 timestamp, 4 rgb[3], 6 alias[32], 8 node_announcement, optional,
                    10 address descriptors}

`{...}` is a TLV stream behind its BigSize length; Opt(x) is 00, or BigSize(length + 1) and x; features are u16
length and bytes; messages lack their two bytes of type.

Rules of the decoders:
1. Total: any bytes give a value or `MalformedGraph`, in memory bounded by a multiple of what came. Counts are never
   trusted with an allocation.
2. Unknown odd types are skipped, unknown even ones are errors.
3. A malformed Update or NodeAnn becomes None and costs nothing else: the network will send it again.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final, NamedTuple

from ...errors import DecodeError
from ..errors import MalformedGraph
from ..wire.addresses import known_length
from ..wire.bigsize import decode_bigsize, encode_bigsize, encode_tlv, framed_tlv_values
from ..wire.gossip import ChannelAnnouncement, ChannelUpdate, NodeAnnouncement
from .records import ChannelInfo, ChannelUpdateInfo, NodeAnnouncementInfo, NodeInfo

#: What the messages lack in records.
ANNOUNCEMENT_TYPE: Final = b"\x01\x00"
NODE_TYPE: Final = b"\x01\x01"
UPDATE_TYPE: Final = b"\x01\x02"
_NODE_ID_BYTES: Final = 33
_CHAIN_HASH_BYTES: Final = 32
_VERSION: Final = 1

_U64: Final = struct.Struct(">Q")

#: TLVs that hold an absent Opt, by type.
_ABSENT: Final = {kind: bytes((kind, 1, 0)) for kind in (4, 8, 10, 12)}
#: An Update up to its message: every field is of fixed size, so the types and lengths between them never change.
UPDATE_FIELDS: Final = struct.Struct(">2sI 2sB 2sH 2sQ 3sQ 5sI 2sI")
_UPDATE_TAGS: Final = (
    b"\x00\x04",
    b"\x02\x01",
    b"\x04\x02",
    b"\x06\x08",
    b"\x08\x09\x09",
    b"\x0a\x0d\x0c\x00\x04",
    b"\x02\x04",
)


# -- encoding ---------------------------------------------------------------------------------------------------------


def encode_channel(info: ChannelInfo) -> bytes:
    """The ChannelInfo stream of `info`."""
    features = info.features
    body = b"".join(
        (
            encode_tlv(0, len(features).to_bytes(2, "big") + features),
            b"\x01\x08",
            _U64.pack(info.announcement_received_time),
            b"\x02\x21",
            info.node_one,
            encode_terms(0, info.one_to_two),
            b"\x06\x21",
            info.node_two,
            encode_terms(1, info.two_to_one),
            _ABSENT[10] if info.capacity_sats is None else b"\x0a\x09\x09" + _U64.pack(info.capacity_sats),
            *_message(info.announcement_message),
        )
    )
    return encode_bigsize(len(body)) + body


def encode_terms(direction: int, info: ChannelUpdateInfo | None) -> bytes:
    """The TLV of a direction in its channel's stream."""
    kind = 8 if direction else 4
    if info is None:
        return _ABSENT[kind]
    message = info.last_update_message
    timestamp, enabled, cltv, least, most, base, rate = _UPDATE_TAGS
    fixed = UPDATE_FIELDS.pack(
        timestamp,
        info.last_update,
        enabled,
        info.enabled,
        cltv,
        info.cltv_expiry_delta,
        least,
        info.htlc_minimum_msat,
        most,
        info.htlc_maximum_msat,
        base,
        info.fee_base_msat,
        rate,
        info.fee_proportional_millionths,
    )
    return b"".join((_update_header(kind, None if message is None else len(message)), fixed, *_message(message)))


def _message(message: bytes | None) -> tuple[bytes, ...]:
    """TLV 12, Opt(message) without the message's type, in pieces."""
    if message is None:
        return (_ABSENT[12],)
    return (_present(12, len(message) - 2), message[2:])


# A channel's record is its messages and a few integers; the headers between them depend on lengths alone, of which
# gossip knows a handful, so they are made once.


@lru_cache(maxsize=1024)
def _present(kind: int, length: int) -> bytes:
    """What stands before x in a TLV of `kind` that holds Opt(x) of `length` bytes."""
    some = encode_bigsize(length + 1)
    return encode_bigsize(kind) + encode_bigsize(len(some) + length) + some


@lru_cache(maxsize=1024)
def _update_header(kind: int, message_length: int | None) -> bytes:
    """What stands before the fields in a TLV of `kind` that holds Opt(Update), given its message with its type."""
    message = _ABSENT[12] if message_length is None else _present(12, message_length - 2)
    length = UPDATE_FIELDS.size + len(message) + (message_length - 2 if message_length else 0)
    inner = encode_bigsize(length)
    return _present(kind, len(inner) + length) + inner


def encode_node(info: NodeInfo) -> bytes:
    """The NodeInfo stream of `info`, its channels in ascending order."""
    scids = struct.pack(f">{len(info.channels)}Q", *sorted(info.channels))
    announcement = info.announcement_info
    body = encode_tlv(4, scids)
    if announcement is not None:
        body = encode_tlv(2, encode_node_announcement(announcement)) + body
    return encode_bigsize(len(body)) + body


def encode_node_announcement(info: NodeAnnouncementInfo) -> bytes:
    """The NodeAnn stream of `info`."""
    message = info.announcement_message
    body = b"".join(
        (
            encode_tlv(0, len(info.features).to_bytes(2, "big") + info.features),
            b"\x02\x04",
            info.last_update.to_bytes(4, "big"),
            b"\x04\x03",
            info.rgb,
            b"\x06\x20",
            info.alias,
            b"" if message is None else encode_tlv(8, message[2:]),
            encode_tlv(10, info.addresses),
        )
    )
    return encode_bigsize(len(body)) + body


def encode_header(chain_hash: bytes, channels: int) -> bytes:
    """What stands before the first channel."""
    return bytes((_VERSION, _VERSION)) + chain_hash + _U64.pack(channels)


def encode_node_count(nodes: int) -> bytes:
    """What stands before the first node."""
    return _U64.pack(nodes)


def encode_trailer(rapid_gossip_sync_timestamp: int | None) -> bytes:
    """What stands behind the last node."""
    if rapid_gossip_sync_timestamp is None:
        return b"\x00"
    return b"\x06" + encode_tlv(1, rapid_gossip_sync_timestamp.to_bytes(4, "big"))


# -- decoding ---------------------------------------------------------------------------------------------------------


def decode_channel(record: bytes) -> ChannelInfo:
    """The ChannelInfo in `record`, which must be the whole of it; raises `MalformedGraph`."""
    try:
        fields = framed_tlv_values(record, _CHANNEL_TYPES)
        received = fields.get(1)
        capacity = _optional(fields[10])
        announcement = _optional(fields[12])
        if announcement is not None:
            announcement = ANNOUNCEMENT_TYPE + announcement
            ChannelAnnouncement.decode(announcement)
        return ChannelInfo(
            _features(fields[0]),
            _sized(fields[2], _NODE_ID_BYTES),
            _sized(fields[6], _NODE_ID_BYTES),
            _decode_update(fields.get(4)),
            _decode_update(fields.get(8)),
            None if capacity is None else _unsigned(capacity, 8),
            announcement,
            0 if received is None else _unsigned(received, 8),
        )
    except KeyError as missing:
        raise MalformedGraph(f"a channel's record lacks its TLV {missing}: restore the graph or sync anew") from None
    except DecodeError as error:
        raise MalformedGraph(f"a channel's record is damaged ({error}): restore the graph or sync anew") from None


def _decode_update(value: bytes | None) -> ChannelUpdateInfo | None:
    try:
        stream = None if value is None else _optional(value)
        if stream is None:
            return None
        fields = framed_tlv_values(stream, _UPDATE_TYPES)
        most = _optional(fields[8])
        fees = framed_tlv_values(fields[10], _FEE_TYPES)
        message = _optional(fields[12])
        if message is not None:
            message = UPDATE_TYPE + message
            ChannelUpdate.decode(message)
        if most is None:
            return None
        return ChannelUpdateInfo(
            _unsigned(fields[0], 4),
            _boolean(fields[2]),
            _unsigned(fields[4], 2),
            _unsigned(fields[6], 8),
            _unsigned(most, 8),
            _unsigned(fees[0], 4),
            _unsigned(fees[2], 4),
            message,
        )
    except (DecodeError, KeyError):
        return None


def decode_node(record: bytes) -> NodeAnnouncementInfo | None:
    """What the NodeInfo in `record` says of the node beside its channels, if anything; raises `MalformedGraph`.

    Its list of channels is checked for its form only: the channels themselves say whose they are.
    """
    try:
        fields = framed_tlv_values(record, _NODE_TYPES)
        if len(fields[4]) % 8:
            raise MalformedGraph(f"expected a list of 8-byte channel ids, got {len(fields[4])} bytes")
    except KeyError as missing:
        raise MalformedGraph(f"a node's record lacks its TLV {missing}: restore the graph or sync anew") from None
    except DecodeError as error:
        raise MalformedGraph(f"a node's record is damaged ({error}): restore the graph or sync anew") from None
    try:
        return _decode_node_announcement(fields[2])
    except (DecodeError, KeyError):
        return None


def _decode_node_announcement(stream: bytes) -> NodeAnnouncementInfo:
    fields = framed_tlv_values(stream, _NODE_ANNOUNCEMENT_TYPES)
    if 8 in fields:
        message = NodeAnnouncement.decode(NODE_TYPE + fields[8])
        return NodeAnnouncementInfo.of(message, message.encode())
    addresses = fields[10]
    if known_length(addresses) != len(addresses):
        raise MalformedGraph("an address descriptor is of an unknown type")
    return NodeAnnouncementInfo(
        _features(fields[0]),
        _unsigned(fields[2], 4),
        _sized(fields[4], 3),
        _sized(fields[6], 32),
        addresses,
        None,
    )


class StoredGraph(NamedTuple):
    """What a NetworkGraph's bytes hold, checked and not yet put together. Channels are records as we encode them."""

    chain_hash: bytes
    channels: dict[int, bytes]
    nodes: dict[bytes, NodeAnnouncementInfo | None]
    rapid_gossip_sync_timestamp: int | None


def decode_graph(data: bytes) -> StoredGraph:
    """The NetworkGraph in `data`, which must be the whole of it; raises `MalformedGraph`."""
    try:
        if len(data) < 2 or data[1] > _VERSION:
            raise MalformedGraph(f"expected version {_VERSION}, got {data[:2].hex()!r}: upgrade, or sync anew")
        cursor = 2 + _CHAIN_HASH_BYTES
        count, cursor = _count(data, cursor)
        channels = {}
        for _ in range(count):
            scid, cursor = _count(data, cursor)
            stop = _stream_end(data, cursor)
            channels[scid] = encode_channel(decode_channel(data[cursor:stop]))
            cursor = stop
        count, cursor = _count(data, cursor)
        nodes = {}
        for _ in range(count):
            start = cursor + _NODE_ID_BYTES
            stop = _stream_end(data, start)
            nodes[data[cursor:start]] = decode_node(data[start:stop])
            cursor = stop
        trailer = framed_tlv_values(data[cursor:], frozenset({1}))
        timestamp = trailer.get(1)
        rapid = None if timestamp is None else _unsigned(timestamp, 4)
    except MalformedGraph:
        raise
    except DecodeError as error:
        raise MalformedGraph(f"the network graph is damaged ({error}): restore it or sync anew") from None
    return StoredGraph(data[2 : 2 + _CHAIN_HASH_BYTES], channels, nodes, rapid)


# -- fields -----------------------------------------------------------------------------------------------------------

_CHANNEL_TYPES: Final = frozenset({0, 1, 2, 4, 6, 8, 10, 12})
_UPDATE_TYPES: Final = frozenset({0, 2, 4, 6, 8, 10, 12})
_FEE_TYPES: Final = frozenset({0, 2})
#: Type 0 held the lowest inbound fees until LDK 0.0.116; it is read past.
_NODE_TYPES: Final = frozenset({0, 2, 4})
_NODE_ANNOUNCEMENT_TYPES: Final = frozenset({0, 2, 4, 6, 8, 10})


def _stream_end(data: bytes, offset: int) -> int:
    length, start = decode_bigsize(data, offset, len(data))
    if length > len(data) - start:
        raise MalformedGraph(f"a record announces {length} bytes, {len(data) - start} are left")
    return start + length


def _count(data: bytes, offset: int) -> tuple[int, int]:
    if offset + 8 > len(data):
        raise MalformedGraph(f"the network graph ends at byte {len(data)}, expected 8 bytes at {offset}")
    return int(_U64.unpack_from(data, offset)[0]), offset + 8


def _optional(value: bytes) -> bytes | None:
    """x of Opt(x)."""
    length, start = decode_bigsize(value, 0, len(value))
    if length == 0 and len(value) == start:
        return None
    if length != len(value) - start + 1:
        raise MalformedGraph(f"an optional value announces {length - 1} bytes, {len(value) - start} came")
    return value[start:]


def _sized(value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise MalformedGraph(f"expected a field of {size} bytes, got {len(value)}")
    return value


def _unsigned(value: bytes, size: int) -> int:
    return int.from_bytes(_sized(value, size), "big")


def _boolean(value: bytes) -> bool:
    if value not in (b"\0", b"\1"):
        raise MalformedGraph(f"expected a boolean of one byte, got {value.hex():.20}")
    return value == b"\1"


def _features(value: bytes) -> bytes:
    if len(value) < 2 or int.from_bytes(value[:2], "big") != len(value) - 2:
        raise MalformedGraph(f"expected features behind their 2-byte length, got {value.hex():.40}")
    return value[2:]
