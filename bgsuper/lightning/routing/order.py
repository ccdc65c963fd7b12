"""Ids in their order, in pieces: inserting, removing and the next few cost the same however many there are.

A list of all ids would move half of itself for each insertion, and Python's cyclic collector would look at each of its
entries, though none can be part of a cycle. The pieces are tuples: one that holds nothing but integers or bytes is left
alone by the collector once it has seen it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Any, Final, Generic, Protocol, TypeVar


class Ordered(Protocol):
    """What an id can do."""

    def __lt__(self, other: Any, /) -> bool: ...
    def __hash__(self) -> int: ...


Id = TypeVar("Id", bound=Ordered)

#: A piece that reaches twice this many ids becomes two.
PIECE_IDS: Final = 256


class SortedIds(Generic[Id]):
    """A sorted set of ids."""

    def __init__(self) -> None:
        self._pieces: list[tuple[Id, ...]] = []  # none is empty
        self._firsts: list[Id] = []

    def replace(self, ids: Iterable[Id]) -> None:
        """Have these instead."""
        whole = tuple(sorted(ids))
        pieces = (whole[at : at + PIECE_IDS] for at in range(0, len(whole), PIECE_IDS))
        self._replace(0, len(self._pieces), *pieces)

    def __iter__(self) -> Iterator[Id]:
        for piece in self._pieces:
            yield from piece

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, ident: Id) -> None:
        """No-op if it is there."""
        if not self._pieces:
            self._replace(0, 0, (ident,))
            return
        place = max(0, bisect_right(self._firsts, ident) - 1)
        piece = self._pieces[place]
        at = bisect_left(piece, ident)
        if piece[at : at + 1] == (ident,):
            return
        piece = (*piece[:at], ident, *piece[at:])
        if len(piece) < 2 * PIECE_IDS:
            self._replace(place, place + 1, piece)
        else:
            self._replace(place, place + 1, piece[:PIECE_IDS], piece[PIECE_IDS:])

    def remove(self, ident: Id) -> None:
        """It must be there."""
        place = bisect_right(self._firsts, ident) - 1
        piece = self._pieces[place]
        at = bisect_left(piece, ident)
        rest = piece[:at] + piece[at + 1 :]
        self._replace(place, place + 1, *((rest,) if rest else ()))

    def after(self, passed: Id | None, count: int) -> list[Id]:
        """The next ids, at most `count`; from the first one if nothing was `passed`."""
        place = 0 if passed is None else max(0, bisect_right(self._firsts, passed) - 1)
        found: list[Id] = []
        for piece in self._pieces[place : place + count + 1]:
            start = 0 if passed is None else bisect_right(piece, passed)
            found += piece[start : start + count - len(found)]
            if len(found) == count:
                break
        return found

    def _replace(self, start: int, stop: int, *pieces: tuple[Id, ...]) -> None:
        self._pieces[start:stop] = pieces
        self._firsts[start:stop] = [piece[0] for piece in pieces]
