"""SQLite's pages and trees, read without SQLite: `pages`, `btree` and `examination` against what SQLite itself says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgsuper.errors import StoreCorrupt
from bgsuper.key import Key
from bgsuper.store.api import Damage, Value
from bgsuper.store.btree import INDEX, TABLE, Cell, walk
from bgsuper.store.examination import _TREES, Examination
from bgsuper.store.files import full_sync
from bgsuper.store.pages import Pages
from bgsuper.store.snapshots import Snapshots

from .stores import DATABASE, commit, key, opened

PAGE = 4096

columns = (
    st.none()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.sampled_from([0, 1, -1, 127, 128, 1 << 15, 1 << 23, 1 << 31, 1 << 47, -(1 << 47) - 1])
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
    | st.binary(max_size=40)
    | st.builds(bytes, st.integers(0, 30_000))
)


def cells(path: Path, root: int, kinds: frozenset[int]) -> list[Cell | str]:
    with Pages(str(path), 0) as pages:
        pages.reserve(root)
        return list(walk(pages, root, kinds))


# -- against SQLite ----------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    rows=st.dictionaries(st.integers(-(1 << 63), (1 << 63) - 1), st.tuples(columns, columns), max_size=60),
    page_size=st.sampled_from([512, 1024, 4096, 65536]),
)
def test_any_table_and_its_index(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[int, tuple[object, object]], page_size: int
) -> None:
    """Each row as SQLite has it, in its order, whatever the types, lengths and ids; the index's entries, too."""
    path = tmp_path_factory.mktemp("tables") / "database"
    database = apsw.Connection(str(path))
    database.execute(f"PRAGMA page_size = {page_size}; CREATE TABLE t(a, b); CREATE INDEX i ON t(a)")
    database.executemany("INSERT INTO t(rowid, a, b) VALUES(?, ?, ?)", [(i, *row) for i, row in rows.items()])
    table = database.execute("SELECT rowid, a, b FROM t ORDER BY rowid").fetchall()
    index = database.execute("SELECT a, rowid FROM t ORDER BY a, rowid").fetchall()
    roots = dict(database.execute("SELECT name, rootpage FROM sqlite_schema").fetchall())
    database.close()
    assert cells(path, roots["t"], TABLE) == [Cell(i, (a, b)) for i, a, b in table]
    assert cells(path, roots["i"], INDEX) == [Cell(0, row) for row in index]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_bytes_are_a_tree_or_a_finding(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Nothing but cells and words comes out, and an end."""
    path = tmp_path_factory.mktemp("bytes") / "database"
    kind = data.draw(st.sampled_from([2, 5, 10, 13]))
    first = data.draw(st.binary(min_size=8, max_size=200))
    random = Random(data.draw(st.integers()))
    pages = bytearray(random.choice((bytes(6 * PAGE), random.randbytes(6 * PAGE))))
    pages[PAGE : PAGE + 1 + len(first)] = bytes([kind]) + first
    path.write_bytes(pages)
    for kinds in (TABLE, INDEX):
        for outcome in cells(path, 2, kinds):
            assert isinstance(outcome, Cell | str)


def test_a_tree_that_leads_to_itself(tmp_path: Path) -> None:
    """It ends, and is said."""
    interior = bytes([5]) + bytes(7) + (2).to_bytes(4, "big")
    (tmp_path / "loop").write_bytes(bytes(PAGE) + interior.ljust(PAGE, b"\0"))
    assert cells(tmp_path / "loop", 2, TABLE) == ["two places lead to page 2"]


def test_our_trees_are_where_we_say(tmp_path: Path) -> None:
    """A schema that is damaged is not missed: this is where `database.create` puts them."""
    with opened(tmp_path):
        pass
    database = apsw.Connection(str(tmp_path / DATABASE))
    roots = database.execute("SELECT name, rootpage FROM sqlite_schema").fetchall()
    database.close()
    assert {tree.name: tree.root for tree in _TREES} == dict(roots)


# -- a store -----------------------------------------------------------------------------------------------------------

VALUES = {key(f"{i:04}"): Random(i).randbytes(30 + 11 * (i % 50)) for i in range(600)} | {
    key("large"): Random(7).randbytes(60_000)
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database of three levels, some of whose pages are not in use and hold what was there before."""
    directory = tmp_path_factory.mktemp("store")
    with opened(directory) as store:
        store.apply(
            [commit(1, {k: v[::-1] for k, v in VALUES.items()} | {key(f"x{i}"): b"x" * 900 for i in range(99)})]
        )
        store.apply([commit(2, VALUES, tuple(key(f"x{i}") for i in range(99)))])
    return (directory / DATABASE).read_bytes()


def examine(directory: Path, content: bytes) -> tuple[dict[Key, bytes], list[Damage]]:
    (directory / DATABASE).write_bytes(content)
    with Pages(str(directory / DATABASE), 0) as pages:
        found = list(Examination(pages).values(Snapshots(str(directory / "snapshots"), full_sync)))
    values = {value.key: value.content for value in found if isinstance(value, Value)}
    assert len(values) == sum(isinstance(finding, Value) for finding in found)
    return values, [finding for finding in found if isinstance(finding, Damage)]


def numbered(content: bytes) -> Iterator[tuple[int, bytes]]:
    yield from ((at // PAGE + 1, content[at : at + PAGE]) for at in range(0, len(content), PAGE))


def without(content: bytes, page: int, filler: bytes = b"\0") -> bytes:
    return content[: (page - 1) * PAGE] + filler * PAGE + content[page * PAGE :]


def test_the_store_is_whole(tmp_path: Path, store: bytes) -> None:
    """Before it is damaged: no old value, though they are in the file."""
    assert examine(tmp_path, store) == (VALUES, [])
    assert b"x" * 900 in store
    assert sum(page[0] == 5 for _, page in numbered(store)) >= 1


@pytest.mark.parametrize("filler", [b"\0", b"\x0d"])
def test_each_page_that_is_gone(tmp_path: Path, store: bytes, filler: bytes) -> None:
    """No value is wrong; what is lost is the page's own, and each is named unless the index is damaged itself. The
    upper pages of the tree cost nothing."""
    for number, page in numbered(store):
        values, damage = examine(tmp_path, without(store, number, filler))
        assert values.items() <= VALUES.items()
        lost = VALUES.keys() - values.keys()
        own = sum(name in page for name in (k.name.encode() for k in VALUES))
        assert len(lost) <= (own if page[0] == 13 else 1), number
        assert not lost or damage
        assert lost <= {item.key for item in damage} or number == 1
        if page[0] == 5:
            assert not lost
            assert damage


def test_a_pointer_to_a_page_that_is_not_in_use(tmp_path: Path, store: bytes) -> None:
    """What that page held once is not taken for data, whole as it is; what it should have led to is found."""
    [unused] = [number for number, page in numbered(store) if page[0] == 13 and page.count(b"x" * 900) > 2][:1]
    root = store[PAGE : 2 * PAGE]
    assert root[0] == 5
    cell = PAGE + int.from_bytes(root[12:14], "big")
    values, damage = examine(tmp_path, store[:cell] + unused.to_bytes(4, "big") + store[cell + 4 :])
    assert values == VALUES
    assert f"two places lead to page {unused}" in " ".join(item.text for item in damage)


def test_old_values_stay_old_where_nobody_knows_what_is_in_use(tmp_path: Path, store: bytes) -> None:
    """The file's header is gone, and with it the list of unused pages; so are the tree's upper pages."""
    damaged = without(store, 1)
    for number, page in numbered(store):
        if page[0] == 5:
            damaged = without(damaged, number)
    values, damage = examine(tmp_path, damaged)
    assert values.items() <= VALUES.items()
    assert {item.key for item in damage} >= VALUES.keys() - values.keys()


def test_any_flipped_byte(tmp_path: Path, store: bytes) -> None:
    """No value is wrong, each that is missing is named or its table is, and never is more than a page lost."""
    random = Random(1)
    for place in sorted(random.sample(range(len(store)), 60)) + list(range(0, 130, 7)):
        damaged = bytearray(store)
        damaged[place] ^= 1 << random.randrange(8)
        values, damage = examine(tmp_path, bytes(damaged))
        assert values.items() <= VALUES.items(), place
        lost = VALUES.keys() - values.keys()
        assert len(lost) <= 30, place
        assert not lost or damage, place


def test_a_cell_that_its_page_has_given_up(tmp_path: Path) -> None:
    """A deleted record lies in its page as it was, checksum and all, below the cells that are in use; and a cell is
    given once, however many of the page's pointers lead to it."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {key("kept"): b"1" * 50, key("deleted"): b"2" * 50})])
        store.apply([commit(2, {}, (key("deleted"),))])
    whole = (tmp_path / DATABASE).read_bytes()
    leaf = bytearray(whole[PAGE : 2 * PAGE])
    [kept] = [int.from_bytes(leaf[8:10], "big")]
    assert leaf[3:7] == b"\0\1" + kept.to_bytes(2, "big")
    # The same length but for four letters of the name.
    deleted = kept - (PAGE - kept) - len("deleted") + len("kept")
    assert b"deleted" in leaf[deleted:kept]
    for pointer in (deleted, kept):
        leaf[3:5], leaf[10:12] = b"\0\2", pointer.to_bytes(2, "big")
        values, damage = examine(tmp_path, whole[:PAGE] + bytes(leaf) + whole[2 * PAGE :])
        assert values == {key("kept"): b"1" * 50}
        assert f"page 2: there is no cell at {pointer}" in damage[0].text


def test_the_index_is_counted_against_the_table(tmp_path: Path, store: bytes) -> None:
    """Entries that are gone are a finding, though every value is there."""
    leaf = next(number for number, page in numbered(store) if page[0] == 10 and b"channels00" in page)
    at = (leaf - 1) * PAGE + 3
    count = int.from_bytes(store[at : at + 2], "big")
    values, damage = examine(tmp_path, store[:at] + (count - 2).to_bytes(2, "big") + store[at + 2 :])
    assert values == VALUES
    assert [item.text for item in damage] == ["the index record_key lacks 2 of the rows of record"]


def test_pages_are_given_out_once(tmp_path: Path, store: bytes) -> None:
    """And none beyond the last."""
    (tmp_path / DATABASE).write_bytes(store[:-100])
    with Pages(str(tmp_path / DATABASE), 0) as pages:
        assert pages.take(3) == store[2 * PAGE : 3 * PAGE]
        with pytest.raises(StoreCorrupt, match="two places lead to page 3"):
            pages.take(3)
        assert 3 not in set(pages.untaken())
        pages.free(3)
        assert 3 in set(pages.untaken())
        for number in (0, len(store) // PAGE, 1 << 40):
            with pytest.raises(StoreCorrupt, match="no page"):
                pages.read(number)
