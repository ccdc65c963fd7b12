"""Whether an announced channel is on the chain: `UtxoLookup` (LDK's), asked once a channel, answered whenever.

1. A lookup may answer at once or later; meanwhile the announcement waits, and with it the newest word on the channel
   and its nodes. Nothing waits for ever: what is not answered in `PATIENCE_S` is dropped, and may come again.
2. Memory is bounded: so many channels wait, and so many answers are remembered. Who has no room is told to come back.
3. The output must be the channel's own: a P2WSH of both bitcoin keys (BOLT 3, "Funding Transaction Output").

Sans-IO; `now` is in seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from hashlib import sha256
from typing import Final, NamedTuple, Protocol

from ..errors import FundingMismatch, FundingNotFound, LookupsPending
from ..wire.gossip import ChannelAnnouncement, ChannelUpdate, NodeAnnouncement, scid_text

#: How many lookups may be open at once (LDK: 32, which a full node's answers over HTTP exceed).
MAX_PENDING: Final = 256
#: How long an open one is waited for.
PATIENCE_S: Final = 60.0
#: How many answers are remembered, good and bad.
MAX_REMEMBERED: Final = 100_000


class Utxo(NamedTuple):
    """An unspent output."""

    value_sat: int
    script_pubkey: bytes


class UtxoLookup(Protocol):
    """Whoever can see the chain (LDK `UtxoLookup`)."""

    def get_utxo(self, short_channel_id: int, future: UtxoFuture, /) -> None:
        """Find the unspent output that `short_channel_id` names, and call `future.resolve` with it, or with None if
        there is none: before this returns or later, on the loop's thread. Never blocks."""


class UtxoFuture:
    """The answer to one lookup, once it is there."""

    __slots__ = ("_checks", "_short_channel_id")

    def __init__(self, checks: UtxoChecks, short_channel_id: int) -> None:
        self._checks, self._short_channel_id = checks, short_channel_id

    def resolve(self, utxo: Utxo | None) -> None:
        """The output, or None if there is no such unspent output. Only the first call counts."""
        self._checks.answered(self._short_channel_id, utxo)


class Held:
    """An announcement that waits for its funding output, and what came for its channel meanwhile: the newest of each
    kind."""

    def __init__(self, announcement: ChannelAnnouncement, since: float) -> None:
        self.announcement = announcement
        self.since = since
        self.answer: Utxo | None = None
        self.updates: dict[int, ChannelUpdate] = {}
        self.nodes: dict[bytes, NodeAnnouncement] = {}

    def messages(self) -> Iterator[ChannelUpdate | NodeAnnouncement]:
        """What waits behind the announcement."""
        yield from self.updates.values()
        yield from self.nodes.values()


class UtxoChecks:
    """The lookups under way, and their answers."""

    def __init__(self, lookup: UtxoLookup) -> None:
        self._lookup = lookup
        self._held: OrderedDict[int, Held] = OrderedDict()  # the oldest first
        self._answered: list[int] = []
        self._remembered: OrderedDict[int, Utxo | None] = OrderedDict()

    @property
    def busy(self) -> bool:
        """Whether there is room for no further lookup: gossip should not be read for a while."""
        return len(self._held) >= MAX_PENDING

    def capacity_sats(self, announcement: ChannelAnnouncement, now: float) -> int | None:
        """The amount of the announced channel's funding output; None if that is not known yet, and the announcement
        waits. Raises `FundingNotFound`, `FundingMismatch`, `LookupsPending`."""
        scid = announcement.short_channel_id
        if scid in self._remembered:
            self._remembered.move_to_end(scid)
            return verified_capacity(announcement, self._remembered[scid])
        if scid in self._held:
            raise LookupsPending(f"the funding output of {scid_text(scid)} is being looked up: drop this announcement")
        if self.busy:
            raise LookupsPending(f"{MAX_PENDING} funding outputs are being looked up: send it again later")
        self._held[scid] = Held(announcement, now)
        self._lookup.get_utxo(scid, UtxoFuture(self, scid))
        if scid in self._remembered:
            del self._held[scid]
            self._answered.remove(scid)
            return verified_capacity(announcement, self._remembered[scid])
        return None

    def hold(self, message: ChannelUpdate | NodeAnnouncement) -> bool:
        """Keep `message` if a channel that it is about waits; whether it was kept."""
        if isinstance(message, ChannelUpdate):
            held = self._held.get(message.short_channel_id)
            if held is None:
                return False
            known = held.updates.get(message.direction)
            if known is None or known.timestamp < message.timestamp:
                held.updates[message.direction] = message
            return True
        kept = False
        for held in self._held.values():
            if message.node_id in (held.announcement.node_id_1, held.announcement.node_id_2):
                before = held.nodes.get(message.node_id)
                if before is None or before.timestamp < message.timestamp:
                    held.nodes[message.node_id] = message
                kept = True
        return kept

    def answered(self, short_channel_id: int, utxo: Utxo | None) -> None:
        """An answer came; `UtxoFuture.resolve` calls this."""
        if short_channel_id not in self._held or short_channel_id in self._remembered:
            return
        self._remember(short_channel_id, utxo)
        self._answered.append(short_channel_id)

    def take_answered(self, now: float) -> Iterator[Held]:
        """Those that waited and have their answer by now, each with its amount to be asked for again; those that waited
        too long are forgotten."""
        answered, self._answered = self._answered, []
        for scid in answered:
            held = self._held.pop(scid, None)
            if held is not None:
                yield held
        while self._held and now - next(iter(self._held.values())).since > PATIENCE_S:
            self._held.popitem(last=False)

    def spent(self, short_channel_id: int) -> None:
        """The output is gone: what is remembered of it no longer holds."""
        self._remember(short_channel_id, None)

    def _remember(self, scid: int, utxo: Utxo | None) -> None:
        self._remembered[scid] = utxo
        self._remembered.move_to_end(scid)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)


def verified_capacity(announcement: ChannelAnnouncement, utxo: Utxo | None) -> int:
    """The amount of `utxo`, if it funds the announced channel. Raises `FundingNotFound`, `FundingMismatch`."""
    name = scid_text(announcement.short_channel_id)
    if utxo is None:
        raise FundingNotFound(f"expected an unspent output at {name}, there is none: drop the announcement")
    if utxo.script_pubkey != funding_script_pubkey(announcement.bitcoin_key_1, announcement.bitcoin_key_2):
        raise FundingMismatch(f"the output at {name} does not belong to the announced bitcoin keys: warn the peer")
    return utxo.value_sat


def funding_script_pubkey(key_1: bytes, key_2: bytes) -> bytes:
    """The P2WSH output script of ``2 <lesser key> <greater key> 2 OP_CHECKMULTISIG`` (BOLT 3)."""
    lesser, greater = sorted((key_1, key_2))
    script = b"\x52\x21" + lesser + b"\x21" + greater + b"\x52\xae"
    return b"\x00\x20" + sha256(script).digest()
