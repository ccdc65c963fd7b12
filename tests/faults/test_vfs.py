"""The faulty VFS under a plain SQLite connection."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from bgsuper.errors import ConfigError
from bgsuper.faults import vfs as vfs_module
from bgsuper.faults.plan import Plan
from bgsuper.faults.vfs import NAME, FaultyVFS, faulty_fsync, install


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Plan]:
    with Plan.create(tmp_path / "plan") as plan:
        yield plan


@pytest.fixture
def database(tmp_path: Path, plan: Plan) -> Iterator[apsw.Connection]:
    vfs = FaultyVFS(plan)
    database = apsw.Connection(str(tmp_path / "database"), vfs=NAME)
    for pragma, value in (("locking_mode", "EXCLUSIVE"), ("journal_mode", "WAL"), ("synchronous", "FULL")):
        database.pragma(pragma, value)
    database.execute("CREATE TABLE t(x)")
    yield database
    database.close(True)
    vfs.unregister()


def test_without_faults_it_is_the_base(database: apsw.Connection, plan: Plan) -> None:
    """Commits go through; each is one sync of the WAL, and its writes are counted."""
    syncs, size = plan.syncs, plan.bytes_written
    database.execute("INSERT INTO t VALUES (zeroblob(10000))")
    assert plan.syncs == syncs + 1
    assert plan.bytes_written > size + 10_000
    assert database.execute("SELECT length(x) FROM t").get == 10_000


def test_a_failed_sync_is_sqlites_own(database: apsw.Connection, plan: Plan) -> None:
    """SQLite sees SQLITE_IOERR_FSYNC, and what it reports says that it was injected."""
    plan.fail_syncs = 1
    with pytest.raises(apsw.IOError, match="injected") as caught:
        database.execute("INSERT INTO t VALUES (1)")
    assert getattr(caught.value, "extendedresult", None) == apsw.SQLITE_IOERR_FSYNC


def test_a_full_disk_is_sqlites_own(database: apsw.Connection, plan: Plan) -> None:
    """SQLite sees SQLITE_FULL, rolls back, and goes on once there is space."""
    plan.full = 1
    with pytest.raises(apsw.FullError, match="injected"):
        database.execute("INSERT INTO t VALUES (1)")
    plan.full = 0
    database.execute("INSERT INTO t VALUES (2)")
    assert database.execute("SELECT x FROM t").fetchall() == [(2,)]


def test_fsync_obeys_the_plan(tmp_path: Path, plan: Plan) -> None:
    """What the store syncs itself fails and is counted alike."""
    synced: list[int] = []
    fsync = faulty_fsync(plan, synced.append)
    fsync(7)
    plan.fail_syncs = 1
    with pytest.raises(OSError, match="Input/output"):
        fsync(8)
    fsync(9)
    assert synced == [7, 9]
    assert (plan.snapshot_syncs, plan.refused, plan.syncs) == (2, 1, 0)


def test_install_is_for_the_process(tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """install() gives a VFS that stays registered, and an fsync, on the plan at that path."""
    monkeypatch.setattr(vfs_module, "_installed", [])
    name, fsync = install(str(tmp_path / "plan"))
    database = apsw.Connection(str(tmp_path / "database"), vfs=name)
    database.execute("CREATE TABLE t(x)")
    database.close()
    assert plan.syncs > 0
    plan.fail_syncs = 1
    with pytest.raises(OSError, match="Input/output"):
        fsync(0)
    with pytest.raises(ConfigError):
        install(str(tmp_path / "absent"))
    assert os.path.exists(tmp_path / "plan")
