"""What is synced, in which order, and by what."""

from __future__ import annotations

import os
import sys
from math import ceil
from pathlib import Path

import pytest

from bgsuper.errors import SyncFailed
from bgsuper.key import Key, Seq
from bgsuper.store.filesystem import syncing as module
from bgsuper.store.filesystem.syncing import SYNCFS_FROM, Syncing, kernel_syncfs, kernel_version
from bgsuper.store.filesystem.tree import Tree
from bgsuper.store.pace import SLICE_BYTES

from .stores import GRAPH, LOCK, MANAGER, UPDATE, commit, die, key, new_store, opened


class Log:
    """What was synced: names below the store's directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.calls: list[str] = []

    def fsync(self, fd: int) -> None:
        self.calls.append(os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), self._directory))

    def syncfs(self, fd: int) -> None:
        assert os.path.samestat(os.fstat(fd), os.stat(self._directory))
        self.calls.append("syncfs")

    def taken(self) -> list[str]:
        calls, self.calls = self.calls, []
        return calls


@pytest.fixture(autouse=True)
def on_ext4(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the tests' directories are."""
    monkeypatch.setattr(module, "file_system_type", lambda directory: "ext4")


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_a_small_group_is_synced_file_by_file(tmp_path: Path, log: Log) -> None:
    """Values, then their temporary names, then the redo file and its name, then the names. Nothing before its cause."""
    with opened(tmp_path, fsync=log.fsync, syncfs=log.syncfs) as store:
        store.apply([commit(1, {key("z"): b"", UPDATE: b""})])
        log.taken()
        store.apply([commit(2, {key("a"): b"1", MANAGER: b"1"}, (UPDATE,))])
        redo = ["bgsuper.redo.new.tmp", "."]
        assert log.taken() == [
            *("channels/a.1-2.tmp", "manager.1-3.tmp", ".", "channels"),
            *redo,
            *(".", "channels", "monitor_updates/ab_0"),
        ]
        store.apply([commit(3, {}, (key("absent"), Key("no", "where", "a")))])
        assert log.taken() == redo
        store.idle()
        assert not store.has_idle_work


def test_a_large_group_is_synced_at_once(tmp_path: Path, log: Log) -> None:
    """One syncfs in place of so many fsyncs, before the redo file and after it where so many directories change."""
    with opened(tmp_path, fsync=log.fsync, syncfs=log.syncfs) as store:
        store.apply([commit(1, {Key("p", f"{n}", "a"): b"" for n in range(SYNCFS_FROM)})])
        log.taken()
        store.apply([commit(2, {Key("p", f"{n}", "a"): b"2" for n in range(SYNCFS_FROM)})])
        assert log.taken() == ["syncfs", "bgsuper.redo.new.tmp", ".", "syncfs"]
        store.apply([commit(3, {key(f"{n}"): b"3" for n in range(SYNCFS_FROM)})])
        assert log.taken() == [".", "syncfs", "bgsuper.redo.new.tmp", ".", "channels"]


def test_a_new_namespace_is_durable_first(tmp_path: Path, log: Log) -> None:
    """Its directory's name, and that of the one above, before anything in it; once."""
    with opened(tmp_path, fsync=log.fsync) as store:
        log.taken()
        store.apply([commit(1, {UPDATE: b""})])
        assert log.taken()[:4] == [".", "monitor_updates", "monitor_updates/ab_0/1.1-0.tmp", "monitor_updates/ab_0"]
        store.apply([commit(2, {UPDATE: b""})])
        assert log.taken()[:2] == ["monitor_updates/ab_0/1.1-1.tmp", "monitor_updates/ab_0"]


def test_a_snapshot_is_durable_before_it_is_handed_out(tmp_path: Path, log: Log) -> None:
    """In slices; then its temporary name. Adopting it syncs the redo file and the name, not the content again."""
    with opened(tmp_path, fsync=log.fsync) as store:
        log.taken()
        snapshot = store.write_snapshot(GRAPH, Seq(1), bytes(600_000))
        assert log.taken() == ["network_graph.1-0.tmp"] * ceil(600_000 / SLICE_BYTES) + ["."]
        store.adopt_snapshot(snapshot)
        assert log.taken() == ["bgsuper.redo.new.tmp", ".", "."]


@pytest.mark.parametrize("syncfs", [True, False])
def test_open_syncs_what_it_found(tmp_path: Path, log: Log, syncfs: bool) -> None:
    """Before the new epoch is written: what a predecessor left may be in the page cache alone."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {UPDATE: b"", MANAGER: b""})])
        die(store)
    with opened(tmp_path, fsync=log.fsync, syncfs=log.syncfs if syncfs else None):
        calls = log.taken()
        assert calls.pop(0) == ".."
        if syncfs:
            assert calls.pop(0) == "syncfs"
        else:
            assert calls[:2] == ["bgsuper.redo.tmp", "manager"]
            assert calls[2:6] == ["monitor_updates", "monitor_updates/ab_0", "monitor_updates/ab_0/1", "."]
            del calls[:6]
        assert calls == [".", "monitor_updates/ab_0", "bgsuper.redo.new.tmp", ".", LOCK]


def test_a_distrustful_open_drops_the_cache_first(tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed sync, every file's pages are dropped before the redo file is read or anything synced."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {UPDATE: b"", MANAGER: b""})])
        store.write_snapshot(GRAPH, Seq(2), b"")
        die(store)

    def fadvise(fd: int, offset: int, length: int, advice: int) -> None:
        assert (offset, length, advice) == (0, 0, os.POSIX_FADV_DONTNEED)
        log.calls.append("drop " + os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), tmp_path))

    monkeypatch.setattr(os, "posix_fadvise", fadvise)
    with opened(tmp_path, fsync=log.fsync, syncfs=log.syncfs, distrust_cache=True):
        dropped = [call[5:] for call in log.calls if call.startswith("drop ")]
        assert log.taken()[1 : len(dropped) + 2] == [*(f"drop {name}" for name in dropped), "syncfs"]
        assert dropped == ["manager", "network_graph.1-2.tmp", "monitor_updates/ab_0/1", "bgsuper.redo.tmp"]
    with opened(tmp_path, fsync=log.fsync):
        assert not any(call.startswith("drop ") for call in log.taken())


def test_a_failed_syncfs_ends_the_store(tmp_path: Path, log: Log) -> None:
    """As any failed sync."""
    fails = False

    def syncfs(fd: int) -> None:
        if fails:
            raise OSError(5, "Input/output error")

    store = new_store(tmp_path, fsync=log.fsync, syncfs=syncfs)
    store.open()
    fails = True
    with pytest.raises(SyncFailed, match="syncing the file system"):
        store.apply([commit(1, {key(f"{n}"): b"" for n in range(SYNCFS_FROM)})])
    with pytest.raises(SyncFailed, match="open it in a new process"):
        store.read(MANAGER)
    store.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has syncfs")
def test_the_kernels_syncfs(tmp_path: Path) -> None:
    """It works, says what fails, and is taken where nobody injects anything."""
    syncfs = kernel_syncfs()
    if syncfs is None:
        pytest.skip(f"this kernel's syncfs does not tell of failures: {os.uname().release}")
    fd = os.open(tmp_path, os.O_RDONLY)
    syncfs(fd)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        syncfs(fd)
    with opened(tmp_path) as store:
        assert store._open_syncing().at_once(SYNCFS_FROM)
        assert not store._open_syncing().at_once(SYNCFS_FROM - 1)
        store.apply([commit(1, {key(f"{n}"): b"" for n in range(SYNCFS_FROM)})])


def test_an_injected_fsync_is_passed_by_nothing(tmp_path: Path, log: Log) -> None:
    """Without a syncfs beside it there is none."""
    syncing = Syncing(Tree(str(tmp_path)), log.fsync, None)
    assert not syncing.at_once(1000)
    syncing.close()
    syncing.close()


@pytest.mark.parametrize(
    "kind", ["fuse", "fuse.bindfs", "fuseblk", "overlay", "9p", "nfs4", "f2fs", "zfs", "tmpfs", None]
)
def test_syncfs_is_used_only_where_it_is_known(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch, kind: str | None
) -> None:
    """Elsewhere it may do nothing and succeed: each file is synced, also the kernel's syncfs is not used."""
    monkeypatch.setattr(module, "file_system_type", lambda directory: kind)
    names = [f"{n}" for n in range(SYNCFS_FROM)]
    with opened(tmp_path, fsync=log.fsync, syncfs=log.syncfs) as store:
        log.taken()
        store.apply([commit(1, {key(name): b"" for name in names})])
        assert {f"channels/{name}.1-{name}.tmp" for name in names} < set(calls := log.taken())
        assert "syncfs" not in calls
    with opened(tmp_path, fsync=log.fsync, syncfs=log.syncfs):
        assert {f"channels/{name}" for name in names} < set(calls := log.taken())
        assert "syncfs" not in calls
    with opened(tmp_path) as store:
        assert not store._open_syncing().at_once(1000)


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.1.0-18-amd64", (6, 1)),
        ("5.17-rc1", (5, 17)),
        ("5.16.20", (5, 16)),
        ("4.19", (4, 19)),
        ("next", (0, 0)),
        ("7", (0, 0)),
        ("", (0, 0)),
    ],
)
def test_a_kernels_version(release: str, version: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 5.17, syncfs does not tell of all failures: it is not used."""
    assert kernel_version(release) == version
    monkeypatch.setattr(module, "kernel_version", lambda release: version)
    assert (kernel_syncfs() is not None) == (sys.platform == "linux" and version >= (5, 17))
