"""A crash, an error and a power cut at every system call: what was acknowledged is there, and no group is in part."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bgsuper.errors import StoreError, StoreFull, SyncFailed
from bgsuper.key import Key, Seq
from bgsuper.store.filesystem.store import FilesystemStore

from .platter import Crash, Platter
from .stores import GRAPH, MANAGER, UPDATE, commit, content, die, key, new_store

State = dict[Key, bytes]

#: More than `syncing.SYNCFS_FROM`.
MANY = 10


@pytest.fixture
def disk() -> Iterator[Path]:
    """Where nothing takes long: thousands of lives are told here."""
    with TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as directory:
        yield Path(directory)


@pytest.fixture
def platter(disk: Path) -> Iterator[Platter]:
    platter = Platter(disk)
    yield platter
    platter.close()


class Story:
    """A store's life, with the states that a crash may leave: the last one acknowledged, or the one under way."""

    def __init__(self, make: Callable[[], FilesystemStore]) -> None:
        self._make = make
        self.acknowledged: State = {}
        self.under_way: State = {}
        self.seqs = {0}
        self.store = make()

    def tell(self) -> None:
        """Raises what the disk makes it raise."""
        value = random.Random(0).randbytes
        self._open()
        self._apply({key("a"): value(900), MANAGER: value(2_000)})
        self._apply({key("b"): value(900), MANAGER: value(2_000), UPDATE: b""}, (key("a"),))
        self._snapshot(value(3_000))
        self._apply({key("c"): value(900)})
        self._idle()
        self._apply({key(f"{n}"): value(60) for n in range(MANY)} | {GRAPH: value(10)})
        self._snapshot(value(600), key("d"))
        self._apply({key("b"): b""}, (GRAPH, key("c"), key("absent"), *(key(f"{n}") for n in range(MANY))))
        self.store.close()
        self._open()
        self._apply({MANAGER: value(9)}, (UPDATE,))
        self._idle()
        self.store.close()

    def _open(self) -> None:
        self.store = self._make()
        self.seq = int(self.store.open().last_seq)

    def _apply(self, puts: State, removes: tuple[Key, ...] = ()) -> None:
        self.seq += 1
        self._step({k: v for k, v in (self.acknowledged | puts).items() if k not in removes})
        self.store.apply([commit(self.seq, puts, removes)])
        self.acknowledged = self.under_way

    def _snapshot(self, value: bytes, of: Key = GRAPH) -> None:
        self.seq += 1
        snapshot = self.store.write_snapshot(of, Seq(self.seq), value)
        self._step(self.acknowledged | {of: value})
        self.store.adopt_snapshot(snapshot)
        self.acknowledged = self.under_way

    def _step(self, state: State) -> None:
        self.seqs = {self.seq - 1, self.seq}
        self.under_way = state

    def _idle(self) -> None:
        while self.store.has_idle_work:
            self.store.idle()

    def check(self, store: FilesystemStore) -> State:
        """What `store`, opened after the end, holds: one of the two states, with its number."""
        opened = store.open()
        found = content(store)
        assert found in (self.acknowledged, self.under_way)
        if self.acknowledged != self.under_way:
            assert opened.last_seq == (max(self.seqs) if found == self.under_way else min(self.seqs))
        else:
            assert opened.last_seq in self.seqs
        return found


def crash_at(step: int) -> Callable[[int, str], None]:
    def fault(now: int, call: str) -> None:
        if now >= step:
            raise Crash

    return fault


def interrupt_at(step: int) -> Callable[[int, str], None]:
    def fault(now: int, call: str) -> None:
        if now == step:
            raise KeyboardInterrupt

    return fault


def fail_at(step: int, number: int, calls: tuple[str, ...] = ()) -> Callable[[int, str], None]:
    def fault(now: int, call: str) -> None:
        if now == step and (not calls or call in calls):
            raise OSError(number, os.strerror(number))

    return fault


@pytest.mark.parametrize(
    ("power", "kind"),
    [("stays", "fuse"), ("goes", "ext4"), ("goes", "fuse"), ("2", "ext4"), ("3", "fuse")],
)
def test_a_crash_before_every_system_call(disk: Path, platter: Platter, power: str, kind: str) -> None:
    """Dead before the n-th call, for each n; the power stays, or goes with all that was not synced, or with some of it.
    The next open finds what was acknowledged, or that and all of what was under way, with the number that fits; what it
    found is durable; nothing is left over; and the store can be written again. So it is on a file system whose syncfs
    does nothing."""
    dice = random.Random(power) if power.isdecimal() else None
    directory = disk / "store"
    platter.kind = kind
    options = {"fsync": platter.fsync, "syncfs": platter.syncfs}
    for n in range(1, 2000):
        shutil.rmtree(directory, ignore_errors=True)
        platter.sync_all()
        platter.steps, platter.fault = 0, crash_at(n)
        story = Story(lambda: new_store(directory, **options))
        try:
            with platter.watching():
                story.tell()
        except Crash:
            pass
        else:
            break
        platter.fault = lambda step, call: None
        die(story.store)
        if power != "stays":
            platter.cut(dice)
        store = new_store(directory, **options)
        with platter.watching():
            found = story.check(store)
        die(store)
        platter.cut()
        with platter.watching():
            store = new_store(directory, **options)
            store.open()
            assert content(store) == found
            store.apply([commit(5000, {MANAGER: b"again"})])
            assert content(store) == found | {MANAGER: b"again"}
            store.close()
        assert {name for name in os.listdir(directory) if "." in name} == {"bgsuper.lock.tmp", "bgsuper.redo.tmp"}
        assert list(directory.rglob("*/*.tmp")) == []
    assert n > 150


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_an_error_of_every_system_call(disk: Path, platter: Platter, number: int) -> None:
    """The n-th call fails, once, for each n. A store without space says `StoreFull`, shows nothing of the group, and
    takes the same group later; any other error, and one that comes when the group may be there, ends the store for this
    process; the next one finds the group whole or not at all."""
    directory = disk / "store"
    outcomes = set()
    for n in range(1, 2000):
        shutil.rmtree(directory, ignore_errors=True)
        platter.sync_all()
        platter.steps, platter.fault = 0, fail_at(n, number)
        story = Story(lambda: new_store(directory, fsync=platter.fsync))
        try:
            with platter.watching():
                story.tell()
            if platter.steps < n:
                break
            outcomes.add("passed over")
        except StoreFull:
            outcomes.add("full")
            assert number != errno.EIO
            if story.store._lock is not None:
                assert content(story.store) == story.acknowledged
        except SyncFailed:
            outcomes.add("failed")
            if story.store._lock is not None and story.store._failed:
                is_done_for(story.store)
        die(story.store)
        with platter.watching():
            store = new_store(directory, fsync=platter.fsync)
            story.check(store)
            die(store)
    assert n > 150
    assert outcomes == {"passed over", "failed"} | ({"full"} if number != errno.EIO else set())


def test_an_interrupt_before_every_system_call(disk: Path, platter: Platter) -> None:
    """What is no `StoreError` (KeyboardInterrupt, MemoryError) comes before the n-th call, for each n, and the store is
    closed in good order, or used on where it lets itself be used: nothing is left of the group then. It is there whole
    or not at all."""
    directory = disk / "store"
    went_on = 0
    for n in range(1, 2000):
        shutil.rmtree(directory, ignore_errors=True)
        platter.sync_all()
        platter.steps, platter.fault = 0, interrupt_at(n)
        story = Story(lambda: new_store(directory, fsync=platter.fsync))
        try:
            with platter.watching():
                story.tell()
            break
        except KeyboardInterrupt:
            pass
        with platter.watching():
            if story.store._lock is not None and story.store._failed is None:
                assert content(story.store) == story.acknowledged
                assert not list(directory.glob("manager.*.tmp"))
                while story.store.has_idle_work:
                    story.store.idle()
                went_on += 1
            story.store.close()
            store = new_store(directory, fsync=platter.fsync)
            story.check(store)
            store.close()
    assert n > 150
    assert went_on > 50


@pytest.mark.parametrize("kind", ["ext4", "fuse"])
def test_a_store_that_was_copied_back_is_durable_once_it_is_open(disk: Path, platter: Platter, kind: str) -> None:
    """Whoever restores a backup does not sync it: what `open` claims survives a power cut all the same."""
    platter.kind = kind
    store = new_store(disk / "backup", fsync=platter.fsync)
    store.open()
    store.apply([commit(1, {MANAGER: b"1", UPDATE: b"1"}), commit(2, {key("a"): b"2"})])
    before = content(store)
    die(store)
    platter.sync_all()
    shutil.copytree(disk / "backup", disk / "store")
    with platter.watching():
        store = new_store(disk / "store", fsync=platter.fsync, syncfs=platter.syncfs)
        assert store.open().last_commit == 2
    die(store)
    platter.cut()
    store = new_store(disk / "store", fsync=platter.fsync)
    assert store.open().last_commit == 2
    assert content(store) == before
    store.close()


def is_done_for(store: FilesystemStore) -> None:
    for use in (store.idle, lambda: store.read(MANAGER), lambda: store.apply([])):
        with pytest.raises(SyncFailed, match="open it in a new process"):
            use()


@pytest.mark.parametrize("calls", [("write",), ("create",), ("mkdir",), ("setxattr",)])
def test_a_full_disk_passes(disk: Path, platter: Platter, calls: tuple[str, ...]) -> None:
    """Full at the n-th write of a group, for each n before the group is recorded: `StoreFull`, no file left of it, and
    the same group goes through on the same store once there is space."""
    directory = disk / "store"
    store = new_store(directory, fsync=platter.fsync)
    store.open()
    store.apply([commit(1, {MANAGER: b"1", key("a"): b"1"})])
    failures = seq = 0
    for n in range(1, 200):
        seq += 2
        group = [commit(seq, {Key(f"p{n}", "s", name): b"%d" % n for name in "abc"} | {MANAGER: b"2"}, (key("a"),))]
        before = content(store)
        platter.steps, platter.fault = 0, fail_at(n, errno.ENOSPC, calls)
        try:
            with platter.watching():
                store.apply(group)
        except StoreFull:
            failures += 1
            assert content(store) == before
            assert not [path for path in directory.rglob("*.tmp") if not path.name.startswith("bgsuper.")]
            store.apply(group)
        if platter.steps < n:
            break
    assert failures >= {"mkdir": 2, "create": 4}.get(calls[0], 3)
    store.close()


def test_a_predecessors_failed_sync_is_not_believed(disk: Path, platter: Platter) -> None:
    """The check of the check: where syncs do nothing, power cuts lose what was acknowledged."""
    directory = disk / "store"
    lost = 0
    for seed in range(5):
        shutil.rmtree(directory, ignore_errors=True)
        platter.sync_all()
        story = Story(lambda: new_store(directory, fsync=lambda fd: None))
        with platter.watching():
            story.tell()
        platter.cut(random.Random(seed))
        store = new_store(directory, fsync=platter.fsync)
        try:
            story.check(store)
        except (AssertionError, StoreError):
            lost += 1
        finally:
            die(store)
    assert lost > 0
