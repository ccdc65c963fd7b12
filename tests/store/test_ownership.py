"""What the store refuses to open, and that it changes nothing there."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bgsuper.errors import (
    ConfigError,
    StoreCorrupt,
    StoreError,
    StoreForeign,
    StoreSealed,
    StoreTooNew,
    StoreUnwritable,
)
from bgsuper.key import Seq
from bgsuper.store.connection import check_sqlite_version
from bgsuper.store.database import APPLICATION_ID, SCHEMA_VERSION

from .stores import DATABASE, GRAPH, commit, key, new_store, opened


def tree(directory: Path) -> dict[str, bytes | None]:
    """Every path under `directory` with its content, the lock file apart."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in sorted(directory.rglob("*"))
        if path.name != "lock"
    }


def a_store(directory: Path, **options: Any) -> Path:
    """A store with a record, a snapshot and a WAL, whose worker was killed."""
    with opened(directory / "origin", **options) as store:
        store.apply([commit(1, {key("a"): b"1" * 5000})])
        store.adopt_snapshot(store.write_snapshot(GRAPH, Seq(2), b"graph"))
        store.idle()
        store.apply([commit(3, {key("b"): b"2" * 5000})])
        shutil.copytree(directory / "origin", directory / "store")
    shutil.rmtree(directory / "origin")
    return directory / "store"


def refused(directory: Path, error: type[StoreError], match: str, **options: Any) -> None:
    before = tree(directory)
    with pytest.raises(error, match=match) as caught:
        new_store(directory, **options).open()
    assert type(caught.value) is error
    assert tree(directory) == before


def test_the_copy_opens(tmp_path: Path) -> None:
    """What the tests below damage is otherwise a good store."""
    with opened(a_store(tmp_path)) as store:
        assert store.read(key("b")) == b"2" * 5000
        assert store.read(GRAPH) == b"graph"


def test_a_directory_of_others_is_foreign(tmp_path: Path) -> None:
    """Content that is not ours: refused before a lock file is made there."""
    (tmp_path / "wallet.dat").write_bytes(b"precious")
    refused(tmp_path, StoreForeign, r"found 'wallet\.dat'")
    assert not (tmp_path / "lock").exists()


def test_a_lock_file_of_others_is_foreign(tmp_path: Path) -> None:
    """A file named lock that some other program wrote keeps its content."""
    (tmp_path / "lock").write_bytes(b"12345\n")
    refused(tmp_path, StoreForeign, "lock")
    assert (tmp_path / "lock").read_bytes() == b"12345\n"


def test_a_mount_point_is_empty(tmp_path: Path) -> None:
    """The root of a fresh file system, with its lost+found, is a place for a store."""
    (tmp_path / "lost+found").mkdir()
    with opened(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"hello", b"x" * 4096, b"SQLite format 3\0", bytes(4096)])
def test_another_file_in_our_place_is_foreign(tmp_path: Path, content: bytes) -> None:
    """A file of our database's name that no store of ours left traces of."""
    (tmp_path / DATABASE).write_bytes(content)
    refused(tmp_path, StoreForeign, "expected a SQLite database")


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), os.mkfifo, lambda p: p.symlink_to("elsewhere")])
def test_another_kind_of_file_is_foreign(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """A directory, a FIFO (which must not hang us) or a symbolic link in our database's place."""
    make(tmp_path / DATABASE)
    with pytest.raises(StoreForeign, match="found something else"):
        new_store(tmp_path).open()


def test_another_programs_database_is_foreign(tmp_path: Path) -> None:
    """A SQLite database without our application id."""
    database = sqlite3.connect(tmp_path / DATABASE)
    database.executescript("CREATE TABLE t(x); INSERT INTO t VALUES (1)")
    database.close()
    refused(tmp_path, StoreForeign, "of another program")


def test_a_later_version_is_too_new(tmp_path: Path) -> None:
    """A greater schema version in the header."""
    store = a_store(tmp_path)
    with open(store / DATABASE, "r+b") as file:
        file.seek(60)
        file.write(struct.pack(">I", SCHEMA_VERSION + 1))
    refused(store, StoreTooNew, f"schema {SCHEMA_VERSION + 1}, this one knows {SCHEMA_VERSION}")


def test_a_version_before_the_first_release_is_foreign(tmp_path: Path) -> None:
    """A smaller schema version in the header: nobody but us has such a store."""
    for version in range(SCHEMA_VERSION):
        store = a_store(tmp_path / str(version))
        with open(store / DATABASE, "r+b") as file:
            file.seek(60)
            file.write(struct.pack(">I", version))
        refused(store, StoreForeign, "before its first release")


@pytest.mark.parametrize(
    ("stored", "given", "says"),
    [
        (b"a" * 16, b"", "is sealed, and no key was given: add"),
        (b"", b"b" * 16, "is not sealed, but a key was given: leave"),
        (b"a" * 16, b"b" * 16, "sealed with another key"),
    ],
)
def test_the_wrong_seal_is_refused(tmp_path: Path, stored: bytes, given: bytes, says: str) -> None:
    """One key too few, too many, or another one: before a byte is written. The right one opens it."""
    store = a_store(tmp_path, seal=stored)
    refused(store, StoreSealed, says, seal=given)
    with opened(store, seal=stored) as found:
        assert found.read(key("b")) == b"2" * 5000


def test_a_later_version_in_the_wal_is_too_new(tmp_path: Path) -> None:
    """A greater schema version that is only in the WAL yet: not even a checkpoint touches the database."""
    directory = a_store(tmp_path)
    source = sqlite3.connect(directory / DATABASE)
    source.executescript("PRAGMA user_version = 9")
    shutil.copytree(directory, tmp_path / "copy")
    source.close()
    header = (tmp_path / "copy" / DATABASE).read_bytes()[:100]
    assert struct.unpack_from(">I4xI", header, 60) == (SCHEMA_VERSION, APPLICATION_ID)
    assert (tmp_path / "copy" / f"{DATABASE}-wal").stat().st_size > 0
    (tmp_path / "copy" / f"{DATABASE}-shm").unlink(missing_ok=True)
    refused(tmp_path / "copy", StoreTooNew, "schema 9")


@pytest.mark.parametrize("keep", ["everything", "lock", "wal", "snapshots"])
@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_lost_database_is_never_an_empty_store(tmp_path: Path, keep: str, how: str) -> None:
    """Whatever trace is left of it, a database that is gone or empty is StoreCorrupt (ldk-node #1026)."""
    directory = a_store(tmp_path)
    for trace in ("lock", f"{DATABASE}-wal", "snapshots"):
        if keep != "everything" and not trace.endswith(keep):
            path = directory / trace
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (directory / DATABASE).unlink()
    if how == "empty":
        (directory / DATABASE).touch()
    refused(directory, StoreCorrupt, "missing" if how == "missing" else "empty")
    refused(directory, StoreCorrupt, "missing" if how == "missing" else "empty")


@pytest.mark.parametrize("damage", ["magic", "cut to 50 bytes", "cut to a page", "root page", "zeros"])
def test_a_damaged_database_is_corrupt(tmp_path: Path, damage: str) -> None:
    """Damage that shows at the open is StoreCorrupt, and the file is left as it is."""
    directory = a_store(tmp_path)
    (directory / f"{DATABASE}-wal").unlink()
    database = directory / DATABASE
    good = database.read_bytes()
    match damage:
        case "magic":
            database.write_bytes(b"X" + good[1:])
        case "cut to 50 bytes":
            database.write_bytes(good[:50])
        case "cut to a page":
            database.write_bytes(good[:4096])
        case "root page":
            database.write_bytes(good[:100] + bytes([good[100] ^ 0xFF]) + good[101:])
        case "zeros":
            database.write_bytes(bytes(len(good)))
    with pytest.raises(StoreCorrupt):
        new_store(directory).open()
    assert (directory / DATABASE).stat().st_size == {"cut to 50 bytes": 50, "cut to a page": 4096}.get(
        damage, len(good)
    )


def test_a_lost_table_is_corrupt(tmp_path: Path) -> None:
    """A database of ours without its tables or its meta row is damaged, not new."""
    for loss in ("DROP TABLE meta", "DELETE FROM meta", "DROP TABLE snapshot"):
        directory = tmp_path / loss.replace(" ", "")
        with opened(directory):
            pass
        database = sqlite3.connect(directory / DATABASE)
        database.executescript(loss)
        database.close()
        with pytest.raises(StoreCorrupt):
            new_store(directory).open()


def test_a_creation_cut_short_is_begun_anew(tmp_path: Path) -> None:
    """What a creation leaves before its rename (any bytes) is thrown away, and only then."""
    for suffix in ("", "-journal", "-wal"):
        (tmp_path / f"{DATABASE}.new{suffix}").write_bytes(b"half a page")
    (tmp_path / "lock").touch()
    (tmp_path / "snapshots").mkdir()
    with opened(tmp_path) as store:
        store.apply([commit(1, {key("a"): b"1"})])
    assert sorted(os.listdir(tmp_path)) == [DATABASE, f"{DATABASE}-wal", "lock", "snapshots"]


def test_a_file_is_not_a_directory(tmp_path: Path) -> None:
    """A file in the directory's place, or in a parent's: StoreUnwritable that names it."""
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(StoreUnwritable, match="file"):
            new_store(path).open()
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("version", ["3.7.0", "3.40.1", "3.51.2"])
def test_old_sqlites_are_refused(version: str) -> None:
    """Releases with the WAL-reset bug."""
    with pytest.raises(ConfigError, match=f"3.51.3 or later.*got {version}: upgrade apsw"):
        check_sqlite_version(version)


@pytest.mark.parametrize("version", ["3.51.3", "3.52.0", "4.0.0", "3.54.1"])
def test_fixed_sqlites_are_taken(version: str) -> None:
    """The fixed ones, ours among them."""
    check_sqlite_version(version)
    check_sqlite_version()
