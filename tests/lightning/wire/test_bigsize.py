"""BigSize and TLV streams."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import DecodeError
from bgsuper.lightning.wire.bigsize import decode_bigsize, encode_bigsize, encode_tlv, tlv_records

VECTORS: dict[str, Any] = json.loads(Path(__file__).parents[2].joinpath("vectors", "bolt1.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["bigsize_decoding"], ids=lambda v: v["name"])
def test_bolt1_decoding(vector: dict[str, Any]) -> None:
    """BOLT 1 appendix A: each vector gives its value, or fails where the specification says that it must."""
    data = bytes.fromhex(vector["bytes"])
    if "exp_error" in vector:
        with pytest.raises(DecodeError):
            decode_bigsize(data, 0, len(data))
    else:
        assert decode_bigsize(data, 0, len(data)) == (vector["value"], len(data))


@pytest.mark.parametrize("vector", VECTORS["bigsize_encoding"], ids=lambda v: v["name"])
def test_bolt1_encoding(vector: dict[str, Any]) -> None:
    """BOLT 1 appendix A: each value has the bytes of its vector."""
    assert encode_bigsize(vector["value"]).hex() == vector["bytes"]


@pytest.mark.parametrize(
    "vector",
    VECTORS["tlv_decoding_failures"] + VECTORS["tlv_stream_decoding_failures"],
    ids=lambda v: f"{v['reason']} {v['stream'][:16]}",
)
def test_bolt1_streams_that_must_fail(vector: dict[str, Any]) -> None:
    """BOLT 1 appendix B: streams that are cut, not minimal or out of order fail, whatever their types mean."""
    stream = bytes.fromhex(vector["stream"])
    with pytest.raises(DecodeError):
        list(tlv_records(stream, 0, len(stream)))


@given(st.integers(0, 2**64 - 1), st.binary(max_size=4), st.binary(max_size=4))
def test_bigsize_round_trip(value: int, before: bytes, behind: bytes) -> None:
    """What is encoded is decoded again, and only its own bytes are read."""
    data = before + encode_bigsize(value) + behind
    assert decode_bigsize(data, len(before), len(data)) == (value, len(data) - len(behind))


@given(st.dictionaries(st.one_of(st.integers(0, 600), st.integers(0, 2**64 - 1)), st.binary(max_size=300)))
def test_stream_round_trip(records: dict[int, bytes]) -> None:
    """Records in ascending order come back as they were, also where types and lengths take several bytes."""
    stream = b"".join(encode_tlv(kind, records[kind]) for kind in sorted(records))
    assert {kind: stream[start:stop] for kind, start, stop in tlv_records(stream, 0, len(stream))} == records


@given(st.binary(max_size=80), st.integers(0, 80))
def test_stream_is_total_and_stays_inside(data: bytes, end: int) -> None:
    """Any bytes give records within the bounds given, or DecodeError."""
    end = min(end, len(data))
    try:
        records = list(tlv_records(data, 0, end))
    except DecodeError:
        return
    assert all(start <= stop <= end for _, start, stop in records)
    assert b"".join(encode_tlv(kind, data[start:stop]) for kind, start, stop in records) == data[:end]
