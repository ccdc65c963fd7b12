"""A look into a SQLite store: what it shows, what it refuses, and that nothing is changed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bgsuper.errors import (
    NotFound,
    StoreCorrupt,
    StoreError,
    StoreForeign,
    StoreLocked,
    StoreSealed,
    StoreTooNew,
    StoreUnavailable,
    StoreUnwritable,
)
from bgsuper.key import Key, Seq
from bgsuper.store import btree
from bgsuper.store import pages as pages_module
from bgsuper.store.api import Damage, Entry, StoreView, Value
from bgsuper.store.database import SCHEMA_VERSION
from bgsuper.store.pages import Pages
from bgsuper.store.snapshots import Snapshots
from bgsuper.store.sqlite_view import SQLiteView

from .stores import DATABASE, GRAPH, MANAGER, commit, die, key, new_store, opened
from .test_disks import as_nobody
from .test_lock import held_by_another

pytestmark = pytest.mark.usefixtures("no_leaks")

SEAL = b"s" * 16
RECORDS = {key("a"): b"1" * 5000, key("b"): b"", key("c"): b"3" * 40_000, MANAGER: b"manager"}
GRAPH_BYTES = b"graph" * 1000


@pytest.fixture
def view_of() -> Iterator[Callable[..., SQLiteView]]:
    """Makes views that are closed in the end."""
    views: list[SQLiteView] = []

    def make(directory: Path, **options: bytes) -> SQLiteView:
        views.append(SQLiteView(directory, **options))
        return views[-1]

    yield make
    for view in views:
        view.close()


def a_store(directory: Path, **options: bytes) -> Path:
    """A store, of which a half is in the WAL only, whose worker was killed."""
    store = new_store(directory, **options)
    store.open()
    store.apply([commit(1, {key("a"): b"0", key("x"): b"0"})])
    store.idle()
    store.apply([commit(2, RECORDS, (key("x"),))])
    store.adopt_snapshot(store.write_snapshot(GRAPH, Seq(3), GRAPH_BYTES))
    die(store)
    return directory


def tree(directory: Path) -> dict[str, object]:
    """Every path below, its dates and rights, and a digest of its content."""
    return {
        str(path): (
            (state := path.lstat()).st_mtime_ns,
            state.st_ctime_ns,
            state.st_mode,
            blake2b(path.read_bytes()).digest() if path.is_file() else None,
        )
        for path in sorted((directory, *directory.rglob("*")))
    }


def check_whole(view: SQLiteView) -> None:
    """Everything that `a_store` put there is shown, in each of the three ways."""
    values = RECORDS | {GRAPH: GRAPH_BYTES}
    assert list(view.entries()) == [Entry(k, len(values[k]), Seq(3) if k == GRAPH else None) for k in sorted(values)]
    assert {k: view.read(k) for k in values} == values
    found = [finding for finding in view.examine() if isinstance(finding, Value)]
    assert {value.key: value.content for value in found} == values
    assert {value.key: value.seq for value in found} == {k: Seq(3) if k == GRAPH else None for k in values}
    assert [finding for finding in view.examine() if isinstance(finding, Damage)] == []
    with pytest.raises(NotFound):
        view.read(key("x"))
    identity = view.identity
    assert (identity.epoch, identity.last_commit, identity.last_snapshot) == (1, 2, 3)


# -- what it shows -----------------------------------------------------------------------------------------------------


def test_it_shows_what_the_store_holds(tmp_path: Path, view_of: Callable[..., SQLiteView]) -> None:
    """The WAL's content included, and as the store itself has it."""
    view: StoreView = view_of(a_store(tmp_path))
    assert isinstance(view, SQLiteView)
    check_whole(view)
    view.close()
    with opened(tmp_path) as store:
        assert {k: store.read(k) for k in RECORDS} == RECORDS
    # Closed: there is one file now.
    again = view_of(tmp_path)
    assert again.identity.epoch == 2
    assert {e.key for e in again.entries()} == RECORDS.keys() | {GRAPH}


def test_a_new_store_holds_nothing(tmp_path: Path, view_of: Callable[..., SQLiteView]) -> None:
    """And says so without a complaint."""
    with opened(tmp_path):
        pass
    view = view_of(tmp_path)
    assert list(view.entries()) == list(view.examine()) == []
    assert view.identity.last_seq == 0


def test_its_facts(tmp_path: Path, view_of: Callable[..., SQLiteView]) -> None:
    """Sizes are those of the files; what nothing refers to is named as such."""
    directory = a_store(tmp_path)
    store = new_store(directory)
    store.open()
    orphan = store.write_snapshot(GRAPH, Seq(9), b"orphan")
    die(store)
    facts = view_of(directory).facts()
    assert facts["directory"] == str(directory)
    assert facts["schema version"] == SCHEMA_VERSION
    assert facts["database bytes"] == (directory / DATABASE).stat().st_size
    assert facts["WAL bytes"] == (directory / f"{DATABASE}-wal").stat().st_size > 0
    assert (facts["records"], facts["snapshots"]) == (4, 1)
    assert (facts["snapshot files"], facts["snapshot bytes"]) == (2, len(GRAPH_BYTES) + 6)
    assert (facts["orphan files"], facts["orphan bytes"]) == (1, 6)
    assert (directory / "snapshots" / orphan.file).exists()


def test_many_records_of_all_sizes(tmp_path: Path, view_of: Callable[..., SQLiteView]) -> None:
    """Trees of several levels, values over many pages, pages that came free: as the records were put."""
    sizes = (0, 1, 30, 400, 3900, 4050, 4100, 9000, 70_000)
    records = {key(f"{i:04}"): bytes([i % 256]) * sizes[i % len(sizes)] for i in range(3000)}
    with opened(tmp_path) as store:
        store.apply([commit(1, records)])
        for gone in list(records)[::7]:
            del records[gone]
        removed = tuple(key(f"{i:04}") for i in range(0, 3000, 7))
        store.apply([commit(2, {}, removed)])
    view = view_of(tmp_path)
    assert {value.key: value.content for value in view.examine() if isinstance(value, Value)} == records
    assert [entry.key for entry in view.entries()] == sorted(records)
    assert all(isinstance(finding, Value) for finding in view.examine())


# -- nothing is changed ------------------------------------------------------------------------------------------------


def test_nothing_is_changed(tmp_path: Path) -> None:
    """Not a byte, not a date, no file more or less, whether the store has a WAL or not."""
    for directory in (a_store(tmp_path / "killed"), a_store(tmp_path / "closed")):
        if directory.name == "closed":
            with opened(directory):
                pass
            (directory / f"{DATABASE}-wal").unlink()
        before = tree(directory)
        view = SQLiteView(directory)
        assert view.identity
        assert view.facts()
        assert [view.read(entry.key) for entry in view.entries()]
        assert list(view.examine())
        view.close()
        assert tree(directory) == before


@pytest.mark.parametrize("missing", [("lock",), ("lock", "snapshots"), (f"{DATABASE}-wal", "lock")])
def test_a_copy_of_the_files(tmp_path: Path, missing: tuple[str, ...], view_of: Callable[..., SQLiteView]) -> None:
    """A backup without a lock file is looked into, and gets none; a snapshot that is gone is Damage."""
    directory = a_store(tmp_path)
    for name in missing:
        shutil.rmtree(directory / name) if (directory / name).is_dir() else (directory / name).unlink()
    before = tree(directory)
    view = view_of(directory)
    if missing == ("lock",):
        check_whole(view)
    damage = [finding for finding in view.examine() if isinstance(finding, Damage)]
    assert [finding.key for finding in damage] == ([GRAPH] if "snapshots" in missing else [])
    assert view.facts()["snapshot files"] == (0 if "snapshots" in missing else 1)
    assert tree(directory) == before


def test_a_directory_that_cannot_be_written_to() -> None:
    """Nor any file in it: nobody needs the right to write in order to look."""
    with TemporaryDirectory() as public:
        os.chmod(public, 0o755)
        directory = a_store(Path(public) / "store")
        for path in (directory, *directory.rglob("*")):
            os.chmod(path, 0o555 if path.is_dir() else 0o444)

        def look() -> None:
            with pytest.raises(OSError, match="Permission denied"):
                (directory / "new").touch()
            view = SQLiteView(directory)
            check_whole(view)
            view.close()

        as_nobody(look)


def test_files_that_cannot_be_read() -> None:
    """A typed error that names the file."""
    with TemporaryDirectory() as public:
        os.chmod(public, 0o755)
        directory = a_store(Path(public) / "store")
        for path in (directory, *directory.rglob("*")):
            os.chmod(path, 0o755 if path.is_dir() else 0o444)

        def look() -> None:
            with pytest.raises(StoreUnwritable, match=r"sqlite3|lock"):
                SQLiteView(directory)

        for name in ("lock", DATABASE):
            os.chmod(directory / name, 0o000)
            as_nobody(look)
            os.chmod(directory / name, 0o444)


# -- writers -----------------------------------------------------------------------------------------------------------


def test_a_store_that_is_being_written_to(tmp_path: Path) -> None:
    """StoreLocked, with the writer's process and epoch; the writer does not notice."""
    a_store(tmp_path)
    with held_by_another(tmp_path, os.getpid()) as process:
        with pytest.raises(StoreLocked, match=f"process {process.pid} holds it at epoch 2") as caught:
            SQLiteView(tmp_path)
        assert (caught.value.pid, caught.value.epoch) == (process.pid, 2)
    process.wait()
    view = SQLiteView(tmp_path)
    view.close()


def test_two_may_look_and_a_writer_waits_for_both(tmp_path: Path) -> None:
    """As it would for an orphan, though the last worker's host lives: it may just be replacing that worker."""
    a_store(tmp_path)
    first, second = SQLiteView(tmp_path), SQLiteView(tmp_path)
    check_whole(second)
    with pytest.raises(StoreUnavailable, match="somebody looks into the store; let them finish"):
        new_store(tmp_path, lock_timeout_s=0).open()
    first.close()
    opening = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from bgsuper.store.sqlite import SQLiteStore; s = SQLiteStore(sys.argv[1], host_pid=1)\n"
            "print('begins', flush=True); print(s.open().epoch); s.close()",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert opening.stdout is not None
    with opening:
        assert opening.stdout.readline() == "begins\n"
        check_whole(second)
        second.close()
        assert opening.stdout.read() == "2\n"
    assert opening.returncode == 0


def test_a_closed_view_lets_go(tmp_path: Path) -> None:
    """And says so to whoever uses it on; closing it again is nothing."""
    view = SQLiteView(a_store(tmp_path))
    view.close()
    view.close()
    with opened(tmp_path):
        pass
    with pytest.raises(StoreError, match="is closed"):
        view.read(MANAGER)
    with pytest.raises(StoreError, match="is closed"):
        list(view.entries())


# -- refusals ----------------------------------------------------------------------------------------------------------


def foreign_database(directory: Path) -> None:
    database = sqlite3.connect(directory / DATABASE)
    database.executescript("CREATE TABLE t(x); INSERT INTO t VALUES (1)")
    database.close()


def set_version(directory: Path, version: int) -> None:
    with open(directory / DATABASE, "r+b") as file:
        file.seek(60)
        file.write(struct.pack(">I", version))


def later_header(directory: Path) -> None:
    a_store(directory)
    database = sqlite3.connect(directory / DATABASE)
    database.execute("CREATE TABLE later(x)")
    database.close()
    set_version(directory, SCHEMA_VERSION + 1)


def later_wal(directory: Path) -> None:
    a_store(directory / "made")
    source = sqlite3.connect(directory / "made" / DATABASE)
    source.executescript("PRAGMA user_version = 9; CREATE TABLE later(x)")
    for name in (DATABASE, f"{DATABASE}-wal"):
        shutil.copy(directory / "made" / name, directory)
    source.close()


def journal(directory: Path) -> None:
    a_store(directory)
    (directory / f"{DATABASE}-journal").write_bytes(b"x" * 600)


def lost(directory: Path) -> None:
    a_store(directory)
    (directory / DATABASE).unlink()


def linked(directory: Path) -> None:
    (directory / DATABASE).symlink_to("elsewhere")


REFUSED: list[tuple[Callable[[Path], object], type[StoreError]]] = [
    (foreign_database, StoreForeign),
    (lambda directory: (directory / DATABASE).write_bytes(b"hello"), StoreForeign),
    (lambda directory: (directory / DATABASE).write_bytes(b"x" * 9000), StoreForeign),
    (lambda directory: (directory / DATABASE).mkdir(), StoreForeign),
    (lambda directory: os.mkfifo(directory / DATABASE), StoreForeign),
    (linked, StoreForeign),
    (journal, StoreForeign),
    (later_header, StoreTooNew),
    (later_wal, StoreTooNew),
    (lost, StoreCorrupt),
]


@pytest.mark.parametrize(("make", "error"), REFUSED)
def test_it_refuses_what_open_refuses(tmp_path: Path, make: Callable[[Path], object], error: type[StoreError]) -> None:
    """With the same error, and nothing is changed."""
    (tmp_path / "store").mkdir()
    make(tmp_path / "store")
    before = tree(tmp_path)
    with pytest.raises(error) as caught:
        SQLiteView(tmp_path / "store")
    assert type(caught.value) is error
    assert tree(tmp_path) == before
    with pytest.raises(error) as opening:
        new_store(tmp_path / "store").open()
    assert str(opening.value) == str(caught.value)


def test_where_there_is_no_store(tmp_path: Path) -> None:
    """Nothing is made there, and each case is told."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    before = tree(tmp_path)
    for name, error, says in (
        ("absent", StoreForeign, "found nothing: look at the path"),
        ("empty", StoreForeign, "found none: look at the path"),
        ("file", StoreUnwritable, "expected a directory"),
    ):
        with pytest.raises(error, match=says):
            SQLiteView(tmp_path / name)
    assert tree(tmp_path) == before


def test_the_wrong_seal_is_refused(tmp_path: Path, view_of: Callable[..., SQLiteView]) -> None:
    """One key too few, too many, or another one; nothing is changed, and the right one opens."""
    sealed, plain = a_store(tmp_path / "sealed", seal=SEAL), a_store(tmp_path / "plain")
    before = tree(tmp_path)
    for directory, given, says in (
        (sealed, b"", "is sealed, and no key was given"),
        (sealed, b"o" * 16, "sealed with another key"),
        (plain, SEAL, "is not sealed"),
    ):
        with pytest.raises(StoreSealed, match=says):
            SQLiteView(directory, seal=given)
    assert tree(tmp_path) == before
    check_whole(view_of(sealed, seal=SEAL))
    # A damaged store's key is looked at all the same.
    flip(sealed / DATABASE, 100)
    with pytest.raises(StoreSealed):
        SQLiteView(sealed)


# -- damage ------------------------------------------------------------------------------------------------------------


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


def settled(directory: Path) -> Path:
    """`a_store` in one file."""
    with opened(a_store(directory)) as store:
        while store.has_idle_work:
            store.idle()
    (directory / f"{DATABASE}-wal").unlink()
    return directory


def findings(view: SQLiteView) -> tuple[dict[Key, bytes], list[Damage]]:
    found = list(view.examine())
    values = [finding for finding in found if isinstance(finding, Value)]
    assert len({value.key for value in values}) == len(values)
    return {value.key: value.content for value in values}, [item for item in found if isinstance(item, Damage)]


ALL = RECORDS | {GRAPH: GRAPH_BYTES}


def test_each_byte_of_the_header(tmp_path: Path) -> None:
    """Flipped: every value is found, and the damage named if SQLite or we need that byte."""
    directory = settled(tmp_path)
    whole = (directory / DATABASE).read_bytes()
    named = 0
    for place in range(100):
        flip(directory / DATABASE, place)
        view = SQLiteView(directory)
        values, damage = findings(view)
        assert values == ALL, place
        named += bool(damage)
        assert view.identity.last_seq == 3
        view.close()
        (directory / DATABASE).write_bytes(whole)
    assert named > 30


def test_a_version_that_only_the_header_says(tmp_path: Path, view_of: Callable[..., SQLiteView]) -> None:
    """A later version has another schema: where it is exactly ours, the header is damaged. It is said, nobody who reads
    takes the store for whole, and every value comes out."""
    directory = settled(tmp_path)
    for version in (SCHEMA_VERSION + 1, SCHEMA_VERSION | 1 << 24, 0xFFFFFFFF):
        set_version(directory, version)
        view = view_of(directory)
        values, damage = findings(view)
        assert values == ALL
        assert f"schema {struct.unpack('>i', struct.pack('>I', version))[0] % (1 << 32)}" in damage[0].text
        with pytest.raises(StoreCorrupt, match="a later bgsuper wrote"):
            view.read(MANAGER)
        view.close()


def test_the_page_size_in_the_header(tmp_path: Path, view_of: Callable[..., SQLiteView]) -> None:
    """It has no checksum: whatever it says, with a log and without one, the values are the newest, and it is named."""
    logged, in_one_file = a_store(tmp_path / "logged"), settled(tmp_path / "settled")
    for directory in (logged, in_one_file):
        for size in (0, 1, 2, 512, 1024, 2048, 8192, 16384, 32768, 4097, 0xFFFF):
            with open(directory / DATABASE, "r+b") as file:
                file.seek(16)
                file.write(struct.pack(">H", size))
            view = view_of(directory)
            values, damage = findings(view)
            assert values == ALL, (directory.name, size)
            assert any("says that a page has" in item.text for item in damage)
            assert view.identity.last_seq == 3
            view.close()


def test_a_log_without_its_first_sector(tmp_path: Path, view_of: Callable[..., SQLiteView]) -> None:
    """Nothing is given out as whole: any value in the database may have been replaced since."""
    directory = a_store(tmp_path)
    with open(directory / f"{DATABASE}-wal", "r+b") as file:
        file.write(bytes(512))
    view = view_of(directory)
    for use in (lambda: view.identity, lambda: next(view.entries()), lambda: view.read(key("a"))):
        with pytest.raises(StoreCorrupt):
            use()
    values, damage = findings(view)
    assert values == {}
    assert "is damaged in its header" in damage[0].text


def test_what_memory_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view_of: Callable[..., SQLiteView]
) -> None:
    """A snapshot, or a row: a finding, and everything else comes out."""
    directory = settled(tmp_path)

    def fails(*_: object) -> bytes:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(Snapshots, "read", fails)
        values, damage = findings(view_of(directory))
    assert values == RECORDS
    assert [(item.key, "does not fit into memory" in item.text) for item in damage] == [(GRAPH, True)]
    payload = btree._payload

    def large_fails(pages: Pages, content: bytes, place: int, length: int, kind: int) -> bytes:
        return payload(pages, content, place, length, kind) if length < 40_000 else fails()

    monkeypatch.setattr(btree, "_payload", large_fails)
    values, damage = findings(view_of(directory))
    assert values == {k: v for k, v in ALL.items() if k != key("c")}
    assert "does not fit into memory" in damage[0].text
    assert key("c") in {item.key for item in damage}


def test_a_damaged_identity(tmp_path: Path, view_of: Callable[..., SQLiteView]) -> None:
    """`identity` says so, and so do `entries` and `read`; `examine` goes on."""
    directory = settled(tmp_path)
    content = (directory / DATABASE).read_bytes()
    probe = view_of(directory)
    packed = probe.identity.pack()
    probe.close()
    for place in range(content.rindex(packed), content.rindex(packed) + len(packed)):
        flip(directory / DATABASE, place)
        view = view_of(directory)
        for use in (lambda view: view.identity, lambda view: next(view.entries()), lambda view: view.read(MANAGER)):
            with pytest.raises(StoreCorrupt, match="how far it had come, is damaged"):
                use(view)
        values, damage = findings(view)
        assert values == ALL
        assert [item.key for item in damage] == [None]
        assert view.facts()["damage"] == damage[0].text
        view.close()
        (directory / DATABASE).write_bytes(content)


def test_a_damaged_wal_is_read_on(tmp_path: Path, view_of: Callable[..., SQLiteView]) -> None:
    """SQLite would drop what was durable, so `entries` and `read` refuse; `examine` finds it, and the identity is the
    newest, not the one of the state that SQLite sees."""
    directory = a_store(tmp_path)
    flip(directory / f"{DATABASE}-wal", 32 + 24 + 100)
    view = view_of(directory)
    for use in (lambda: next(view.entries()), lambda: view.read(MANAGER)):
        with pytest.raises(StoreCorrupt, match=r"write-ahead log .* is damaged"):
            use()
    values, damage = findings(view)
    assert values == ALL
    assert "is damaged between frames" in damage[0].text
    assert view.identity.last_seq == 3


def test_a_damaged_record(tmp_path: Path, view_of: Callable[..., SQLiteView]) -> None:
    """It is named by the index, whatever of the row is damaged; the others are there."""
    directory = settled(tmp_path)
    whole = (directory / DATABASE).read_bytes()
    at = whole.index(b"3" * 4000)
    for place in (at, at + 50):
        flip(directory / DATABASE, place)
        view = view_of(directory)
        values, damage = findings(view)
        assert values == {k: v for k, v in ALL.items() if k != key("c")}
        assert [item.key for item in damage] == [key("c")]
        assert "does not match its checksum" in damage[0].text
        with pytest.raises(StoreCorrupt):
            view.read(key("c"))
        assert view.read(MANAGER) == b"manager"
        view.close()
        (directory / DATABASE).write_bytes(whole)


def test_a_record_that_the_index_lost_is_never_absent(tmp_path: Path, view_of: Callable[..., SQLiteView]) -> None:
    """ldk-node #1026: neither by its name nor from the listing; and `examine` has it."""
    directory = settled(tmp_path)
    whole = (directory / DATABASE).read_bytes()
    # The third page is the index.
    flip(directory / DATABASE, whole.index(b"channelsb", 2 * 4096, 3 * 4096))
    view = view_of(directory)
    with pytest.raises(StoreCorrupt, match="index"):
        view.read(key("b"))
    with pytest.raises(StoreCorrupt, match="index"):
        list(view.entries())
    values, damage = findings(view)
    assert values == ALL
    assert damage


def test_a_damaged_snapshot(tmp_path: Path, view_of: Callable[..., SQLiteView]) -> None:
    """Its file, flipped, cut or gone: Damage of that key, and nothing else."""
    directory = settled(tmp_path)
    [path] = (directory / "snapshots").iterdir()
    for damage_it in (lambda: flip(path, 7), lambda: path.write_bytes(b""), path.unlink):
        damage_it()
        view = view_of(directory)
        values, damage = findings(view)
        assert values == RECORDS
        assert [item.key for item in damage] == [GRAPH]
        with pytest.raises(StoreCorrupt):
            view.read(GRAPH)
        view.close()


def test_a_record_beside_a_snapshot(tmp_path: Path, view_of: Callable[..., SQLiteView]) -> None:
    """Two values of one key, which no store of ours leaves: the record is the value, and it is said."""
    directory = settled(tmp_path)
    with opened(directory) as store:
        store._pointers.clear()
        store.apply([commit(4, {GRAPH: b"record"})])
    view = view_of(directory)
    values, damage = findings(view)
    assert values == RECORDS | {GRAPH: b"record"}
    assert [item.key for item in damage] == [GRAPH]
    assert view.read(GRAPH) == b"record"
    with pytest.raises(StoreCorrupt, match="two values"):
        list(view.entries())


def test_a_sector_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view_of: Callable[..., SQLiteView]
) -> None:
    """An I/O error is damage of that page alone, and no end."""
    directory = settled(tmp_path)
    at = (directory / DATABASE).read_bytes().index(b"3" * 4000) // 4096 * 4096
    pread = os.pread

    def failing(fd: int, length: int, offset: int) -> bytes:
        if length == 4096 and offset == at:
            raise OSError(5, "Input/output error")
        return pread(fd, length, offset)

    monkeypatch.setattr(pages_module.os, "pread", failing)
    values, damage = findings(view_of(directory))
    assert values == {k: v for k, v in ALL.items() if k != key("c")}
    assert "Input/output error" in damage[0].text
    assert key("c") in {item.key for item in damage}
