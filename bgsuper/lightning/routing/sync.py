"""P2PGossipSync: feeds the gossip that peers send into the network graph (LDK `P2PGossipSync`).

Each message ends in one of two ways, and both are counted: it was applied, or a typed error says why not.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from ..errors import GossipRefused, MalformedMessage, PrivateUpdate
from ..wire.gossip import ChannelAnnouncement, ChannelUpdate, GossipMessage, decode_gossip, scid_text
from .gossip import NetworkGraph, relayable
from .network_update import learn_from_event


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
        """Learn from a failed payment (`network_update.learn_from_event`)."""
        learn_from_event(self.network_graph, event, self._clock())
