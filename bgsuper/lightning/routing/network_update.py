"""What a failed payment tells about the network, and what the graph makes of it (LDK `NetworkUpdate`)."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ..errors import GossipRefused
from ..wire.gossip import ChannelUpdate
from .gossip import NetworkGraph

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


#: Carried by LDK's `PaymentPathFailed`.
NetworkUpdate = ChannelUpdateMessage | ChannelFailure | NodeFailure


def learn_from_event(network_graph: NetworkGraph, event: object, now: int) -> None:
    """What the processor does before the user's handler: act on an event whose `network_update` is one of ours (LDK's
    PaymentPathFailed), and on no other. `now` is in seconds since 1970."""
    update = getattr(event, "network_update", None)
    if isinstance(update, NetworkUpdate):
        handle_network_update(network_graph, update, now)


def handle_network_update(network_graph: NetworkGraph, update: NetworkUpdate, now: int) -> None:
    """Learn from a failed payment, as the seed does before it hands PaymentPathFailed to the user's handler.

    A `channel_update` must be signed like any other, and one that is refused is only logged, for the node that sent
    it is not at the other end of our connection. None is kept or relayed: that would tell that we paid there. A node's
    failure changes nothing (LDK v0.0.106).
    """
    match update:
        case ChannelUpdateMessage(message):
            try:
                network_graph.update_channel_unrelayed(message, now)
            except GossipRefused as error:
                _log.debug("A failed payment brought an update that is not taken: %s", error)
        case ChannelFailure(short_channel_id, is_permanent=True):
            network_graph.channel_failed_permanent(short_channel_id, now)
        case ChannelFailure(short_channel_id):
            network_graph.channel_failed_temporarily(short_channel_id)
        case NodeFailure():
            pass
