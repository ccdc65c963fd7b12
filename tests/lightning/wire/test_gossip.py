"""The three gossip messages: BOLT 7's layout, exact round trips, totality."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import DecodeError
from bgsuper.lightning.errors import MalformedMessage
from bgsuper.lightning.routing import sample
from bgsuper.lightning.wire.gossip import (
    ChannelAnnouncement,
    ChannelUpdate,
    GossipMessage,
    NodeAnnouncement,
    decode_gossip,
    scid_text,
)
from tests.lightning import gossip_network as net

VECTORS: dict[str, Any] = json.loads(Path(__file__).parents[2].joinpath("vectors", "bolt7.json").read_text())
SAMPLE = list(sample.messages())
#: The names that our messages give to BOLT 7's fields, where they differ.
RENAMED = {"len": None, "flen": None, "addrlen": None}
SIZES = {"signature": 64, "chain_hash": 32, "short_channel_id": 8, "point": 33, "u16": 2, "u32": 4, "u64": 8, "byte": 1}


def by_the_book(raw: bytes) -> dict[str, bytes]:
    """`raw` cut up by the specification's own field table: an independent, slow decoder."""
    table = next(m for m in VECTORS["messages"] if m["type"] == int.from_bytes(raw[:2], "big"))
    offset = 2
    fields: dict[str, bytes] = {}
    for entry in table["fields"]:
        count = entry["count"] if entry["count"] is not None else 1
        if isinstance(count, str):
            count = int.from_bytes(fields[count], "big")
        stop = offset + count * SIZES[entry["type"]]
        fields[entry["name"]], offset = raw[offset:stop], stop
    return fields | {"excess": raw[offset:]}


def as_bytes(value: bytes | int, size: int) -> bytes:
    return value if isinstance(value, bytes) else value.to_bytes(size, "big")


@pytest.mark.parametrize("kind", [256, 257, 258])
def test_fields_are_those_of_bolt7s_tables(kind: int) -> None:
    """On every real message each field holds what the specification's table puts there."""
    checked = 0
    for raw in SAMPLE:
        if int.from_bytes(raw[:2], "big") == kind:
            message, fields = decode_gossip(raw), by_the_book(raw)
            for name, expected in fields.items():
                if name not in RENAMED:
                    assert as_bytes(getattr(message, name), len(expected)) == expected, name
            checked += 1
    assert checked > 100


def test_real_messages_encode_to_their_own_bytes() -> None:
    """Encoding what was decoded gives the same bytes, from the fields alone, appended fields included."""
    appended = 0
    for raw in SAMPLE:
        message = decode_gossip(raw)
        rebuilt: GossipMessage = replace(message)
        assert rebuilt._raw is None
        assert message.encode() == rebuilt.encode() == raw
        assert rebuilt == message
        appended += bool(message.excess)
    assert appended == 17


signature = st.binary(min_size=64, max_size=64)
point = st.binary(min_size=33, max_size=33)
colour = st.binary(min_size=3, max_size=3)
hash_ = st.binary(min_size=32, max_size=32)
u8, u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
short = st.binary(max_size=40)
addresses = st.lists(
    st.sampled_from(
        [b"\x01" + bytes(6), b"\x02" + bytes(18), b"\x03" + bytes(12), b"\x04" + bytes(37), b"\x05\x01a\0\1"]
    )
).map(b"".join)
messages: st.SearchStrategy[GossipMessage] = st.one_of(
    st.builds(
        ChannelAnnouncement, *[signature] * 4, short, hash_, u64, *[point] * 4, excess=short
    ),
    st.builds(
        NodeAnnouncement, signature, short, u32, point, colour, hash_, addresses, excess=short
    ),
    st.builds(
        ChannelUpdate, signature, hash_, u64, u32, u8.map(lambda f: f | 1), u8, u16, u64, u32, u32, u64, excess=short
    ),
)  # fmt: skip


@given(messages)
def test_round_trip(message: GossipMessage) -> None:
    """Whatever a message holds, decoding its bytes gives it back."""
    raw = message.encode()
    decoded = decode_gossip(raw)
    assert decoded == message
    assert type(decoded) is type(message)
    assert decoded.encode() is raw


@given(st.sampled_from(SAMPLE), st.data())
def test_mutated_messages_decode_or_fail_with_one_line(raw: bytes, data: st.DataObject) -> None:
    """A real message with bytes changed, cut or added gives a message that encodes to those bytes, or a one-line
    DecodeError."""
    mutated = bytearray(raw)
    for _ in range(data.draw(st.integers(0, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(u8)
    mutated = mutated[: data.draw(st.integers(0, len(mutated)))] + data.draw(short)
    try:
        message = decode_gossip(bytes(mutated))
    except DecodeError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert replace(message).encode() == mutated
    assert "\n" not in refusal


@given(st.binary(max_size=600))
def test_any_bytes_decode_or_fail(raw: bytes) -> None:
    """Each decoder is total, also for messages of another type than its own."""
    for decode in (decode_gossip, ChannelAnnouncement.decode, NodeAnnouncement.decode, ChannelUpdate.decode):
        try:
            decode(raw)
        except MalformedMessage:
            pass


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (net.announcement(1, features=b"\x01\x02"), "channel_announcement"),
        (net.node(0, addresses=b"\x01" + bytes(6)), "node_announcement"),
        (net.update(1, 0, 0), "channel_update"),
    ],
    ids=["channel_announcement", "node_announcement", "channel_update"],
)
def test_every_truncation_is_malformed(message: GossipMessage, name: str) -> None:
    """A message cut anywhere is refused with its name, what was expected and what came."""
    raw = message.encode()
    for end in range(2, len(raw)):
        with pytest.raises(MalformedMessage, match=rf"{name} of at least \d+ bytes, got {end}: warn the peer"):
            decode_gossip(raw[:end])


def test_least_sizes_are_those_of_bolt7() -> None:
    """The size that an error names is the specification's minimum and the two bytes of type."""
    for table in VECTORS["messages"]:
        with pytest.raises(MalformedMessage, match=f"at least {table['min_payload_size'] + 2} bytes, got 2"):
            decode_gossip(table["type"].to_bytes(2, "big"))


def test_other_messages_are_not_gossip() -> None:
    """A type that is none of the three, or no type at all, is refused by name."""
    for raw in (b"", b"\x01", b"\x01\x03" + bytes(200)):
        with pytest.raises(MalformedMessage, match="256, 257 or 258"):
            decode_gossip(raw)
    with pytest.raises(MalformedMessage, match="expected a message of type 258, got type 257"):
        ChannelUpdate.decode(b"\x01\x01" + bytes(200))


def test_must_be_one() -> None:
    """An update without must_be_one is malformed, as in LDK: such messages once had no htlc_maximum_msat."""
    raw = bytearray(net.update(1, 0, 0).encode())
    raw[110] &= ~1
    with pytest.raises(MalformedMessage, match="must_be_one"):
        ChannelUpdate.decode(bytes(raw))


def test_addresses_cut_short() -> None:
    """An announcement whose addresses end within one of a known type is malformed, though its lengths add up."""
    with pytest.raises(MalformedMessage, match="the address of type 1 at byte 0 needs 6 bytes, 5 are left"):
        NodeAnnouncement.decode(net.node(0, addresses=b"\x01" + bytes(5)).encode())


def test_flags() -> None:
    """direction, disable and dont_forward stand at BOLT 7's bit positions."""
    channel, message = VECTORS["channel_flags_bits"], VECTORS["message_flags_bits"]
    base = replace(net.update(1, 0, 0), message_flags=1 << message["must_be_one"], channel_flags=0)
    assert (base.direction, base.disabled, base.dont_forward) == (0, False, False)
    assert replace(base, channel_flags=1 << channel["direction"]).direction == 1
    assert replace(base, channel_flags=1 << channel["disable"]).disabled
    assert replace(base, message_flags=1 | 1 << message["dont_forward"]).dont_forward


def test_short_channel_id_text() -> None:
    """A short channel id is written as BOLT 7 writes its example."""
    example = VECTORS["short_channel_id_example"]
    assert scid_text(int(example["hex"], 16)) == example["text"]


def test_messages_are_immutable_and_replace_forgets_the_bytes() -> None:
    """A changed copy never encodes to the bytes of the message it was made from."""
    decoded = ChannelUpdate.decode(net.update(1, 0, 0).encode())
    with pytest.raises(FrozenInstanceError):
        decoded.timestamp = 0  # type: ignore[misc]
    assert ChannelUpdate.decode(replace(decoded, timestamp=7).encode()).timestamp == 7
