"""Disks that fail and limits that are reached while a store is in use: each system call with EIO, the directory removed
under a running worker, no descriptors, no memory. Full disks, failed syncs and frozen disks are in tests/supervisor,
remounts and strace's injection in `test_power_disks`."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from bgsuper.errors import NotFound, StoreError, StoreInconsistent, StoreUnwritable, SyncFailed
from bgsuper.faults.plan import Plan
from bgsuper.faults.vfs import sqlite_error
from bgsuper.health import DeathCause, WorkerState
from bgsuper.key import MANAGER, NETWORK_GRAPH, Seq
from bgsuper.store.sqlite import SQLiteStore
from tests.store.stores import commit, content, die, key, new_store, opened
from tests.supervisor.hosts import PATIENCE_S, Place, eventually, pid_of, send, states
from tests.supervisor.hosts import key as app_key

pytestmark = pytest.mark.usefixtures("no_leaks")

EIO = OSError(errno.EIO, os.strerror(errno.EIO))
VFS = "bgsuper-failing"
ONE = {key(name): name.encode() * 2000 for name in "abc"}
TWO = {key(name): name.encode() * 2500 for name in "abc"}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Plan.create(tmp_path / "plan") as plan:
        yield Place(tmp_path, plan)


# -- EIO --------------------------------------------------------------------------------------------------------------


class Failing(apsw.VFS):
    """SQLite's way to the disk: calls of the method called `method` fail with EIO, from the `at`-th on."""

    def __init__(self) -> None:
        self.method, self.at, self.calls = "", 0, 0
        super().__init__(VFS, "unix-excl")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _FailingFile(self, name, flags)

    def called(self, method: str, code: int) -> None:
        if method == self.method:
            self.calls += 1
            if self.at and self.calls >= self.at:
                raise sqlite_error(code, EIO)


class _FailingFile(apsw.VFSFile):
    def __init__(self, disk: Failing, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("unix-excl", name, flags)
        self._disk = disk

    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.called("read", apsw.SQLITE_IOERR_READ)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.called("write", apsw.SQLITE_IOERR_WRITE)
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        self._disk.called("truncate", apsw.SQLITE_IOERR_TRUNCATE)
        super().xTruncate(size)

    def xFileSize(self) -> int:
        self._disk.called("size", apsw.SQLITE_IOERR_FSTAT)
        return super().xFileSize()


@pytest.fixture
def disk() -> Iterator[Failing]:
    disk = Failing()
    yield disk
    disk.unregister()


def use(store: SQLiteStore) -> None:
    """Everything that a worker does with a store, in which the state goes from ONE to TWO."""
    store.open()
    store.apply([commit(2, TWO)])
    store.idle()
    store.adopt_snapshot(store.write_snapshot(NETWORK_GRAPH, Seq(3), b"graph"))
    store.read(MANAGER)
    store.scan("channels", "", "", 1 << 20)
    while store.has_idle_work:
        store.idle()
    store.close()


@pytest.mark.parametrize("method", ["read", "write", "truncate", "size"])
def test_each_call_of_sqlites_fails(tmp_path: Path, disk: Failing, method: str) -> None:
    """From the n-th on, for each n: SyncFailed (a new worker, which distrusts the cache), never NotFound, never a
    crash; the next store finds ONE or TWO, whole, and TWO if that was acknowledged."""
    failures = 0
    for n in range(1, 500):
        shutil.rmtree(tmp_path / "store", ignore_errors=True)
        with opened(tmp_path / "store") as store:
            store.apply([commit(1, {MANAGER: b"m", **ONE})])
        disk.method, disk.at, disk.calls = method, n, 0
        acknowledged = ONE
        store = new_store(tmp_path / "store", vfs=VFS, check=True)
        try:
            use(store)
        except SyncFailed:
            failures += 1
        finally:
            if store._identity.last_commit == 2:
                acknowledged = TWO
            reached = disk.calls >= n
            disk.at = 0
            die(store)
        with opened(tmp_path / "store", distrust_cache=True) as store:
            assert content(store) in (acknowledged, TWO)
            assert store.read(MANAGER) == b"m"
        if not reached:
            break
    assert failures >= {"read": 5, "write": 10, "truncate": 0, "size": 1}[method]
    assert n < 499


@pytest.mark.parametrize("call", ["rename", "write", "fsync", "open", "unlink", "truncate"])
def test_each_call_for_a_snapshot_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """EIO of what makes a snapshot's file: SyncFailed, the old value stays the key's, and nothing is left of the new
    one. (What only removes old files may fail without a word: the next open tries again.)"""
    real: Callable[..., object] = getattr(os, call)

    def failing(*arguments: object, **more: object) -> object:
        ours = call in ("write", "fsync") or any("snapshots/" in str(argument) for argument in arguments)
        if ours and (call != "unlink" or os.path.exists(str(arguments[0]))):
            raise EIO
        return real(*arguments, **more)

    store = new_store(tmp_path / "store", fsync=lambda fd: os.fsync(fd))
    store.open()
    store.adopt_snapshot(store.write_snapshot(NETWORK_GRAPH, Seq(1), b"old" * 2_000_000))
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        if call in ("unlink", "truncate"):
            store.adopt_snapshot(store.write_snapshot(MANAGER, Seq(2), b"m"))
            store.apply([commit(3, {NETWORK_GRAPH: b"record"})])
            while store.has_idle_work:
                store.idle()
        else:
            with pytest.raises(SyncFailed):
                store.adopt_snapshot(store.write_snapshot(NETWORK_GRAPH, Seq(2), b"new"))
    wanted = b"record" if call in ("unlink", "truncate") else b"old" * 2_000_000
    assert store.read(NETWORK_GRAPH) == wanted
    store.close()
    with opened(tmp_path / "store") as store:
        while store.has_idle_work:
            store.idle()
        assert store.read(NETWORK_GRAPH) == wanted
        assert len(os.listdir(tmp_path / "store" / "snapshots")) == 1


# -- the directory ----------------------------------------------------------------------------------------------------


def test_the_directory_is_removed_under_a_running_worker(place: Place) -> None:
    """`rm -r` of the store: the worker's files live on without a name, so what it commits is still acknowledged; but a
    snapshot has no place any more, and no successor ever starts empty over what was acknowledged: StoreInconsistent."""
    supervisor = place.supervisor()
    supervisor.start(PATIENCE_S)
    supervisor.wait(supervisor.commit({app_key(0): b"0"}), PATIENCE_S)
    shutil.rmtree(place.directory / "store")
    with pytest.raises(StoreUnwritable):
        supervisor.wait(supervisor.snapshot(NETWORK_GRAPH, [b"graph"]), PATIENCE_S)
    send(supervisor, signal.SIGKILL)
    eventually(lambda: supervisor.failure() is not None)
    for call in (lambda: supervisor.commit({app_key(1): b"1"}), supervisor.stop):
        with pytest.raises(StoreInconsistent):
            call()


def test_a_critical_snapshot_without_a_directory(place: Place) -> None:
    """What outputs wait for cannot be written anywhere: fatal, as the store's own error, and counted as not durable."""
    supervisor = place.supervisor()
    supervisor.start(PATIENCE_S)
    supervisor.wait(supervisor.commit({app_key(0): b"0"}), PATIENCE_S)
    shutil.rmtree(place.directory / "store" / "snapshots")
    seq = supervisor.snapshot(MANAGER, [b"manager"], critical=True)
    with pytest.raises(StoreUnwritable):
        supervisor.wait(seq, PATIENCE_S)
    assert supervisor.health().gate == "shut"
    with pytest.raises(StoreUnwritable):
        supervisor.stop()
    assert place.stored() == {app_key(0): b"0"}


# -- limits -----------------------------------------------------------------------------------------------------------


def test_commits_need_no_new_descriptors(place: Place) -> None:
    """A worker that may open nothing more goes on committing, checkpointing and answering."""
    with place.running() as supervisor:
        supervisor.wait(supervisor.commit({app_key(0): b"0"}), PATIENCE_S)
        pid = pid_of(supervisor)
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        for number in range(1, 40):
            supervisor.wait(supervisor.commit({app_key(number): b"%d" % number * 3000}), PATIENCE_S)
        assert supervisor.read(app_key(39)) == b"39" * 3000
        with pytest.raises(NotFound):
            supervisor.read(app_key(99))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        assert (supervisor.health().restarts, pid_of(supervisor)) == (0, pid)
    assert len(place.stored()) == 40


@pytest.mark.parametrize("lane", ["commit", "snapshot"])
def test_a_worker_without_memory(place: Place, lane: str) -> None:
    """Its address space is limited to what it has: a value of 60 MiB is more than it can take. It dies of that or says
    so; its successor, which has memory, is given everything again, in order, and nothing is lost."""
    large = os.urandom(1 << 20) * 60
    with place.running() as supervisor:
        supervisor.wait(supervisor.commit({app_key(0): b"0"}), PATIENCE_S)
        pid = pid_of(supervisor)
        now = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(pid, resource.RLIMIT_AS, (now + (16 << 20), resource.RLIM_INFINITY))
        supervisor.commit({app_key(1): b"1"})
        if lane == "commit":
            supervisor.commit({MANAGER: large})
        else:
            supervisor.snapshot(MANAGER, [large], critical=True)
        last = supervisor.commit({app_key(2): b"2"})
        supervisor.wait(last, PATIENCE_S)
        assert supervisor.read(MANAGER) == large
        health = supervisor.health()
        assert health.restarts >= 1
        assert health.last_cause in (DeathCause.CRASHED, DeathCause.STORE)
        assert WorkerState.FAILED not in states(supervisor)
    assert place.stored() == {app_key(number): b"%d" % number for number in range(3)}


def test_no_memory_in_the_middle_of_a_transaction(tmp_path: Path) -> None:
    """SQLite's own limit of memory: a typed error, and the group is there whole or not at all."""
    with opened(tmp_path / "store") as store:
        store.apply([commit(1, ONE)])
        used = apsw.memory_used()
        refused = 0
        before = apsw.hard_heap_limit(0)
        try:
            for room in (1 << 10, 1 << 14, 1 << 16, 1 << 18):
                apsw.hard_heap_limit(used + room)
                try:
                    following = store._identity.last_commit + 1
                    store.apply([commit(following, {key(f"n{n}"): bytes(9000) for n in range(200)})])
                except (StoreError, MemoryError):
                    refused += 1
                    assert store._identity.last_commit == 1
        finally:
            apsw.hard_heap_limit(before)
        assert refused > 0
    with opened(tmp_path / "store") as store:
        assert len(content(store)) in (3, 203)
