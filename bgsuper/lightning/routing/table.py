"""A table of records that can be copied while it changes.

Whoever persists state wants two things of it: what changed since the last commit, and the whole. Both are records, the
bytes that a store takes; and a table of bytes under ids that are integers or bytes is one that Python's cyclic
collector has nothing to look for in, however large.

Rules:
1. `put` and `remove` are the only ways to change the table, so no change can go unnoticed.
2. A copy shows the table as it was when the copy began, whatever changes while it is taken, a few records at a time:
   what a change replaces is kept for it (an overlay) unless it has passed that record. So no step of it grows with the
   table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Generic, TypeVar
from weakref import WeakSet

from ...key import Key
from .order import Id, SortedIds

_Value = TypeVar("_Value")


class RecordTable(Generic[Id]):
    """Records by id. `key` gives the name of an id's record in a store."""

    def __init__(self, key: Callable[[Id], Key]) -> None:
        self._key = key
        self._records: dict[Id, bytes] = {}
        self._order: SortedIds[Id] = SortedIds()
        self._changed: dict[Id, None] = {}  # the oldest change first
        #: A copy that nobody holds any more ends by itself.
        self._copies: WeakSet[TableCopy[Id]] = WeakSet()
        #: The records, read-only.
        self.records: Mapping[Id, bytes] = MappingProxyType(self._records)
        #: The record with that id, or None.
        self.get = self._records.get

    def put(self, ident: Id, record: bytes) -> None:
        """Add the record, or put it in the place of the one that is there."""
        before = self._records.get(ident)
        if self._copies:
            self._keep(ident, before)
        if before is None:
            self._order.add(ident)
        self._changed[ident] = None
        self._records[ident] = record

    def remove(self, ident: Id) -> bytes:
        """Remove and return a record that is there."""
        record = self._records[ident]
        if self._copies:
            self._keep(ident, record)
            for copy in self._copies:
                copy.miss(ident)
        self._changed[ident] = None
        self._order.remove(ident)
        del self._records[ident]
        return record

    def load(self, records: Iterable[tuple[Id, bytes]]) -> None:
        """Add records that came from the store: no change."""
        self._records.update(records)
        self._order.replace(self._records)

    def mark_changed(self, idents: Iterable[Id]) -> None:
        """The store does not hold these as the table does, though nothing changed here."""
        self._changed.update(dict.fromkeys(idents))

    def ids_after(self, passed: Id | None, count: int) -> list[Id]:
        """The next ids, at most `count`, in their order; from the first one if nothing was `passed`."""
        return self._order.after(passed, count)

    def copy(self) -> TableCopy[Id]:
        """A copy of the table as it is now, to be taken step by step."""
        copy = TableCopy(self._order, self._records, len(self._records))
        self._copies.add(copy)
        return copy

    def take_changes(self, limit: int | None = None) -> tuple[dict[Key, bytes], set[Key]]:
        """(records put, keys removed) since the last call, of at most `limit` ids: the others come with the next one.
        What was removed may never have been stored."""
        puts: dict[Key, bytes] = {}
        removes: set[Key] = set()
        for ident in list(islice(self._changed, limit)):
            del self._changed[ident]
            record = self._records.get(ident)
            if record is None:
                removes.add(self._key(ident))
            else:
                puts[self._key(ident)] = record
        return puts, removes

    def _keep(self, ident: Id, record: bytes | None) -> None:
        for copy in self._copies:
            copy.keep(ident, record)


class DecodedRecords(Mapping[Id, _Value]):
    """A table's records as what they say, each decoded when it is asked for."""

    def __init__(self, records: Mapping[Id, bytes], decode: Callable[[bytes], _Value]) -> None:
        self._records = records
        self._decode = decode

    def __getitem__(self, ident: Id) -> _Value:
        return self._decode(self._records[ident])

    def __contains__(self, ident: object) -> bool:
        return ident in self._records

    def __iter__(self) -> Iterator[Id]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


class TableCopy(Generic[Id]):
    """A table's records as they were when the copy began: `RecordTable.copy` makes it, `step` takes it."""

    def __init__(self, order: SortedIds[Id], records: dict[Id, bytes], length: int) -> None:
        #: How many records it has, all together, and how many of them are still to be taken.
        self.length = self.left = length
        # The table's own: they change under us.
        self._order = order
        self._records = records
        self._passed: Id | None = None  # the greatest id that was copied
        self._kept: dict[Id, bytes | None] = {}  # of what changed since, and not passed yet; None: there was none
        self._missing: SortedIds[Id] = SortedIds()  # ids removed since; some may be there again

    def keep(self, ident: Id, record: bytes | None) -> None:
        """The record of `ident` is about to change, or to be added (`record` is None)."""
        if self._passed is None or self._passed < ident:
            self._kept.setdefault(ident, record)

    def miss(self, ident: Id) -> None:
        """The record of `ident` is about to be removed, and was kept."""
        if self._kept.get(ident) is not None:
            self._missing.add(ident)

    def step(self, count: int) -> list[tuple[Id, bytes]]:
        """The next records with their ids, in the order of the ids: of the next `count` ids those that were there when
        the copy began, which may be none. There are no more once `left` is 0."""
        taken: list[tuple[Id, bytes]] = []
        still_there, missing = (ids.after(self._passed, count) for ids in (self._order, self._missing))
        for ident in sorted({*still_there, *missing})[:count]:
            record = self._kept.pop(ident) if ident in self._kept else self._records[ident]
            if record is not None:
                taken.append((ident, record))
            self._passed = ident
        self.left -= len(taken)
        return taken
