"""A table whose rows keep their encoded bytes beside them.

Whoever persists state wants two things of it: what changed since the last commit, and the whole as cheap pieces. Both
want a row's bytes, and both want them rarely compared with how often a row changes. So a row that changed is encoded
when its bytes are first asked for, once, and never again until it changes.

`put` and `remove` are the only ways to change the table, so no change can go unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

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
        self._records: dict[_Id, bytes] = {}
        self._changed: set[_Id] = set()
        #: The rows, read-only.
        self.rows: Mapping[_Id, _Row] = MappingProxyType(self._rows)
        #: The row with that id, or None.
        self.get = self._rows.get

    def put(self, ident: _Id, row: _Row) -> None:
        """Add the row, or say that it changed."""
        self._rows[ident] = row
        self._records.pop(ident, None)
        self._changed.add(ident)

    def remove(self, ident: _Id) -> _Row:
        """Remove and return a row that is there."""
        row = self._rows.pop(ident)
        self._records.pop(ident, None)
        self._changed.add(ident)
        return row

    def load(self, ident: _Id, row: _Row) -> None:
        """Add a row that came from the store: no change. It is encoded at once, while nobody waits, so that the first
        snapshot after a start costs the loop no more than a later one."""
        self._rows[ident] = row
        self._records[ident] = self._encode(row)

    def record(self, ident: _Id) -> bytes:
        """The encoded bytes of a row that is there."""
        record = self._records.get(ident)
        if record is None:
            record = self._records[ident] = self._encode(self._rows[ident])
        return record

    def records(self) -> Iterator[tuple[_Id, bytes]]:
        """Every row's id and bytes, in the order of the ids."""
        record = self.record
        return ((ident, record(ident)) for ident in sorted(self._rows))

    def take_changes(self) -> tuple[dict[Key, bytes], set[Key]]:
        """(records put, keys removed) since the last call. What was removed may never have been stored."""
        changed, self._changed = self._changed, set()
        puts: dict[Key, bytes] = {}
        removes: set[Key] = set()
        for ident in changed:
            if ident in self._rows:
                puts[self._key(ident)] = self.record(ident)
            else:
                removes.add(self._key(ident))
        return puts, removes
