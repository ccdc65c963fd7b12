"""Large values: copied over many turns, none of which grows with them, and pruned likewise."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from bgsuper.key import NETWORK_GRAPH
from bgsuper.processor.clock import suspended
from bgsuper.processor.side_writes import COPY_BYTES, COPY_PIECES, SideWrites

from .fake_store import FakeStore
from .stand_ins import Calls, Graph, Setup

PIECES = 5


class LargeGraph(Graph):
    """`PIECES` pieces, each as much as one turn copies; pruned in three steps."""

    def __init__(self, calls: Calls) -> None:
        super().__init__(calls)
        self.letter = b"a"
        self.made = 0

    def pieces(self) -> Iterator[bytes]:  # type: ignore[override]
        self.calls.append("graph write")
        return self._pieces(self.letter)

    def _pieces(self, letter: bytes) -> Iterator[bytes]:
        for _ in range(PIECES):
            self.made += 1
            yield letter * COPY_BYTES

    def pruning(self, now: int) -> Iterator[None]:
        self.calls.append("prune")
        for _ in range(3):
            self.calls.append("prune step")
            yield
        self.pruned_at.append(now)


class Scene:
    """A node with such a graph, about to prune and write it."""

    def __init__(self) -> None:
        self.setup = Setup(gossip=True, asleep=suspended, store=FakeStore())
        self.graph = LargeGraph(self.setup.calls)
        self.setup.gossip.network_graph = self.graph
        self.turns = self.setup.turns()
        self.turns.turn()
        self.setup.clock.now += 60.0

    def until_written(self) -> int:
        """Turns until a snapshot of the graph was submitted."""
        for count in range(1, 100):
            self.turns.turn()
            if self.written():
                return count
        raise AssertionError("nothing was written")

    def written(self) -> list[bytes]:
        return [entry.puts[NETWORK_GRAPH] for entry in self.setup.store.history if NETWORK_GRAPH in entry.puts]


def test_one_turn_copies_one_large_piece() -> None:
    """And the loop does not rest until all of it is copied; what it shows is the moment at which the copy began."""
    scene = Scene()
    while not scene.graph.made:
        scene.turns.turn()
    scene.graph.letter = b"b"
    for made in range(1, PIECES + 1):
        assert scene.graph.made == made
        assert scene.turns.rest_s() == 0.0
        assert scene.written() == []
        scene.turns.turn()
    assert scene.written() == [b"a" * COPY_BYTES * PIECES]
    assert scene.turns.rest_s() > 0.0


def test_pruning_takes_a_step_a_turn_and_then_the_graph_is_written() -> None:
    """The loop does not rest between the steps, and peers are served."""
    scene = Scene()
    scene.turns.turn()
    for steps in (1, 2, 3):
        assert scene.setup.calls.count("prune step") == steps
        assert scene.turns.rest_s() == 0.0
        assert scene.graph.made == 0
        before = scene.setup.calls.count("peer events")
        scene.turns.turn()
        assert scene.setup.calls.count("peer events") == before + 1
    assert (scene.setup.calls.count("prune"), len(scene.graph.pruned_at), scene.graph.made) == (1, 1, 1)


def test_a_store_that_falls_behind_stops_the_copying_and_does_not_keep_the_loop_busy() -> None:
    """It goes on, with the moment at which it began, when the store has caught up."""
    scene = Scene()
    while scene.graph.made < 2:
        scene.turns.turn()
    scene.setup.store.writable = False
    scene.turns.turn()
    assert scene.graph.made == 2
    assert scene.turns.rest_s() > 0.0
    scene.setup.store.writable = True
    scene.until_written()
    assert scene.written() == [b"a" * COPY_BYTES * PIECES]


def test_the_final_write_shows_the_end_whatever_copy_was_under_way() -> None:
    """All of it at once, as it is then."""
    scene = Scene()
    while not scene.graph.made:
        scene.turns.turn()
    scene.graph.letter = b"z"
    writes = dict(scene.turns.final_writes())
    writes["network graph"]()
    assert scene.written() == [b"z" * COPY_BYTES * PIECES]


def test_a_prune_that_takes_longer_than_its_period_is_not_doubled() -> None:
    """The next one begins with the period after it."""
    scene = Scene()
    scene.turns.turn()
    scene.setup.clock.now += 3600.0
    scene.turns.turn()
    assert scene.setup.calls.count("prune") == 1
    while not scene.graph.pruned_at:
        scene.turns.turn()
    scene.setup.clock.now += 3600.0
    scene.turns.turn()
    assert scene.setup.calls.count("prune") == 2


def test_many_small_pieces_take_more_than_one_turn() -> None:
    """A piece may be empty, and the work of looking for it is done all the same."""
    store = FakeStore()
    pieces = [b""] * COPY_PIECES + [b"end"]
    writes = SideWrites(NETWORK_GRAPH, "graph", lambda: iter(pieces), store, logging.getLogger(__name__))
    writes.owe()
    writes.settle()
    assert writes.copying
    writes.settle()
    assert [entry.puts for entry in store.history] == [{NETWORK_GRAPH: b"end"}]
    assert not writes.copying
