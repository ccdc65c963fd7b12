"""P2PGossipSync: feeds the gossip that peers send into the network graph (LDK `P2PGossipSync`).

Each message ends in one of two ways, and both are counted: it was applied, or a typed error says why not.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..errors import GossipRefused, MalformedMessage, PrivateUpdate
from ..wire.gossip import ChannelAnnouncement, ChannelUpdate, GossipMessage, decode_gossip, scid_text
from .gossip import NetworkGraph, relayable

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChannelFailure:
    """A payment failed at a channel: closed if `is_permanent`, else without funds or peer for now."""

    short_channel_id: int
    is_permanent: bool


@dataclass(frozen=True, slots=True)
class NodeFailure:
    """A payment failed at a node."""

    node_id: bytes
    is_permanent: bool


@dataclass(frozen=True, slots=True)
class ChannelUpdateMessage:
    """A payment failed because we used old terms; the failing node sent the new ones."""

    message: ChannelUpdate


#: What a failed payment tells about the network (LDK `NetworkUpdate`, carried by `PaymentPathFailed`).
NetworkUpdate = ChannelUpdateMessage | ChannelFailure | NodeFailure


def _unix_time() -> int:
    return int(time.time())


class P2PGossipSync:
    """Applies gossip to `network_graph` and counts what became of it.

    `clock` gives the time of events, in seconds since the Unix epoch; messages come with a time of their own.
    """

    def __init__(self, network_graph: NetworkGraph, *, clock: Callable[[], int] = _unix_time) -> None:
        self.network_graph: Final = network_graph
        self._clock = clock
        #: Messages applied, by their class.
        self.applied: Final[Counter[type[GossipMessage]]] = Counter()
        #: Messages not applied, by the class of the error.
        self.refused: Final[Counter[type[Exception]]] = Counter()

    def handle_message(self, raw: bytes, now: int) -> bool:
        """Decode, check and apply the message in `raw`, type included. Whether to relay it to other peers.

        Raises `MalformedMessage` or a `GossipRefused`; then the graph is as it was.
        """
        try:
            message = decode_gossip(raw)
            if isinstance(message, ChannelUpdate):
                if message.dont_forward:
                    raise PrivateUpdate(
                        f"the channel_update for {scid_text(message.short_channel_id)} says dont_forward: drop it"
                    )
                self.network_graph.update_channel(message, now)
            elif isinstance(message, ChannelAnnouncement):
                self.network_graph.update_channel_from_announcement(message, now)
            else:
                self.network_graph.update_node_from_announcement(message)
        except (MalformedMessage, GossipRefused) as error:
            self.refused[type(error)] += 1
            raise
        self.applied[type(message)] += 1
        return relayable(message)

    def handle_event(self, event: object) -> None:
        """What the processor calls before the user's handler: acts on an event whose `network_update` is one of ours
        (LDK's PaymentPathFailed), and on no other."""
        update = getattr(event, "network_update", None)
        if isinstance(update, NetworkUpdate):
            self.handle_network_update(update, self._clock())

    def handle_network_update(self, update: NetworkUpdate, now: int) -> None:
        """Learn from a failed payment, as the seed does before it hands PaymentPathFailed to the user's handler.

        A `channel_update` must be signed like any other, and one that is refused is only logged, for the node that sent
        it is not at the other end of our connection. A node's failure changes nothing (LDK v0.0.106).
        """
        match update:
            case ChannelUpdateMessage(message):
                try:
                    self.network_graph.update_channel(message, now)
                except GossipRefused as error:
                    _log.debug("A failed payment brought an update that is not taken: %s", error)
            case ChannelFailure(short_channel_id, is_permanent=True):
                self.network_graph.channel_failed_permanent(short_channel_id, now)
            case ChannelFailure(short_channel_id):
                self.network_graph.channel_failed_temporarily(short_channel_id)
            case NodeFailure():
                pass
