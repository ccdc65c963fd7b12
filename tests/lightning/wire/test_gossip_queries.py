"""Gossip queries: BOLT 7's vectors, exact round trips, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.lightning.errors import MalformedMessage
from bgsuper.lightning.wire.bigsize import encode_tlv
from bgsuper.lightning.wire.gossip_queries import (
    GossipQuery,
    GossipTimestampFilter,
    Pair,
    QueryChannelRange,
    QueryShortChannelIds,
    ReplyChannelRange,
    ReplyShortChannelIdsEnd,
    decode_gossip_query,
)

VECTORS: dict[str, Any] = json.loads(Path(__file__).parents[2].joinpath("vectors", "bolt7.json").read_text())
EXTENDED: list[dict[str, Any]] = VECTORS["extended_queries"]
CHAIN = bytes(range(32))

u32 = st.integers(0, 2**32 - 1)
chains = st.binary(min_size=32, max_size=32)
rising = st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=20).map(lambda ids: tuple(sorted(ids)))


def pairs(count: int) -> st.SearchStrategy[tuple[Pair, ...] | None]:
    return st.none() | st.lists(st.builds(Pair, u32, u32), min_size=count, max_size=count).map(tuple)


@st.composite
def short_channel_id_queries(draw: st.DrawFn) -> QueryShortChannelIds:
    ids = draw(rising)
    flags = st.lists(st.integers(0, 2**64 - 1), min_size=len(ids), max_size=len(ids)).map(tuple)
    return QueryShortChannelIds(draw(chains), ids, draw(st.none() | flags))


@st.composite
def range_replies(draw: st.DrawFn) -> ReplyChannelRange:
    ids = draw(rising)
    return ReplyChannelRange(
        draw(chains), draw(u32), draw(u32), draw(st.booleans()), ids, draw(pairs(len(ids))), draw(pairs(len(ids)))
    )


messages: st.SearchStrategy[GossipQuery] = st.one_of(
    short_channel_id_queries(),
    range_replies(),
    st.builds(ReplyShortChannelIdsEnd, chains, st.booleans()),
    st.builds(QueryChannelRange, chains, u32, u32, st.integers(0, 2**64 - 1)),
    st.builds(GossipTimestampFilter, chains, u32, u32),
)


def scid(text: str) -> int:
    block, transaction, output = map(int, text.split("x"))
    return block << 40 | transaction << 16 | output


def in_the_book(vector: dict[str, Any]) -> GossipQuery:
    """What a vector's description says, as our message."""
    said = vector["msg"]
    chain = bytes.fromhex(said["chainHash"])
    records = said.get("tlvStream", {}).get("records", [])
    if said["type"] == "QueryChannelRange":
        option = {"WANT_TIMESTAMPS": 1, "WANT_CHECKSUMS": 2}
        wanted = sum(option[name] for record in records for name in record.split(" | "))
        return QueryChannelRange(chain, said["firstBlockNum"], said["numberOfBlocks"], wanted)
    ids = tuple(map(scid, said["shortChannelIds"]["array"]))
    if said["type"] == "QueryShortChannelIds":
        return QueryShortChannelIds(chain, ids, tuple(records[0]["array"]) if records else None)
    times = said.get("timestamps", {}).get("timestamps")
    sums = said.get("checksums", {}).get("checksums")
    return ReplyChannelRange(
        chain,
        said["firstBlockNum"],
        said["numberOfBlocks"],
        bool(said["complete"]),
        ids,
        None if times is None else tuple(Pair(t["timestamp1"], t["timestamp2"]) for t in times),
        None if sums is None else tuple(Pair(c["checksum1"], c["checksum2"]) for c in sums),
    )


@pytest.mark.parametrize("vector", EXTENDED, ids=lambda vector: str(vector["msg"]["type"]))
def test_the_books_vectors(vector: dict[str, Any]) -> None:
    """Those in today's form decode to what they say and encode to the same bytes; those with zlib are refused."""
    raw = bytes.fromhex(vector["hex"])
    if "ZLIB" in json.dumps(vector["msg"]):
        with pytest.raises(MalformedMessage, match="zlib"):
            decode_gossip_query(raw)
        return
    message = decode_gossip_query(raw)
    assert message == in_the_book(vector)
    assert message.encode() == raw


def test_both_kinds_of_vectors_are_there() -> None:
    """The test above holds something of each."""
    zlib = ["ZLIB" in json.dumps(vector["msg"]) for vector in EXTENDED]
    assert (zlib.count(False), zlib.count(True)) == (5, 5)


@given(messages)
def test_round_trip(message: GossipQuery) -> None:
    """``decode(encode(message)) == message``, by its own type and by the table of all."""
    assert decode_gossip_query(message.encode()) == message


@given(messages, st.data())
def test_cut_anywhere(message: GossipQuery, data: st.DataObject) -> None:
    """A cut message is refused, or was cut behind its fixed part, where TLVs are optional."""
    raw = message.encode()
    cut = raw[: data.draw(st.integers(0, len(raw) - 1))]
    try:
        shorter = decode_gossip_query(cut)
    except MalformedMessage:
        return
    assert shorter != message
    assert cut == shorter.encode()


@given(st.binary(max_size=400), st.sampled_from(range(261, 266)))
def test_total(rest: bytes, kind: int) -> None:
    """Any bytes give a message or `MalformedMessage`."""
    try:
        decode_gossip_query(kind.to_bytes(2, "big") + rest)
    except MalformedMessage:
        pass


@pytest.mark.parametrize("ids", [(2, 1), (1, 1), (1, 3, 2)])
def test_ids_that_do_not_rise(ids: tuple[int, ...]) -> None:
    """BOLT 7: an uncompressed array in ascending order."""
    with pytest.raises(MalformedMessage, match="rise"):
        decode_gossip_query(QueryShortChannelIds(CHAIN, ids).encode())


def test_as_many_flags_as_ids() -> None:
    """One query_flag an id."""
    with pytest.raises(MalformedMessage, match="query_flags for 2"):
        decode_gossip_query(QueryShortChannelIds(CHAIN, (1, 2), (1,)).encode())


def test_as_many_pairs_as_ids() -> None:
    """Timestamps and checksums for each id, no more and no less."""
    for each in ({"timestamps": (Pair(1, 2),)}, {"checksums": (Pair(1, 2),) * 3}):
        with pytest.raises(MalformedMessage, match="for 2 short channel ids"):
            decode_gossip_query(ReplyChannelRange(CHAIN, 0, 1, True, (1, 2), **each).encode())


def test_half_an_id() -> None:
    """Ids have 8 bytes."""
    raw = QueryShortChannelIds(CHAIN, (1, 2)).encode()
    with pytest.raises(MalformedMessage, match="8 bytes each"):
        decode_gossip_query(raw[:34] + (16).to_bytes(2, "big") + raw[36:-1])


def test_no_encoding_at_all() -> None:
    """An empty list still says how it is encoded; a list without that byte is none."""
    with pytest.raises(MalformedMessage, match="got type none"):
        decode_gossip_query(QueryShortChannelIds(CHAIN, ()).encode()[:34] + b"\0\0")


def test_unknown_tlvs() -> None:
    """Odd ones are passed over, even ones refused."""
    raw = QueryChannelRange(CHAIN, 1, 2).encode()
    assert decode_gossip_query(raw + encode_tlv(5, b"x")) == QueryChannelRange(CHAIN, 1, 2)
    with pytest.raises(MalformedMessage, match="even type 4"):
        decode_gossip_query(raw + encode_tlv(4, b"x"))


def test_a_query_option_with_something_behind_it() -> None:
    """It is one BigSize."""
    with pytest.raises(MalformedMessage, match="one BigSize"):
        decode_gossip_query(QueryChannelRange(CHAIN, 1, 2).encode() + encode_tlv(1, b"\x01\x02"))


@pytest.mark.parametrize("raw", [b"", b"\1", b"\1\0", b"\1\x0a" + bytes(40)])
def test_none_of_ours(raw: bytes) -> None:
    """Another type, or not even one."""
    with pytest.raises(MalformedMessage, match="type 261 to 265"):
        decode_gossip_query(raw)


def test_a_range_ends_before_blocks_do() -> None:
    """first_blocknum + number_of_blocks may pass 2^32."""
    assert QueryChannelRange(CHAIN, 100, 50).end_blocknum == 150
    assert QueryChannelRange(CHAIN, 2**32 - 2, 2**32 - 1).end_blocknum == 2**32 - 1


def test_what_a_filter_passes() -> None:
    """first_timestamp <= timestamp < first_timestamp + timestamp_range."""
    wanted = GossipTimestampFilter(CHAIN, 100, 10)
    assert [wanted.passes(at) for at in (99, 100, 109, 110)] == [False, True, True, False]
