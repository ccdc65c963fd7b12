"""The page size in use is judged beside the best one; the WAL is bounded where it is said to be."""

from __future__ import annotations

import os
from pathlib import Path

import apsw
import pytest

from benchmarks.checkpoints import MIB, measure_bound
from benchmarks.harness import Figures
from benchmarks.pages import LONE, PAGES, WORKLOADS, judge, paged
from bgsuper.store.connection import PAGE_BYTES
from bgsuper.store.sqlite import SQLiteStore


@pytest.mark.parametrize("page_bytes", PAGES)
def test_a_new_database_has_pages_of_the_size_that_is_measured(tmp_path: Path, page_bytes: int) -> None:
    """And one that is there keeps its own, whatever new ones get."""
    with paged(page_bytes):
        store = SQLiteStore(tmp_path, host_pid=os.getpid())
        store.open()
        store.close()
    store = SQLiteStore(tmp_path, host_pid=os.getpid())
    store.open()
    store.close()
    database = apsw.Connection(str(tmp_path / "bgsuper.sqlite3"))
    assert database.pragma("page_size") == page_bytes
    database.close()


def test_without_a_word_it_is_the_one_in_use(tmp_path: Path) -> None:
    """Not whatever SQLite was compiled with."""
    store = SQLiteStore(tmp_path, host_pid=os.getpid())
    store.open()
    store.close()
    assert int.from_bytes((tmp_path / "bgsuper.sqlite3").read_bytes()[16:18]) == PAGE_BYTES


def figures(blocks: float, p50_ms: float) -> dict[str, Figures]:
    return {name: {"blocks": blocks, "p50_ms": p50_ms, "syncs": 1.0} for name in WORKLOADS}


def test_the_worst_workload_decides() -> None:
    """A page size that is good for most commits and bad for some is not good."""
    found = {PAGE_BYTES: figures(10.0, 1.0), 1024: figures(10.0, 1.0)}
    assert all(claim.holds for claim in judge(found))
    found[1024][LONE] |= {"blocks": 4.9, "p50_ms": 0.6}
    assert [claim.holds for claim in judge(found)] == [True, False, False]


def test_the_log_is_moved_at_its_bound(tmp_path: Path) -> None:
    """Groups that met a checkpoint are told apart, and the file stays at the bound."""
    bounded = measure_bound(tmp_path, 1 * MIB, 12)
    assert bounded["checkpoints"] == 2
    assert 1 <= bounded["wal_mib"] < 1.5
    assert bounded["met_p50_ms"] > 0
    unbounded = measure_bound(tmp_path, 1 << 40, 12)
    assert (unbounded["checkpoints"], unbounded["met_p50_ms"]) == (0, 0)
    assert unbounded["wal_mib"] > 2.5
