"""BOLT 7's gossip queries: which channels a peer knows, and the gossip that we lack (`gossip_queries`,
`gossip_queries_ex`).

1. Decoding is total: any bytes give a message or `MalformedMessage`. Short channel ids must rise strictly, and what
   comes with them (flags, timestamps, checksums) must be as many.
2. Ids travel uncompressed alone: zlib was taken out of BOLT 7 in 2022 (it let a peer blow 64 KiB up to many MiB), and
   who still sends it gets `MalformedMessage`.
3. TLVs of unknown odd types are skipped, of unknown even types refused (BOLT 1).

Integers are big-endian; `raw` starts with the two bytes of the message type. Heights and numbers are blocks, timestamps
seconds since 1970.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple, Self

from ...errors import DecodeError
from ..errors import MalformedMessage
from .bigsize import decode_bigsize, encode_bigsize, encode_tlv, tlv_values

QUERY_SHORT_CHANNEL_IDS: Final = 261
REPLY_SHORT_CHANNEL_IDS_END: Final = 262
QUERY_CHANNEL_RANGE: Final = 263
REPLY_CHANNEL_RANGE: Final = 264
GOSSIP_TIMESTAMP_FILTER: Final = 265

#: query_flags: what is asked for of a channel.
WANT_ANNOUNCEMENT: Final = 1
WANT_UPDATE_1: Final = 2
WANT_UPDATE_2: Final = 4
WANT_NODE_1: Final = 8
WANT_NODE_2: Final = 16
#: query_option_flags: what a `reply_channel_range` shall say besides.
WANT_TIMESTAMPS: Final = 1
WANT_CHECKSUMS: Final = 2

_TYPE_AND_CHAIN: Final = struct.Struct(">H32s")
_LENGTH: Final = struct.Struct(">H")
_END: Final = struct.Struct(">H32sB")
_RANGE: Final = struct.Struct(">H32sII")
#: A reply up to the length of its ids.
_REPLY: Final = struct.Struct(">H32sIIB")

_UNCOMPRESSED: Final = b"\0"
_QUERY_FLAGS: Final = 1
_QUERY_OPTION: Final = 1
_TIMESTAMPS: Final = 1
_CHECKSUMS: Final = 3
_MAX_BLOCK: Final = 0xFFFF_FFFF


class Pair(NamedTuple):
    """Of the two directions of a channel: timestamps in seconds since 1970 or CRC-32C checksums; 0 where there is no
    update."""

    node_1: int
    node_2: int


@dataclass(frozen=True, slots=True)
class QueryShortChannelIds:
    """Type 261: send the gossip of these channels."""

    chain_hash: bytes
    short_channel_ids: tuple[int, ...]
    query_flags: tuple[int, ...] | None = None  #: one an id (`WANT_...`); None asks for all

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """The message in `raw`; raises `MalformedMessage`."""
        (chain,), ids, tlvs = _with_ids(raw, _TYPE_AND_CHAIN, QUERY_SHORT_CHANNEL_IDS)
        flags = _fields(tlvs, {_QUERY_FLAGS}).get(_QUERY_FLAGS)
        return cls(chain, ids, None if flags is None else _flags(flags, len(ids)))

    def encode(self) -> bytes:
        """The whole message, its type included."""
        head = _TYPE_AND_CHAIN.pack(QUERY_SHORT_CHANNEL_IDS, self.chain_hash)
        tlvs = b""
        if self.query_flags is not None:
            tlvs = encode_tlv(_QUERY_FLAGS, _UNCOMPRESSED + b"".join(map(encode_bigsize, self.query_flags)))
        return head + _ids(self.short_channel_ids) + tlvs


@dataclass(frozen=True, slots=True)
class ReplyShortChannelIdsEnd:
    """Type 262: that was all for the last `query_short_channel_ids`."""

    chain_hash: bytes
    full_information: bool  #: whether the sender keeps up-to-date gossip of that chain at all

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """The message in `raw`; raises `MalformedMessage`."""
        chain, full = _unpack(_END, raw, REPLY_SHORT_CHANNEL_IDS_END)
        return cls(chain, bool(full))

    def encode(self) -> bytes:
        """The whole message, its type included."""
        return _END.pack(REPLY_SHORT_CHANNEL_IDS_END, self.chain_hash, self.full_information)


@dataclass(frozen=True, slots=True)
class QueryChannelRange:
    """Type 263: which channels were funded in these blocks?"""

    chain_hash: bytes
    first_blocknum: int
    number_of_blocks: int
    query_option: int = 0  #: `WANT_TIMESTAMPS`, `WANT_CHECKSUMS`

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """The message in `raw`; raises `MalformedMessage`."""
        chain, first, number = _unpack(_RANGE, raw, QUERY_CHANNEL_RANGE)
        option = _fields(raw[_RANGE.size :], {_QUERY_OPTION}).get(_QUERY_OPTION)
        return cls(chain, first, number, 0 if option is None else _one_bigsize(option))

    def encode(self) -> bytes:
        """The whole message, its type included."""
        head = _RANGE.pack(QUERY_CHANNEL_RANGE, self.chain_hash, self.first_blocknum, self.number_of_blocks)
        return head + (encode_tlv(_QUERY_OPTION, encode_bigsize(self.query_option)) if self.query_option else b"")

    @property
    def end_blocknum(self) -> int:
        """The first block after the range (LDK `end_blocknum`, which does not wrap either)."""
        return min(self.first_blocknum + self.number_of_blocks, _MAX_BLOCK)


@dataclass(frozen=True, slots=True)
class ReplyChannelRange:
    """Type 264: some or all of the channels that a `query_channel_range` asked for."""

    chain_hash: bytes
    first_blocknum: int
    number_of_blocks: int
    sync_complete: bool
    short_channel_ids: tuple[int, ...]
    timestamps: tuple[Pair, ...] | None = None  #: of the newest updates, one pair an id
    checksums: tuple[Pair, ...] | None = None  #: of the newest updates, one pair an id

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """The message in `raw`; raises `MalformedMessage`."""
        (chain, first, number, complete), ids, tlvs = _with_ids(raw, _REPLY, REPLY_CHANNEL_RANGE)
        fields = _fields(tlvs, {_TIMESTAMPS, _CHECKSUMS})
        timestamps, checksums = fields.get(_TIMESTAMPS), fields.get(_CHECKSUMS)
        return cls(
            chain,
            first,
            number,
            bool(complete),
            ids,
            None if timestamps is None else _pairs(_uncompressed(timestamps), len(ids), "timestamps"),
            None if checksums is None else _pairs(checksums, len(ids), "checksums"),
        )

    def encode(self) -> bytes:
        """The whole message, its type included."""
        head = _REPLY.pack(
            REPLY_CHANNEL_RANGE, self.chain_hash, self.first_blocknum, self.number_of_blocks, self.sync_complete
        )
        tlvs = b""
        if self.timestamps is not None:
            tlvs += encode_tlv(_TIMESTAMPS, _UNCOMPRESSED + _pack_pairs(self.timestamps))
        if self.checksums is not None:
            tlvs += encode_tlv(_CHECKSUMS, _pack_pairs(self.checksums))
        return head + _ids(self.short_channel_ids) + tlvs


@dataclass(frozen=True, slots=True)
class GossipTimestampFilter:
    """Type 265: from now on send gossip dated first_timestamp <= timestamp < first_timestamp + timestamp_range."""

    chain_hash: bytes
    first_timestamp: int
    timestamp_range: int

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """The message in `raw`; raises `MalformedMessage`."""
        return cls(*_unpack(_RANGE, raw, GOSSIP_TIMESTAMP_FILTER))

    def encode(self) -> bytes:
        """The whole message, its type included."""
        return _RANGE.pack(GOSSIP_TIMESTAMP_FILTER, self.chain_hash, self.first_timestamp, self.timestamp_range)

    def passes(self, timestamp: int) -> bool:
        """Whether gossip dated `timestamp` is wanted."""
        return self.first_timestamp <= timestamp < self.first_timestamp + self.timestamp_range


GossipQuery = (
    QueryShortChannelIds | ReplyShortChannelIdsEnd | QueryChannelRange | ReplyChannelRange | GossipTimestampFilter
)

_DECODERS: Final[dict[int, Callable[[bytes], GossipQuery]]] = {
    QUERY_SHORT_CHANNEL_IDS: QueryShortChannelIds.decode,
    REPLY_SHORT_CHANNEL_IDS_END: ReplyShortChannelIdsEnd.decode,
    QUERY_CHANNEL_RANGE: QueryChannelRange.decode,
    REPLY_CHANNEL_RANGE: ReplyChannelRange.decode,
    GOSSIP_TIMESTAMP_FILTER: GossipTimestampFilter.decode,
}
_NAMES: Final = {
    QUERY_SHORT_CHANNEL_IDS: "query_short_channel_ids",
    REPLY_SHORT_CHANNEL_IDS_END: "reply_short_channel_ids_end",
    QUERY_CHANNEL_RANGE: "query_channel_range",
    REPLY_CHANNEL_RANGE: "reply_channel_range",
    GOSSIP_TIMESTAMP_FILTER: "gossip_timestamp_filter",
}


def decode_gossip_query(raw: bytes) -> GossipQuery:
    """The query or reply in `raw`, whichever of the five it is; raises `MalformedMessage`."""
    decode = _DECODERS.get(int.from_bytes(raw[:2], "big")) if len(raw) >= _LENGTH.size else None
    if decode is None:
        raise MalformedMessage(
            f"expected a gossip query of type 261 to 265, got {raw[:2].hex() or 'nothing'}: it is none of ours"
        )
    return decode(raw)


# -- fields -----------------------------------------------------------------------------------------------------------


def _unpack(layout: struct.Struct, raw: bytes, kind: int) -> tuple[Any, ...]:
    """The fields of the fixed part of `raw`, without the type."""
    try:
        found, *fields = layout.unpack_from(raw)
    except struct.error:
        raise MalformedMessage(f"expected a {_NAMES[kind]} of at least {layout.size} bytes, got {len(raw)}") from None
    if found != kind:
        raise MalformedMessage(f"expected a message of type {kind}, got type {found}")
    return tuple(fields)


def _with_ids(raw: bytes, layout: struct.Struct, kind: int) -> tuple[tuple[Any, ...], tuple[int, ...], bytes]:
    """(the fixed fields, the short channel ids behind them, what follows)."""
    fixed = _unpack(layout, raw, kind)
    start = layout.size + _LENGTH.size
    if len(raw) < start:
        raise MalformedMessage(f"expected a {_NAMES[kind]} of at least {start} bytes, got {len(raw)}")
    stop = start + int(_LENGTH.unpack_from(raw, layout.size)[0])
    if stop > len(raw):
        raise MalformedMessage(f"expected a {_NAMES[kind]} of at least {stop} bytes, got {len(raw)}")
    packed = _uncompressed(raw[start:stop])
    if len(packed) % 8:
        raise MalformedMessage(f"expected short channel ids of 8 bytes each, got {len(packed)} bytes")
    ids = struct.unpack(f">{len(packed) // 8}Q", packed)
    if any(later <= earlier for earlier, later in pairwise(ids)):
        raise MalformedMessage(f"expected the short channel ids of a {_NAMES[kind]} to rise, they do not")
    return fixed, ids, raw[stop:]


def _uncompressed(encoded: bytes) -> bytes:
    """What stands behind the encoding type, which must be 0."""
    if encoded[:1] != _UNCOMPRESSED:
        raise MalformedMessage(
            f"expected uncompressed data (encoding type 0), got type {encoded[0] if encoded else 'none'}: "
            "zlib is no longer a part of BOLT 7"
        )
    return encoded[1:]


def _fields(stream: bytes, known: Collection[int]) -> dict[int, bytes]:
    """The values of the `known` types in a message's TLV stream."""
    try:
        return tlv_values(stream, 0, len(stream), known)
    except DecodeError as error:
        raise MalformedMessage(str(error)) from None


def _flags(encoded: bytes, count: int) -> tuple[int, ...]:
    packed, flags, offset = _uncompressed(encoded), [], 0
    try:
        while offset < len(packed):
            flag, offset = decode_bigsize(packed, offset, len(packed))
            flags.append(flag)
    except DecodeError as error:
        raise MalformedMessage(str(error)) from None
    if len(flags) != count:
        raise MalformedMessage(f"expected query_flags for {count} short channel ids, got {len(flags)}")
    return tuple(flags)


def _one_bigsize(value: bytes) -> int:
    try:
        number, stop = decode_bigsize(value, 0, len(value))
    except DecodeError as error:
        raise MalformedMessage(str(error)) from None
    if stop != len(value):
        raise MalformedMessage(f"expected one BigSize of {stop} bytes, got {len(value)} bytes")
    return number


def _pairs(packed: bytes, count: int, name: str) -> tuple[Pair, ...]:
    if len(packed) != 8 * count:
        raise MalformedMessage(f"expected {name} for {count} short channel ids, got {len(packed)} bytes")
    return tuple(Pair(*pair) for pair in struct.iter_unpack(">II", packed))


def _pack_pairs(pairs: Sequence[Pair]) -> bytes:
    return b"".join(struct.pack(">II", *pair) for pair in pairs)


def _ids(short_channel_ids: Sequence[int]) -> bytes:
    """Short channel ids as they travel: length, encoding type, and each in 8 bytes."""
    packed = _UNCOMPRESSED + struct.pack(f">{len(short_channel_ids)}Q", *short_channel_ids)
    return _LENGTH.pack(len(packed)) + packed
