"""The graph by records: what gossip changed goes through commits, so that a restart finds it without a sync.

Rules:
1. A turn takes some changes only, and the loop does not rest while there are more: no turn grows with a flood.
2. Nothing is taken while the store is behind, nor while some commits of this kind are not acknowledged: changes stay
   with the graph, where those of one record merge and cost nothing. (Thousands of keys on their way are thousands of
   objects for the garbage collector, which then holds the loop up.)
3. No output waits for these commits: gossip is never gated. The whole graph in LDK's format is a snapshot of its own
   (`side_writes`).
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ..key import Seq
from .interfaces import Durability, RecordGraph

#: How many records one turn takes: about a millisecond's work.
RECORDS: Final = 100
#: How many commits may be under way.
UNDER_WAY: Final = 8


class GraphRecords:
    """The commits of one graph's changes."""

    def __init__(self, graph: RecordGraph, durability: Durability) -> None:
        self._graph = graph
        self._durability = durability
        self._under_way: deque[Seq] = deque()
        #: Whether there may be more to take at once.
        self.more = False

    def settle(self) -> None:
        """Commit some of what changed, if the store takes it."""
        durable = self._durability.durable_seq
        while self._under_way and self._under_way[0] <= durable:
            self._under_way.popleft()
        self.more = False
        if self._durability.writable and len(self._under_way) < UNDER_WAY:
            seq = self._commit()
            if seq is not None:
                self._under_way.append(seq)
                self.more = len(self._under_way) < UNDER_WAY

    def write_finally(self) -> Seq | None:
        """Commit all that changed; the number of the last commit, None if nothing did."""
        last = None
        while (seq := self._commit()) is not None:
            last = seq
        return last

    def _commit(self) -> Seq | None:
        puts, removes = self._graph.take_changes(RECORDS)
        return self._durability.commit(puts, removes) if puts or removes else None
