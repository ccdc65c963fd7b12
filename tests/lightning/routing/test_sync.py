"""P2PGossipSync: real gossip, bad gossip, and what a failed payment teaches."""

from __future__ import annotations

import logging
import lzma
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgsuper.errors import BgsuperError
from bgsuper.lightning.chain_hash import MAINNET, REGTEST
from bgsuper.lightning.errors import (
    GossipRefused,
    MalformedMessage,
    NotNewer,
    PrivateUpdate,
    Stale,
    UnknownChannel,
    WrongChain,
)
from bgsuper.lightning.routing import sample
from bgsuper.lightning.routing.gossip import MAX_EXCESS_BYTES, NetworkGraph
from bgsuper.lightning.routing.network_update import (
    ChannelFailure,
    ChannelUpdateMessage,
    NodeFailure,
    handle_network_update,
)
from bgsuper.lightning.routing.sync import P2PGossipSync
from bgsuper.lightning.wire.gossip import ChannelAnnouncement, ChannelUpdate, NodeAnnouncement, decode_gossip
from tests.lightning.gossip_network import NODES, NOW, announcement, node, update

MESH = Path(__file__).parents[2].joinpath("vectors", "regtest_cln_mesh3x3.lnmsg.xz")
LDK_MESH = MESH.with_name("ldk_mesh3x3_graph.xz")
SAMPLE = list(sample.messages())


def mesh() -> Iterator[bytes]:
    data, offset = lzma.decompress(MESH.read_bytes()), 0
    while offset < len(data):
        start = offset + 2
        offset = start + int.from_bytes(data[offset:start], "big")
        yield data[start:offset]


@pytest.fixture
def sync() -> P2PGossipSync:
    return P2PGossipSync(NetworkGraph(REGTEST))


def test_core_lightnings_mesh(sync: P2PGossipSync) -> None:
    """Every message of nine real Core Lightning nodes is taken: 12 channels, both directions of each, 9 nodes."""
    messages = list(mesh())
    now = max(m.timestamp for m in map(decode_gossip, messages) if not isinstance(m, ChannelAnnouncement))
    assert all(sync.handle_message(raw, now) for raw in messages)
    assert sync.applied == {ChannelAnnouncement: 12, NodeAnnouncement: 9, ChannelUpdate: 24}
    assert not sync.refused
    channels, nodes = sync.network_graph.channels.values(), sync.network_graph.nodes.values()
    assert all(channel.one_to_two and channel.two_to_one for channel in channels)
    assert all(info.announcement_info for info in nodes)
    for raw in messages:
        with pytest.raises(GossipRefused):
            sync.handle_message(raw, now)


def test_ldk_makes_the_same_graph_of_the_same_mesh(sync: P2PGossipSync) -> None:
    """LDK, given the same 45 messages, wrote a graph that reads as ours does, but for the moment of receipt."""
    messages = list(mesh())
    now = max(m.timestamp for m in map(decode_gossip, messages) if not isinstance(m, ChannelAnnouncement))
    for raw in messages:
        sync.handle_message(raw, now)
    ldk = NetworkGraph.read(lzma.decompress(LDK_MESH.read_bytes()))
    ours = {scid: replace(info, announcement_received_time=0) for scid, info in sync.network_graph.channels.items()}
    assert {scid: replace(info, announcement_received_time=0) for scid, info in ldk.channels.items()} == ours
    assert ldk.nodes == sync.network_graph.nodes


def test_real_mainnet_gossip() -> None:
    """Of the slice that ships, everything is taken at its newest moment but the updates older than two weeks."""
    sync = P2PGossipSync(NetworkGraph(MAINNET))
    for raw in SAMPLE:
        try:
            sync.handle_message(raw, sample.NOW)
        except Stale:
            pass
    assert sync.applied == {ChannelAnnouncement: 242, NodeAnnouncement: 164, ChannelUpdate: 78}
    assert sync.refused == {Stale: 39}
    assert (len(sync.network_graph.channels), len(sync.network_graph.nodes)) == (242, 290)


def test_mainnet_gossip_is_nothing_to_regtest(sync: P2PGossipSync) -> None:
    """Each channel and update of another chain is refused as such; nothing enters."""
    for raw in SAMPLE[:242]:
        with pytest.raises(WrongChain):
            sync.handle_message(raw, sample.NOW)
    assert sync.refused == {WrongChain: 242}
    assert not sync.network_graph.channels


def full_graph() -> P2PGossipSync:
    sync = P2PGossipSync(NetworkGraph(MAINNET))
    for raw in SAMPLE:
        try:
            sync.handle_message(raw, sample.NOW)
        except GossipRefused:
            pass
    return sync


FULL = full_graph()


@settings(max_examples=300)
@given(st.sampled_from(SAMPLE), st.data())
def test_mutated_gossip_is_a_typed_line_and_loses_nothing(raw: bytes, data: st.DataObject) -> None:
    """However a real message is damaged, the error is typed and of one line, it is counted, and the graph's bytes
    stay. (No damage can be taken: signatures cover every byte behind them, and the signatures are damaged with it.)"""
    before, count = FULL.network_graph.write(), sum(FULL.refused.values())
    mutated = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] ^= data.draw(st.integers(1, 255))
    mutated = mutated[: data.draw(st.integers(len(mutated) // 2, len(mutated) * 2))]
    with pytest.raises(BgsuperError) as caught:
        FULL.handle_message(bytes(mutated), sample.NOW)
    assert isinstance(caught.value, MalformedMessage | GossipRefused)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert sum(FULL.refused.values()) == count + 1
    assert FULL.network_graph.write() == before


@pytest.mark.parametrize("excess", [MAX_EXCESS_BYTES, MAX_EXCESS_BYTES + 1])
def test_what_is_relayed(sync: P2PGossipSync, excess: int) -> None:
    """Messages with more than 1,024 bytes that we do not understand are applied and not passed on."""
    padding = bytes(excess)
    for message in (announcement(1, excess=padding), node(0, excess=padding), update(1, 0, 0, excess=padding)):
        assert sync.handle_message(message.encode(), NOW) == (excess <= MAX_EXCESS_BYTES)


def test_a_private_update_stays_private(sync: P2PGossipSync) -> None:
    """An update with dont_forward is for the channel's other end; it never enters the public graph."""
    sync.handle_message(announcement(1).encode(), NOW)
    with pytest.raises(PrivateUpdate, match="dont_forward"):
        sync.handle_message(update(1, 0, 0, flags=3).encode(), NOW)
    assert sync.network_graph.channels[1].one_to_two is None


def test_everything_is_counted(sync: P2PGossipSync) -> None:
    """Each message counts once: applied by its class, or refused by its error's."""
    sync.handle_message(announcement(1).encode(), NOW)
    sync.handle_message(update(1, 0, 0).encode(), NOW)
    for raw, error in ((update(1, 0, 0).encode(), NotNewer), (update(2, 0, 0).encode(), UnknownChannel)):
        with pytest.raises(error):
            sync.handle_message(raw, NOW)
    with pytest.raises(MalformedMessage):
        sync.handle_message(b"\x01\x02", NOW)
    assert sync.applied == {ChannelAnnouncement: 1, ChannelUpdate: 1}
    assert sync.refused == {NotNewer: 1, UnknownChannel: 1, MalformedMessage: 1}


def test_what_a_failed_payment_brought_is_not_passed_on(sync: P2PGossipSync) -> None:
    """Its terms are taken, dont_forward or not; the message is not kept: serving it would tell that we paid there."""
    sync.handle_message(announcement(1).encode(), NOW)
    for flags in (1, 3):
        handle_network_update(sync.network_graph, ChannelUpdateMessage(update(1, 0, 0, NOW + flags, flags=flags)), NOW)
        terms = sync.network_graph.channels[1].one_to_two
        assert terms is not None
        assert (terms.last_update, terms.last_update_message) == (NOW + flags, None)
    sync.network_graph.update_channel(update(1, 1, 1, flags=3), NOW)
    private = sync.network_graph.channels[1].two_to_one
    assert private is not None
    assert private.last_update_message is None


def enabled(graph: NetworkGraph) -> bool:
    terms = graph.channels[1].one_to_two
    return terms is not None and terms.enabled


def test_what_failed_payments_teach(sync: P2PGossipSync, caplog: pytest.LogCaptureFixture) -> None:
    """A signed update is applied, a forged one only logged; a closed channel goes, another is disabled; a node's
    failure changes nothing (LDK v0.0.106 NetGraphMsgHandler::handle_event)."""
    graph = sync.network_graph
    for scid in (1, 2):
        sync.handle_message(announcement(scid).encode(), NOW)
    handle_network_update(sync.network_graph, ChannelUpdateMessage(update(1, 0, 0)), NOW)
    assert enabled(graph)
    graph.take_changes()
    with caplog.at_level(logging.DEBUG):
        handle_network_update(sync.network_graph, ChannelUpdateMessage(update(1, 1, 0, NOW + 1)), NOW)
    assert "is not taken: expected signature" in caplog.text
    handle_network_update(sync.network_graph, NodeFailure(NODES[0].public, is_permanent=True), NOW)
    assert graph.take_changes() == ({}, set())
    handle_network_update(sync.network_graph, ChannelFailure(1, is_permanent=False), NOW)
    assert not enabled(graph)
    handle_network_update(sync.network_graph, ChannelFailure(1, is_permanent=True), NOW)
    assert set(graph.channels) == {2}


@dataclass(frozen=True)
class PaymentPathFailed:
    network_update: object


def test_an_event_teaches_only_if_it_carries_a_network_update() -> None:
    """The processor hands every event over before the user's handler sees it; most of them say nothing of gossip."""
    graph = NetworkGraph(REGTEST)
    sync = P2PGossipSync(graph, clock=lambda: NOW)
    graph.update_channel_from_announcement(announcement(1), NOW)
    for event in object(), PaymentPathFailed(None), PaymentPathFailed("closed"):
        sync.handle_event(event)
    assert set(graph.channels) == {1}
    sync.handle_event(PaymentPathFailed(ChannelFailure(1, is_permanent=True)))
    assert not graph.channels
