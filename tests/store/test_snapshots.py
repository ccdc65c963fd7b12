"""Snapshots from their file to their end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bgsuper.errors import NotFound, StoreCorrupt, StoreError
from bgsuper.key import Key, Seq
from bgsuper.store.api import SnapshotFile
from bgsuper.store.pace import SLICE_BYTES
from bgsuper.store.snapshots import REMOVE_BYTES, Snapshots

from .stores import GRAPH, commit, content, key, new_store, opened


def files(directory: Path) -> list[str]:
    return sorted(os.listdir(directory / "snapshots"))


def test_a_snapshot_is_a_value_once_adopted(tmp_path: Path) -> None:
    """Written it is nothing yet; adopted it is read, across reopens, and its seq is claimed."""
    with opened(tmp_path) as store:
        snapshot = store.write_snapshot(GRAPH, Seq(5), b"graph" * 100_000)
        with pytest.raises(NotFound):
            store.read(GRAPH)
        store.adopt_snapshot(snapshot)
        assert store.read(GRAPH) == b"graph" * 100_000
    store = new_store(tmp_path)
    assert store.open()[:3] == (2, 0, 5)
    assert store.read(GRAPH) == b"graph" * 100_000
    store.close()


@pytest.mark.parametrize("size", [0, 1, SLICE_BYTES - 1, SLICE_BYTES, SLICE_BYTES + 1, 3_000_000])
def test_sizes(tmp_path: Path, size: int) -> None:
    """Empty, one slice, and more: all come back, and every byte of them was synced."""
    synced: dict[int, int] = {}

    def fsync(fd: int) -> None:
        status = os.fstat(fd)
        synced[status.st_ino] = status.st_size

    value = os.urandom(size)
    snapshots = Snapshots(str(tmp_path / "s"), fsync)
    snapshots.prepare()
    snapshot = snapshots.write(GRAPH, Seq(1), 1, value)
    assert snapshots.read(snapshot) == value
    assert synced[(tmp_path / "s" / snapshot.file).stat().st_ino] == size
    assert (tmp_path / "s").stat().st_ino in synced


def test_the_replaced_file_goes(tmp_path: Path) -> None:
    """Adopting a newer snapshot, a put and a remove each leave no file behind once the store has idled."""
    with opened(tmp_path) as store:

        def adopt(seq: int) -> None:
            store.adopt_snapshot(store.write_snapshot(GRAPH, Seq(seq), b"%d" % seq))

        def settle() -> None:
            while store.has_idle_work:
                store.idle()

        adopt(1)
        adopt(2)
        settle()
        assert len(files(tmp_path)) == 1
        assert store.read(GRAPH) == b"2"
        store.apply([commit(3, {GRAPH: b"record"})])
        settle()
        assert files(tmp_path) == []
        assert store.read(GRAPH) == b"record"
        adopt(4)
        assert store.read(GRAPH) == b"4"
        store.apply([commit(5, {}, (GRAPH,))])
        settle()
        assert files(tmp_path) == []
        with pytest.raises(NotFound):
            store.read(GRAPH)
        discarded = store.write_snapshot(GRAPH, Seq(6), b"6")
        store.discard_snapshot(discarded)
        settle()
        assert files(tmp_path) == []
    store = new_store(tmp_path)
    assert store.open()[:3] == (2, 5, 5)
    with pytest.raises(NotFound):
        store.read(GRAPH)
    store.close()


def test_a_file_goes_in_steps(tmp_path: Path) -> None:
    """A large file that is not needed any more is cut down by REMOVE_BYTES at a time, before the next is written."""
    snapshots = Snapshots(str(tmp_path / "s"), os.fsync)
    snapshots.prepare()
    old = snapshots.write(GRAPH, Seq(1), 1, bytes(2 * REMOVE_BYTES + 1))
    snapshots.discard(old.file)
    snapshots.remove_some()
    assert (tmp_path / "s" / old.file).stat().st_size == REMOVE_BYTES + 1
    new = snapshots.write(GRAPH, Seq(2), 1, b"new")
    assert os.listdir(tmp_path / "s") == [new.file]
    assert not snapshots.has_unneeded


def test_a_copy_by_hard_link_is_not_cut(tmp_path: Path) -> None:
    """`cp -al` of a closed store is a backup: its files keep their bytes, whatever the store does with its names."""
    snapshots = Snapshots(str(tmp_path / "s"), os.fsync)
    snapshots.prepare()
    content = bytes(2 * REMOVE_BYTES + 1)
    old = snapshots.write(GRAPH, Seq(1), 1, content)
    os.link(tmp_path / "s" / old.file, tmp_path / "copy")
    snapshots.discard(old.file)
    snapshots.remove_some()
    assert not snapshots.has_unneeded
    assert os.listdir(tmp_path / "s") == []
    assert (tmp_path / "copy").read_bytes() == content


def test_orphans_go_at_the_next_open(tmp_path: Path) -> None:
    """Files that a worker wrote and never adopted, whole or not, go; adopted and foreign ones stay."""
    with opened(tmp_path) as store:
        kept = store.write_snapshot(GRAPH, Seq(1), b"kept")
        store.adopt_snapshot(kept)
        orphan = store.write_snapshot(key("a"), Seq(2), b"orphan")
        (tmp_path / "snapshots" / f"{orphan.file[:-1]}9.tmp").write_bytes(b"torn")
        (tmp_path / "snapshots" / "notes.txt").write_bytes(b"the user's")
    with opened(tmp_path) as store:
        while store.has_idle_work:
            store.idle()
        assert files(tmp_path) == sorted([kept.file, "notes.txt"])
        assert store.read(GRAPH) == b"kept"


def test_no_two_files_share_a_name(tmp_path: Path) -> None:
    """The same key and seq, written again after a failure or under another epoch, make another file."""
    snapshots = Snapshots(str(tmp_path), os.fsync)
    names = {snapshots.write(GRAPH, Seq(1), epoch, b"x").file for epoch in (1, 1, 2)}
    names |= {snapshots.write(Key("", "", "scorer"), Seq(1), 1, b"x").file}
    assert len(names) == 4


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "remove"])
def test_a_damaged_snapshot_names_its_key(tmp_path: Path, damage: str) -> None:
    """Whatever happened to the file: StoreCorrupt with the key, never other bytes, never NotFound."""
    with opened(tmp_path) as store:
        snapshot = store.write_snapshot(GRAPH, Seq(1), b"graph" * 1000)
        store.adopt_snapshot(snapshot)
    path = tmp_path / "snapshots" / snapshot.file
    good = path.read_bytes()
    match damage:
        case "flip":
            path.write_bytes(good[:777] + bytes([good[777] ^ 1]) + good[778:])
        case "cut":
            path.write_bytes(good[:-1])
        case "grow":
            path.write_bytes(good + b"x")
        case "remove":
            path.unlink()
    with opened(tmp_path) as store:
        store.apply([commit(2, {key("a"): b"1"})])
        assert content(store) == {key("a"): b"1"}
        with pytest.raises(StoreCorrupt, match="network_graph"):
            store.read(GRAPH)
        with pytest.raises(StoreCorrupt, match="network_graph"):
            store.scan("", "", "", 1000)


def test_a_pointer_leads_nowhere_else(tmp_path: Path) -> None:
    """A pointer row that names a file outside the directory is damage, not a path to follow."""
    with opened(tmp_path) as store, pytest.raises(StoreError, match="expected the name of a snapshot file"):
        store.discard_snapshot(SnapshotFile(GRAPH, Seq(1), "../bgsuper.sqlite3", 0, b""))
    with opened(tmp_path) as store:
        store.adopt_snapshot(SnapshotFile(GRAPH, Seq(1), "../lock", 1, b"x" * 16))
    with pytest.raises(StoreCorrupt, match="snapshot table is damaged"):
        new_store(tmp_path).open()


def test_a_failed_sync_leaves_no_file(tmp_path: Path) -> None:
    """A snapshot that could not be made durable is an error, and what was written goes."""
    calls = 0

    def fsync(_fd: int) -> None:
        nonlocal calls
        calls += 1
        if calls == fail_at:
            raise OSError(5, "Input/output error")

    for fail_at in (1, 2, 3):
        calls = 0
        directory = tmp_path / str(fail_at)
        directory.mkdir()
        snapshots = Snapshots(str(directory), fsync)
        with pytest.raises(StoreError, match="Input/output error"):
            snapshots.write(GRAPH, Seq(1), 1, bytes(300_000))
        while snapshots.has_unneeded:
            snapshots.remove_some()
        assert list(directory.iterdir()) == []
