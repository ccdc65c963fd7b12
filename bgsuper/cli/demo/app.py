"""The demo's stateful application, in the place of LDK's ChannelManager: payments between a few accounts.

    pay()      changes a balance, appends to the history, opens a pending record -> a receipt for a peer, held
    release    the three records are durable: the receipt leaves, and becomes an event
    settle     the event's handler closes the pending record; a later commit removes it

The history is append-only, so that no later write can hide the loss of an earlier one. The graph's changed records go
into the same commits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Final

from ...key import Key
from ...lightning.routing.gossip import NetworkGraph

ACCOUNTS: Final = 32
PEERS: Final = 4
#: The size of a history record, in bytes: about that of a channel's commitment with a few HTLCs.
HISTORY_BYTES: Final = 512


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a peer is told of a payment, once that is durable: an `Output`."""

    number: int
    connection: Hashable
    records: Collection[Key]


class App:
    """A ChannelManager by records, with an outbox. `is_durable` is the witness's word on records, asked at each
    release and independent of the gate."""

    def __init__(self, random: Random, graph: NetworkGraph, is_durable: Callable[[Collection[Key]], bool]) -> None:
        self.payments = self.settled = self.released = 0
        self.held = self.held_most = 0
        #: Receipts that left before their cause was durable: there must be none.
        self.too_early: list[int] = []
        self._random, self._graph, self._is_durable = random, graph, is_durable
        self._balances = [0] * ACCOUNTS
        self._puts: dict[Key, bytes] = {}
        self._removes: set[Key] = set()
        self._outputs: list[Receipt] = []
        self._events: deque[Receipt] = deque()
        self._wake: Callable[[], None] = _nobody

    # -- what the load does -------------------------------------------------------------------------------------------

    def pay(self) -> None:
        """Make a payment. Its receipt is held by the processor until it is durable."""
        random, number = self._random, self.payments
        account, amount_msat = random.randrange(ACCOUNTS), random.randrange(1, 10**8)
        self._balances[account] += amount_msat
        balance, history, pending = _balance_key(account), _history_key(number), _pending_key(number)
        self._puts[balance] = b"%d msat after payment %d" % (self._balances[account], number)
        self._puts[history] = b"payment %d: %d msat " % (number, amount_msat) + random.randbytes(HISTORY_BYTES)
        self._puts[pending] = b"%d" % number
        self._outputs.append(Receipt(number, f"peer {number % PEERS}", (balance, history, pending)))
        self.payments += 1

    def settle(self, receipt: Receipt) -> None:
        """The event handler: what was pending is done."""
        self._removes.add(_pending_key(receipt.number))
        self.settled += 1

    def changed(self) -> None:
        """Tell the processor that there is something to persist."""
        self._wake()

    # -- ChannelManager, RecordChanges, Outbox ------------------------------------------------------------------------

    def timer_tick_occurred(self) -> None:
        """Nothing here grows old."""

    def on_persistable_update(self, callback: Callable[[], None], /) -> Callable[[], None]:
        self._wake = callback

        def unsubscribe() -> None:
            self._wake = _nobody

        return unsubscribe

    def process_pending_events(self, handler: Callable[[Receipt], None], /) -> None:
        while self._events:
            handler(self._events[0])
            self._events.popleft()

    def take_changes(self) -> tuple[dict[Key, bytes], set[Key]]:
        puts, removes = self._graph.take_changes()
        puts |= self._puts
        removes |= self._removes
        self._puts, self._removes = {}, set()
        return puts, removes

    def take_outputs(self) -> Iterable[Receipt]:
        taken, self._outputs = self._outputs, []
        self.held += len(taken)
        self.held_most = max(self.held_most, self.held)
        return taken

    def take_disconnected(self) -> Iterable[Hashable]:
        return ()

    def release(self, output: Receipt, /) -> None:
        # Not the balance: a later payment may have changed it again.
        if not self._is_durable((_history_key(output.number), _pending_key(output.number))):
            self.too_early.append(output.number)
        self.held -= 1
        self.released += 1
        self._events.append(output)


def _nobody() -> None:
    """Nobody listens."""


def _balance_key(account: int) -> Key:
    return Key("demo", "balances", f"{account:02d}")


def _history_key(number: int) -> Key:
    return Key("demo", "history", f"{number:08d}")


def _pending_key(number: int) -> Key:
    return Key("demo", "pending", f"{number:08d}")
