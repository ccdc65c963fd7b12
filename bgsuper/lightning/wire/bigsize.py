"""BigSize and TLV streams: the integers and extensible records of BOLT 1.

BigSize takes 1, 3, 5 or 9 bytes and must be minimal. A TLV stream is a run of (BigSize type, BigSize length, value)
with strictly ascending types. So each content has exactly one encoding, and whoever decodes it can rely on that.
Decoders raise `DecodeError` with what was expected and where.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ...errors import DecodeError


def encode_bigsize(value: int) -> bytes:
    """The minimal encoding of 0 <= `value` < 2^64."""
    if value < 0xFD:
        return value.to_bytes(1, "big")
    if value < 0x10000:
        return b"\xfd" + value.to_bytes(2, "big")
    if value < 0x1_0000_0000:
        return b"\xfe" + value.to_bytes(4, "big")
    return b"\xff" + value.to_bytes(8, "big")


_EXTRA_BYTES = {0xFD: 2, 0xFE: 4, 0xFF: 8}
_SMALLEST = {0xFD: 0xFD, 0xFE: 0x10000, 0xFF: 0x1_0000_0000}


def decode_bigsize(data: bytes, offset: int, end: int) -> tuple[int, int]:
    """(value, offset behind it) of the BigSize at `offset`, which must lie before `end`."""
    if offset >= end:
        raise DecodeError(f"expected a BigSize at byte {offset}, but the data ends there")
    first = data[offset]
    offset += 1
    if first < 0xFD:
        return first, offset
    stop = offset + _EXTRA_BYTES[first]
    if stop > end:
        raise DecodeError(f"the BigSize at byte {offset - 1} needs {stop - offset} more bytes, {end - offset} are left")
    value = int.from_bytes(data[offset:stop], "big")
    if value < _SMALLEST[first]:
        raise DecodeError(f"expected a minimal BigSize at byte {offset - 1}, got {value} in {stop - offset + 1} bytes")
    return value, stop


def tlv_records(data: bytes, offset: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(type, start, stop) of each record of the TLV stream in ``data[offset:end]``, without copying a value."""
    last = -1
    while offset < end:
        # Nearly all types and lengths take one byte, and a network graph has millions of them.
        kind, start = data[offset], offset + 1
        if kind >= 0xFD:
            kind, start = decode_bigsize(data, offset, end)
        if kind <= last:
            raise DecodeError(f"expected a TLV type above {last} at byte {offset}, got {kind}")
        if start < end and data[start] < 0xFD:
            length, start = data[start], start + 1
        else:
            length, start = decode_bigsize(data, start, end)
        stop = start + length
        if stop > end:
            raise DecodeError(f"the TLV {kind} at byte {offset} announces {length} bytes, {end - start} are left")
        yield kind, start, stop
        last, offset = kind, stop


def tlv_values(data: bytes, offset: int, end: int, known: Collection[int]) -> dict[int, bytes]:
    """The values of the `known` types in the TLV stream of ``data[offset:end]``, by type. Unknown odd types are
    skipped, unknown even ones a `DecodeError` (BOLT 1)."""
    values: dict[int, bytes] = {}
    for kind, start, stop in tlv_records(data, offset, end):
        if kind in known:
            values[kind] = data[start:stop]
        elif kind % 2 == 0:
            raise DecodeError(f"a TLV of the unknown even type {kind} must be understood: upgrade")
    return values


def framed_tlv_values(stream: bytes, known: Collection[int]) -> dict[int, bytes]:
    """`tlv_values` of a stream behind its BigSize length, as LDK stores them; `stream` must be the whole of it."""
    length, start = decode_bigsize(stream, 0, len(stream))
    if length != len(stream) - start:
        raise DecodeError(f"a TLV stream announces {length} bytes, {len(stream) - start} came")
    return tlv_values(stream, start, len(stream), known)


def encode_tlv(kind: int, value: bytes) -> bytes:
    """One record of a TLV stream."""
    return encode_bigsize(kind) + encode_bigsize(len(value)) + value
