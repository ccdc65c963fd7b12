"""The graph by records: what gossip changed goes through commits, so that a restart finds it without a sync.

Rules:
1. A turn takes some changes only, and the loop does not rest while there are more: no turn grows with a flood.
2. Nothing is taken while the store is behind: changes stay with the graph, where those of one record merge.
3. No output waits for these commits: gossip is never gated. The whole graph in LDK's format is a snapshot of its own
   (`side_writes`).
"""

from __future__ import annotations

from typing import Final

from ..key import Seq
from .interfaces import Durability, RecordGraph

#: How many records one turn takes: about a millisecond's work.
RECORDS: Final = 100


class GraphRecords:
    """The commits of one graph's changes."""

    def __init__(self, graph: RecordGraph, durability: Durability) -> None:
        self._graph = graph
        self._durability = durability
        #: Whether there may be more to take at once.
        self.more = False

    def settle(self) -> None:
        """Commit some of what changed, if the store takes it."""
        self.more = False
        if self._durability.writable:
            self.more = self._commit() is not None

    def write_finally(self) -> Seq | None:
        """Commit all that changed; the number of the last commit, None if nothing did."""
        last = None
        while (seq := self._commit()) is not None:
            last = seq
        return last

    def _commit(self) -> Seq | None:
        puts, removes = self._graph.take_changes(RECORDS)
        return self._durability.commit(puts, removes) if puts or removes else None
