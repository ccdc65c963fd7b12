"""Ids in pieces: a sorted set, whatever comes and goes, of which the cyclic collector sees a list of pieces."""

from __future__ import annotations

import gc

from hypothesis import given
from hypothesis import strategies as st

from bgsuper.lightning.routing import order
from bgsuper.lightning.routing.order import PIECE_IDS, SortedIds

#: Added, or removed if it is there already.
changes = st.lists(st.integers(0, 60), max_size=200)


@given(st.sets(st.integers(0, 60)), changes, st.integers(-1, 61), st.integers(1, 70))
def test_it_is_a_sorted_set(first: set[int], later: list[int], passed: int, count: int) -> None:
    """With pieces so small that they are split, emptied and passed over all the time."""
    whole, order.PIECE_IDS = order.PIECE_IDS, 2  # type: ignore[misc]
    try:
        ids: SortedIds[int] = SortedIds()
        ids.replace(first)
        model = set(first)
        for ident in later:
            if ident in model:
                ids.add(ident)
                assert sum(each == ident for each in ids) == 1
                ids.remove(ident)
            else:
                ids.add(ident)
            model ^= {ident}
        assert list(ids) == sorted(model)
        assert bool(ids) == bool(model)
        assert ids.after(None, count) == sorted(model)[:count]
        assert ids.after(passed, count) == [ident for ident in sorted(model) if ident > passed][:count]
        assert all(1 <= len(piece) < 4 for piece in ids._pieces)
    finally:
        order.PIECE_IDS = whole  # type: ignore[misc]


def test_the_collector_sees_pieces_alone() -> None:
    """It does not look at the ids one by one, and pieces stay small."""
    ids: SortedIds[int] = SortedIds()
    for ident in range(10 * PIECE_IDS):
        ids.add(ident * 7 % (10 * PIECE_IDS))
    gc.collect()
    assert not any(gc.is_tracked(piece) for piece in ids._pieces)
    assert 5 <= len(ids._pieces) <= 10
    assert list(ids) == list(range(10 * PIECE_IDS))
