"""Death, failed syncs, full disks and power cuts at every point: what was acknowledged is there, whole, and no group is
there in part."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bgsuper.errors import NotFound, StoreFull, SyncFailed
from bgsuper.faults.plan import Plan
from bgsuper.faults.powercut import PowerCut
from bgsuper.faults.vfs import NAME, FaultyVFS, faulty_fsync
from bgsuper.key import Key, Seq
from bgsuper.store.sqlite import SQLiteStore

from .stores import DATABASE, GRAPH, MANAGER, commit, content, die, key, new_store, opened

State = dict[Key, bytes]

CHILD = """
import os, sys
from bgsuper.faults.plan import Plan
from bgsuper.faults.vfs import install
from bgsuper.ipc.messages import Commit
from bgsuper.key import Key
from bgsuper.store.sqlite import SQLiteStore
directory, path = sys.argv[1:]
vfs, fsync = install(path)
store = SQLiteStore(directory, host_pid=os.getppid(), vfs=vfs, fsync=fsync)
store.open()
put = lambda seq: store.apply([Commit(seq, seq - 1, ((Key("channels", "", n), b"%d" % seq * 999) for n in "abc"), ())])
put(1)
print("acknowledged", flush=True)
sys.stdin.readline()
put(2)
print("acknowledged", flush=True)
"""
ONE = {key(name): b"1" * 999 for name in "abc"}
TWO = {key(name): b"2" * 999 for name in "abc"}


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Plan]:
    with Plan.create(tmp_path / "plan") as plan:
        yield plan


@pytest.fixture
def power(tmp_path: Path) -> Iterator[PowerCut]:
    (tmp_path / "disk").mkdir()
    power = PowerCut(tmp_path / "disk")
    yield power
    power.close()


# -- a killed worker and its successor ---------------------------------------------------------------------------------


def killed_worker(tmp_path: Path, plan: Plan, arm: Callable[[], object]) -> None:
    """A worker in a process of its own commits 1; `arm` is called; it then tries to commit 2 and is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "disk" / "store"), str(tmp_path / "plan")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"acknowledged\n"
        arm()
        rest, _ = worker.communicate(b"\n", timeout=60)
        assert rest == b""
        assert worker.returncode == -signal.SIGKILL


def test_what_open_claims_survives_a_power_cut(tmp_path: Path, plan: Plan, power: PowerCut) -> None:
    """DESIGN.md, "What HELLO may claim": a worker killed between the WAL's write and its sync leaves a commit that can
    be read but is not durable. The successor claims it, so it must have made it so."""

    def arm() -> None:
        power.sync_all()
        plan.kill_before_sync = 1

    killed_worker(tmp_path, plan, arm)
    store = new_store(tmp_path / "disk" / "store", vfs=power.name, fsync=power.fsync)
    assert store.open()[:3] == (2, 2, 2)
    assert content(store) == TWO
    die(store)
    power.cut()
    after = new_store(tmp_path / "disk" / "store")
    assert after.open()[:3] == (3, 2, 2)
    assert content(after) == TWO
    after.close()


def test_without_the_successor_the_commit_was_not_durable(tmp_path: Path, plan: Plan, power: PowerCut) -> None:
    """The check of the check: the same death, the power cut first, and commit 2 is gone."""

    def arm() -> None:
        power.sync_all()
        plan.kill_before_sync = 1

    killed_worker(tmp_path, plan, arm)
    power.cut()
    store = new_store(tmp_path / "disk" / "store")
    assert store.open()[:3] == (2, 1, 1)
    assert content(store) == ONE
    store.close()


def test_the_bump_is_synced_over_a_recovered_wal(tmp_path: Path, plan: Plan) -> None:
    """Opening a store with frames left in the WAL syncs, and if that fails it claims nothing."""
    store = new_store(tmp_path / "store")
    store.open()
    store.apply([commit(1, ONE)])
    die(store)
    vfs = FaultyVFS(plan)
    plan.fail_sync_at = 1
    with pytest.raises(SyncFailed):
        new_store(tmp_path / "store", vfs=NAME).open()
    assert plan.syncs == 0
    successor = new_store(tmp_path / "store", vfs=NAME)
    claimed = successor.open()
    assert claimed.last_commit == 1 < claimed.epoch
    assert plan.syncs == 1
    die(successor)
    vfs.unregister()


@pytest.mark.parametrize("write", [1, 2, 3, 4, 100])
def test_killed_in_the_middle_of_a_write(tmp_path: Path, plan: Plan, power: PowerCut, write: int) -> None:
    """Killed at the n-th write of a commit, or (100) at its sync: the successor finds all of it or nothing."""

    def arm() -> None:
        plan.kill_before_write = write
        plan.kill_before_sync = 1

    killed_worker(tmp_path, plan, arm)
    store = new_store(tmp_path / "disk" / "store")
    claimed = store.open()
    assert content(store) == {1: ONE, 2: TWO}[claimed.last_commit]
    assert claimed.last_commit == (1 if write < 100 else 2)
    store.close()


# -- a failed sync -----------------------------------------------------------------------------------------------------


def test_a_failed_sync_ends_the_store(tmp_path: Path, plan: Plan) -> None:
    """SyncFailed for the group, and for whatever is asked afterwards: the same connection never syncs again."""
    vfs = FaultyVFS(plan)
    with opened(tmp_path / "store", vfs=NAME) as store:
        store.apply([commit(1, ONE)])
        plan.fail_syncs = 1
        with pytest.raises(SyncFailed, match="Input/output error"):
            store.apply([commit(2, TWO)])
        synced = plan.syncs
        for use in (
            lambda: store.apply([commit(2, TWO)]),
            lambda: store.read(key("a")),
            lambda: store.scan("channels", "", "", 10),
            store.idle,
        ):
            with pytest.raises(SyncFailed, match="open it in a new process"):
                use()
    assert plan.syncs == synced
    vfs.unregister()


def test_a_failed_sync_of_a_checkpoint_ends_the_store(tmp_path: Path, plan: Plan) -> None:
    """Not only commits sync."""
    vfs = FaultyVFS(plan)
    with opened(tmp_path / "store", vfs=NAME) as store:
        store.apply([commit(1, ONE)])
        plan.fail_syncs = 1
        with pytest.raises(SyncFailed, match="checkpointing"):
            store.idle()
        with pytest.raises(SyncFailed):
            store.apply([commit(2, TWO)])
    vfs.unregister()


def test_a_distrustful_successor_drops_the_cache_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed sync the database's and the WAL's pages are dropped, before SQLite has opened either. The WAL's
    are dropped in any case: a host that died may have known of a failed sync, and told nobody."""
    with opened(tmp_path) as store:
        store.apply([commit(1, ONE)])
    dropped: list[str] = []

    def fadvise(fd: int, offset: int, length: int, advice: int) -> None:
        assert (offset, length, advice) == (0, 0, os.POSIX_FADV_DONTNEED)
        open_files = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if _is_open(n)]
        path = os.readlink(f"/proc/self/fd/{fd}")
        assert open_files.count(path) == 1
        dropped.append(os.path.basename(path))

    monkeypatch.setattr(os, "posix_fadvise", fadvise)
    with opened(tmp_path, distrust_cache=True) as store:
        assert content(store) == ONE
    assert dropped == [DATABASE, f"{DATABASE}-wal"]
    with opened(tmp_path):
        assert dropped[2:] == [f"{DATABASE}-wal"]
    with opened(tmp_path / "new", distrust_cache=True):
        assert len(dropped) == 3


def _is_open(number: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{number}")


# -- a full disk -------------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_anywhere_in_a_group(tmp_path: Path, plan: Plan) -> None:
    """Full at the n-th write, for each n: StoreFull, nothing of the group to be seen; with space again, the same group
    goes through on the same store."""
    vfs = FaultyVFS(plan)
    with opened(tmp_path / "store", vfs=NAME) as store:
        store.apply([commit(1, {key("a"): b"1"})])
        before, seq, failures = content(store), 1, 0
        for n in range(1, 200):
            seq += 1
            records = {key(f"{n % 5}-{i}"): os.urandom(3000) for i in range(5)}
            group = [commit(2 * seq, records), commit(2 * seq + 1, {MANAGER: b"%d" % n})]
            plan.full_at_write = n
            try:
                store.apply(group)
            except StoreFull:
                failures += 1
                assert content(store) == before
                plan.full = 0
                store.apply(group)
                before = content(store)
                assert store.read(MANAGER) == b"%d" % n
            else:
                break
        assert failures == n - 1 > 10
    vfs.unregister()


def test_a_full_disk_at_a_checkpoint_costs_no_commit(tmp_path: Path, plan: Plan) -> None:
    """idle() says StoreFull; the commits are safe in the WAL, and more may come."""
    vfs = FaultyVFS(plan)
    store = new_store(tmp_path / "store", vfs=NAME)
    store.open()
    store.apply([commit(1, ONE)])
    plan.full = 1
    with pytest.raises(StoreFull, match="checkpointing"):
        store.idle()
    assert store.has_idle_work
    plan.full = 0
    store.apply([commit(2, TWO)])
    store.idle()
    die(store)
    with opened(tmp_path / "store") as again:
        assert content(again) == TWO
    vfs.unregister()


def test_a_full_disk_removes_what_is_not_needed(tmp_path: Path, plan: Plan) -> None:
    """Snapshot files that wait for their removal make room before StoreFull is raised."""
    vfs = FaultyVFS(plan)
    with opened(tmp_path / "store", vfs=NAME) as store:
        store.discard_snapshot(store.write_snapshot(GRAPH, Seq(1), bytes(9_000_000)))
        plan.full = 1
        with pytest.raises(StoreFull):
            store.apply([commit(2, ONE)])
        assert os.listdir(tmp_path / "store" / "snapshots") == []
        plan.full = 0
        store.apply([commit(2, ONE)])
    vfs.unregister()


# -- a power cut at every sync -----------------------------------------------------------------------------------------


class Story:
    """A store's life, with the states that a power cut may leave: the last one acknowledged, or the one under way."""

    def __init__(self, make: Callable[[], SQLiteStore]) -> None:
        self._make = make
        self.acknowledged: State = {}
        self.under_way: State = {}
        self.epoch = 0
        self.store = make()

    def tell(self) -> None:
        """Raises `SyncFailed` where the disk fails."""
        value = random.Random(0).randbytes
        self._open()
        self._apply({key("a"): value(900), MANAGER: value(20_000)})
        self._apply({key("b"): value(900), MANAGER: value(20_000)}, (key("a"),))
        self._snapshot(1003, value(300_000))
        self._apply({key("c"): value(9_000)})
        self.store.idle()
        self._apply({key(f"{n}"): value(900) for n in range(20)})
        self._snapshot(1006, value(600_000))
        self.store.idle()
        self._apply({GRAPH: value(1000)})
        self._snapshot(1008, value(1000))
        self._apply({key("b"): b""}, (GRAPH, key("c")))
        self.store.close()
        self._open()
        self._apply({MANAGER: value(9)})
        self.store.idle()
        self.store.close()
        self.store = self._make()

    def _open(self) -> None:
        self.store = self._make()
        claimed = self.store.open()
        assert claimed.epoch > self.epoch
        self.epoch = claimed.epoch
        self.seq = int(claimed.last_seq)

    def _apply(self, puts: State, removes: tuple[Key, ...] = ()) -> None:
        self.seq += 1
        self.under_way = {k: v for k, v in (self.acknowledged | puts).items() if k not in removes}
        self.store.apply([commit(self.seq, puts, removes)])
        self.acknowledged = self.under_way

    def _snapshot(self, seq: int, value: bytes) -> None:
        self.seq = seq
        snapshot = self.store.write_snapshot(GRAPH, Seq(seq), value)
        self.under_way = self.acknowledged | {GRAPH: value}
        self.store.adopt_snapshot(snapshot)
        self.acknowledged = self.under_way


def state_of(store: SQLiteStore) -> State:
    state = content(store)
    for single in (MANAGER, GRAPH):
        try:
            state[single] = store.read(single)
        except NotFound:
            continue
    return state


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_a_power_cut_at_every_sync(tmp_path: Path, plan: Plan, power: PowerCut, seed: int | None) -> None:
    """The disk fails at the n-th sync, for each n, and the power goes. With every un-synced byte lost, or some (each
    sector and each name by a throw of dice): the next open finds what was acknowledged, or that and all of what was
    under way; the epoch rises; no snapshot is damaged; and the store can be written again."""
    vfs = FaultyVFS(plan, base=power.name)
    fsync = faulty_fsync(plan, power.fsync)
    dice = None if seed is None else random.Random(seed)
    directory = tmp_path / "disk" / "store"
    for n in range(1, 500):
        shutil.rmtree(directory, ignore_errors=True)
        power.sync_all()
        plan.fail_sync_at = n
        story = Story(lambda: new_store(directory, vfs=NAME, fsync=fsync))
        try:
            story.tell()
        except SyncFailed:
            pass
        else:
            break
        finally:
            die(story.store)
        plan.fail_sync_at = 0
        power.cut(dice)
        with opened(directory, vfs=NAME, fsync=fsync) as store:
            found = state_of(store)
            assert found in (story.acknowledged, story.under_way)
            store.apply([commit(5000, {MANAGER: b"again"})])
            assert store.read(MANAGER) == b"again"
        power.cut()
        with opened(directory, vfs=NAME, fsync=fsync) as store:
            assert store.read(MANAGER) == b"again"
    assert n > 30
    vfs.unregister()
