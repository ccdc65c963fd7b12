"""The background check: every value is read once, a few at a time, and damage is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bgsuper.errors import StoreCorrupt
from bgsuper.key import Seq
from bgsuper.store.sqlite import SQLiteStore

from .stores import DATABASE, GRAPH, commit, key, opened


def filled(directory: Path, value: bytes) -> str:
    """500 records, one of them `value`, and a snapshot, whose file's name is returned."""
    with opened(directory) as store:
        store.apply([commit(1, {key(f"r{number}"): os.urandom(100) for number in range(499)} | {key("last"): value})])
        snapshot = store.write_snapshot(GRAPH, Seq(2), b"graph" * 1000)
        store.adopt_snapshot(snapshot)
    return snapshot.file


def steps(store: SQLiteStore) -> int:
    """Idle until there is nothing to do; how often that took."""
    count = 0
    while store.has_idle_work:
        store.idle()
        count += 1
    return count


def test_a_whole_store_passes_in_several_steps(tmp_path: Path) -> None:
    """It ends, it takes more than one step so that commits pass between, and only who asks for it pays."""
    filled(tmp_path, b"fine")
    with opened(tmp_path) as store:
        unchecked = steps(store)
    with opened(tmp_path, check=True) as store:
        assert steps(store) >= unchecked + 500 // 64 + 1
        assert not store.has_idle_work


def test_a_damaged_record_is_found(tmp_path: Path) -> None:
    """Nobody reads it, and yet it is StoreCorrupt with its key."""
    value = os.urandom(2000)
    filled(tmp_path, value)
    database = tmp_path / DATABASE
    damaged = bytearray(database.read_bytes())
    damaged[damaged.index(value) + 999] ^= 0x10
    database.write_bytes(damaged)
    with opened(tmp_path, check=True) as store, pytest.raises(StoreCorrupt, match="channels/last"):
        steps(store)


def test_a_damaged_snapshot_is_found(tmp_path: Path) -> None:
    """A snapshot's file as well."""
    file = tmp_path / "snapshots" / filled(tmp_path, b"fine")
    file.write_bytes(file.read_bytes()[:-1])
    with opened(tmp_path, check=True) as store, pytest.raises(StoreCorrupt, match="network_graph"):
        steps(store)


def test_what_changes_meanwhile_does_no_harm(tmp_path: Path) -> None:
    """Records and snapshots may come, go and be replaced between the steps."""
    filled(tmp_path, b"fine")
    with opened(tmp_path, check=True) as store:
        seq = 2
        while store.has_idle_work and seq < 200:
            store.idle()
            seq += 1
            store.apply([commit(seq, {key(f"r{seq}"): b"new", key("more"): b"%d" % seq}, (key(f"r{seq + 1}"), GRAPH))])
            store.idle()
        assert seq < 200
