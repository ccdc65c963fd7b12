"""All that a database holds, whole or not, without asking SQLite: what is left of a store whose pages are damaged.

Rules:
1. A value is whole by its checksum or not at all, and it is the newest (see `frames`, `pages`, `btree`).
2. What is missing is named: a table's index knows the keys that the table had.
3. Damage ends nothing: neither the file's header nor the schema is needed, since our tables lie where they were made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeVar

from ..errors import StoreCorrupt, StoreError
from ..key import Key
from . import rows
from .api import Damage, SnapshotFile, Value
from .btree import INDEX, TABLE, Cell, kind_of, walk
from .database import SCHEMA
from .failures import too_large
from .identity import Identity
from .pages import Pages
from .snapshots import Snapshots

Item = TypeVar("Item", Value, SnapshotFile)


class _Tree(NamedTuple):
    name: str
    root: int  #: the page of its root, in a database that `database.create` made
    kinds: frozenset[int]


_SCHEMA: Final = _Tree("sqlite_schema", 1, TABLE)
_RECORD: Final = _Tree("record", 2, TABLE)
_RECORD_KEY: Final = _Tree("record_key", 3, INDEX)
_SNAPSHOT: Final = _Tree("snapshot", 4, TABLE)
_SNAPSHOT_KEY: Final = _Tree("sqlite_autoindex_snapshot_1", 5, INDEX)
_META: Final = _Tree("meta", 6, TABLE)
_TREES: Final = (_RECORD, _RECORD_KEY, _SNAPSHOT, _SNAPSHOT_KEY, _META)
_OURS: Final = frozenset(statement for statement in SCHEMA if statement.startswith("CREATE"))


class Examination:
    """One pass over `pages`: a tree's pages are taken as it is read, so each method is called once."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        pages.reserve(_SCHEMA.root)
        cells = walk(pages, _SCHEMA.root, _SCHEMA.kinds)
        schema = [cell.row for cell in cells if isinstance(cell, Cell) and len(cell.row) == 5]
        statements = {row[4] for row in schema if row[4] is not None}
        #: Whether the schema is ours, whatever the file's header says.
        self.is_ours = statements >= _OURS
        #: Whether there is nothing else in it.
        self.is_ours_alone = statements == _OURS
        self._roots = self._checked_roots({row[1]: row[3] for row in schema})
        # Not with the rest of the damage: that says whether the list of unused pages is sound.
        self._of_header = [Damage(None, pages.damage)] if pages.damage is not None else []
        # Before the pages that are not in use: that list may be damaged, too.
        for root in self._roots.values():
            pages.reserve(root)
        self._damage = [Damage(None, text) for text in pages.reserve_unused()]

    def _checked_roots(self, claimed: dict[object, object]) -> dict[str, int]:
        """Where each tree is: as the schema has it, if that can be."""
        roots = {tree.name: claimed.get(tree.name) for tree in _TREES}
        if len(set(roots.values())) == len(_TREES):
            as_claimed = {name: root for name, root in roots.items() if isinstance(root, int)}
            if all(kind_of(self._pages, as_claimed.get(tree.name, 0)) == tree.kinds for tree in _TREES):
                return as_claimed
        return {tree.name: tree.root for tree in _TREES}

    def identity(self, where: str) -> Identity:
        """Which store it is. Raises `StoreCorrupt`, `StoreTooNew`."""
        for cell in self._walk(_META):
            if isinstance(cell, Cell) and len(cell.row) == 2:
                return Identity.unpack(cell.row[1], where)
        raise StoreCorrupt(f"the database {where} has lost its meta row; restore it from a backup")

    def values(self, snapshots: Snapshots) -> Iterator[Value | Damage]:
        """Everything that there is, and what is not whole: records, then snapshots."""
        yield from self._of_header
        yield from self._damage
        pointers: dict[Key, SnapshotFile] = {}
        for pointer in self._table(_SNAPSHOT, _SNAPSHOT_KEY, _pointer):
            if isinstance(pointer, Damage):
                yield pointer
            else:
                pointers[pointer.key] = pointer
        for value in self._table(_RECORD, _RECORD_KEY, _record):
            yield value
            if isinstance(value, Value) and pointers.pop(value.key, None) is not None:
                yield Damage(value.key, f"there is a record and a snapshot {value.key}: the record is taken")
        for key, pointer in pointers.items():
            try:
                yield Value(key, pointer.seq, snapshots.read(pointer))
            except StoreError as error:
                yield Damage(key, str(error))
            except MemoryError:
                yield Damage(key, str(too_large(key)))

    def _table(self, table: _Tree, index: _Tree, read: Callable[[Cell], Item]) -> Iterator[Item | Damage]:
        whole: set[int] = set()
        broken: dict[int, str] = {}
        for cell in self._rows(table):
            if isinstance(cell, str):
                yield Damage(None, f"the table {table.name}: {cell}")
                continue
            try:
                item = read(cell)
            except StoreCorrupt as error:
                # Its key may be what is wrong: the index will tell.
                broken[cell.row_id] = str(error)
                continue
            whole.add(cell.row_id)
            yield item
        indexed = 0
        for entry in self._walk(index):
            match entry:
                case Cell(row=(str(primary), str(secondary), str(name), int(row_id))):
                    indexed += row_id in whole
                    if row_id not in whole:
                        key = Key(primary, secondary, name)
                        lost = f"the {table.name} {key} is lost: its page is damaged"
                        yield Damage(key, broken.pop(row_id, lost))
                case str(text):
                    yield Damage(None, f"the index {index.name}: {text}")
                case _:
                    yield Damage(None, f"the index {index.name} has a damaged entry")
        yield from (Damage(None, text) for text in broken.values())
        if indexed < len(whole):
            yield Damage(None, f"the index {index.name} lacks {len(whole) - indexed} of the rows of {table.name}")

    def _walk(self, tree: _Tree) -> Iterator[Cell | str]:
        return walk(self._pages, self._roots[tree.name], tree.kinds)

    def _rows(self, table: _Tree) -> Iterator[Cell | str]:
        """Those of `table`, and if it is damaged those of pages that nothing leads to any more.

        A page is in a tree, or in the list of those that are not in use: if that is sound, a page with rows that is in
        none was in the one tree that has many.
        """
        sound = True
        for cell in self._walk(table):
            sound = sound and isinstance(cell, Cell)
            yield cell
        if table is _RECORD and not sound and not self._damage:
            for number in self._pages.untaken():
                if kind_of(self._pages, number) == TABLE:
                    yield from (cell for cell in walk(self._pages, number, TABLE) if isinstance(cell, Cell))


def _record(cell: Cell) -> Value:
    match cell.row:
        case (None, primary, secondary, name, checksum, value):
            key = Key(primary, secondary, name)
            return Value(key, None, rows.verified(key, checksum, value))
    raise StoreCorrupt(f"the row {cell.row_id} of the table record is damaged")


def _pointer(cell: Cell) -> SnapshotFile:
    return rows.pointer(cell.row)
