"""The power cut itself: what is lost and what is not."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from bgsuper.faults.powercut import SECTOR, PowerCut


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "old").write_bytes(b"o" * 2000)
    return tmp_path / "disk"


@pytest.fixture
def power(root: Path) -> Iterator[PowerCut]:
    power = PowerCut(root)
    yield power
    power.close()


def sync(power: PowerCut, path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    power.fsync(fd)
    os.close(fd)


def test_what_was_there_stays(root: Path, power: PowerCut) -> None:
    """Without a sync, everything since the start is undone: contents, new names, removed names, renames."""
    (root / "old").write_bytes(b"changed")
    (root / "new").write_bytes(b"new")
    power.cut()
    assert {p.name: p.read_bytes() for p in root.iterdir()} == {"old": b"o" * 2000}
    (root / "old").rename(root / "renamed")
    power.cut()
    assert os.listdir(root) == ["old"]
    (root / "old").unlink()
    power.cut()
    assert (root / "old").read_bytes() == b"o" * 2000


def test_content_and_name_are_synced_apart(root: Path, power: PowerCut) -> None:
    """A file is there in full only if both it and its directory were synced."""
    for name in ("neither", "content", "name", "both"):
        (root / name).write_bytes(b"x")
    sync(power, root / "content")
    (root / "neither").rename(root / "elsewhere")
    (root / "content").rename(root.parent / "aside")
    (root / "elsewhere").rename(root.parent / "aside too")
    sync(power, root / "both")
    sync(power, root)
    (root.parent / "aside").rename(root / "content")
    (root.parent / "aside too").rename(root / "neither")
    power.cut()
    assert {p.name: p.read_bytes() for p in root.iterdir()} == {"old": b"o" * 2000, "name": b"", "both": b"x"}


def test_an_atomic_replace(root: Path, power: PowerCut) -> None:
    """Write, sync, rename: the old content until the directory is synced, then the new one, never nothing."""
    (root / "tmp").write_bytes(b"new")
    sync(power, root / "tmp")
    (root / "tmp").rename(root / "old")
    power.cut()
    assert (root / "old").read_bytes() == b"o" * 2000
    (root / "tmp").write_bytes(b"new")
    sync(power, root / "tmp")
    (root / "tmp").rename(root / "old")
    sync(power, root)
    power.cut()
    assert {p.name: p.read_bytes() for p in root.iterdir()} == {"old": b"new"}


def test_directories(root: Path, power: PowerCut) -> None:
    """A directory is there once its parent was synced, with the names that it had at its own last sync."""
    (root / "kept").mkdir()
    sync(power, root)
    (root / "lost").mkdir()
    (root / "kept" / "file").write_bytes(b"x")
    sync(power, root / "kept" / "file")
    sync(power, root / "kept")
    (root / "kept" / "unsynced").write_bytes(b"x")
    power.cut()
    assert sorted(str(p.relative_to(root)) for p in root.rglob("*")) == ["kept", "kept/file", "old"]


def test_dice_keep_some_of_it(root: Path, power: PowerCut) -> None:
    """With dice each un-synced sector is old or new, whole; over many throws both come up, as do both lengths."""
    seen = set()
    for seed in range(40):
        (root / "old").write_bytes(b"n" * 3000)
        power.cut(random.Random(seed))
        found = (root / "old").read_bytes()
        assert len(found) in (2000, 3000)
        for start in range(0, len(found), SECTOR):
            sector = found[start : start + SECTOR]
            old = (b"o" * 2000)[start : start + SECTOR].ljust(len(sector), b"\0")
            assert sector in (old, b"n" * len(sector))
            seen.add((start, sector == old))
        (root / "old").write_bytes(b"o" * 2000)
        power.sync_all()
    assert len(seen) == 12


def test_sqlite_without_syncs_loses_its_commits(root: Path, power: PowerCut) -> None:
    """synchronous=OFF: gone. synchronous=FULL: there. So the watcher sees SQLite's syncs, and nothing else."""
    for synchronous, expected in (("OFF", 0), ("FULL", 1)):
        path = str(root / f"database-{synchronous}")
        database = apsw.Connection(path, vfs=power.name)
        database.pragma("locking_mode", "EXCLUSIVE")
        database.pragma("journal_mode", "WAL")
        database.execute("CREATE TABLE t(x)")
        database.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        sync(power, root)
        database.pragma("synchronous", synchronous)
        database.execute("INSERT INTO t VALUES (1)")
        database.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        database.close()
        power.cut()
        database = apsw.Connection(path)
        assert database.execute("SELECT count(*) FROM t").get == expected
        database.close()
