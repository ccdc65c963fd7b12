"""P2PGossipSync: feeds the gossip that peers send into the network graph, and passes it on (LDK `P2PGossipSync`).

Each message ends in one of three ways, and all are counted: it was applied; it waits for its channel's funding output
(`utxo`); or a typed error says why not. What was applied and may be relayed is offered to all other peers.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from ..errors import (
    BadSignature,
    FundingMismatch,
    FundingNotFound,
    GossipRefused,
    MalformedMessage,
    PrivateUpdate,
    UnknownChannel,
    UnknownNode,
)
from ..wire.gossip import ChannelAnnouncement, ChannelUpdate, GossipMessage, decode_gossip, scid_text
from .gossip import NetworkGraph, relayable
from .gossip_peer import GossipPeer
from .network_update import learn_from_event
from .utxo import Held, UtxoChecks, UtxoLookup, Waiting, verified_capacity


def _unix_time() -> int:
    return int(time.time())


class P2PGossipSync:
    """Applies gossip to `network_graph` and counts what became of it.

    With a `utxo_lookup` a channel is taken only if its funding output is found, unspent. `clock` gives the time of
    events, in seconds since the Unix epoch; messages come with a time of their own.
    """

    def __init__(
        self,
        network_graph: NetworkGraph,
        *,
        utxo_lookup: UtxoLookup | None = None,
        clock: Callable[[], int] = _unix_time,
    ) -> None:
        self.network_graph: Final = network_graph
        self._utxo = None if utxo_lookup is None else UtxoChecks(utxo_lookup)
        self._clock = clock
        self._peers: set[GossipPeer] = set()
        #: Messages applied, by their class.
        self.applied: Final[Counter[type[GossipMessage]]] = Counter()
        #: Messages that waited for a funding output, by their class.
        self.held: Final[Counter[type[GossipMessage]]] = Counter()
        #: Messages not applied, by the class of the error.
        self.refused: Final[Counter[type[Exception]]] = Counter()

    # -- peers --------------------------------------------------------------------------------------------------------

    def connect(self, now: float, *, queries: bool) -> GossipPeer:
        """A new connection; `queries`: both sides have the feature `gossip_queries`."""
        peer = GossipPeer(self, now, queries=queries)
        self._peers.add(peer)
        return peer

    def disconnect(self, peer: GossipPeer) -> None:
        """The connection has ended."""
        self._peers.discard(peer)

    @property
    def busy(self) -> bool:
        """Whether so many funding outputs are being looked up that no gossip should be read for now."""
        return self._utxo is not None and self._utxo.busy

    # -- messages -----------------------------------------------------------------------------------------------------

    def handle_message(self, raw: bytes, now: int, *, origin: GossipPeer | None = None) -> bool:
        """Decode, check and apply the message in `raw`, type included. Whether it was applied and may be relayed; it
        was offered to all peers but `origin` then.

        Raises `MalformedMessage` or a `GossipRefused`; then the graph is as it was.
        """
        try:
            message = decode_gossip(raw)
            if not self._take(message, now, origin):
                self.held[type(message)] += 1
                return False
        except (MalformedMessage, GossipRefused) as error:
            self.refused[type(error)] += 1
            raise
        return self._applied(message, origin)

    def apply_lookups(self, now: float) -> None:
        """Apply what waited for the funding outputs that were found meanwhile. Call it when `UtxoFuture.resolve` was
        called, and now and then."""
        if self._utxo is None:
            return
        for held in self._utxo.take_answered(now):
            for waiting in held.waiting:
                self._apply_answer(held, waiting, now)

    def _apply_answer(self, held: Held, waiting: Waiting, now: float) -> None:
        """Judge one of the announcements of a channel, and apply what waits behind it if it is taken."""
        announcement, origin = waiting
        try:
            capacity = verified_capacity(announcement, held.utxo)
            self.network_graph.update_channel_from_checked_announcement(announcement, int(now), capacity_sats=capacity)
        except GossipRefused as error:
            self.refused[type(error)] += 1
            if origin is not None and isinstance(error, FundingNotFound | FundingMismatch):
                origin.charge_unfunded(now)
            return
        self._applied(announcement, origin)
        for message in held.messages(announcement):
            try:
                self._update(message, int(now))
            except GossipRefused as error:
                self.refused[type(error)] += 1
            else:
                self._applied(message, None)

    def funding_spent(self, short_channel_id: int, now: int) -> None:
        """The channel's funding output was spent, deep enough (BOLT 7: forget it after 72 blocks): it is closed."""
        if self._utxo is not None:
            self._utxo.spent(short_channel_id)
        self.network_graph.channel_failed_permanent(short_channel_id, now)

    def handle_event(self, event: object) -> None:
        """Learn from a failed payment (`network_update.learn_from_event`)."""
        learn_from_event(self.network_graph, event, self._clock())

    def _take(self, message: GossipMessage, now: int, origin: GossipPeer | None) -> bool:
        """Apply `message`; False if it waits."""
        if isinstance(message, ChannelAnnouncement):
            return self._announce(message, now, origin)
        if isinstance(message, ChannelUpdate) and message.dont_forward:
            raise PrivateUpdate(
                f"the channel_update for {scid_text(message.short_channel_id)} says dont_forward: drop it"
            )
        try:
            self._update(message, now)
        except (UnknownChannel, UnknownNode, BadSignature):
            # The channel may be known with other nodes, which an announcement that waits will replace.
            if self._utxo is None or not relayable(message) or not self._utxo.hold(message):
                raise
            return False
        return True

    def _announce(self, message: ChannelAnnouncement, now: int, origin: GossipPeer | None) -> bool:
        if self._utxo is None:
            self.network_graph.update_channel_from_announcement(message, now)
            return True
        self.network_graph.check_channel_announcement(message, now)
        capacity = self._utxo.capacity_sats(message, now, origin)
        if capacity is None:
            return False
        self.network_graph.update_channel_from_checked_announcement(message, now, capacity_sats=capacity)
        return True

    def _update(self, message: GossipMessage, now: int) -> None:
        if isinstance(message, ChannelUpdate):
            self.network_graph.update_channel(message, now)
        elif not isinstance(message, ChannelAnnouncement):
            self.network_graph.update_node_from_announcement(message)

    def _applied(self, message: GossipMessage, origin: GossipPeer | None) -> bool:
        self.applied[type(message)] += 1
        if not relayable(message):
            return False
        for peer in self._peers:
            if peer is not origin:
                peer.offer(message)
        return True
