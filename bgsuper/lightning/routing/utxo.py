"""Whether an announced channel is on the chain: `UtxoLookup` (LDK's), asked once a channel, answered whenever.

1. A lookup may answer at once or later; meanwhile the announcement waits, and with it the newest word on the channel
   and its nodes. Nothing waits for ever: what is not answered in `PATIENCE_S` is dropped, and may come again.
2. Memory is bounded: so many channels wait, and so many answers are remembered. Who has no room is told to come back.
3. The output must be the channel's own: a P2WSH of both bitcoin keys (BOLT 3, "Funding Transaction Output").
4. Who comes first occupies nothing: until the answer is there anybody's announcement of a channel may be the right one,
   so that some wait side by side; and what waits with them was signed by a node of one of them.
5. That there is no such output is not remembered, since a block may bring it, except of one that was spent.

Sans-IO; `now` is in seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from ..errors import BadSignature, FundingMismatch, FundingNotFound, LookupsPending
from ..wire.gossip import ChannelAnnouncement, ChannelUpdate, NodeAnnouncement, scid_text
from .verification import verify_channel_update, verify_node_announcement

if TYPE_CHECKING:
    from .gossip_peer import GossipPeer

#: How many lookups may be open at once (LDK: 32, which a full node's answers over HTTP exceed).
MAX_PENDING: Final = 256
#: How many different announcements of one channel wait for its answer.
MAX_RIVALS: Final = 4
#: How long an open one is waited for.
PATIENCE_S: Final = 60.0
#: How many outputs are remembered, spent ones too.
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


class Waiting(NamedTuple):
    """An announcement that waits, and who sent it if a peer did."""

    announcement: ChannelAnnouncement
    origin: GossipPeer | None


class Held:
    """What waits for one funding output: announcements of the channel, and what came for it meanwhile, the newest of
    each kind from each node."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.waiting: list[Waiting] = []
        self.answered = False
        self.utxo: Utxo | None = None
        self._updates: dict[tuple[int, bytes], ChannelUpdate] = {}
        self._nodes: dict[bytes, NodeAnnouncement] = {}

    def add(self, waiting: Waiting) -> None:
        """One announcement more. Raises `LookupsPending` if it waits already, or there is no room for it."""
        name = scid_text(waiting.announcement.short_channel_id)
        if any(waiting.announcement == other.announcement for other in self.waiting):
            raise LookupsPending(f"the funding output of {name} is being looked up: drop this announcement")
        if len(self.waiting) >= MAX_RIVALS:
            raise LookupsPending(
                f"{MAX_RIVALS} announcements of {name} wait for its funding output: send it again later"
            )
        self.waiting.append(waiting)

    def add_update(self, message: ChannelUpdate) -> bool:
        """Whether it was kept, or is older than what was. Raises `BadSignature` if it was signed by none of the
        channel's nodes, whichever announcement is right."""
        direction = message.direction
        signers = {_node_ids(waiting.announcement)[direction] for waiting in self.waiting}
        if all(_is_as_new(self._updates.get((direction, node_id)), message) for node_id in signers):
            return True
        refusal: BadSignature | None = None
        for node_id in signers:
            try:
                verify_channel_update(message, node_id)
            except BadSignature as error:
                refusal = error
            else:
                if not _is_as_new(self._updates.get((direction, node_id)), message):
                    self._updates[direction, node_id] = message
                return True
        if refusal is not None and len(self.waiting) < MAX_RIVALS:
            raise refusal
        # The announcement that it belongs to may have found no room: nobody's fault.
        return False

    def add_node(self, message: NodeAnnouncement) -> None:
        """A node's announcement; its signature was found good unless a newer one is there."""
        if not _is_as_new(self._nodes.get(message.node_id), message):
            self._nodes[message.node_id] = message

    def has_node(self, message: NodeAnnouncement) -> bool:
        """Whether one as new was kept."""
        return _is_as_new(self._nodes.get(message.node_id), message)

    def is_about(self, node_id: bytes) -> bool:
        """Whether the node is one of the channel's by one of the announcements."""
        return any(node_id in _node_ids(waiting.announcement) for waiting in self.waiting)

    def messages(self, announcement: ChannelAnnouncement) -> Iterator[ChannelUpdate | NodeAnnouncement]:
        """What waits behind one of the announcements."""
        node_ids = _node_ids(announcement)
        for signer in enumerate(node_ids):
            if signer in self._updates:
                yield self._updates[signer]
        for node_id in node_ids:
            if node_id in self._nodes:
                yield self._nodes[node_id]


def _node_ids(announcement: ChannelAnnouncement) -> tuple[bytes, bytes]:
    return announcement.node_id_1, announcement.node_id_2


def _is_as_new(known: ChannelUpdate | NodeAnnouncement | None, message: ChannelUpdate | NodeAnnouncement) -> bool:
    return known is not None and known.timestamp >= message.timestamp


class UtxoChecks:
    """The lookups under way, and their answers."""

    def __init__(self, lookup: UtxoLookup) -> None:
        self._lookup = lookup
        self._held: OrderedDict[int, Held] = OrderedDict()  # the oldest first
        self._answered: list[int] = []
        self._remembered: OrderedDict[int, Utxo | None] = OrderedDict()  # None: it was spent

    @property
    def busy(self) -> bool:
        """Whether there is room for no further lookup: gossip should not be read for a while."""
        return len(self._held) >= MAX_PENDING

    def capacity_sats(self, announcement: ChannelAnnouncement, now: float, origin: GossipPeer | None) -> int | None:
        """The amount of the announced channel's funding output; None if that is not known yet, and the announcement
        waits. `origin` is who sent it. Raises `FundingNotFound`, `FundingMismatch`, `LookupsPending`."""
        scid = announcement.short_channel_id
        if scid in self._remembered:
            self._remembered.move_to_end(scid)
            return verified_capacity(announcement, self._remembered[scid])
        waiting = Waiting(announcement, origin)
        if scid in self._held:
            self._held[scid].add(waiting)
            return None
        if self.busy:
            raise LookupsPending(f"{MAX_PENDING} funding outputs are being looked up: send it again later")
        held = self._held[scid] = Held(now)
        held.add(waiting)
        self._lookup.get_utxo(scid, UtxoFuture(self, scid))
        if held.answered:
            del self._held[scid]
            self._answered.remove(scid)
            return verified_capacity(announcement, held.utxo)
        return None

    def hold(self, message: ChannelUpdate | NodeAnnouncement) -> bool:
        """Keep `message` if a channel that it is about waits; whether it was kept. Raises `BadSignature`."""
        if isinstance(message, ChannelUpdate):
            held = self._held.get(message.short_channel_id)
            return held is not None and held.add_update(message)
        about = [held for held in self._held.values() if held.is_about(message.node_id)]
        if not all(held.has_node(message) for held in about):
            verify_node_announcement(message)
        for held in about:
            held.add_node(message)
        return bool(about)

    def answered(self, short_channel_id: int, utxo: Utxo | None) -> None:
        """An answer came; `UtxoFuture.resolve` calls this."""
        held = self._held.get(short_channel_id)
        if held is None or held.answered:
            return
        held.answered, held.utxo = True, utxo
        self._answered.append(short_channel_id)
        if utxo is not None:
            self._remember(short_channel_id, utxo)

    def take_answered(self, now: float) -> Iterator[Held]:
        """Those that waited and have their answer by now; those that waited too long are forgotten."""
        answered, self._answered = self._answered, []
        for scid in answered:
            held = self._held.pop(scid, None)
            if held is not None:
                yield held
        while self._held and now - next(iter(self._held.values())).since > PATIENCE_S:
            self._held.popitem(last=False)

    def spent(self, short_channel_id: int) -> None:
        """The output is gone: what is remembered of it no longer holds, and what waits for it waits for nothing."""
        self._held.pop(short_channel_id, None)
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
