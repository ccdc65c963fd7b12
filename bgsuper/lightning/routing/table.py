"""A table whose rows keep their encoded bytes beside them, and which can be copied while it changes.

Whoever persists state wants two things of it: what changed since the last commit, and the whole. Both want a row's
bytes, and both want them rarely compared with how often a row changes. So a row that changed is encoded when its bytes
are first asked for, once, and never again until it changes.

Rules:
1. `put`, `edit` and `remove` are the only ways to change the table, so no change can go unnoticed.
2. A copy shows the table as it was when the copy began, whatever changes while it is taken, a few rows at a time: what
   a change replaces is kept for it (an overlay) unless it has passed that row. So no step of it grows with the table.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet

from ...key import Key


class _Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...
    def __hash__(self) -> int: ...


_Id = TypeVar("_Id", bound=_Ordered)
_Row = TypeVar("_Row")


class RecordTable(Generic[_Id, _Row]):
    """Rows by id. `encode` gives a row's bytes, `key` its name in a store."""

    def __init__(self, encode: Callable[[_Row], bytes], key: Callable[[_Id], Key]) -> None:
        self._encode = encode
        self._key = key
        self._rows: dict[_Id, _Row] = {}
        self._order: list[_Id] = []  # the ids, rising
        self._records: dict[_Id, bytes] = {}
        self._changed: set[_Id] = set()
        #: A copy that nobody holds any more ends by itself.
        self._copies: WeakSet[TableCopy[_Id]] = WeakSet()
        #: The rows, read-only.
        self.rows: Mapping[_Id, _Row] = MappingProxyType(self._rows)
        #: The row with that id, or None.
        self.get = self._rows.get

    def put(self, ident: _Id, row: _Row) -> None:
        """Add the row, or put it in the place of the one that is there."""
        if ident in self._rows:
            self._about_to_change(ident)
        else:
            self._keep(ident, None)
            insort(self._order, ident)
            self._changed.add(ident)
        self._rows[ident] = row

    def edit(self, ident: _Id) -> _Row:
        """A row that is there, to be changed in place before anything else is asked of the table."""
        row = self._rows[ident]
        self._about_to_change(ident)
        return row

    def remove(self, ident: _Id) -> _Row:
        """Remove and return a row that is there."""
        row = self._rows[ident]
        self._about_to_change(ident)
        for copy in self._copies:
            copy.miss(ident)
        del self._order[bisect_left(self._order, ident)]
        del self._rows[ident]
        return row

    def load(self, rows: Iterable[tuple[_Id, _Row]]) -> None:
        """Add rows that came from the store: no change. They are encoded at once, while nobody waits, so that the first
        snapshot after a start costs the loop no more than a later one."""
        for ident, row in rows:
            self._rows[ident] = row
            self._records[ident] = self._encode(row)
        self._order[:] = sorted(self._rows)

    def record(self, ident: _Id) -> bytes:
        """The encoded bytes of a row that is there."""
        record = self._records.get(ident)
        if record is None:
            record = self._records[ident] = self._encode(self._rows[ident])
        return record

    def records(self) -> Iterator[tuple[_Id, bytes]]:
        """Every row's id and bytes, in the order of the ids."""
        record = self.record
        return ((ident, record(ident)) for ident in tuple(self._order))

    def ids_after(self, passed: _Id | None, count: int) -> list[_Id]:
        """The next ids, at most `count`, in their order; from the first one if nothing was `passed`."""
        return _after(self._order, passed, count)

    def copy(self) -> TableCopy[_Id]:
        """A copy of the table as it is now, to be taken step by step."""
        copy = TableCopy(self._order, self.record, len(self._rows))
        self._copies.add(copy)
        return copy

    def take_changes(self, limit: int | None = None) -> tuple[dict[Key, bytes], set[Key]]:
        """(records put, keys removed) since the last call, of at most `limit` rows: the others come with the next one.
        What was removed may never have been stored."""
        puts: dict[Key, bytes] = {}
        removes: set[Key] = set()
        for _ in range(len(self._changed) if limit is None else min(limit, len(self._changed))):
            ident = self._changed.pop()
            if ident in self._rows:
                puts[self._key(ident)] = self.record(ident)
            else:
                removes.add(self._key(ident))
        return puts, removes

    def _about_to_change(self, ident: _Id) -> None:
        if self._copies:
            self._keep(ident, self.record(ident))
        self._records.pop(ident, None)
        self._changed.add(ident)

    def _keep(self, ident: _Id, record: bytes | None) -> None:
        for copy in self._copies:
            copy.keep(ident, record)


class TableCopy(Generic[_Id]):
    """A table's records as they were when the copy began: `RecordTable.copy` makes it, `step` takes it."""

    def __init__(self, order: list[_Id], record: Callable[[_Id], bytes], length: int) -> None:
        #: How many records it has, all together.
        self.length = length
        self._order = order  # the table's own: it changes under us
        self._record = record
        self._passed: _Id | None = None  # the greatest id that was copied
        self._done = False
        self._kept: dict[_Id, bytes | None] = {}  # of rows changed since, and not passed yet; None: there was none
        self._missing: list[_Id] = []  # the ids of rows removed since, rising; some may be there again

    def keep(self, ident: _Id, record: bytes | None) -> None:
        """The row `ident` is about to change, or to be added (`record` is None)."""
        if self._passed is None or self._passed < ident:
            self._kept.setdefault(ident, record)

    def miss(self, ident: _Id) -> None:
        """The row `ident` is about to be removed, and was kept."""
        # Once, though it may come back and go again: `step` takes the next few of them.
        if self._kept.get(ident) is not None:
            at = bisect_left(self._missing, ident)
            if self._missing[at : at + 1] != [ident]:
                self._missing.insert(at, ident)

    def step(self, count: int) -> list[tuple[_Id, bytes]]:
        """The next records with their ids, at most `count`, in the order of the ids. Empty at the end alone."""
        taken: list[tuple[_Id, bytes]] = []
        while not taken:
            still_there, missing = (_after(order, self._passed, count) for order in (self._order, self._missing))
            ids = sorted({*still_there, *missing})[:count]
            if not ids:
                break
            for ident in ids:
                record = self._kept.pop(ident) if ident in self._kept else self._record(ident)
                if record is not None:
                    taken.append((ident, record))
            self._passed = ids[-1]
        return taken


def _after(order: list[_Id], passed: _Id | None, count: int) -> list[_Id]:
    start = 0 if passed is None else bisect_right(order, passed)
    return order[start : start + count]
