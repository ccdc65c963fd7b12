"""The gate: holds outputs back until what they were computed from is durable (external synchrony).

A message to a peer, a broadcast, an event, an answer to a user: none may leave before the commit that caused it is
acknowledged, and no loop waits for that. So the loop holds the output here, tagged with a sequence number, and goes on.

Rules:
1. One way out: whatever leaves is returned by `acked()`, in the order in which it was held. An output whose cause is
   already durable leaves at the next call, so a loop ends each turn with ``gate.acked(durable_seq)``, and nobody who
   overlooks a return value of `hold()` loses a message.
2. On one connection first in, first out: a later output with a lower tag never overtakes an earlier one. Outputs
   without a connection (broadcasts, events) wait for their own cause alone.
3. A tag is the newest un-acknowledged change among the records an output was computed from, also when its own turn
   changed none of them. What is acknowledged is forgotten: memory is bounded by what is un-acknowledged or held.
4. What is dropped (its connection ended) or discarded (the store failed for good) never leaves. Shut is for good.

Sans-IO: it has no clock, no thread, no lock. The loop that owns it makes all calls.
Source: Nightingale et al., "Rethink the Sync", OSDI 2006; the numbered rules of the design's "The gate, precisely".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from enum import Enum
from heapq import heapify, heappop, heappush
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from .errors import ConfigError, GateShut
from .key import Key, Seq

T = TypeVar("T")

#: The tag of what waits for nothing.
_FREE: Final = Seq(0)


class Stall(Enum):
    """How a node must behave while commits stay un-acknowledged."""

    NONE = "none"  #: as always
    REFUSE = "refuse"  #: no new HTLCs, no new channels
    DISCONNECT = "disconnect"  #: also leave the peers whose messages are held: they wait for answers


#: Un-acknowledged ages, in seconds, *over* which a stall sets in. The worst first.
_STALLS: Final = ((45.0, Stall.DISCONNECT), (20.0, Stall.REFUSE))


def stall(unacked_s: float | None) -> Stall:
    """What the age of the oldest un-acknowledged commit, in seconds (None: there is none), asks of the node."""
    if unacked_s is not None:
        for limit_s, worst in _STALLS:
            if unacked_s > limit_s:
                return worst
    return Stall.NONE


class _Held(NamedTuple, Generic[T]):
    number: int  # in the order of hold(); unique, so that no comparison ever reaches an output
    after: Seq
    output: T


class _Unacked(NamedTuple):
    seq: Seq
    since: float
    records: tuple[Key, ...]


class Gate(Generic[T]):
    """Holds outputs of type `T` until their cause is durable; see the module's rules.

    `durable` is what is known to be durable at the start: the last sequence number of the store.
    """

    def __init__(self, durable: Seq = _FREE) -> None:
        self._durable = durable
        self._count = 0
        self._lanes: dict[Hashable, deque[_Held[T]]] = {}  # per connection, never empty
        self._heads: list[tuple[Seq, int, Hashable]] = []  # heap: the first of each lane, by what it waits for
        self._loose: list[tuple[Seq, int, T]] = []  # heap: what has no connection
        self._newest: dict[Key, Seq] = {}  # record -> its newest un-acknowledged change
        self._unacked: deque[_Unacked] = deque()  # ascending
        self._cause: BaseException | None = None

    # -- tags ---------------------------------------------------------------------------------------------------------

    def committed(self, records: Iterable[Key], seq: Seq, *, now: float = 0.0) -> None:
        """Remember that commit `seq`, submitted at `now` (seconds, the loop's monotonic clock), changed `records`.

        Raises `ConfigError` if `seq` is older than a commit or output seen before: commits go in order.
        """
        if self._unacked and seq < self._unacked[-1].seq:
            raise ConfigError(f"expected a commit after {self._unacked[-1].seq}, got {seq}: report commits in order")
        if seq <= self._durable:
            return
        changed = tuple(records)
        self._unacked.append(_Unacked(seq, now, changed))
        for record in changed:
            self._newest[record] = seq

    def tag(self, records: Iterable[Key]) -> Seq:
        """The sequence number that an output computed from `records` must wait for; 0 if all of them are durable."""
        newest = self._newest
        return max((newest[record] for record in records if record in newest), default=_FREE)

    # -- outputs ------------------------------------------------------------------------------------------------------

    def hold(self, output: T, *, after: Seq, connection: Hashable = None, now: float = 0.0) -> None:
        """Keep `output` until `after` is durable and all that was held before it on its `connection` has left.

        `after` is what `tag()` gave (or a commit's own number; 0: nothing to wait for). A connection is one session
        with a peer, not the peer: a new session is another value. Raises `GateShut`, from the store's failure, once
        shut.
        """
        if self._cause is not None:
            raise GateShut("the store failed for good, so this output can never leave: discard it") from self._cause
        if after > self._durable and (not self._unacked or self._unacked[-1].seq < after):
            self._unacked.append(_Unacked(after, now, ()))
        self._count += 1
        if connection is None:
            heappush(self._loose, (after, self._count, output))
            return
        lane = self._lanes.get(connection)
        if lane is None:
            lane = self._lanes[connection] = deque()
            heappush(self._heads, (after, self._count, connection))
        lane.append(_Held(self._count, after, output))

    def acked(self, seq: Seq) -> list[T]:
        """All up to `seq` is durable: the outputs that may leave now, in the order in which they were held.

        Calling it again with the same or a lower number is fine, and returns what was held since with its cause
        durable.
        """
        durable = self._durable = max(self._durable, seq)
        self._forget(durable)
        ready: list[tuple[int, T]] = []
        while self._loose and self._loose[0][0] <= durable:
            _, number, output = heappop(self._loose)
            ready.append((number, output))
        while self._heads and self._heads[0][0] <= durable:
            connection = heappop(self._heads)[2]
            lane = self._lanes[connection]
            while lane and lane[0].after <= durable:
                held = lane.popleft()
                ready.append((held.number, held.output))
            if lane:
                heappush(self._heads, (lane[0].after, lane[0].number, connection))
            else:
                del self._lanes[connection]
        ready.sort(key=_number)
        return [output for _, output in ready]

    def drop(self, connection: Hashable) -> int:
        """The connection ended: discard what is held for it, and return how many outputs that were."""
        lane = self._lanes.pop(connection, None)
        if lane is None:
            return 0
        self._heads = [head for head in self._heads if head[2] != connection]
        heapify(self._heads)
        return len(lane)

    def shut(self, cause: BaseException) -> None:
        """The store failed for good: discard all that is held; from now on `hold()` raises. The first cause stays."""
        if self._cause is None:
            self._cause = cause
        self._lanes.clear()
        self._heads.clear()
        self._loose.clear()

    # -- what can be seen ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> Literal["open", "holding", "shut"]:
        """``open``: nothing is held. ``holding``: something waits. ``shut``: nothing leaves ever again."""
        if self._cause is not None:
            return "shut"
        return "holding" if self._lanes or self._loose else "open"

    def connections(self) -> list[Hashable]:
        """The connections with held outputs, in the order in which they began to wait."""
        return list(self._lanes)

    def unacked_s(self, now: float) -> float | None:
        """Seconds since the oldest un-acknowledged commit was submitted, None if all is durable."""
        return now - self._unacked[0].since if self._unacked else None

    def stall(self, now: float) -> Stall:
        """What the un-acknowledged age asks of the node; `now` is of the clock given to `committed` and `hold`."""
        return stall(self.unacked_s(now))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _forget(self, durable: Seq) -> None:
        while self._unacked and self._unacked[0].seq <= durable:
            seq, _, records = self._unacked.popleft()
            for record in records:
                if self._newest.get(record) == seq:
                    del self._newest[record]


def _number(ready: tuple[int, object]) -> int:
    return ready[0]
