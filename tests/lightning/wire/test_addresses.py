"""Address descriptors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.lightning.errors import MalformedMessage
from bgsuper.lightning.wire.addresses import known_length

DESCRIPTORS = json.loads(Path(__file__).parents[2].joinpath("vectors", "bolt7.json").read_text())["address_descriptors"]
FIXED = [(entry["type"], entry["length_after_type"]) for entry in DESCRIPTORS if entry["length_after_type"]]
HOSTNAME = b"\x05\x0bexample.com\x26\x07"


@pytest.mark.parametrize(("kind", "length"), FIXED)
def test_fixed_sizes_are_those_of_bolt7(kind: int, length: int) -> None:
    """A descriptor takes its type and as many bytes as BOLT 7 says; one byte less is malformed."""
    whole = bytes([kind]) + bytes(length)
    assert known_length(whole) == len(whole)
    with pytest.raises(MalformedMessage, match=f"address of type {kind} at byte 0 needs {length} bytes"):
        known_length(whole[:-1])


def test_hostname() -> None:
    """A hostname has its length before it and its port behind it; it must be ASCII that names may hold."""
    assert known_length(HOSTNAME) == len(HOSTNAME)
    for cut in range(1, len(HOSTNAME)):
        with pytest.raises(MalformedMessage):
            known_length(HOSTNAME[:cut])
    with pytest.raises(MalformedMessage, match="other characters"):
        known_length(HOSTNAME.replace(b".", b"/"))


def test_an_unknown_type_ends_what_is_known() -> None:
    """What stands from the first unknown type on is not looked at (BOLT 7: descriptors ascend)."""
    ipv4 = b"\x01" + bytes(6)
    assert known_length(ipv4 + b"\x06anything" + ipv4) == len(ipv4)
    assert known_length(b"") == 0
    assert known_length(b"\x00" + ipv4) == 0


@given(st.binary(max_size=300))
def test_total(addresses: bytes) -> None:
    """Any bytes give a length within them, or MalformedMessage."""
    try:
        known = known_length(addresses)
    except MalformedMessage:
        return
    assert 0 <= known <= len(addresses)
    assert known_length(addresses[:known]) == known
