"""Gossip with one peer: what it may send us and what it costs, what we ask of it, what it gets from us.

1. Nothing is sent before it is taken: `next_messages` gives as much as the connection has room for, and makes it then.
   So a peer that does not read costs a bounded queue of references, and a peer that asks for everything costs a cursor.
2. Order: our own queries, answers to its queries, the backlog that its filter asks for, news. News wait for the next
   flush, once a minute (BOLT 7, staggered), and the newest of each kind is all that waits.
3. Without a gossip_timestamp_filter a peer with `gossip_queries` gets no gossip but its answers (BOLT 7).
4. A peer pays for what it makes us do, more for what honest peers never send, and is not listened to while in debt:
   `wait_s` says for how long its connection should not be read.

Sans-IO; `now` is in seconds since 1970.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ..errors import BadSignature, FundingMismatch, MalformedMessage, RateLimited, Unasked
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
#: How many news wait for a peer; beyond that the oldest are dropped: it will hear of them from others.
MAX_NEWS: Final = 20_000
#: How many steps of a generator one call of `next_messages` goes through.
STEPS: Final = 64

#: In checks of a signature, about 50 us each: what a peer may cost.
CHECKS: Final = Allowance(rate=2_000, burst=20_000)
_COST: Final = {CHANNEL_ANNOUNCEMENT: 4.0, NODE_ANNOUNCEMENT: 1.0, CHANNEL_UPDATE: 1.0}
_QUERY_COST: Final = 20.0
#: Of what an honest peer never sends.
_FAULT_COST: Final = 200.0
#: In bytes: what a peer may have of answers and backlog. A whole network of 100 MiB takes it some minutes.
ANSWERS: Final = Allowance(rate=256 * 1024, burst=16 * 1024 * 1024)

#: Kind of message, channel or node, direction: of each only the newest waits.
_NewsKey = tuple[int, int | bytes, int]


class _Stream:
    """What a peer asked for, made as it takes it; None where a step made nothing."""

    def __init__(self, source: Iterator[bytes | None]) -> None:
        self._source = source
        self.ended = False

    def steps(self) -> Iterator[bytes | None]:
        """Some of it."""
        for _ in range(STEPS):
            try:
                yield next(self._source)
            except StopIteration:
                self.ended = True
                return


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
        self._news: OrderedDict[_NewsKey, GossipMessage] = OrderedDict()
        self._flushing: deque[bytes] = deque()
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
        except (MalformedMessage, BadSignature, FundingMismatch, Unasked):
            self._checks.spend(_FAULT_COST, now)
            raise

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
                self._ask(self._range_sync.range_reply(message, now))
            case _:
                self._ask(self._range_sync.batch_end(message, now))

    def _answer(self, query: GossipQuery, answer: Iterator[bytes | None]) -> None:
        if type(query) in self._answering:
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
        key = _news_key(message)
        self._news[key] = message
        self._news.move_to_end(key)
        if len(self._news) > MAX_NEWS:
            self._news.popitem(last=False)

    def next_messages(self, now: float, room: int) -> list[bytes]:
        """What to send next, at most `room` bytes and the message that exceeds them; empty if there is nothing now."""
        messages: list[bytes] = []
        for raw in self._outgoing(now):
            messages.append(raw)
            room -= len(raw)
            if room <= 0:
                break
        return messages

    def _outgoing(self, now: float) -> Iterator[bytes]:
        while self._own:
            yield self._own.popleft()
        for kind, answer in tuple(self._answering.items()):
            yield from self._charged(answer, now)
            if answer.ended:
                del self._answering[kind]
        if self._backlog is not None:
            yield from self._charged(self._backlog, now)
            if self._backlog.ended:
                self._backlog = None
        if now >= self._flush_at:
            self._flush_at = now + FLUSH_S
            self._flush(int(now))
        while self._flushing:
            yield self._flushing.popleft()

    def _charged(self, stream: _Stream, now: float) -> Iterator[bytes]:
        """Some steps of `stream`, while the peer is not in debt for what it got."""
        if self._answer_bytes.wait_s(now):
            return
        for raw in stream.steps():
            if raw is not None:
                self._answer_bytes.spend(len(raw), now)
                yield raw
                if self._answer_bytes.wait_s(now):
                    return

    def _flush(self, now: int) -> None:
        """The news that the peer wants go out. A channel without an update is none (BOLT 7): it waits for the next."""
        if self._queries and self._filter is None:
            return
        waiting = OrderedDict[_NewsKey, GossipMessage]()
        for key, message in self._news.items():
            if isinstance(message, ChannelAnnouncement):
                channel = self._sync.network_graph.channels.get(message.short_channel_id)
                if channel is None:
                    continue
                if channel.one_to_two is None and channel.two_to_one is None:
                    waiting[key] = message
                    continue
            timestamp = now if isinstance(message, ChannelAnnouncement) else message.timestamp
            if self._filter is None or self._filter.passes(timestamp):
                self._flushing.append(message.encode())
        self._news = waiting


def _news_key(message: GossipMessage) -> _NewsKey:
    match message:
        case ChannelAnnouncement():
            return CHANNEL_ANNOUNCEMENT, message.short_channel_id, 0
        case ChannelUpdate():
            return CHANNEL_UPDATE, message.short_channel_id, message.direction
        case _:
            return NODE_ANNOUNCEMENT, message.node_id, 0
