"""NetworkGraph: LDK's rules for what enters, what is refused, and what goes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from bgsuper.errors import BgsuperError
from bgsuper.lightning.chain_hash import MAINNET, REGTEST
from bgsuper.lightning.errors import (
    AlreadyAnnounced,
    BadSignature,
    FromTheFuture,
    GossipRefused,
    Implausible,
    NotNewer,
    RecentlyRemoved,
    Stale,
    UnknownChannel,
    UnknownNode,
    WrongChain,
)
from bgsuper.lightning.routing.gossip import (
    FUTURE_SECONDS,
    MAX_EXCESS_BYTES,
    MAX_VALUE_MSAT,
    REMOVED_SECONDS,
    STALE_SECONDS,
    NetworkGraph,
)
from bgsuper.lightning.wire.gossip import ChannelUpdate, GossipMessage, NodeAnnouncement
from tests.lightning import gossip_network as net
from tests.lightning.gossip_network import NODES, NOW, announcement, node, update


@pytest.fixture
def graph() -> NetworkGraph:
    """One channel, 1, between nodes 0 and 1, announced now."""
    graph = NetworkGraph(REGTEST)
    graph.update_channel_from_announcement(announcement(1), NOW)
    return graph


def refused(graph: NetworkGraph, error: type[BgsuperError], call: Callable[[], None], match: str | None = None) -> None:
    """`call` raises `error` in one line and leaves the graph, and what is known to be dirty, as they were."""
    graph.take_changes()
    before = graph.write()
    with pytest.raises(error, match=match) as caught:
        call()
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    assert graph.write() == before
    assert graph.take_changes() == ({}, set())


# -- announcements ----------------------------------------------------------------------------------------------------


def test_an_announced_channel_is_there_with_its_nodes(graph: NetworkGraph) -> None:
    """The channel, its message whole, and both nodes; no terms and no capacity yet."""
    channel = graph.channels[1]
    assert (channel.node_one, channel.node_two) == (NODES[0].public, NODES[1].public)
    assert (channel.one_to_two, channel.two_to_one, channel.capacity_sats) == (None, None, None)
    assert channel.announcement_message == announcement(1).encode()
    assert channel.announcement_received_time == NOW
    assert {key: info.channels for key, info in graph.nodes.items()} == {NODES[0].public: {1}, NODES[1].public: {1}}


def test_wrong_chain(graph: NetworkGraph) -> None:
    """Announcements and updates for another chain are refused before anything else is looked at."""
    refused(graph, WrongChain, lambda: graph.update_channel_from_announcement(announcement(2, chain_hash=MAINNET), NOW))
    refused(graph, WrongChain, lambda: graph.update_channel(update(1, 0, 0, chain_hash=MAINNET), NOW), REGTEST.hex())


def test_announced_nodes_ascend(graph: NetworkGraph) -> None:
    """node_id_1 is the lesser; a channel with oneself is none."""
    for one, two in ((1, 0), (0, 0)):
        message = announcement(2, one, two)
        refused(graph, Implausible, partial(graph.update_channel_from_announcement, message, NOW), "node_id_1 <")


def test_bitcoin_keys_differ(graph: NetworkGraph) -> None:
    """One bitcoin key for both ends is no channel of two."""
    message = replace(announcement(2), bitcoin_key_2=net.BITCOIN[0].public)
    refused(graph, Implausible, lambda: graph.update_channel_from_announcement(net.resign(message), NOW), "two bitcoin")


def test_a_forged_announcement(graph: NetworkGraph) -> None:
    """Signatures are checked; the unsigned entry point is the only one that does not."""
    forged = replace(announcement(2), bitcoin_signature_1=net.NO_SIGNATURE)
    refused(graph, BadSignature, lambda: graph.update_channel_from_announcement(forged, NOW))
    graph.update_channel_from_unsigned_announcement(forged, NOW)
    assert graph.channels[2].announcement_message is None


def test_a_known_channel_is_not_announced_again(graph: NetworkGraph) -> None:
    """Without a look at the chain the first announcement stays, whoever the second one names."""
    for message in (announcement(1), announcement(1, 2, 3)):
        refused(graph, AlreadyAnnounced, partial(graph.update_channel_from_announcement, message, NOW))


def test_a_proven_channel_replaces_an_unproven_or_different_one(graph: NetworkGraph) -> None:
    """The chain decides: with the funding output seen, the new word is taken, once (LDK: reorganisations)."""
    graph.update_channel(update(1, 0, 0), NOW)
    graph.update_channel_from_announcement(announcement(1, 2, 3), NOW, capacity_sats=500)
    assert graph.channels[1].node_one == NODES[2].public
    assert graph.channels[1].one_to_two is None
    assert set(graph.nodes) == {NODES[2].public, NODES[3].public}
    again = partial(graph.update_channel_from_announcement, announcement(1, 2, 3), NOW, capacity_sats=500)
    refused(graph, AlreadyAnnounced, again)
    graph.update_channel_from_announcement(announcement(1, 0, 1), NOW, capacity_sats=500)
    assert set(graph.nodes) == {NODES[0].public, NODES[1].public}


def test_proving_a_channel_loses_nothing_of_its_nodes(graph: NetworkGraph) -> None:
    """Where the chain confirms what was announced, the nodes and what they said stay."""
    graph.update_node_from_announcement(node(0))
    graph.update_channel_from_announcement(announcement(1), NOW, capacity_sats=500)
    assert graph.channels[1].capacity_sats == 500
    assert graph.nodes[NODES[0].public].announcement_info is not None


# -- updates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [0, 1])
def test_an_update_sets_its_direction(graph: NetworkGraph, direction: int) -> None:
    """The terms are the message's, the message is kept whole, the other direction is untouched."""
    message = update(1, direction, direction, disable=True)
    graph.update_channel(message, NOW)
    channel = graph.channels[1]
    terms, other = (channel.one_to_two, channel.two_to_one)[:: -1 if direction else 1]
    assert other is None
    assert terms is not None
    assert (terms.last_update, terms.enabled, terms.cltv_expiry_delta) == (NOW, False, 80)
    assert (terms.htlc_minimum_msat, terms.htlc_maximum_msat) == (1, 1_000_000)
    assert (terms.fee_base_msat, terms.fee_proportional_millionths) == (1000, 100)
    assert terms.last_update_message == message.encode()


def test_the_directions_node_must_sign(graph: NetworkGraph) -> None:
    """Neither the other end nor a stranger sets a node's terms."""
    for signer, direction in ((1, 0), (0, 1), (2, 0)):
        message = update(1, signer, direction)
        refused(graph, BadSignature, partial(graph.update_channel, message, NOW))
    graph.update_channel_unsigned(update(1, 2, 0), NOW)
    assert graph.channels[1].one_to_two is not None
    assert graph.channels[1].one_to_two.last_update_message is None


def test_an_update_needs_its_channel(graph: NetworkGraph) -> None:
    """An update for a channel that was never announced is refused, and not kept for later."""
    refused(graph, UnknownChannel, lambda: graph.update_channel(update(2, 0, 0), NOW), "0x0x2")


def test_two_weeks_old_is_the_limit(graph: NetworkGraph) -> None:
    """An update exactly two weeks old is taken; one second older is stale."""
    refused(graph, Stale, lambda: graph.update_channel(update(1, 0, 0, NOW - STALE_SECONDS - 1), NOW))
    graph.update_channel(update(1, 0, 0, NOW - STALE_SECONDS), NOW)


def test_a_day_ahead_is_the_limit(graph: NetworkGraph) -> None:
    """An update exactly a day ahead is taken; one second more is from the future, and the error mentions our clock."""
    refused(graph, FromTheFuture, lambda: graph.update_channel(update(1, 0, 0, NOW + FUTURE_SECONDS + 1), NOW), "clock")
    graph.update_channel(update(1, 0, 0, NOW + FUTURE_SECONDS), NOW)


def test_updates_must_be_newer(graph: NetworkGraph) -> None:
    """Same or older timestamps are refused, in each direction for itself."""
    graph.update_channel(update(1, 0, 0, NOW), NOW)
    refused(graph, NotNewer, lambda: graph.update_channel(update(1, 0, 0, NOW), NOW))
    refused(graph, NotNewer, lambda: graph.update_channel(update(1, 0, 0, NOW - 1), NOW))
    graph.update_channel(update(1, 1, 1, NOW - 1), NOW)
    graph.update_channel(update(1, 0, 0, NOW + 1), NOW)


def test_an_echo_is_refused_before_its_signature_is_checked(graph: NetworkGraph) -> None:
    """What would be refused anyway costs no curve operation: a wrong signature is not even seen."""
    graph.update_channel(update(1, 0, 0, NOW), NOW)
    refused(graph, NotNewer, lambda: graph.update_channel(update(1, 3, 0, NOW), NOW))


def test_the_maximum_fits_the_channel(graph: NetworkGraph) -> None:
    """htlc_maximum_msat is at most the capacity where that is known, and 21 million bitcoin always."""
    refused(
        graph, Implausible, lambda: graph.update_channel(update(1, 0, 0, htlc_maximum_msat=MAX_VALUE_MSAT + 1), NOW)
    )
    graph.update_channel(update(1, 0, 0, htlc_maximum_msat=MAX_VALUE_MSAT), NOW)
    graph.update_channel_from_announcement(announcement(2), NOW, capacity_sats=1000)
    refused(
        graph, Implausible, lambda: graph.update_channel(update(2, 0, 0, htlc_maximum_msat=1_000_001), NOW), "1000000"
    )
    graph.update_channel(update(2, 0, 0, htlc_maximum_msat=1_000_000), NOW)


# -- nodes ------------------------------------------------------------------------------------------------------------


def test_a_node_with_a_channel_may_speak(graph: NetworkGraph) -> None:
    """Its features, name, colour and known addresses are the message's, which is kept whole."""
    message = node(0, addresses=b"\x01" + bytes(6) + b"\x77unknown")
    graph.update_node_from_announcement(message)
    info = graph.nodes[NODES[0].public].announcement_info
    assert info is not None
    assert (info.features, info.last_update, info.rgb) == (b"\x02\x00", NOW, b"\x01\x02\x03")
    assert info.alias == b"a node".ljust(32, b"\0")
    assert info.addresses == b"\x01" + bytes(6)
    assert info.announcement_message == message.encode()


def test_a_node_without_a_channel_may_not(graph: NetworkGraph) -> None:
    """Unknown nodes are refused: keys are free, channels are not."""
    refused(graph, UnknownNode, lambda: graph.update_node_from_announcement(node(2)), NODES[2].public.hex())


def test_node_announcements_must_be_newer_and_signed(graph: NetworkGraph) -> None:
    """Same or older timestamps and wrong signatures are refused; there is no limit of age (LDK)."""
    graph.update_node_from_announcement(node(0, 1))
    refused(graph, NotNewer, lambda: graph.update_node_from_announcement(node(0, 1)))
    refused(graph, NotNewer, lambda: graph.update_node_from_announcement(node(0, 0)))
    forged = replace(node(0, 2), alias=b"mallory".ljust(32, b"\0"))
    refused(graph, BadSignature, lambda: graph.update_node_from_announcement(forged))
    graph.update_node_from_unsigned_announcement(forged)
    info = graph.nodes[NODES[0].public].announcement_info
    assert info is not None
    assert info.announcement_message is None


def test_messages_with_much_that_is_unknown_are_obeyed_but_not_kept(graph: NetworkGraph) -> None:
    """Up to 1,024 bytes that we do not understand are kept; of a node's, unknown addresses and fields together."""
    for excess, kept in ((bytes(MAX_EXCESS_BYTES), True), (bytes(MAX_EXCESS_BYTES + 1), False)):
        scid = 10 + kept
        graph.update_channel_from_announcement(announcement(scid, excess=excess), NOW)
        graph.update_channel(update(scid, 0, 0, excess=excess), NOW)
        channel = graph.channels[scid]
        assert channel.one_to_two is not None
        assert (channel.announcement_message is not None) == kept
        assert (channel.one_to_two.last_update_message is not None) == kept
    for timestamp, addresses, kept in ((1, b"\x77" + bytes(23), True), (2, b"\x77" + bytes(24), False)):
        graph.update_node_from_announcement(node(0, timestamp, addresses=addresses, excess=bytes(1000)))
        info = graph.nodes[NODES[0].public].announcement_info
        assert info is not None
        assert info.last_update == timestamp
        assert (info.announcement_message is not None) == kept


# -- failures and age -------------------------------------------------------------------------------------------------


def test_a_closed_channel_goes_with_nodes_that_have_no_other(graph: NetworkGraph) -> None:
    """channel_failed_permanent removes the channel and what hung on it alone; an unknown channel is a no-op."""
    graph.update_channel_from_announcement(announcement(2, 1, 2), NOW)
    graph.channel_failed_permanent(1, NOW)
    graph.channel_failed_permanent(99, NOW)
    assert set(graph.channels) == {2}
    assert set(graph.nodes) == {NODES[1].public, NODES[2].public}
    assert graph.nodes[NODES[1].public].channels == {2}


def test_a_removed_channel_stays_away_for_a_week(graph: NetworkGraph) -> None:
    """Its announcement still goes round; after a week it may come again."""
    graph.channel_failed_permanent(1, NOW)
    almost = NOW + REMOVED_SECONDS - 1
    refused(graph, RecentlyRemoved, lambda: graph.update_channel_from_announcement(announcement(1), almost))
    graph.remove_stale_channels_and_tracking(almost)
    refused(graph, RecentlyRemoved, lambda: graph.update_channel_from_announcement(announcement(1), almost))
    graph.update_channel_from_announcement(announcement(1), almost + 1)
    graph.channel_failed_permanent(1, NOW)
    graph.remove_stale_channels_and_tracking(almost + 1)
    assert graph._removed_at == {}


def test_a_channel_that_failed_for_now_is_disabled(graph: NetworkGraph) -> None:
    """Both directions go off until a newer update; a second failure, or an unknown channel, changes nothing."""
    graph.update_channel(update(1, 0, 0), NOW)
    graph.update_channel(update(1, 1, 1), NOW)
    graph.channel_failed_temporarily(1)
    terms = graph.channels[1].one_to_two, graph.channels[1].two_to_one
    assert [t is not None and t.enabled for t in terms] == [False, False]
    graph.take_changes()
    graph.channel_failed_temporarily(1)
    graph.channel_failed_temporarily(99)
    assert graph.take_changes() == ({}, set())
    graph.update_channel(update(1, 0, 0, NOW + 1), NOW)
    assert graph.channels[1].one_to_two is not None
    assert graph.channels[1].one_to_two.enabled


@pytest.mark.parametrize("missing", [0, 1, None])
def test_stale_directions_and_channels(graph: NetworkGraph, missing: int | None) -> None:
    """A direction goes when its update is older than two weeks; a channel that lacks either direction goes when it
    was announced before that too (LDK #1735); each limit is strict."""
    for direction in (0, 1):
        if direction != missing:
            graph.update_channel(update(1, direction, direction, NOW + direction), NOW)
    graph.remove_stale_channels_and_tracking(NOW + STALE_SECONDS)
    assert 1 in graph.channels
    assert (graph.channels[1].one_to_two is None) == (missing == 0)
    graph.remove_stale_channels_and_tracking(NOW + STALE_SECONDS + 1)
    assert not graph.channels
    assert not graph.nodes


def test_a_stale_direction_alone_is_cleared(graph: NetworkGraph) -> None:
    """While a channel's announcement is fresh, only what is old about it goes."""
    graph.channel_failed_permanent(1, NOW - STALE_SECONDS)
    graph.update_channel_from_announcement(announcement(1), NOW + 100)
    graph.update_channel(update(1, 0, 0, NOW), NOW)
    graph.update_channel(update(1, 1, 1, NOW + 50), NOW)
    graph.remove_stale_channels_and_tracking(NOW + STALE_SECONDS + 1)
    assert graph.channels[1].one_to_two is None
    assert graph.channels[1].two_to_one is not None


def test_pruning_dirties_nothing_that_it_keeps(graph: NetworkGraph) -> None:
    """A fresh channel that waits for its updates is not written again at every prune."""
    graph.update_channel(update(1, 0, 0), NOW)
    graph.take_changes()
    graph.remove_stale_channels_and_tracking(NOW)
    assert graph.take_changes() == ({}, set())


@pytest.mark.parametrize("now", [0, STALE_SECONDS - 1, 1 << 32])
def test_pruning_distrusts_an_impossible_clock(graph: NetworkGraph, now: int) -> None:
    """Before 1970-01-15 and after 2106 nothing is pruned."""
    before = graph.write()
    graph.remove_stale_channels_and_tracking(now)
    assert graph.write() == before


# -- the whole --------------------------------------------------------------------------------------------------------


def test_order_does_not_matter() -> None:
    """Messages that are sent until nothing changes give the same bytes, in whatever order they come."""
    messages: list[GossipMessage] = [
        *(announcement(scid, one, two) for scid, one, two in ((1, 0, 1), (2, 1, 2), (3, 0, 2), (4, 0, 1))),
        *(update(scid, signer, way) for scid, signer, way in ((1, 0, 0), (1, 1, 1), (2, 2, 1), (3, 0, 0))),
        update(1, 0, 0, NOW + 1),
        node(0),
        node(1),
        node(1, NOW + 1, alias=b"newer"),
    ]

    def apply(order: list[int]) -> bytes:
        graph = NetworkGraph(REGTEST)
        for index in order * 3:
            message = messages[index]
            try:
                if isinstance(message, NodeAnnouncement):
                    graph.update_node_from_announcement(message)
                elif isinstance(message, ChannelUpdate):
                    graph.update_channel(message, NOW)
                else:
                    graph.update_channel_from_announcement(message, NOW)
            except GossipRefused:
                pass
        return graph.write()

    expected = apply(list(range(len(messages))))
    rng = random.Random(1)
    for _ in range(20):
        assert apply(rng.sample(range(len(messages)), len(messages))) == expected


def test_the_views_are_read_only(graph: NetworkGraph) -> None:
    """Nobody changes the tables behind the graph's back."""
    with pytest.raises(TypeError):
        graph.channels[5] = graph.channels[1]  # type: ignore[index]
    with pytest.raises(TypeError):
        del graph.nodes[NODES[0].public]  # type: ignore[attr-defined]
