"""LDK's bytes for the probabilistic scorer (rust-lightning v0.1 `routing::scoring`, `ChannelLiquidities`).

    Scorer    = {0: count, count x (u64 scid, Liquidity)}      count: u16, or FFFF and u64 (count - 65535)
    Liquidity = {0 u64 min offset, 2 u64 max offset, 4 Time, 5 {0: 32 x u16}, 7 {0: 32 x u16}, 9 Time}
    Time      = u64 seconds since 1970, u32 nanoseconds

`{...}` is a TLV stream behind its BigSize length. Types 1 and 3 are the histories of LDK before 0.0.117, in eight equal
parts; they are read and never written. Type 11, of LDK's main branch, is read past.

Rules of the decoder: total (a value or `MalformedScorer`), in memory bounded by a multiple of what came; unknown odd
types are skipped, unknown even ones are errors.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from typing import Final

from ...errors import DecodeError
from ..errors import MalformedScorer
from ..wire.bigsize import decode_bigsize, encode_bigsize, framed_tlv_values
from .liquidity import BUCKETS, NS_PER_S, ChannelLiquidity, no_history

_U64: Final = struct.Struct(">Q")
_TIME: Final = struct.Struct(">QI")
_HISTORY: Final = struct.Struct(f">{BUCKETS}H")
_OCTILES: Final = struct.Struct(">8H")
#: Every field is of fixed size, so the types and lengths between them never change.
_LIQUIDITY: Final = struct.Struct(f">3sQ2sQ2sQI5s{BUCKETS}H5s{BUCKETS}H2sQI")
_TAGS: Final = (
    b"\xba\x00\x08",
    b"\x02\x08",
    b"\x04\x0c",
    b"\x05\x43\x42\x00\x40",
    b"\x07\x43\x42\x00\x40",
    b"\x09\x0c",
)
#: A short channel id and its Liquidity.
ENTRY_BYTES: Final = _U64.size + _LIQUIDITY.size
#: Which of the 32 buckets an octile of old spreads over.
_OCTILE_BUCKETS: Final = ((0, 12), (12, 14), (14, 15), (15, 16), (16, 17), (17, 18), (18, 20), (20, 32))
_TYPES: Final = frozenset({0, 1, 2, 3, 4, 5, 7, 9})


def encode_liquidity(liquidity: ChannelLiquidity) -> bytes:
    """The Liquidity stream."""
    head, most, updated, lower, upper, tracked = _TAGS
    return _LIQUIDITY.pack(
        head,
        liquidity.min_offset_msat,
        most,
        liquidity.max_offset_msat,
        updated,
        *divmod(liquidity.last_updated, NS_PER_S),
        lower,
        *liquidity.min_history,
        upper,
        *liquidity.max_history,
        tracked,
        *divmod(liquidity.history_updated, NS_PER_S),
    )


def liquidity_of(record: bytes) -> ChannelLiquidity:
    """What `encode_liquidity` encoded; bytes from elsewhere are for `decode_scorer`."""
    fields = _LIQUIDITY.unpack(record)
    least, most, updated, tracked = fields[1], fields[3], fields[5:7], fields[-2:]
    lower, upper = fields[8 : 8 + BUCKETS], fields[9 + BUCKETS : 9 + 2 * BUCKETS]
    return ChannelLiquidity(
        updated[0] * NS_PER_S + updated[1],
        least,
        most,
        array("H", lower),
        array("H", upper),
        tracked[0] * NS_PER_S + tracked[1],
    )


def encode_header(count: int) -> bytes:
    """What stands before the first of `count` entries."""
    packed = count.to_bytes(2, "big") if count < 0xFFFF else b"\xff\xff" + _U64.pack(count - 0xFFFF)
    length = encode_bigsize(len(packed) + count * ENTRY_BYTES)
    return encode_bigsize(1 + len(length) + len(packed) + count * ENTRY_BYTES) + b"\0" + length + packed


def decode_scorer(data: bytes) -> dict[int, bytes]:
    """Each channel's liquidity by short channel id, as we encode it; raises `MalformedScorer`."""
    try:
        value = framed_tlv_values(data, frozenset({0}))[0]
        return dict(_entries(value))
    except MalformedScorer:
        raise
    except KeyError as missing:
        raise MalformedScorer(f"the scorer lacks its TLV {missing}: restore it or start anew") from None
    except (DecodeError, struct.error) as error:
        raise MalformedScorer(f"the scorer is damaged ({error}): restore it or start anew") from None


def _entries(value: bytes) -> Iterator[tuple[int, bytes]]:
    count, offset = int.from_bytes(value[:2], "big"), 2
    if len(value) < offset:
        raise MalformedScorer("the scorer ends before its number of channels: restore it or start anew")
    if count == 0xFFFF:
        count, offset = 0xFFFF + _U64.unpack_from(value, offset)[0], offset + _U64.size
    for _ in range(count):
        (scid,) = _U64.unpack_from(value, offset)
        length, start = decode_bigsize(value, offset + _U64.size, len(value))
        stop = start + length
        if stop > len(value):
            raise MalformedScorer(f"a liquidity announces {length} bytes, {len(value) - start} are left")
        yield scid, encode_liquidity(_liquidity(value[offset + _U64.size : stop]))
        offset = stop
    if offset != len(value):
        raise MalformedScorer(f"{len(value) - offset} bytes stand behind the scorer's {count} channels")


def _liquidity(stream: bytes) -> ChannelLiquidity:
    fields = framed_tlv_values(stream, _TYPES)
    updated = _time(fields[4])
    return ChannelLiquidity(
        updated,
        _sized(_U64, fields[0])[0],
        _sized(_U64, fields[2])[0],
        _history(fields.get(5), fields.get(1)),
        _history(fields.get(7), fields.get(3)),
        _time(fields[9]) if 9 in fields else updated,
    )


def _history(value: bytes | None, octiles: bytes | None) -> array[int]:
    if value is not None:
        return array("H", _sized(_HISTORY, framed_tlv_values(value, frozenset({0}))[0]))
    history = no_history()
    if octiles is not None:
        old = _sized(_OCTILES, framed_tlv_values(octiles, frozenset({0}))[0])
        for (start, stop), weight in zip(_OCTILE_BUCKETS, old, strict=True):
            for bucket in range(start, stop):
                history[bucket] = weight // (stop - start)
    return history


def _time(value: bytes) -> int:
    seconds, nanoseconds = _sized(_TIME, value)
    if nanoseconds >= NS_PER_S:
        raise MalformedScorer(f"expected less than {NS_PER_S} nanoseconds in a time, got {nanoseconds}")
    return int(seconds * NS_PER_S + nanoseconds)


def _sized(layout: struct.Struct, value: bytes) -> tuple[int, ...]:
    if len(value) != layout.size:
        raise MalformedScorer(f"expected a field of {layout.size} bytes, got {len(value)}")
    return layout.unpack(value)
