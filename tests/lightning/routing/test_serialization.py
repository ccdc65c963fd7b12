"""The graph's bytes: LDK's own, exact both ways, and total on anything else."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgsuper.lightning.chain_hash import MAINNET, REGTEST
from bgsuper.lightning.errors import GossipRefused, MalformedGraph
from bgsuper.lightning.routing import sample
from bgsuper.lightning.routing.gossip import NetworkGraph
from bgsuper.lightning.routing.records import ChannelInfo, ChannelUpdateInfo, NodeAnnouncementInfo, NodeInfo
from bgsuper.lightning.routing.serialization import decode_channel, decode_node, encode_channel, encode_node
from bgsuper.lightning.routing.sync import P2PGossipSync
from bgsuper.lightning.wire.bigsize import encode_bigsize, encode_tlv
from tests.lightning import gossip_network as net
from tests.lightning.gossip_network import NOW

LDK = {
    name: bytes.fromhex(text)
    for name, text in json.loads(Path(__file__).parents[2].joinpath("vectors", "ldk_graph.json").read_text()).items()
}


def real_graph() -> NetworkGraph:
    sync = P2PGossipSync(NetworkGraph(MAINNET))
    for raw in sample.messages():
        try:
            sync.handle_message(raw, sample.NOW)
        except GossipRefused:
            pass
    return sync.network_graph


REAL = real_graph()
WRITTEN = REAL.write()


# -- LDK's own bytes --------------------------------------------------------------------------------------------------


def test_ldks_channel_is_read_and_written_alike() -> None:
    """rust-lightning's record of a channel with both directions decodes to its test's values and encodes again to
    the same bytes."""
    terms = ChannelUpdateInfo(23, True, 42, 1234, 5678, 9, 10, None)
    info = decode_channel(LDK["channel_with_two_directions"])
    assert (info.one_to_two, info.two_to_one) == (terms, terms)
    assert (info.capacity_sats, info.announcement_message, info.announcement_received_time) == (None, None, 87654)
    assert encode_channel(info) == LDK["channel_with_two_directions"]


@pytest.mark.parametrize("name", ["channel_with_undecodable_updates", "channel_without_htlc_maximum"])
def test_a_direction_that_means_nothing_is_dropped(name: str) -> None:
    """A malformed update costs its direction and not the channel (LDK ChannelUpdateInfoDeserWrapper)."""
    info = decode_channel(LDK[name])
    assert (info.one_to_two, info.two_to_one, info.announcement_received_time) == (None, None, 87654)


def test_a_nodes_word_that_means_nothing_is_dropped() -> None:
    """A node with an invalid hostname is read without its announcement (LDK NodeAnnouncementInfoDeserWrapper)."""
    assert decode_node(LDK["node_with_invalid_hostname"]) is None


def test_old_node_announcements_keep_their_addresses() -> None:
    """Without the message itself, the fields beside it count."""
    body = encode_tlv(2, LDK["old_node_announcement_with_addresses"]) + encode_tlv(4, b"")
    info = decode_node(encode_bigsize(len(body)) + body)
    assert info is not None
    assert info.addresses == bytes.fromhex("05014104d2")
    assert info.announcement_message is None


def test_the_layout_by_hand() -> None:
    """A graph of one channel, laid out byte for byte as rust-lightning v0.1 documents it."""
    graph = NetworkGraph(REGTEST)
    message, update = net.announcement(7, features=b"\x01"), net.update(7, 1, 1, disable=True)
    graph.update_channel_from_announcement(message, NOW, capacity_sats=5000)
    graph.update_channel(update, NOW)
    graph.last_rapid_gossip_sync_timestamp = 258
    raw_update, raw_message = update.encode()[2:], message.encode()[2:]
    terms = (
        b"\x00\x04" + NOW.to_bytes(4, "big") + bytes.fromhex("020100 04020050 06080000000000000001")
        + bytes.fromhex("08090900000000000f4240 0a0d0c0004000003e8020400000064")
        + b"\x0c" + bytes([len(raw_update) + 1, len(raw_update) + 1]) + raw_update
    )  # fmt: skip
    stream = bytes([len(terms)]) + terms

    def long(length: int) -> bytes:
        return b"\xfd" + length.to_bytes(2, "big")

    channel = (
        bytes.fromhex("0003000101 0108") + NOW.to_bytes(8, "big")
        + b"\x02\x21" + net.NODES[0].public + bytes.fromhex("040100")
        + b"\x06\x21" + net.NODES[1].public + b"\x08" + bytes([len(stream) + 1, len(stream) + 1]) + stream
        + bytes.fromhex("0a09090000000000001388")
        + b"\x0c" + long(len(raw_message) + 3) + long(len(raw_message) + 1) + raw_message
    )  # fmt: skip
    node = bytes.fromhex("0a 0408 0000000000000007")
    assert graph.write() == (
        b"\x01\x01" + REGTEST + (1).to_bytes(8, "big") + (7).to_bytes(8, "big") + long(len(channel)) + channel
        + (2).to_bytes(8, "big") + net.NODES[0].public + node + net.NODES[1].public + node
        + bytes.fromhex("06010400000102")
    )  # fmt: skip


# -- round trips ------------------------------------------------------------------------------------------------------


def test_the_real_graph_survives_writing_and_reading() -> None:
    """read(write()) is the same graph, and it writes the same bytes."""
    copy = NetworkGraph.read(WRITTEN)
    assert copy.chain_hash == MAINNET
    assert copy.channels == REAL.channels
    assert copy.nodes == REAL.nodes
    assert copy.write() == WRITTEN


@pytest.mark.parametrize("timestamp", [None, 0, 0xFFFF_FFFF])
def test_the_sync_timestamp_survives(timestamp: int | None) -> None:
    """The time of the last rapid gossip sync is kept, and so is its absence."""
    graph = NetworkGraph(REGTEST)
    graph.last_rapid_gossip_sync_timestamp = timestamp
    assert NetworkGraph.read(graph.write()).last_rapid_gossip_sync_timestamp == timestamp


u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
short = st.binary(max_size=300)
terms = st.none() | st.builds(
    ChannelUpdateInfo, u32, st.booleans(), u16, u64, u64, u32, u32,
    st.none() | short.map(lambda excess: net.update(1, 0, 0, excess=excess).encode()),
)  # fmt: skip
node_id = st.binary(min_size=33, max_size=33)
channels = st.builds(
    ChannelInfo, short, node_id, node_id, terms, terms, st.none() | u64,
    st.none() | short.map(lambda excess: net.announcement(1, excess=excess).encode()), u64,
)  # fmt: skip


@given(channels)
def test_channel_round_trip(info: ChannelInfo) -> None:
    """Every channel that can be held is decoded from its record unchanged, whatever the lengths within."""
    assert decode_channel(encode_channel(info)) == info


@given(
    st.none()
    | st.builds(
        NodeAnnouncementInfo, short, u32, st.binary(min_size=3, max_size=3), st.binary(min_size=32, max_size=32),
        st.sampled_from([b"", b"\x01" + bytes(6), b"\x05\x01a\0\1"]), st.none(),
    ),
    st.sets(u64, max_size=80),
)  # fmt: skip
def test_node_round_trip(announcement: NodeAnnouncementInfo | None, scids: set[int]) -> None:
    """A node's record gives back what it says of itself, and lists its channels in order."""
    record = encode_node(NodeInfo(announcement, frozenset(scids)))
    assert decode_node(record) == announcement
    assert record.endswith(b"".join(scid.to_bytes(8, "big") for scid in sorted(scids)))


# -- totality ---------------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_graph_is_read_or_refused_in_one_line(data: st.DataObject) -> None:
    """Bytes changed, cut or added: a graph that holds together, or MalformedGraph that says what to do."""
    mutated = bytearray(WRITTEN[: data.draw(st.integers(0, 6000))] if data.draw(st.booleans()) else WRITTEN)
    for _ in range(data.draw(st.integers(0, 3))):
        if mutated:
            # The front has the counts and the densest structure.
            bound = data.draw(st.sampled_from([60, 3000, len(mutated)]))
            mutated[data.draw(st.integers(0, min(bound, len(mutated)) - 1))] = data.draw(st.integers(0, 255))
    mutated += data.draw(st.binary(max_size=3))
    try:
        graph = NetworkGraph.read(bytes(mutated))
    except MalformedGraph as error:
        refusal = str(error)
    else:
        refusal = ""
        assert_whole(graph)
    assert "\n" not in refusal


def assert_whole(graph: NetworkGraph) -> None:
    """Channels and nodes name each other, and the graph is written so that it can be read again."""
    for scid, channel in graph.channels.items():
        assert scid in graph.nodes[channel.node_one].channels
        assert scid in graph.nodes[channel.node_two].channels
    assert all(info.channels <= set(graph.channels) and info.channels for info in graph.nodes.values())
    assert NetworkGraph.read(graph.write()).channels == graph.channels


@given(st.binary(max_size=400))
def test_any_bytes_as_records(data: bytes) -> None:
    """The record decoders are total."""
    for decode in (decode_channel, decode_node, NetworkGraph.read):
        try:
            decode(data)
        except MalformedGraph:
            pass


@pytest.mark.parametrize("lie", [2**16, 2**32, 2**64 - 1])
@pytest.mark.parametrize("offset", [34, len(WRITTEN) - 1])
def test_lying_counts_cost_nothing(lie: int, offset: int) -> None:
    """A count of 2^64 channels or nodes allocates nothing: it fails where the bytes end."""
    data = WRITTEN[:offset] + lie.to_bytes(8, "big")
    tracemalloc.start()
    try:
        with pytest.raises(MalformedGraph):
            NetworkGraph.read(data)
        assert tracemalloc.get_traced_memory()[1] < 20 * len(WRITTEN)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "expected version 1"),
        (b"\x02\x02" + WRITTEN[2:], "expected version 1"),
        (WRITTEN[:20], "expected 8 bytes"),
        (WRITTEN[:-1], "damaged"),
        (WRITTEN + b"\0", "announces 0 bytes, 1 came"),
        (WRITTEN[:-1] + b"\x02\x02\x00", "unknown even type 2"),
    ],
)
def test_what_is_no_graph(data: bytes, match: str) -> None:
    """Other versions, cuts, trailing bytes and unknown even types are refused; a cut never passes for a small graph."""
    with pytest.raises(MalformedGraph, match=match):
        NetworkGraph.read(data)


def tlv(*records: tuple[int, str]) -> bytes:
    """A TLV stream behind its length."""
    body = b"".join(encode_tlv(kind, bytes.fromhex(value)) for kind, value in records)
    return encode_bigsize(len(body)) + body


ID = "02" * 33
CHANNEL = {0: "0000", 2: ID, 6: ID, 10: "00", 12: "00"}


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        *(({kind: None}, f"lacks its TLV {kind}") for kind in CHANNEL),
        ({0: "000101" + "01"}, "features behind their 2-byte length"),
        ({0: "00"}, "features behind their 2-byte length"),
        ({1: "00"}, "field of 8 bytes, got 1"),
        ({2: "02"}, "field of 33 bytes, got 1"),
        ({10: "08" + "00" * 8}, "optional value announces 7 bytes, 8 came"),
        ({10: "0000"}, "optional value announces"),
        ({12: "050000"}, "optional value announces 4 bytes, 2 came"),
        ({12: "030000"}, "channel_announcement of at least"),
        ({14: ""}, "unknown even type 14"),
    ],
)
def test_what_is_no_channel(changed: dict[int, str | None], match: str) -> None:
    """A channel's record that lacks a field, or has one of another form, is refused by what is wrong with it."""
    good = {kind: value for kind, value in (CHANNEL | changed).items() if value is not None}
    assert decode_channel(tlv(*sorted(CHANNEL.items()))).announcement_received_time == 0
    with pytest.raises(MalformedGraph, match=match):
        decode_channel(tlv(*sorted(good.items())))


TERMS = {
    0: "00000001",
    2: "01",
    4: "0002",
    6: "00" * 8,
    8: "09" + "00" * 8,
    10: tlv((0, "00000003"), (2, "00" * 4)).hex(),
    12: "00",
}


@pytest.mark.parametrize(
    "changed", [{0: None}, {2: "02"}, {2: "0001"}, {8: "00"}, {10: "00"}, {12: "030102"}, {14: ""}, {4: "000002"}]
)
def test_what_is_no_direction(changed: dict[int, str | None]) -> None:
    """A direction of another form is absent, and the channel stays."""

    def channel(terms: dict[int, str]) -> ChannelInfo:
        stream = tlv(*sorted(terms.items()))
        return decode_channel(tlv(*sorted((CHANNEL | {4: (encode_bigsize(len(stream) + 1) + stream).hex()}).items())))

    assert channel(TERMS).one_to_two == ChannelUpdateInfo(1, True, 2, 0, 0, 3, 0, None)
    assert channel({kind: value for kind, value in (TERMS | changed).items() if value is not None}).one_to_two is None


@pytest.mark.parametrize(
    ("records", "match"), [((), "lacks its TLV 4"), (((4, "00" * 9),), "9 bytes"), (((4, ""), (6, "")), "even type 6")]
)
def test_what_is_no_node(records: tuple[tuple[int, str], ...], match: str) -> None:
    """A node's record without its list of channels, or with one of another form, is refused."""
    with pytest.raises(MalformedGraph, match=match):
        decode_node(tlv(*records))


def test_an_unknown_address_alone_is_no_announcement() -> None:
    """Fields that no message vouches for hold addresses of known types only, as in LDK."""
    fields = [(0, "0000"), (2, "00" * 4), (4, "00" * 3), (6, "00" * 32), (10, "7700")]
    assert decode_node(tlv((2, tlv(*fields).hex()), (4, ""))) is None
    assert decode_node(tlv((2, tlv(*fields[:-1], (10, "")).hex()), (4, ""))) is not None


def test_later_fields_of_odd_type_are_skipped() -> None:
    """LDK may add odd TLVs to any record; they do not hurt us."""
    assert NetworkGraph.read(WRITTEN[:-1] + b"\x03\x0d\x01\x00").channels == REAL.channels
    record = LDK["channel_with_two_directions"]
    longer = encode_bigsize(len(record) - 1 + 3) + record[1:] + b"\x0d\x01\xff"
    assert decode_channel(longer) == decode_channel(record)


def test_a_channels_nodes_must_be_stored() -> None:
    """A channel of a node that is not listed is refused, as in LDK."""
    graph = NetworkGraph(REGTEST)
    graph.update_channel_from_announcement(net.announcement(1), NOW)
    data = graph.write()
    node = len(net.NODES[0].public) + 11
    without = data[: -2 * node - 1 - 8] + (1).to_bytes(8, "big") + data[-node - 1 :]
    with pytest.raises(
        MalformedGraph, match=f"0x0x1 belongs to a node that is not stored, {net.NODES[0].public.hex()}"
    ):
        NetworkGraph.read(without)
