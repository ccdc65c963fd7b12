"""Our gossip queries to one peer: which channels does it know, and what of them do we lack? A table and its data.

    IDLE ------ start ----> RANGE      query_channel_range is out
    RANGE ----- part -----> RANGE      a reply, and not the last one
    RANGE ----- whole ----> IDS        all sifted: query_short_channel_ids is out for the first of those we lack
    RANGE ----- nothing --> IDLE       ... and we lack none
    IDS ------- batch ----> IDS        reply_short_channel_ids_end: the next of them
    IDS ------- end ------> IDLE       ... there are no more
    any -- timeout, fault -> GIVEN_UP  it did not answer in time, or answered what nobody asked

One query is open at a time, as BOLT 7 demands: so nothing is asked any more where one may have stayed open. What a peer
may make us remember is bounded, and what it sends must rise from reply to reply, so that a reply cannot be repeated for
ever. Sans-IO; `now` is in seconds.
"""

from __future__ import annotations

from array import array
from collections import deque
from enum import Enum, auto
from itertools import chain
from typing import Final

from ..errors import Unasked
from ..wire.gossip_queries import (
    WANT_TIMESTAMPS,
    QueryChannelRange,
    QueryShortChannelIds,
    ReplyChannelRange,
    ReplyShortChannelIdsEnd,
)
from .gossip import NetworkGraph

#: How long a reply may take.
PATIENCE_S: Final = 60.0
#: How long all of it may take.
WHOLE_PATIENCE_S: Final = 3600.0
#: How many ids one query asks for: an answer of some hundred KiB.
IDS_PER_QUERY: Final = 500
#: How many of the ids that replies named are looked at in one step: about a millisecond's work.
SIFTED_IDS: Final = 200
#: More channels than this no peer can have (LDK's limit for snapshots).
MAX_IDS: Final = 600_000
_ALL_BLOCKS: Final = 0xFFFF_FFFF


class Phase(Enum):
    IDLE = auto()
    RANGE = auto()
    IDS = auto()
    GIVEN_UP = auto()


class Step(Enum):
    START = auto()
    PART = auto()
    WHOLE = auto()
    NOTHING = auto()
    BATCH = auto()
    END = auto()
    GIVE_UP = auto()


TABLE: Final = {
    (Phase.IDLE, Step.START): Phase.RANGE,
    (Phase.RANGE, Step.PART): Phase.RANGE,
    (Phase.RANGE, Step.WHOLE): Phase.IDS,
    (Phase.RANGE, Step.NOTHING): Phase.IDLE,
    (Phase.RANGE, Step.GIVE_UP): Phase.GIVEN_UP,
    (Phase.IDS, Step.BATCH): Phase.IDS,
    (Phase.IDS, Step.END): Phase.IDLE,
    (Phase.IDS, Step.GIVE_UP): Phase.GIVEN_UP,
    (Phase.IDLE, Step.GIVE_UP): Phase.GIVEN_UP,
    (Phase.GIVEN_UP, Step.GIVE_UP): Phase.GIVEN_UP,
}


class RangeSync:
    """One peer's side of it. Methods return the message to send next, if there is one."""

    def __init__(self, graph: NetworkGraph) -> None:
        self._graph = graph
        self.phase = Phase.IDLE
        #: How often all of it was gone through, with a peer that has full information.
        self.completed = 0
        self._deadline = 0.0
        self._whole_deadline = 0.0
        self._informed = True
        self._query = QueryChannelRange(graph.chain_hash, 0, 0)
        # What the replies named: ids, and two timestamps each. In arrays, since a peer fills them.
        self._named: array[int] = array("Q")
        self._stamps: array[int] = array("I")
        self._sifted = 0
        self._all_named = False
        self._wanted: deque[int] = deque()
        self._last_id = -1
        self._from_block = 0

    def start(self, now: float, first_blocknum: int = 0) -> bytes | None:
        """Ask for all channels from a block on; None while a sync is under way, or if one was given up."""
        if self.phase is not Phase.IDLE:
            return None
        number = _ALL_BLOCKS - first_blocknum
        self._query = QueryChannelRange(self._graph.chain_hash, first_blocknum, number, WANT_TIMESTAMPS)
        self._forget()
        self._last_id, self._from_block = -1, 0
        self._whole_deadline, self._informed = now + WHOLE_PATIENCE_S, True
        return self._go(Step.START, now, self._query.encode())

    def timed_out(self, now: float) -> bool:
        """Whether the peer is too late with its reply, or with all of them; then this sync has ended."""
        if self.phase in (Phase.IDLE, Phase.GIVEN_UP) or self._all_named:
            return False
        # Nobody is waited for longer because the clock was set back.
        self._deadline = min(self._deadline, now + PATIENCE_S)
        self._whole_deadline = min(self._whole_deadline, now + WHOLE_PATIENCE_S)
        if now < min(self._deadline, self._whole_deadline):
            return False
        self._go(Step.GIVE_UP, now)
        return True

    def range_reply(self, reply: ReplyChannelRange, now: float) -> None:
        """A reply_channel_range came; `sift` looks at what it says. Raises `Unasked`, which ends the sync."""
        if self.phase is not Phase.RANGE or self._all_named or reply.chain_hash != self._query.chain_hash:
            raise self._fault("a reply_channel_range that answers no query of ours", now)
        ids = reply.short_channel_ids
        if reply.first_blocknum < self._from_block or (ids and ids[0] <= self._last_id):
            raise self._fault("a reply_channel_range that does not go on from the one before", now)
        end = reply.first_blocknum + reply.number_of_blocks
        last = reply.sync_complete and end >= self._query.end_blocknum
        # A reply without news that is not the last one could come again and again.
        if len(self._named) + len(ids) > MAX_IDS or (not last and not ids and end <= self._from_block):
            raise self._fault("more reply_channel_range than a network has channels", now)
        self._from_block = max(self._from_block, reply.first_blocknum if ids else end)
        if ids:
            self._last_id = ids[-1]
        self._named.extend(ids)
        # Without timestamps a peer has no update newer than ours.
        self._stamps.extend(chain.from_iterable(reply.timestamps) if reply.timestamps else bytes(2 * len(ids)))
        self._all_named = last
        self._go(Step.PART, now)

    @property
    def sifting(self) -> bool:
        """Whether `sift` has something to look at, or to ask for."""
        return self.phase is Phase.RANGE and (self._all_named or self._sifted < len(self._named))

    def sift(self, now: float) -> bytes | None:
        """Look at some of the ids that the replies named: which do we lack? Call it while `sifting`."""
        stop = min(self._sifted + SIFTED_IDS, len(self._named))
        self._wanted += [self._named[at] for at in range(self._sifted, stop) if self._lacks(at)]
        self._sifted = stop
        if not self._all_named or stop < len(self._named):
            return None
        wanted = self._wanted
        self._forget()
        if not wanted:
            self.completed += 1
            return self._go(Step.NOTHING, now)
        self._wanted = wanted
        return self._go(Step.WHOLE, now, self._next_query())

    def batch_end(self, reply: ReplyShortChannelIdsEnd, now: float) -> bytes | None:
        """A reply_short_channel_ids_end came. Raises `Unasked`, which ends the sync."""
        if self.phase is not Phase.IDS or reply.chain_hash != self._query.chain_hash:
            raise self._fault("a reply_short_channel_ids_end that answers no query of ours", now)
        self._informed = self._informed and reply.full_information
        if self._wanted:
            return self._go(Step.BATCH, now, self._next_query())
        self.completed += self._informed
        return self._go(Step.END, now)

    def _forget(self) -> None:
        self._named, self._stamps, self._sifted, self._all_named = array("Q"), array("I"), 0, False
        self._wanted = deque()

    def _lacks(self, at: int) -> bool:
        """Whether the peer has something that we do not of the channel that it named at `at`."""
        channel = self._graph.channel(self._named[at])
        return channel is None or any(
            (channel.last_update(direction) or 0) < self._stamps[2 * at + direction] for direction in (0, 1)
        )

    def _next_query(self) -> bytes:
        ids = sorted(self._wanted.popleft() for _ in range(min(IDS_PER_QUERY, len(self._wanted))))
        return QueryShortChannelIds(self._query.chain_hash, tuple(ids)).encode()

    def _go(self, step: Step, now: float, message: bytes | None = None) -> bytes | None:
        self.phase = TABLE[self.phase, step]
        if step is Step.GIVE_UP:
            self._forget()
        self._deadline = now + PATIENCE_S
        return message

    def _fault(self, what: str, now: float) -> Unasked:
        self._go(Step.GIVE_UP, now)
        return Unasked(f"the peer sent {what}: it is not asked again on this connection")
