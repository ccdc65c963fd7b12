"""SQLite's trees, read without SQLite: it gives up at the first page that it cannot make sense of, this goes on.

Rules:
1. Any bytes give rows and findings, in bounded memory; a row may be wrong in its values, which their checksums tell.
2. A row is never one that was deleted, or replaced: a page belongs to one place of one tree (`Pages.take`), those that
   are not in use to none, and a cell lies where its page keeps cells in use, at one place of its own.

The format: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from ..errors import StoreCorrupt
from .connection import Row
from .database import HEADER_BYTES
from .pages import Pages

_TABLE_INTERIOR: Final = 5
_TABLE_LEAF: Final = 13
_INDEX_INTERIOR: Final = 2
_INDEX_LEAF: Final = 10
_INTERIOR: Final = frozenset({_TABLE_INTERIOR, _INDEX_INTERIOR})
TABLE: Final = frozenset({_TABLE_INTERIOR, _TABLE_LEAF})
INDEX: Final = frozenset({_INDEX_INTERIOR, _INDEX_LEAF})
#: Of the kinds of columns below 12: bytes, and what those without any stand for. None of ours is a float (7).
_LENGTHS: Final = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)
_CONSTANTS: Final = {0: None, 8: 0, 9: 1, 10: None, 11: None}


class Cell(NamedTuple):
    """One row of a table, or one entry of an index (whose last column is the row's id)."""

    row_id: int  #: 0 in an index
    row: Row


class _Node:
    """One page of a tree, taken apart: children and cells, in their order."""

    def __init__(self, content: bytes, number: int, kinds: frozenset[int]) -> None:
        self.content = content
        start = HEADER_BYTES if number == 1 else 0
        self.kind, _, cells, used, _ = struct.unpack_from(">BHHHB", content, start)
        if self.kind not in kinds:
            raise StoreCorrupt(f"page {number} is none of this tree's")
        self.is_interior = self.kind in _INTERIOR
        pointers = start + (12 if self.is_interior else 8)
        #: Where the cells begin that are in use.
        self.used = used or 1 << 16
        if pointers + 2 * cells > min(self.used, len(content)):
            raise StoreCorrupt(f"page {number} says that it has {cells} cells")
        self.places = struct.unpack_from(f">{cells}H", content, pointers)
        self.last_child = struct.unpack_from(">I", content, start + 8)[0] if self.is_interior else 0


def kind_of(pages: Pages, root: int) -> frozenset[int]:
    """Of which kind of tree the page `root` is: `TABLE`, `INDEX`, or nothing if it is none or cannot be read."""
    try:
        kind = pages.read(root)[HEADER_BYTES if root == 1 else 0]
    except StoreCorrupt:
        return frozenset()
    return next((kinds for kinds in (TABLE, INDEX) if kind in kinds), frozenset())


def walk(pages: Pages, root: int, kinds: frozenset[int]) -> Iterator[Cell | str]:
    """All that is in the tree at `root`, in its order, and in words what is damaged. The root must be reserved."""
    pages.free(root)
    waiting: list[int | Cell] = [root]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Cell):
            yield item
            continue
        try:
            node = _Node(pages.read(item), item, kinds)
            pages.reserve(item)
        except StoreCorrupt as error:
            yield str(error)
            continue
        found: list[int | Cell] = []
        for outcome in _cells(pages, node, item):
            if isinstance(outcome, str):
                yield outcome
            elif node.is_interior:
                found.append(outcome)
            elif isinstance(outcome, Cell):
                yield outcome
        if node.is_interior:
            found.append(node.last_child)
            waiting.extend(reversed(found))


def _cells(pages: Pages, node: _Node, number: int) -> Iterator[int | Cell | str]:
    """Children and entries of a page, left to right, but for its last child."""
    seen: set[int] = set()
    for place in node.places:
        try:
            if place in seen or not node.used <= place < len(node.content) - 3:
                raise StoreCorrupt(f"there is no cell at {place}, or none in use")
            seen.add(place)
            yield from _cell(pages, node, place)
        except StoreCorrupt as error:
            yield f"page {number}: {error}"
        except (struct.error, IndexError):
            yield f"page {number}: the cell at {place} is cut off"
        except MemoryError:
            yield f"page {number}: the cell at {place} does not fit into memory"


def _cell(pages: Pages, node: _Node, place: int) -> Iterator[int | Cell]:
    content, row_id = node.content, 0
    if node.is_interior:
        yield struct.unpack_from(">I", content, place)[0]
        place += 4
    if node.kind == _TABLE_INTERIOR:
        return
    length, place = _varint(content, place)
    if node.kind == _TABLE_LEAF:
        row_id, place = _varint(content, place)
    # The sign of a row's id.
    row_id -= (row_id >> 63) << 64
    payload = _payload(pages, content, place, length, node.kind)
    yield Cell(row_id, _row(payload))


def _payload(pages: Pages, content: bytes, place: int, length: int, kind: int) -> bytes:
    """Of a cell that has `length` bytes, the rest of them in a chain of other pages."""
    usable = pages.page_size
    most = usable - 35 if kind == _TABLE_LEAF else (usable - 12) * 64 // 255 - 23
    local = length
    if length > most:
        least = (usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (usable - 4)
        local = local if local <= most else least
    if place + local + (4 if local < length else 0) > usable or length > pages.count * usable:
        raise StoreCorrupt(f"a cell says that it has {length} bytes")
    parts = [content[place : place + local]]
    missing = length - local
    following = struct.unpack_from(">I", content, place + local)[0] if missing else 0
    while missing:
        page = pages.take(following)
        (following,) = struct.unpack_from(">I", page)
        parts.append(page[4 : 4 + missing])
        missing -= len(parts[-1])
    return b"".join(parts)


def _row(payload: bytes) -> Row:
    """A record in SQLite's encoding. Raises `StoreCorrupt`, `IndexError`."""
    end, place = _varint(payload, 0)
    at = end
    columns: list[object] = []
    while place < end:
        kind = payload[place]
        # Most are of one byte: this is where reading spends its time.
        if kind < 0x80:
            place += 1
        else:
            kind, place = _varint(payload, place)
        length = (kind - 12) // 2 if kind >= 12 else _LENGTHS[kind]
        part = payload[at : at + length]
        at += length
        if kind >= 12:
            columns.append(_text(part) if kind % 2 else part)
        elif length:
            columns.append(int.from_bytes(part, "big", signed=True))
        else:
            columns.append(_CONSTANTS[kind])
    if place != end or at != len(payload):
        raise StoreCorrupt("a row's length is not that of its columns")
    return tuple(columns)


def _text(part: bytes) -> object:
    try:
        return part.decode()
    except UnicodeDecodeError:
        return part


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where it ends. Raises `IndexError`."""
    number = 0
    for count in range(9):
        byte = content[place + count]
        if count == 8:
            return number << 8 | byte, place + 9
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, place + count + 1
    raise AssertionError("unreachable")
