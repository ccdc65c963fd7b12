"""What the benchmarks of stores commit."""

from __future__ import annotations

import os
import random
import zlib
from itertools import islice
from pathlib import Path

from benchmarks.transactions import Workload, fill, filled, transactions, value
from bgsuper.store.memory import MemoryStore
from bgsuper.store.sqlite import SQLiteStore

WORKLOAD = Workload(3, 100, 5, new_bytes=10)


def test_a_transaction_is_what_its_workload_says() -> None:
    """So many commits in a row, each a value for one of the keys and a new record; no value comes twice, or SQLite
    would leave its page alone."""
    commits = [commit for group in islice(transactions(WORKLOAD), 50) for commit in group]
    assert [(commit.prev, commit.seq) for commit in commits] == [(seq - 1, seq) for seq in range(1, 151)]
    puts = [put for commit in commits for put in commit.puts]
    assert {key.name for key, _ in puts if key.primary == "channels"} == {f"{number:064x}" for number in range(5)}
    assert len({key for key, _ in puts if key.primary == "history"}) == 150
    assert len({content for _, content in puts}) == 300
    assert sum(len(content) for _, content in puts) == 50 * WORKLOAD.changed_bytes


def test_half_of_a_value_compresses() -> None:
    """So that compression has something to gain, and not everything."""
    content = value(random.Random(1), 100_001)
    assert len(content) == 100_001
    assert 0.5 <= len(zlib.compress(content)) / len(content) < 0.52


def test_every_key_is_filled() -> None:
    """More of them than one step takes."""
    store = MemoryStore(host_pid=os.getpid())
    store.open()
    fill(store, Workload(1, 8, 10_000))
    after, found = "", 0
    while page := store.scan("channels", "", after, 1 << 20):
        after, found = page[-1][0].name, found + len(page)
    assert found == 10_000


def test_a_filled_store_has_an_empty_log(tmp_path: Path) -> None:
    """What is measured begins as after a clean end."""

    def make(directory: Path) -> SQLiteStore:
        return SQLiteStore(directory, host_pid=os.getpid())

    with filled(make, tmp_path / "store", Workload(1, 1024, 1000)) as store:
        assert (tmp_path / "store" / "bgsuper.sqlite3-wal").stat().st_size < 64 * 1024
        assert len(store.scan("channels", "", "", 1 << 30)) == 1000
