"""What a store has of a network graph: records of channels and nodes, and a snapshot of it in LDK's format.

The records are what a node goes on with; the snapshot is as old as its timer, or another program's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, Self

from ...errors import NotFound
from ...key import NETWORK_GRAPH, Key
from ...lightning.routing.gossip import CHANNELS, NODES
from ...store.api import Entry, StoreView
from ...store.copying import Advance
from .chains import Chain, of_graph_bytes, of_records

#: The namespaces of the records, in the order of a listing.
NAMESPACES: Final = tuple(sorted((CHANNELS, NODES)))
#: How many channels are asked for the chain: where messages are kept at all, nearly every channel has one.
_ASKED: Final = 100


class StoredGraph(NamedTuple):
    """Where to find the graph in `view`, which is open for as long."""

    view: StoreView
    entries: list[Entry]  #: the records, in the order of their keys
    snapshot: bytes | None

    @classmethod
    def of(cls, view: StoreView) -> Self:
        """Looks, and reads the snapshot. Raises `StoreError`s."""
        try:
            snapshot = view.read(NETWORK_GRAPH)
        except NotFound:
            snapshot = None
        return cls(view, list(_graph_entries(view)), snapshot)

    def records(self, advance: Advance) -> Iterator[tuple[Key, bytes]]:
        """The records, read one by one. Raises `StoreError`s."""
        for entry in self.entries:
            content = self.view.read(entry.key)
            yield entry.key, content
            advance(entry.key, len(content))

    def chains(self) -> list[Chain]:
        """What says of which chain it is. Raises `StoreError`s."""
        channels = [entry.key for entry in self.entries if entry.key[:2] == CHANNELS][:_ASKED]
        return of_records(map(self.view.read, channels)) + of_graph_bytes(self.snapshot, "its snapshot")


def _graph_entries(view: StoreView) -> Iterator[Entry]:
    for entry in view.entries():
        if entry.key[:2] in NAMESPACES:
            yield entry
        elif entry.key[:2] > NAMESPACES[-1]:
            return
