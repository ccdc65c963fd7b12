"""ProbabilisticScorer: what it learns from paths, LDK's bytes, steps, hostile input."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.lightning.chain_hash import REGTEST
from bgsuper.lightning.errors import MalformedScorer
from bgsuper.lightning.routing.gossip import NetworkGraph
from bgsuper.lightning.routing.liquidity import NS_PER_S, ChannelLiquidity
from bgsuper.lightning.routing.scorer_serialization import (
    ENTRY_BYTES,
    decode_scorer,
    encode_header,
    encode_liquidity,
    liquidity_of,
)
from bgsuper.lightning.routing.scoring import STEP_CHANNELS, ProbabilisticScorer
from bgsuper.lightning.wire.bigsize import encode_bigsize, encode_tlv
from tests.lightning import gossip_network as net
from tests.lightning.gossip_network import NODES, NOW


@dataclass
class Hop:
    pubkey: bytes
    short_channel_id: int


@dataclass
class Route:
    hops: Sequence[Hop]
    msat: int

    def final_value_msat(self) -> int:
        return self.msat


def new_graph(channels: int = 2) -> NetworkGraph:
    """Channel 1 joins nodes 0 and 1, channel 2 nodes 1 and 2, and so on in turns; 1,000 sat each."""
    graph = NetworkGraph(REGTEST)
    for scid in range(1, channels + 1):
        pair = (0, 1) if scid % 2 else (1, 2)
        graph.update_channel_from_unsigned_announcement(net.announcement(scid, *pair), NOW, capacity_sats=1000)
        for direction in (0, 1):
            graph.update_channel_unsigned(net.update(scid, pair[direction], direction, NOW), NOW)
    return graph


def route(msat: int = 400_000) -> Route:
    """From node 0 over 1 to 2."""
    return Route([Hop(NODES[1].public, 1), Hop(NODES[2].public, 2)], msat)


def bounds(scorer: ProbabilisticScorer, scid: int) -> tuple[int, int]:
    directed = scorer.channels[scid].directed(True, 1_000_000)
    return directed.min_msat, directed.max_msat


def test_a_payment_that_failed() -> None:
    """The channels before the failure could carry it, that one could not, those behind it were never asked."""
    scorer = ProbabilisticScorer(new_graph())
    scorer.payment_path_failed(route(), 1, NOW)
    assert (list(scorer.channels), bounds(scorer, 1)) == ([1], (0, 400_000))
    scorer.payment_path_failed(route(300_000), 2, NOW)
    assert (bounds(scorer, 1), bounds(scorer, 2)) == ((300_000, 400_000), (0, 300_000))


def test_a_payment_that_arrived() -> None:
    """Its amount is on the other side of each channel."""
    scorer = ProbabilisticScorer(new_graph())
    scorer.payment_path_successful(route(), NOW)
    assert (bounds(scorer, 1), bounds(scorer, 2)) == ((0, 600_000), (0, 600_000))


def test_probes() -> None:
    """One that failed teaches as a payment does; one that came through teaches that all could carry it."""
    scorer = ProbabilisticScorer(new_graph())
    scorer.probe_successful(route(), NOW)
    assert (bounds(scorer, 1), bounds(scorer, 2)) == ((400_000, 1_000_000), (400_000, 1_000_000))
    scorer.probe_failed(route(700_000), 2, NOW)
    assert bounds(scorer, 2) == (400_000, 700_000)


def test_against_the_grain() -> None:
    """From the greater node to the lesser: the bounds change places."""
    scorer = ProbabilisticScorer(new_graph())
    scorer.payment_path_failed(Route([Hop(NODES[0].public, 1)], 100_000), 1, NOW)
    assert bounds(scorer, 1) == (900_000, 1_000_000)


def test_what_teaches_nothing() -> None:
    """A channel nobody announced, one that lacks a direction, a node that does not belong to it."""
    graph = new_graph()
    graph.update_channel_from_unsigned_announcement(net.announcement(3, 0, 2), NOW)
    graph.update_channel_unsigned(net.update(3, 0, 0, NOW), NOW)
    scorer = ProbabilisticScorer(graph)
    for hop in (Hop(NODES[1].public, 99), Hop(NODES[2].public, 3), Hop(NODES[2].public, 1)):
        scorer.payment_path_successful(Route([hop], 1000), NOW)
    assert not scorer.channels


def test_an_unknown_capacity_is_each_directions_own() -> None:
    """Towards a node it is the other node's maximum that counts."""
    graph = NetworkGraph(REGTEST)
    graph.update_channel_from_unsigned_announcement(net.announcement(1), NOW)
    for direction, most in ((0, 600_000), (1, 200_000)):
        graph.update_channel_unsigned(net.update(1, direction, direction, NOW, htlc_maximum_msat=most), NOW)
    for target, most in ((1, 600_000), (0, 200_000)):
        scorer = ProbabilisticScorer(graph)
        scorer.payment_path_failed(Route([Hop(NODES[target].public, 1)], 50_000), 1, NOW)
        directed = scorer.channels[1].directed(target == 1, most)
        assert (directed.min_msat, directed.max_msat) == (0, 50_000)


def test_an_unknown_capacity_is_what_the_sender_will_forward() -> None:
    """LDK `EffectiveCapacity::AdvertisedMaxHTLC`."""
    graph = NetworkGraph(REGTEST)
    graph.update_channel_from_unsigned_announcement(net.announcement(1), NOW)
    for direction in (0, 1):
        graph.update_channel_unsigned(net.update(1, direction, direction, NOW), NOW)
    terms = graph.channels[1].one_to_two
    assert terms is not None
    scorer = ProbabilisticScorer(graph)
    scorer.payment_path_failed(Route([Hop(NODES[1].public, 1)], 10), 1, NOW)
    assert scorer.channels[1].max_offset_msat == terms.htlc_maximum_msat - 10


def test_time_passes_in_steps_and_forgets() -> None:
    """Each step looks at some channels only; what is not worth keeping goes, what is written says when it faded."""
    count = 2 * STEP_CHANNELS + 1
    scorer = ProbabilisticScorer(new_graph(count))
    for scid in range(1, count + 1):
        scorer.payment_path_failed(Route([Hop(NODES[1].public, scid)], 1000), scid, NOW)
    assert sum(1 for _ in scorer.time_passing(NOW + 1800)) == 3
    assert {each.last_updated for each in scorer.channels.values()} == {(NOW + 1800) * NS_PER_S}
    scorer.time_passed(NOW + 3 * 365 * 24 * 3600)
    assert not scorer.channels


# -- bytes ------------------------------------------------------------------------------------------------------------

u64 = st.integers(0, 2**64 - 1)
histories = st.lists(st.integers(0, 0xFFFF), min_size=32, max_size=32).map(lambda words: array("H", words))
times = st.integers(0, 2**40).map(lambda seconds: seconds * NS_PER_S + seconds % 7)
liquidities = st.builds(ChannelLiquidity, times, u64, u64, histories, histories, times)


def encoded(channels: dict[int, ChannelLiquidity]) -> bytes:
    entries = (pack(">Q", scid) + encode_liquidity(channels[scid]) for scid in sorted(channels))
    return encode_header(len(channels)) + b"".join(entries)


@given(st.dictionaries(u64, liquidities, max_size=5))
def test_round_trip(channels: dict[int, ChannelLiquidity]) -> None:
    """Read and written again: the same."""
    data = encoded(channels)
    assert {scid: liquidity_of(record) for scid, record in decode_scorer(data).items()} == channels
    assert ProbabilisticScorer.read(data, new_graph(0)).write() == data


def test_the_size_of_an_entry() -> None:
    """reference: 195 bytes a channel; an empty scorer is a count of none."""
    assert ENTRY_BYTES == 195
    assert encoded({}) == bytes.fromhex("0400020000")


@pytest.mark.parametrize("count", [0xFFFE, 0xFFFF, 0x10000])
def test_the_number_of_channels_takes_two_bytes_or_ten(count: int) -> None:
    """LDK's collection length: from 65,535 on an escape and a u64."""
    header = encode_header(count)
    number = pack(">H", count) if count < 0xFFFF else b"\xff\xff" + pack(">Q", count - 0xFFFF)
    body = encode_tlv(0, number + bytes(count * ENTRY_BYTES))
    assert encode_bigsize(len(body)) + body == header + bytes(count * ENTRY_BYTES)


def test_a_copy_shows_the_moment_at_which_it_began() -> None:
    """Whatever is learnt between its pieces."""
    scorer = ProbabilisticScorer(new_graph())
    scorer.payment_path_failed(route(), 2, NOW)
    before, pieces = scorer.write(), scorer.pieces()
    taken = [next(pieces)]
    scorer.payment_path_successful(route(), NOW + 1)
    assert b"".join([*taken, *pieces]) == before != scorer.write()


def test_histories_of_old() -> None:
    """Eight octiles (LDK before 0.0.117) are spread over the buckets of each."""
    octiles = encode_tlv(0, pack(">8H", 24, 4, 3, 2, 1, 5, 8, 120))
    stream = b"".join(
        (
            encode_tlv(0, pack(">Q", 7)),
            encode_tlv(1, encode_bigsize(len(octiles)) + octiles),
            encode_tlv(2, pack(">Q", 8)),
            encode_tlv(4, pack(">QI", 5, 6)),
            encode_tlv(11, b"read past"),
        )
    )
    value = pack(">HQ", 1, 42) + encode_bigsize(len(stream)) + stream
    body = encode_tlv(0, value)
    (record,) = decode_scorer(encode_bigsize(len(body)) + body).values()
    liquidity = liquidity_of(record)
    assert list(liquidity.min_history) == [2] * 12 + [2, 2, 3, 2, 1, 5, 4, 4] + [10] * 12
    assert not any(liquidity.max_history)
    assert (liquidity.min_offset_msat, liquidity.max_offset_msat) == (7, 8)
    assert liquidity.last_updated == liquidity.history_updated == 5 * NS_PER_S + 6


def test_damage_is_a_typed_error_or_a_scorer() -> None:
    """A bit of every byte flipped; every length cut, which is never a scorer."""
    scorer = ProbabilisticScorer(new_graph())
    scorer.payment_path_failed(route(), 2, NOW)
    data = scorer.write()
    for at in range(len(data)):
        with pytest.raises(MalformedScorer):
            decode_scorer(data[:at])
        for bit in range(8):
            try:
                ProbabilisticScorer.read(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :], new_graph(0))
            except MalformedScorer:
                pass


@given(st.binary(max_size=300))
def test_total(data: bytes) -> None:
    """Any bytes give a scorer or `MalformedScorer`; a count of 2^64 allocates nothing."""
    for raw in (data, encode_header(1 << 40) + data):
        try:
            decode_scorer(raw)
        except MalformedScorer:
            pass
