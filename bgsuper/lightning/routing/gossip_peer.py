"""Gossip with one peer: what it may send us and what it costs, what we ask of it, what it gets from us.

1. Nothing is sent before it is taken: `next_messages` gives as much as the connection has room for, and makes it then.
   So a peer that does not read costs a bounded queue of references, and a peer that asks for everything costs a cursor.
2. Order: our own queries, answers to its queries, the backlog that its filter asks for, news. News wait for the next
   flush, once a minute (BOLT 7, staggered), and the newest of each kind is all that waits.
3. Without a gossip_timestamp_filter a peer gets no gossip but its answers (BOLT 7, "Rebroadcasting"). The time of a
   channel's announcement is that of any update of it which we relay.
4. A peer pays for what it makes us do, more for what honest peers never send, and is not listened to while in debt:
   `wait_s` says for how long its connection should not be read.

Sans-IO; `now` is in seconds since 1970.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ..errors import BadSignature, FundingMismatch, FundingNotFound, MalformedMessage, RateLimited, Unasked
from ..wire.gossip import (
    CHANNEL_ANNOUNCEMENT,
    CHANNEL_UPDATE,
    NODE_ANNOUNCEMENT,
    ChannelAnnouncement,
    ChannelUpdate,
    GossipMessage,
)
from ..wire.gossip_queries import (
    GossipQuery,
    GossipTimestampFilter,
    QueryChannelRange,
    QueryShortChannelIds,
    ReplyChannelRange,
    decode_gossip_query,
)
from . import replies
from .budget import Allowance, Budget
from .range_sync import RangeSync

if TYPE_CHECKING:
    from .sync import P2PGossipSync

#: How often news goes out (BOLT 7: once every 60 seconds).
FLUSH_S: Final = 60.0
#: How many news wait for a peer, besides as many that are being flushed; beyond that the oldest are dropped: it will
#: hear of them from others.
MAX_NEWS: Final = 20_000
#: How many steps of a generator one call of `next_messages` goes through, and how many news it looks at: a millisecond
#: or two of work each.
STEPS: Final = 32
NEWS: Final = 500

#: In checks of a signature, about 50 us each: what a peer may cost.
CHECKS: Final = Allowance(rate=2_000, burst=20_000)
_COST: Final = {CHANNEL_ANNOUNCEMENT: 4.0, NODE_ANNOUNCEMENT: 1.0, CHANNEL_UPDATE: 1.0}
_QUERY_COST: Final = 20.0
#: Of what an honest peer never sends.
_FAULT_COST: Final = 200.0
#: Of a channel that is not on the chain: an honest peer that does not look there may pass one on.
_UNFUNDED_COST: Final = 50.0
#: Of a step of an answer, which looks through some channels, and of a message that it gives.
_STEP_COST: Final = 1.0
_MESSAGE_COST: Final = 0.2
#: In bytes: what a peer may have of answers and backlog. A whole network of 100 MiB takes it some minutes.
ANSWERS: Final = Allowance(rate=256 * 1024, burst=16 * 1024 * 1024)

_TYPE_BYTES: Final = 2
_AFTER_SIGNATURE: Final = _TYPE_BYTES + 64
#: Of a channel_update: signature, chain and short channel id come before it.
_UPDATE_TIMESTAMP: Final = _AFTER_SIGNATURE + 32 + 8


class _Stream:
    """What a peer asked for, made as it takes it, one step ahead of that; None where a step made nothing. So it has
    ended as soon as its last message was given, and the peer may ask the next."""

    def __init__(self, source: Iterator[bytes | None]) -> None:
        self._source = source
        self._ahead: bytes | None = None
        self.ended = False

    def steps(self) -> Iterator[bytes | None]:
        """Some of it."""
        for _ in range(STEPS):
            if self.ended:
                return
            step = self._ahead
            try:
                self._ahead = next(self._source)
            except StopIteration:
                self.ended = True
            yield step


class GossipPeer:
    """One connection; made by `P2PGossipSync.connect`. `queries`: both sides have `gossip_queries`."""

    def __init__(self, sync: P2PGossipSync, now: float, *, queries: bool) -> None:
        self._sync = sync
        self._queries = queries
        self._checks = Budget(CHECKS, now)
        self._answer_bytes = Budget(ANSWERS, now)
        self._range_sync = RangeSync(sync.network_graph)
        self._own: deque[bytes] = deque()
        self._answering: dict[type[GossipQuery], _Stream] = {}
        self._filter: GossipTimestampFilter | None = None
        self._backlog: _Stream | None = None
        # By what they are about, the oldest first. Bytes alone: the cyclic collector leaves that alone, where it would
        # look at each of thousands of messages.
        self._news: dict[bytes, bytes] = {}
        self._flushing: Iterator[tuple[bytes, bytes]] | None = None
        self._flush_at = now + FLUSH_S

    # -- what it sends us ---------------------------------------------------------------------------------------------

    def handle_message(self, raw: bytes, now: float) -> None:
        """A gossip message or query, type included. Raises `MalformedMessage` or a `GossipRefused`."""
        if self._checks.wait_s(now):
            raise RateLimited("the peer has cost more than its allowance: do not read it for `wait_s` seconds")
        cost = _COST.get(int.from_bytes(raw[:2], "big"))
        self._checks.spend(_QUERY_COST if cost is None else cost, now)
        try:
            if cost is None:
                self._handle_query(decode_gossip_query(raw), now)
            else:
                self._sync.handle_message(raw, int(now), origin=self)
        except (MalformedMessage, BadSignature, Unasked):
            self._checks.spend(_FAULT_COST, now)
            raise
        except (FundingNotFound, FundingMismatch):
            self.charge_unfunded(now)
            raise

    def charge_unfunded(self, now: float) -> None:
        """It announced a channel that is not on the chain."""
        self._checks.spend(_UNFUNDED_COST, now)

    def wait_s(self, now: float) -> float:
        """For how many seconds the connection should not be read; 0 if it may be."""
        return self._checks.wait_s(now)

    def _handle_query(self, message: GossipQuery, now: float) -> None:
        graph = self._sync.network_graph
        match message:
            case QueryShortChannelIds():
                self._answer(message, replies.short_channel_ids(graph, message))
            case QueryChannelRange():
                self._answer(message, replies.channel_range(graph, message))
            case GossipTimestampFilter():
                if message.chain_hash == graph.chain_hash:
                    self._filter, self._backlog = message, _Stream(replies.backlog(graph, message))
            case ReplyChannelRange():
                self._range_sync.range_reply(message, now)
            case _:
                self._ask(self._range_sync.batch_end(message, now))

    def _answer(self, query: GossipQuery, answer: Iterator[bytes | None]) -> None:
        before = self._answering.get(type(query))
        if before is not None and not before.ended:
            raise Unasked(f"the peer sent a second {type(query).__name__} before the first was answered: warn it")
        self._answering[type(query)] = _Stream(answer)

    # -- what we ask of it --------------------------------------------------------------------------------------------

    def ask_for_news(self, now: float) -> None:
        """Have the peer send what is new from now on."""
        if self._queries:
            graph = self._sync.network_graph
            self._own.append(GossipTimestampFilter(graph.chain_hash, int(now), 0xFFFF_FFFF - int(now)).encode())

    def sync_all(self, now: float) -> bool:
        """Ask for all channels that we lack; whether that could be begun."""
        return self._queries and self._ask(self._range_sync.start(now))

    @property
    def syncs_completed(self) -> int:
        """How often `sync_all` came to its end."""
        return self._range_sync.completed

    def timer_tick_occurred(self, now: float) -> bool:
        """Call it every few seconds; whether the peer failed to answer a query of ours in time."""
        return self._range_sync.timed_out(now)

    def _ask(self, message: bytes | None) -> bool:
        if message is not None:
            self._own.append(message)
        return message is not None

    # -- what it gets -------------------------------------------------------------------------------------------------

    def offer(self, message: GossipMessage) -> None:
        """News that another peer brought."""
        self._queue(_subject(message), message.encode())

    def _queue(self, subject: bytes, raw: bytes) -> None:
        self._news.pop(subject, None)
        self._news[subject] = raw
        while len(self._news) > MAX_NEWS:
            del self._news[next(iter(self._news))]

    def next_messages(self, now: float, room: int) -> list[bytes]:
        """What to send next, at most `room` bytes and the message that exceeds them. A call does some milliseconds'
        work at most, so that one which gives nothing may yet have `more` to look at."""
        messages: list[bytes] = []
        for raw in self._outgoing(now):
            messages.append(raw)
            room -= len(raw)
            if room <= 0:
                break
        return messages

    def more(self, now: float) -> bool:
        """Whether something can be done for the peer at once: call `next_messages` again when the loop has turned.
        While it is in debt its answers wait: then look again with the next tick."""
        if self._own or self._range_sync.sifting or self._flushing is not None:
            return True
        streams = (*self._answering.values(), self._backlog)
        return not self._in_debt(now) and any(stream is not None and not stream.ended for stream in streams)

    def _outgoing(self, now: float) -> Iterator[bytes]:
        if self._range_sync.sifting:
            self._ask(self._range_sync.sift(now))
        while self._own:
            yield self._own.popleft()
        for answer in tuple(self._answering.values()):
            yield from self._charged(answer, now)
        if self._backlog is not None:
            yield from self._charged(self._backlog, now)
        # Also if the clock was set back behind the last flush.
        if self._flushing is None and not self._flush_at - FLUSH_S <= now < self._flush_at:
            self._flush_at = now + FLUSH_S
            if self._filter is not None:
                self._flushing, self._news = iter(self._news.items()), {}
        if self._flushing is not None and self._filter is not None:
            yield from self._flushed(self._flushing, self._filter)

    def _flushed(self, news: Iterator[tuple[bytes, bytes]], wanted: GossipTimestampFilter) -> Iterator[bytes]:
        """What the peer wants of some of the news."""
        for _ in range(NEWS):
            subject, raw = next(news, (b"", b""))
            if not subject:
                self._flushing = None
                return
            times = self._times(subject, raw)
            if times == []:
                self._queue(subject, raw)
            elif times is not None and any(map(wanted.passes, times)):
                yield raw

    def _charged(self, stream: _Stream, now: float) -> Iterator[bytes]:
        """Some steps of `stream`, while the peer is not in debt for what it got and what we did for it."""
        if self._in_debt(now):
            return
        for raw in stream.steps():
            self._checks.spend(_STEP_COST if raw is None else _MESSAGE_COST, now)
            if raw is not None:
                self._answer_bytes.spend(len(raw), now)
                yield raw
            if self._in_debt(now):
                return

    def _in_debt(self, now: float) -> bool:
        """Whether it got so much, or cost so much, that its answers wait."""
        return bool(self._answer_bytes.wait_s(now) or self._checks.wait_s(now))

    def _times(self, subject: bytes, raw: bytes) -> list[int] | None:
        """When the news are of; None if the graph holds their channel or node no more. A channel's announcement has the
        times of its updates: while there is none it is no news yet (BOLT 7)."""
        graph = self._sync.network_graph
        kind = int.from_bytes(subject[:_TYPE_BYTES], "big")
        if kind == NODE_ANNOUNCEMENT:
            return [_timestamp(raw, kind)] if subject[_TYPE_BYTES:] in graph.nodes else None
        scid = int.from_bytes(subject[_TYPE_BYTES : _TYPE_BYTES + 8], "big")
        if kind == CHANNEL_UPDATE:
            return [_timestamp(raw, kind)] if scid in graph.channels else None
        channel = graph.channel(scid)
        if channel is None:
            return None
        times = map(channel.relayable_update, (0, 1))
        return [timestamp for timestamp in times if timestamp is not None]


def _subject(message: GossipMessage) -> bytes:
    """Type, and channel and direction or node: of each only the newest waits."""
    match message:
        case ChannelAnnouncement():
            return struct.pack(">HQ", CHANNEL_ANNOUNCEMENT, message.short_channel_id)
        case ChannelUpdate():
            return struct.pack(">HQB", CHANNEL_UPDATE, message.short_channel_id, message.direction)
        case _:
            return struct.pack(">H33s", NODE_ANNOUNCEMENT, message.node_id)


def _timestamp(raw: bytes, kind: int) -> int:
    """Of a whole node_announcement or channel_update."""
    at = _UPDATE_TIMESTAMP
    if kind == NODE_ANNOUNCEMENT:
        at = _AFTER_SIGNATURE + 2 + int.from_bytes(raw[_AFTER_SIGNATURE : _AFTER_SIGNATURE + 2], "big")
    return int.from_bytes(raw[at : at + 4], "big")
