"""The database's creation, alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from bgsuper.errors import StoreCorrupt
from bgsuper.faults.powercut import PowerCut
from bgsuper.store.database import check_header, create, is_creation_leftover
from bgsuper.store.identity import SEAL_BYTES, Identity


@pytest.fixture
def power(tmp_path: Path) -> Iterator[PowerCut]:
    power = PowerCut(tmp_path)
    yield power
    power.close()


def test_a_new_database_is_durable_with_its_name(tmp_path: Path, power: PowerCut) -> None:
    """create() relies on nobody for that, and leaves no other file."""
    path = str(tmp_path / "database")
    identity = Identity.new(b"s" * SEAL_BYTES)
    create(path, identity, power.name, power.fsync)
    assert os.listdir(tmp_path) == ["database"]
    power.cut()
    assert os.listdir(tmp_path) == ["database"]
    assert check_header(path, written_before=False)
    database = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    [(packed,)] = database.execute("SELECT identity FROM meta").fetchall()
    database.close()
    assert Identity.unpack(packed, path) == identity


def test_what_a_creation_leaves() -> None:
    """Three names, and no other."""
    for name in ("d.new", "d.new-wal", "d.new-journal"):
        assert is_creation_leftover("/x/d", name)
    for name in ("d", "d-wal", "d.new-shm", "e.new", "new"):
        assert not is_creation_leftover("/x/d", name)


@pytest.mark.parametrize("place", [18, 19, 52, 53, 54, 55, 64, 67])
def test_a_header_that_sqlite_would_only_stumble_over_later_is_damage(tmp_path: Path, place: int) -> None:
    """Before anything is written: the versions differ, or it says that it vacuums by itself, which ours never do."""
    path = str(tmp_path / "database")
    create(path, Identity.new(b""), "unix-excl", os.fsync)
    with open(path, "r+b") as file:
        header = bytearray(file.read(100))
        header[place] ^= 4
        file.seek(0)
        file.write(header)
    with pytest.raises(StoreCorrupt, match="header"):
        check_header(path, written_before=True)
