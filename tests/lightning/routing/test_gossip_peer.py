"""Two and three nodes gossip: whole syncs, filters, news, debts, and peers that break the rules."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgsuper.lightning.chain_hash import MAINNET, REGTEST
from bgsuper.lightning.errors import (
    AlreadyAnnounced,
    BadSignature,
    GossipRefused,
    MalformedMessage,
    NotNewer,
    RateLimited,
    Unasked,
)
from bgsuper.lightning.routing import gossip_peer, range_sync, replies
from bgsuper.lightning.routing.budget import Allowance
from bgsuper.lightning.routing.gossip import NetworkGraph
from bgsuper.lightning.routing.gossip_peer import ANSWERS, FLUSH_S, MAX_NEWS, GossipPeer
from bgsuper.lightning.routing.range_sync import PATIENCE_S, WHOLE_PATIENCE_S
from bgsuper.lightning.routing.sync import P2PGossipSync
from bgsuper.lightning.wire.gossip import ChannelUpdate, decode_gossip
from bgsuper.lightning.wire.gossip_queries import (
    GossipTimestampFilter,
    Pair,
    QueryChannelRange,
    QueryShortChannelIds,
    ReplyChannelRange,
    ReplyShortChannelIdsEnd,
    decode_gossip_query,
)
from tests.lightning import gossip_network as net
from tests.lightning.gossip_network import NOW

PAIRS = [(one, two) for one in range(4) for two in range(one + 1, 4)]
ROOM = 64 * 1024


def scid(number: int) -> int:
    """Five channels a block."""
    return (100 + number // 5) << 40 | (number % 5) << 16


def messages(number: int) -> list[bytes]:
    """A channel, announced, with both its updates."""
    one, two = PAIRS[number % 6]
    return [
        net.announcement(scid(number), one, two).encode(),
        net.update(scid(number), one, 0, NOW).encode(),
        net.update(scid(number), two, 1, NOW).encode(),
    ]


def node_with(channels: int) -> P2PGossipSync:
    sync = P2PGossipSync(NetworkGraph(REGTEST))
    for number in range(channels):
        for raw in messages(number):
            sync.handle_message(raw, NOW)
    if channels:
        for number in range(min(4, channels)):
            sync.handle_message(net.node(number % 2, NOW + number // 2).encode(), NOW)
    return sync


class Link:
    """Two nodes and the connection between them; time is the test's."""

    def __init__(self, left: P2PGossipSync, right: P2PGossipSync, *, queries: bool = True) -> None:
        self.now = float(NOW)
        self.nodes = (left, right)
        self.ends = [node.connect(self.now, queries=queries) for node in self.nodes]
        self.sent: list[tuple[int, bytes]] = []

    def pump(self, rounds: int = 1000) -> None:
        """Until neither has anything to say."""
        for _ in range(rounds):
            quiet = True
            for side, end in enumerate(self.ends):
                for raw in end.next_messages(self.now, ROOM):
                    quiet = False
                    self.sent.append((side, raw))
                    try:
                        self.ends[1 - side].handle_message(raw, self.now)
                    except (AlreadyAnnounced, NotNewer):
                        pass
                quiet = quiet and not end.more(self.now)
            if quiet:
                return
            self.now += 0.01
        raise AssertionError("they never stop talking")

    def kinds(self, side: int) -> list[int]:
        return [int.from_bytes(raw[:2], "big") for sender, raw in self.sent if sender == side]


@pytest.mark.parametrize("channels", [0, 1, 7, 120])
def test_a_whole_sync(channels: int) -> None:
    """An empty node asks one that knows everything, and knows everything; asked again, nothing is lacking."""
    full, empty = node_with(channels), node_with(0)
    link = Link(full, empty)
    assert link.ends[1].sync_all(link.now)
    assert not link.ends[1].sync_all(link.now)
    link.pump()
    assert empty.network_graph.write() == full.network_graph.write()
    assert link.ends[1].syncs_completed == 1
    before = len(link.sent)
    assert link.ends[1].sync_all(link.now)
    link.pump()
    assert link.kinds(0)[-1] == 264
    assert len(link.sent) == before + 2
    assert not sum(empty.refused.values())


def test_only_what_is_lacking_is_asked_for() -> None:
    """Channels that we know, with updates as new as the peer's, are not asked for; one with an older update is."""
    full, half = node_with(30), node_with(20)
    full.handle_message(net.update(scid(3), PAIRS[3][0], 0, NOW + 5).encode(), NOW)
    link = Link(full, half)
    link.ends[1].sync_all(link.now)
    link.pump()
    asked = [decode_gossip_query(raw) for side, raw in link.sent if side == 1 and raw[:2] == b"\1\5"]
    (query,) = asked
    assert isinstance(query, QueryShortChannelIds)
    assert query.short_channel_ids == (scid(3), *map(scid, range(20, 30)))


def test_a_range_in_many_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks may be split between replies; each begins where the one before ended, the last is complete."""
    monkeypatch.setattr(replies, "IDS_PER_REPLY", 7)
    full, empty = node_with(40), node_with(0)
    link = Link(full, empty)
    link.ends[1].sync_all(link.now)
    link.pump()
    parts = [decode_gossip_query(raw) for side, raw in link.sent if side == 0 and raw[:2] == b"\1\x08"]
    assert len(parts) == 6
    covered = 0
    for part in parts:
        assert isinstance(part, ReplyChannelRange)
        assert part.first_blocknum == covered
        covered += part.number_of_blocks
        assert part.sync_complete == (part is parts[-1])
    assert covered == 0xFFFF_FFFF
    assert empty.network_graph.write() == full.network_graph.write()


def test_a_filter_brings_the_backlog() -> None:
    """All that passes it: each channel before its updates, nodes last; without a filter nothing at all (BOLT 7)."""
    full, empty = node_with(10), node_with(0)
    link = Link(full, empty)
    link.pump()
    assert link.sent == []
    link.ends[0].handle_message(GossipTimestampFilter(REGTEST, NOW, 100).encode(), link.now)
    link.pump()
    assert empty.network_graph.write() == full.network_graph.write()
    nobody = Link(full, node_with(0))
    for nothing in (GossipTimestampFilter(REGTEST, NOW + 10, 100), GossipTimestampFilter(MAINNET, 0, 2**32 - 1)):
        nobody.ends[0].handle_message(nothing.encode(), nobody.now)
        nobody.pump()
    assert nobody.sent == []


def test_news_go_round_once_a_minute() -> None:
    """From one peer to all others that want them, never back; only the newest of each kind."""
    middle = node_with(0)
    wanting, deaf = Link(middle, node_with(0)), Link(middle, node_with(0))
    wanting.ends[1].ask_for_news(wanting.now)
    wanting.pump()
    source = middle.connect(float(NOW), queries=True)
    source.handle_message(GossipTimestampFilter(REGTEST, NOW, 1000).encode(), NOW)
    assert source.next_messages(NOW, ROOM) == []
    one = PAIRS[0][0]
    source.handle_message(messages(0)[0], NOW)
    for later in range(5):
        source.handle_message(net.update(scid(0), one, 0, NOW + later).encode(), NOW)
    wanting.pump()
    assert not [kind for kind in wanting.kinds(0) if kind < 261]
    for link in (wanting, deaf):
        link.now += FLUSH_S
        link.pump()
    assert wanting.kinds(0) == [256, 258]
    newest = decode_gossip(wanting.sent[-1][1])
    assert isinstance(newest, ChannelUpdate)
    assert newest.timestamp == NOW + 4
    assert deaf.sent == []
    assert source.next_messages(NOW + 2 * FLUSH_S, ROOM) == []


def test_a_channel_without_an_update_waits() -> None:
    """BOLT 7: its announcement is not sent before one; a closed one is not sent at all."""
    middle = node_with(0)
    link = Link(middle, node_with(0))
    link.ends[1].ask_for_news(link.now)
    link.pump()
    for number in (0, 1):
        middle.handle_message(messages(number)[0], NOW)
    link.now += FLUSH_S
    link.pump()
    middle.network_graph.channel_failed_permanent(scid(1), NOW)
    middle.handle_message(messages(0)[1], NOW)
    link.now += FLUSH_S
    link.pump()
    assert link.kinds(0) == [256, 258]


def test_a_peer_of_old_gets_what_it_asks_for() -> None:
    """Without `gossip_queries` nothing is asked of it; and it gets nobody else's gossip before it sent a filter
    (BOLT 7, "Rebroadcasting")."""
    middle = node_with(0)
    link = Link(middle, node_with(0), queries=False)
    link.ends[0].ask_for_news(link.now)
    assert not link.ends[0].sync_all(link.now)
    for raw in messages(0):
        middle.handle_message(raw, NOW)
    link.now += FLUSH_S
    link.pump()
    assert link.sent == []
    link.ends[0].handle_message(GossipTimestampFilter(REGTEST, NOW + 1, 100).encode(), link.now)
    middle.handle_message(net.update(scid(0), PAIRS[0][0], 0, NOW + 1).encode(), NOW)
    link.now += FLUSH_S
    link.pump()
    assert link.kinds(0)[-1] == 258


@pytest.mark.parametrize(
    ("wanted", "stamps", "kinds"),
    [
        # It ended before the flush, and held when the news were made.
        (GossipTimestampFilter(REGTEST, NOW - 3600, 3630), (NOW, NOW), [256, 258, 258]),
        (GossipTimestampFilter(REGTEST, NOW, 1000), (NOW - 3600, NOW - 3600), []),
        (GossipTimestampFilter(REGTEST, NOW, 1000), (NOW - 3600, NOW), [256, 258]),
    ],
)
def test_an_announcement_is_of_its_updates_time(
    wanted: GossipTimestampFilter, stamps: tuple[int, int], kinds: list[int]
) -> None:
    """BOLT 7: `timestamp` of a channel_announcement is that of a corresponding channel_update."""
    middle = node_with(0)
    peer = middle.connect(float(NOW), queries=True)
    peer.handle_message(wanted.encode(), NOW)
    assert peer.next_messages(NOW, ROOM) == []
    middle.handle_message(messages(0)[0], NOW)
    for direction, stamp in enumerate(stamps):
        middle.handle_message(net.update(scid(0), PAIRS[0][direction], direction, stamp).encode(), NOW)
    assert [int.from_bytes(raw[:2], "big") for raw in peer.next_messages(NOW + FLUSH_S, ROOM)] == kinds


def test_an_update_that_is_not_relayed_is_none_to_others() -> None:
    """One that a failed payment brought: it is served to nobody, no reply names its time, and an announcement that
    waits for an update waits on. So nobody learns that we paid there."""
    middle = node_with(0)
    peer = middle.connect(float(NOW), queries=True)
    peer.handle_message(GossipTimestampFilter(REGTEST, NOW, 1000).encode(), NOW)
    middle.handle_message(messages(0)[0], NOW)
    middle.network_graph.update_channel_unrelayed(net.update(scid(0), PAIRS[0][0], 0, NOW), NOW)
    assert peer.next_messages(NOW + FLUSH_S, ROOM) == []
    peer.handle_message(QueryChannelRange(REGTEST, 0, 2**32 - 1, 1).encode(), NOW)
    peer.handle_message(QueryShortChannelIds(REGTEST, (scid(0),)).encode(), NOW)
    reply, announcement, _ = peer.next_messages(NOW + FLUSH_S, ROOM)
    assert ReplyChannelRange.decode(reply).timestamps == (Pair(0, 0),)
    assert announcement == messages(0)[0]
    middle.handle_message(messages(0)[2], NOW)
    assert peer.next_messages(NOW + 2 * FLUSH_S, ROOM) == [messages(0)[0], messages(0)[2]]


def test_a_peer_that_stops_reading_in_the_middle_of_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is put back to wait counts as well, so that no cycle adds to the last one's; what the graph does not hold
    any more is not put back, nor sent."""
    monkeypatch.setattr(gossip_peer, "MAX_NEWS", 10)
    monkeypatch.setattr(gossip_peer, "NEWS", 1)
    middle = node_with(0)
    peer = middle.connect(float(NOW), queries=True)
    peer.handle_message(GossipTimestampFilter(REGTEST, NOW, 1000).encode(), NOW)
    for number in range(40):
        middle.handle_message(messages(number)[0], NOW)
    peer.next_messages(NOW + FLUSH_S, 0)
    for number in range(40, 50):
        middle.handle_message(messages(number)[0], NOW)
    while peer.more(NOW + FLUSH_S):
        peer.next_messages(NOW + FLUSH_S, ROOM)
    assert len(peer._news) == 10
    for raw in (messages(49)[1], net.node(PAIRS[49 % 6][0]).encode()):
        middle.handle_message(raw, NOW)
    for number in range(50):
        middle.network_graph.channel_failed_permanent(scid(number), NOW)
    for _ in range(20):
        assert peer.next_messages(NOW + 2 * FLUSH_S, ROOM) == []
    assert not peer._news


def test_a_peer_that_does_not_read_costs_a_bounded_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest news go first."""
    monkeypatch.setattr(gossip_peer, "MAX_NEWS", 10)
    middle = node_with(0)
    peer = middle.connect(float(NOW), queries=True)
    for number in range(20):
        for raw in messages(number):
            middle.handle_message(raw, NOW)
    assert len(peer._news) == 10 < MAX_NEWS
    middle.disconnect(peer)
    middle.handle_message(net.update(scid(0), PAIRS[0][0], 0, NOW + 9).encode(), NOW)
    assert struct.pack(">HQB", 258, scid(0), 0) not in peer._news


def test_news_are_looked_at_some_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call grows with what waits; `more` says that there is more, though a call may have given nothing."""
    monkeypatch.setattr(gossip_peer, "NEWS", 2)
    middle = node_with(0)
    peer = middle.connect(float(NOW), queries=True)
    peer.handle_message(GossipTimestampFilter(REGTEST, NOW + 2, 10).encode(), NOW)
    while peer.more(NOW):
        peer.next_messages(NOW, ROOM)
    middle.handle_message(messages(0)[0], NOW)
    middle.handle_message(net.node(PAIRS[0][0], NOW).encode(), NOW)
    middle.handle_message(net.update(scid(0), PAIRS[0][0], 0, NOW + 2).encode(), NOW)
    taken: list[int] = []
    for _ in range(3):
        taken.append(len(peer.next_messages(NOW + FLUSH_S, ROOM)))
        taken.append(peer.more(NOW + FLUSH_S))
    assert taken == [1, True, 1, False, 0, False]


def test_room_is_kept_to() -> None:
    """A call gives what the connection has room for, and the rest comes with the next."""
    full = node_with(30)
    peer = full.connect(float(NOW), queries=True)
    peer.handle_message(GossipTimestampFilter(REGTEST, 0, 2**32 - 1).encode(), NOW)
    seen = 0
    while batch := peer.next_messages(NOW, 1000):
        assert sum(map(len, batch[:-1])) < 1000
        seen += len(batch)
    assert seen == 30 * 3 + 2


def test_a_greedy_peer_waits_for_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Query amplification: a few hundred bytes ask for all of it, and get it at the allowance's rate."""
    monkeypatch.setattr(gossip_peer, "ANSWERS", Allowance(rate=1000, burst=5000))
    full = node_with(30)
    peer = full.connect(float(NOW), queries=True)
    peer.handle_message(GossipTimestampFilter(REGTEST, 0, 2**32 - 1).encode(), NOW)
    first = sum(map(len, peer.next_messages(NOW, 10**9)))
    assert 5000 < first < 6000
    assert peer.next_messages(NOW, 10**9) == []
    later = sum(map(len, peer.next_messages(NOW + 3.0, 10**9)))
    assert 1500 < later < 4000
    assert ANSWERS.rate > 1000


def test_a_scan_that_sends_nothing_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of an answer is paid for as a check is, and in debt there are no more of them; a filter that can pass
    nothing is not looked through the graph for at all."""
    monkeypatch.setattr(gossip_peer, "CHECKS", Allowance(rate=1, burst=25))
    monkeypatch.setattr(replies, "STEP_CHANNELS", 1)
    peer = node_with(30).connect(float(NOW), queries=True)
    peer.handle_message(GossipTimestampFilter(REGTEST, 2**32 - 1, 0).encode(), NOW)
    assert peer.next_messages(NOW, ROOM) == []
    assert not peer.more(NOW)
    peer = node_with(30).connect(float(NOW), queries=True)
    peer.handle_message(GossipTimestampFilter(REGTEST, 2**32 - 1, 1).encode(), NOW)
    for _ in range(10):
        assert peer.next_messages(NOW, ROOM) == []
    assert not peer.more(NOW)  # nothing can be done for it now: a host that asks does not spin
    assert 0 < peer.wait_s(NOW) <= 1
    assert peer.more(NOW + 1)
    for later in range(1, 100):
        peer.next_messages(NOW + later, ROOM)
    assert not peer.more(NOW + 100)


@pytest.mark.parametrize("room", [1, ROOM])
def test_a_query_is_answered_once_its_last_message_was_given(room: int) -> None:
    """However the peer takes it: the next query after the last message of an answer is an honest one."""
    peer = lone_peer(1)
    for query, last in (
        (QueryShortChannelIds(REGTEST, (scid(0),)), b"\1\6"),
        (QueryChannelRange(REGTEST, 0, 2**32 - 1), b"\1\x08"),
    ):
        for _ in range(3):
            peer.handle_message(query.encode(), NOW)
            given: list[bytes] = []
            while not given or given[-1][:2] != last:
                given += peer.next_messages(NOW, room)
            assert not peer.more(NOW)


def test_what_replies_name_is_looked_at_some_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full reply names thousands of channels: no call looks at all of them, the next query comes when all are sifted,
    and the peer is not late while it is our turn."""
    monkeypatch.setattr(range_sync, "SIFTED_IDS", 10)
    full, half = node_with(45), node_with(20)
    peer = half.connect(float(NOW), queries=True)
    assert peer.sync_all(NOW)
    peer.next_messages(NOW, ROOM)
    (raw,) = replies_of(full, QueryChannelRange(REGTEST, 0, 2**32 - 1, 1))
    peer.handle_message(raw, NOW)
    for _ in range(4):
        assert peer.more(NOW)
        assert peer.next_messages(NOW, ROOM) == []
    assert not peer.timer_tick_occurred(NOW + 2 * PATIENCE_S)
    (query,) = map(decode_gossip_query, peer.next_messages(NOW, ROOM))
    assert isinstance(query, QueryShortChannelIds)
    assert query.short_channel_ids == tuple(map(scid, range(20, 45)))
    assert not peer.more(NOW)
    with pytest.raises(Unasked):
        peer.handle_message(raw, NOW)


def say_all(peer: GossipPeer) -> list[bytes]:
    """What there is to send to it now."""
    said: list[bytes] = []
    while peer.more(NOW):
        said += peer.next_messages(NOW, ROOM)
    return said


def replies_of(node: P2PGossipSync, query: QueryChannelRange) -> list[bytes]:
    """What it answers."""
    peer = node.connect(float(NOW), queries=True)
    peer.handle_message(query.encode(), NOW)
    return say_all(peer)


# -- peers that break the rules ---------------------------------------------------------------------------------------


def lone_peer(channels: int = 0) -> GossipPeer:
    return node_with(channels).connect(float(NOW), queries=True)


def test_a_flood_puts_its_sender_in_debt() -> None:
    """Then it is refused untouched, whoever it is, until the debt is gone; other peers are served."""
    sync = node_with(1)
    flooder, honest = (sync.connect(float(NOW), queries=True) for _ in range(2))
    raw = messages(0)[0]
    count = 0
    while not flooder.wait_s(NOW):
        with pytest.raises(AlreadyAnnounced):
            flooder.handle_message(raw, NOW)
        count += 1
    assert 4_000 < count < 6_000
    with pytest.raises(RateLimited):
        flooder.handle_message(raw, NOW)
    honest.handle_message(messages(1)[0], NOW)
    assert flooder.wait_s(NOW + 1.0) == 0.0
    with pytest.raises(AlreadyAnnounced):
        flooder.handle_message(raw, NOW + 1.0)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"\1\0" + bytes(100), MalformedMessage),
        (b"\1\5" + bytes(10), MalformedMessage),
        (b"\x00\x12", MalformedMessage),
        (messages(0)[0][:300] + b"\1" + messages(0)[0][301:], GossipRefused),
        (ReplyChannelRange(REGTEST, 0, 2**32 - 1, True, ()).encode(), Unasked),
        (ReplyShortChannelIdsEnd(REGTEST, True).encode(), Unasked),
        (b"\1\0" + bytes(65_533), GossipRefused),
    ],
)
def test_what_no_honest_peer_sends_is_dear(raw: bytes, error: type[Exception]) -> None:
    """A typed refusal, and a hundred such leave the peer unheard."""
    peer = lone_peer()
    for _ in range(101):
        with pytest.raises((error, RateLimited)):
            peer.handle_message(raw, NOW)
    if error is not GossipRefused:
        assert peer.wait_s(NOW) > 0


def test_a_forged_signature_is_dear() -> None:
    """The check was made for nothing."""
    peer = lone_peer(1)
    update = net.update(scid(0), PAIRS[0][0], 0, NOW + 1).encode()
    for _ in range(110):
        with pytest.raises((BadSignature, RateLimited)):
            peer.handle_message(update[:-1] + b"\0", NOW)
    assert peer.wait_s(NOW) > 0


def test_a_second_query_before_the_first_is_answered() -> None:
    """BOLT 7 forbids it."""
    for query in (QueryChannelRange(REGTEST, 0, 9), QueryShortChannelIds(REGTEST, (1,))):
        peer = lone_peer()
        peer.handle_message(query.encode(), NOW)
        with pytest.raises(Unasked, match="second"):
            peer.handle_message(query.encode(), NOW)
        assert len(peer.next_messages(NOW, ROOM)) == 1
        peer.handle_message(query.encode(), NOW)


def test_queries_that_cannot_be_meant() -> None:
    """Another chain, no blocks, blocks that no short channel id can name: one empty, complete reply."""
    for query in (
        QueryChannelRange(MAINNET, 0, 100),
        QueryChannelRange(REGTEST, 100, 0),
        QueryChannelRange(REGTEST, 1 << 24, 5),
        QueryChannelRange(REGTEST, 2**32 - 1, 2**32 - 1),
    ):
        peer = lone_peer(5)
        peer.handle_message(query.encode(), NOW)
        (raw,) = peer.next_messages(NOW, ROOM)
        reply = decode_gossip_query(raw)
        assert isinstance(reply, ReplyChannelRange)
        assert (reply.short_channel_ids, reply.sync_complete) == ((), True)
        assert reply.first_blocknum + reply.number_of_blocks == query.end_blocknum
    peer = lone_peer(5)
    peer.handle_message(QueryShortChannelIds(MAINNET, (scid(0),)).encode(), NOW)
    assert peer.next_messages(NOW, ROOM) == [ReplyShortChannelIdsEnd(MAINNET, full_information=False).encode()]


def test_only_some_of_a_channel() -> None:
    """query_flags: what is asked for, in order, and a node's announcement once."""
    for flag, kinds in ((1, [256]), (2, [258]), (6, [258, 258]), (8, [257]), (24, [257, 257]), (0, [])):
        peer = lone_peer(7)
        peer.handle_message(QueryShortChannelIds(REGTEST, (99, scid(0), scid(6)), (flag, flag, flag)).encode(), NOW)
        got = [int.from_bytes(raw[:2], "big") for raw in peer.next_messages(NOW, ROOM)]
        channels = [kind for kind in kinds if kind != 257]
        assert got == channels * 2 + [kind for kind in kinds if kind == 257] + [262]


def test_what_a_server_told_us_is_not_passed_on() -> None:
    """A channel without its announcement has no proof to show: it is in no reply and in no backlog."""
    sync = P2PGossipSync(NetworkGraph(REGTEST))
    sync.network_graph.update_channel_from_unsigned_announcement(net.announcement(scid(0)), NOW)
    sync.network_graph.update_channel_unsigned(net.update(scid(0), 0, 0, NOW), NOW)
    peer = sync.connect(float(NOW), queries=True)
    for query in (
        QueryChannelRange(REGTEST, 0, 2**32 - 1),
        QueryShortChannelIds(REGTEST, (scid(0),)),
        GossipTimestampFilter(REGTEST, 0, 2**32 - 1),
    ):
        peer.handle_message(query.encode(), NOW)
    sent = [decode_gossip_query(raw) for raw in peer.next_messages(NOW, ROOM)]
    assert [getattr(message, "short_channel_ids", ()) for message in sent] == [(), ()]


@pytest.mark.parametrize(
    "answers",
    [
        [ReplyChannelRange(MAINNET, 0, 2**32 - 1, True, ())],
        [ReplyShortChannelIdsEnd(REGTEST, True)],
        [ReplyChannelRange(REGTEST, 0, 10, False, (5, 6)), ReplyChannelRange(REGTEST, 0, 10, False, (5, 6))],
        [ReplyChannelRange(REGTEST, 0, 10, False, ()), ReplyChannelRange(REGTEST, 0, 10, False, ())],
        [ReplyChannelRange(REGTEST, 9, 10, False, ()), ReplyChannelRange(REGTEST, 3, 99, False, (7,))],
        [ReplyChannelRange(REGTEST, 0, 2**32 - 1, True, ()), ReplyChannelRange(REGTEST, 0, 2**32 - 1, True, ())],
    ],
)
def test_answers_that_do_not_fit(answers: list[ReplyChannelRange | ReplyShortChannelIdsEnd]) -> None:
    """The last one is refused and ends the sync; the peer is not asked again."""
    peer = lone_peer()
    assert peer.sync_all(NOW)
    *good, bad = answers
    for answer in good:
        peer.handle_message(answer.encode(), NOW)
    with pytest.raises(Unasked):
        peer.handle_message(bad.encode(), NOW)
    assert not peer.sync_all(NOW)
    with pytest.raises(Unasked):
        peer.handle_message(bad.encode(), NOW)


def test_a_peer_that_does_not_answer() -> None:
    """It is noticed in time, once, and not asked again: a query is open (BOLT 7)."""
    peer = lone_peer()
    assert not peer.timer_tick_occurred(NOW + PATIENCE_S)
    peer.sync_all(NOW)
    assert not peer.timer_tick_occurred(NOW + PATIENCE_S - 1)
    assert peer.timer_tick_occurred(NOW + PATIENCE_S)
    assert not peer.timer_tick_occurred(NOW + PATIENCE_S)
    assert not peer.sync_all(NOW + PATIENCE_S)
    peer = lone_peer()
    peer.sync_all(NOW)
    peer.handle_message(ReplyChannelRange(REGTEST, 0, 2**32 - 1, True, (1,)).encode(), NOW)
    say_all(peer)
    assert peer.timer_tick_occurred(NOW + PATIENCE_S)
    assert not peer.sync_all(NOW + PATIENCE_S)


def test_a_peer_that_answers_for_ever() -> None:
    """A reply a minute, each going on from the one before, keeps a sync open for an hour and no longer."""
    peer = lone_peer()
    peer.sync_all(NOW)
    late, block = float(NOW), 0
    while not peer.timer_tick_occurred(late):
        peer.handle_message(ReplyChannelRange(REGTEST, block, 1, False, ()).encode(), late)
        late, block = late + PATIENCE_S - 1, block + 1
        assert late <= NOW + WHOLE_PATIENCE_S + PATIENCE_S
    assert late >= NOW + WHOLE_PATIENCE_S


def test_more_ids_than_there_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a peer makes us remember is bounded, in one reply and over many."""
    monkeypatch.setattr(range_sync, "MAX_IDS", 5)
    for sizes in ((6,), (3, 3)):
        peer = lone_peer()
        peer.sync_all(NOW)
        *fit, beyond = (
            ReplyChannelRange(REGTEST, at, 1, False, tuple(at << 40 | each for each in range(size))).encode()
            for at, size in enumerate(sizes)
        )
        for raw in fit:
            peer.handle_message(raw, NOW)
        with pytest.raises(Unasked, match="more reply_channel_range"):
            peer.handle_message(beyond, NOW)
        assert not peer.sync_all(NOW)


def test_empty_replies_go_on() -> None:
    """One that is not the last brings ids or later blocks: the same one again is refused."""
    peer = lone_peer()
    peer.sync_all(NOW)
    for first, number in ((0, 10), (10, 5)):
        peer.handle_message(ReplyChannelRange(REGTEST, first, number, False, ()).encode(), NOW)
    with pytest.raises(Unasked, match="more reply_channel_range"):
        peer.handle_message(ReplyChannelRange(REGTEST, 15, 0, False, ()).encode(), NOW)


@pytest.mark.parametrize("full", [True, False])
def test_a_peer_without_full_information(full: bool) -> None:
    """A sync with one that does not keep up with the chain is not a complete one."""
    peer = lone_peer()
    peer.sync_all(NOW)
    peer.handle_message(ReplyChannelRange(REGTEST, 0, 2**32 - 1, True, tuple(range(501))).encode(), NOW)
    for information in (full, True):
        say_all(peer)
        peer.handle_message(ReplyShortChannelIdsEnd(REGTEST, information).encode(), NOW)
    assert peer.syncs_completed == full


def test_a_peer_that_says_complete_too_early() -> None:
    """Older nodes set it in every reply: the last is the one that reaches the end of what was asked."""
    peer = lone_peer()
    peer.sync_all(NOW)
    peer.next_messages(NOW, ROOM)
    peer.handle_message(ReplyChannelRange(REGTEST, 0, 100, True, (1,), (Pair(1, 1),)).encode(), NOW)
    assert peer.next_messages(NOW, ROOM) == []
    peer.handle_message(ReplyChannelRange(REGTEST, 100, 2**32 - 101, True, (100 << 40,)).encode(), NOW)
    assert peer.next_messages(NOW, ROOM) == [QueryShortChannelIds(REGTEST, (1, 100 << 40)).encode()]


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(range(256, 266)), st.binary(max_size=200)), max_size=20))
def test_total(raws: list[tuple[int, bytes]]) -> None:
    """Whatever a peer sends: a typed refusal or nothing."""
    peer = lone_peer(1)
    peer.sync_all(NOW)
    for kind, rest in raws:
        try:
            peer.handle_message(kind.to_bytes(2, "big") + rest, NOW)
        except (MalformedMessage, GossipRefused):
            pass
        peer.next_messages(NOW, ROOM)


def test_a_clock_that_is_set_back_holds_nothing_up() -> None:
    """News go out, and a peer that does not answer is late, as if the clock had always been right."""
    middle = node_with(0)
    link = Link(middle, node_with(0))
    link.ends[1].ask_for_news(link.now)
    link.pump()
    for raw in messages(0):
        middle.handle_message(raw, NOW)
    link.now -= 3600.0
    link.pump()
    assert link.kinds(0) == [256, 258, 258]
    peer = lone_peer()
    peer.sync_all(NOW)
    assert not peer.timer_tick_occurred(NOW - 3600)
    assert peer.timer_tick_occurred(NOW - 3600 + PATIENCE_S)
