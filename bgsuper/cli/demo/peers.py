"""The other node objects of the demo's processor: peers, a chain monitor without a chain, real gossip of the past."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ...lightning.routing import sample
from ...lightning.routing.gossip import NetworkGraph
from ...lightning.routing.sync import P2PGossipSync


class NoChain:
    """A ChainMonitor that has nothing to watch."""

    def process_pending_events(self, handler: Callable[[Any], None], /) -> None:
        """There are none."""


class Peers:
    """A PeerManager whose peers are the demo's load. `reading` is False while the store is too far behind."""

    def __init__(self) -> None:
        self.reading = True
        self.pings = 0

    def process_events(self) -> None:
        """Nothing waits to be sent: receipts leave through `App.release`."""

    def timer_tick_occurred(self) -> None:
        self.pings += 1

    def disconnect_all_peers(self) -> None:
        self.reading = False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class SampleGraph:
    """The graph, as the processor prunes and writes it. It lives at the date of the sample's newest message: by
    today's date all of it would be stale."""

    def __init__(self, graph: NetworkGraph) -> None:
        self.pieces: Callable[[], Iterable[bytes]] = graph.pieces
        self._graph = graph

    def remove_stale_channels_and_tracking(self, now: int, /) -> None:
        self._graph.remove_stale_channels_and_tracking(sample.NOW)


class SampleSync:
    """A GossipSync for the processor; `feed` is what peers send."""

    def __init__(self, graph: NetworkGraph) -> None:
        self.graph = graph
        self.network_graph = SampleGraph(graph)
        self.sync = P2PGossipSync(graph)

    @property
    def taken(self) -> int:
        """Messages that were applied."""
        return self.sync.applied.total()

    @property
    def refused(self) -> int:
        """Messages that were not, mostly because they are too old."""
        return self.sync.refused.total()

    def handle_event(self, event: object, /) -> None:
        """The demo's events tell nothing of the network."""
