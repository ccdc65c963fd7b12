"""A graph and a scorer made from mainnet's real gossip, as a node would make them."""

from __future__ import annotations

from functools import cache

from bgsuper.lightning.chain_hash import MAINNET
from bgsuper.lightning.errors import GossipRefused
from bgsuper.lightning.routing import sample
from bgsuper.lightning.routing.gossip import NetworkGraph
from bgsuper.lightning.routing.scoring import ProbabilisticScorer
from bgsuper.lightning.wire.gossip import ChannelAnnouncement, ChannelUpdate, decode_gossip
from tests.lightning.routing.test_scoring import Hop, Route


@cache
def graph() -> NetworkGraph:
    """Every message of the slice that the graph takes, signatures checked; each update at its own time, so that none
    is stale. The channels of even blocks have a capacity, as if their funding had been looked up."""
    found = NetworkGraph(MAINNET)
    for raw in sample.messages():
        message = decode_gossip(raw)
        try:
            match message:
                case ChannelAnnouncement(short_channel_id=scid):
                    capacity = None if scid >> 40 & 1 else 16_777_215
                    found.update_channel_from_announcement(message, sample.NOW, capacity_sats=capacity)
                case ChannelUpdate(timestamp=timestamp):
                    found.update_channel(message, timestamp)
                case _:
                    found.update_node_from_announcement(message)
        except GossipRefused:
            continue
    return found


def scorer() -> ProbabilisticScorer:
    """What payments over the graph's channels taught: some failed, some arrived, and hours to weeks went by."""
    found = ProbabilisticScorer(graph())
    for number, (scid, channel) in enumerate(graph().channels.items()):
        now = sample.NOW + 3600 * number + 0.25
        target = channel.node_two if number % 2 else channel.node_one
        path = Route([Hop(target, scid)], 1000 * (number + 1) ** 2)
        if number % 3:
            found.payment_path_failed(path, scid, now)
        else:
            found.payment_path_successful(path, now)
        if number % 7 == 0:
            found.time_passed(now)
    return found
