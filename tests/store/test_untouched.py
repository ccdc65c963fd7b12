"""The way to a database that is only read."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from bgsuper.errors import StoreUnwritable, SyncFailed
from bgsuper.store.untouched import open_untouched

from .stores import DATABASE, commit, die, key, new_store

INSERT = "INSERT INTO record(primary_namespace, secondary_namespace, name, checksum, value) VALUES('', '', 'x', 0, x'')"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Of a killed worker, with all of its content in the WAL."""
    store = new_store(tmp_path)
    store.open()
    store.apply([commit(1, {key("a"): b"1" * 10_000})])
    die(store)
    return tmp_path / DATABASE


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_it_reads_the_wal(database: Path) -> None:
    """Without an index file beside it, before, then or after."""
    before = files(database.parent)
    connection = open_untouched(str(database))
    assert connection.recovered_frames() > 0
    assert connection.row("SELECT length(value) FROM record", (), "reading") == (10_000,)
    assert files(database.parent) == before
    connection.close()
    assert files(database.parent) == before


def test_a_wal_that_is_not_there_is_not_made(database: Path) -> None:
    """SQLite alone would make one, and an index file."""
    database.with_name(f"{DATABASE}-wal").unlink()
    before = files(database.parent)
    connection = open_untouched(str(database))
    assert connection.recovered_frames() == 0
    assert connection.row("SELECT count(*) FROM record", (), "reading") == (0,)
    connection.close()
    assert files(database.parent) == before


def test_nothing_can_be_written(database: Path) -> None:
    """By SQL it is refused, by a checkpoint too, and below SQL once more."""
    before = files(database.parent)
    connection = open_untouched(str(database))
    with pytest.raises(StoreUnwritable):
        connection.transact([(INSERT, [()])], "writing")
    connection.close()
    connection = open_untouched(str(database))
    connection.row("PRAGMA query_only = 0", (), "allowing")
    with pytest.raises((StoreUnwritable, SyncFailed)):
        connection.transact([(INSERT, [()])], "writing")
    connection.close()
    connection = open_untouched(str(database))
    with pytest.raises((StoreUnwritable, SyncFailed)):
        connection.empty_wal()
    connection.close()
    assert files(database.parent) == before


def test_others_may_read_meanwhile(database: Path) -> None:
    """No lock is taken: whoever copies the files, or reads them, is not held up."""
    connection = open_untouched(str(database))
    assert connection.row("SELECT count(*) FROM record", (), "reading") == (1,)
    other = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    assert other.execute("SELECT count(*) FROM record").fetchall() == [(1,)]
    other.close()
    connection.close()
