"""Backups of a store in use: one moment of it, whole, at its own place, and nothing if it fails."""

from __future__ import annotations

import math
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import apsw
import pytest

from bgsuper.errors import (
    BgsuperError,
    ConfigError,
    StoreCorrupt,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreLocked,
    StoreUnavailable,
    StoreUnwritable,
    SyncFailed,
)
from bgsuper.key import Key, Seq
from bgsuper.store import pace
from bgsuper.store.backup import online
from bgsuper.store.backup.carrier import Copied
from bgsuper.store.backup.online import Backup, begin_backup
from bgsuper.store.backup.spool import Spool
from bgsuper.store.sqlite import SQLiteStore

from .stores import DATABASE, GRAPH, commit, content, die, key, new_store, opened

pytestmark = pytest.mark.usefixtures("no_leaks")

UNFINISHED = f"{DATABASE}.partial"


def finish(backup: Backup, between: Callable[[], None] = lambda: None) -> Copied:
    """Step to the end; `between` is called after each step."""
    while (copied := backup.step()) is None:
        if not backup.ready:
            time.sleep(0.001)
        between()
    return copied


def back_up(store: SQLiteStore, directory: Path, between: Callable[[], None] = lambda: None) -> Copied:
    return finish(begin_backup(store, str(directory)), between)


class Source:
    """An open store and what should be in it."""

    def __init__(self, store: SQLiteStore) -> None:
        self.store = store
        self.seq = 0
        self.values: dict[Key, bytes] = {}
        self.graph: bytes | None = None
        #: After each commit: what was there.
        self.history: dict[int, tuple[dict[Key, bytes], bytes | None]] = {}

    def commit(self, puts: dict[Key, bytes], removes: tuple[Key, ...] = ()) -> None:
        self.seq += 1
        self.store.apply([commit(self.seq, puts, removes)])
        self.values.update(puts)
        for removed in removes:
            self.values.pop(removed, None)
        self._note()

    def snapshot(self, value: bytes) -> None:
        self.seq += 1
        self.store.adopt_snapshot(self.store.write_snapshot(GRAPH, Seq(self.seq), value))
        self.graph = value
        self._note()

    def fill(self, megabytes: int) -> None:
        for number in range(megabytes):
            self.commit({key(f"f{number}-{record}"): os.urandom(1024) for record in range(1024)})

    def _note(self) -> None:
        self.history[self.seq] = dict(self.values), self.graph


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    with opened(tmp_path / "store") as store:
        yield Source(store)


def stored(directory: Path) -> tuple[dict[Key, bytes], bytes | None]:
    """What a store finds that is opened there."""
    with opened(directory) as store:
        graph = store.read(GRAPH) if GRAPH in store._pointers else None
        return content(store), graph


def check_whole(path: Path) -> None:
    """SQLite's own opinion of the database."""
    connection = apsw.Connection(str(path))
    try:
        assert connection.pragma("integrity_check") == "ok"
    finally:
        connection.close()


# -- what is in it ----------------------------------------------------------------------------------------------------


def test_it_is_a_store_of_its_own(source: Source, tmp_path: Path) -> None:
    """The same store id and numbers, nothing beside what a store has, private; and both go on."""
    source.fill(1)
    source.snapshot(b"graph" * 1000)
    source.commit({key("last"): b"1"})
    copied = back_up(source.store, tmp_path / "backup")
    files = sorted(str(path.relative_to(tmp_path / "backup")) for path in (tmp_path / "backup").rglob("*"))
    assert files == [DATABASE, "lock", "snapshots", f"snapshots/{source.store._pointers[GRAPH].file}"]
    assert sum((tmp_path / "backup" / name).stat().st_size for name in (files[0], files[3])) == copied.size
    for path in (tmp_path / "backup", *(tmp_path / "backup").rglob("*")):
        assert path.stat().st_mode & 0o77 == 0
    assert not (tmp_path / "backup.partial").exists()
    check_whole(tmp_path / "backup" / DATABASE)

    source.commit({key("later"): b"2"})
    backup = new_store(tmp_path / "backup")
    claimed = backup.open()
    assert claimed.store_id == source.store._identity.store_id
    assert (claimed.last_commit, claimed.last_seq) == (source.seq - 1, source.seq - 1) == (copied.last_commit,) * 2
    assert claimed.epoch == source.store._identity.epoch + 1
    backup.apply([commit(source.seq, {key("other"): b"3"})])
    assert key("later") not in content(backup)
    backup.close()
    assert key("other") not in content(source.store)


def test_an_empty_store(source: Source, tmp_path: Path) -> None:
    """Nothing is a moment, too."""
    assert back_up(source.store, tmp_path / "backup").last_commit == 0
    assert stored(tmp_path / "backup") == ({}, None)


@pytest.mark.parametrize("seed", range(6))
def test_commits_meanwhile_are_in_it_up_to_its_own_number(
    source: Source, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Puts of every size, removes, snapshots and checkpoints after each step: the backup holds exactly what the store
    held after `last_commit`; pages that were copied already, and pages that left SQLite's cache, are no exception."""
    monkeypatch.setattr(online, "STEP_PAGES", 16)
    random = Random(seed)
    source.fill(3)
    source.snapshot(os.urandom(1 << 20))
    names = list(source.values)

    def between() -> None:
        puts = {random.choice(names): os.urandom(random.choice((0, 10, 1024, 1024, 60_000))) for _ in range(3)}
        removes = tuple(name for name in random.sample(names, 2) if name not in puts)
        source.commit(puts | {key(f"new{source.seq}"): b"n"}, removes)
        if random.random() < 0.1:
            source.snapshot(os.urandom(300_000))
        if random.random() < 0.2:
            source.store.idle()

    copied = back_up(source.store, tmp_path / "backup", between)
    check_whole(tmp_path / "backup" / DATABASE)
    values, _ = source.history[copied.last_commit]
    # A snapshot that came right after that commit may be in it as well: it has a number of its own.
    backup = new_store(tmp_path / "backup")
    last_seq = backup.open().last_seq
    backup.close()
    assert copied.last_commit > 4
    assert stored(tmp_path / "backup") == (values, source.history[last_seq][1])
    assert (content(source.store), source.store.read(GRAPH)) == (source.values, source.graph)


def test_a_group_that_fails_meanwhile_is_not_in_it(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rolled back in the store, after some of it had been written to pages that were copied: it is in no backup."""
    monkeypatch.setattr(online, "STEP_PAGES", 16)
    source.fill(2)

    connection = source.store._open_connection()
    times = iter(range(5))  # each time SQLite begins anew

    def between() -> None:
        if next(times, None) is None:
            return
        # Its last statement is refused.
        statements = ("UPDATE record SET value = zeroblob(8000)", "INSERT INTO meta VALUES(2, x'00')")
        with pytest.raises(StoreError):
            connection.transact([(statement, [()]) for statement in statements], "failing")

    back_up(source.store, tmp_path / "backup", between)
    check_whole(tmp_path / "backup" / DATABASE)
    assert stored(tmp_path / "backup") == (source.values, None)


def test_a_snapshot_that_is_replaced_stays_until_it_is_copied(source: Source, tmp_path: Path) -> None:
    """The pointer in the copied database names it; afterwards it goes as all others."""
    first, second = os.urandom(3 << 20), os.urandom(1 << 20)
    source.snapshot(first)
    old = tmp_path / "store" / "snapshots" / source.store._pointers[GRAPH].file
    backup = begin_backup(source.store, str(tmp_path / "backup"))
    while backup._pages is not None:
        backup.step()
        time.sleep(0.001)
    source.snapshot(second)

    def between() -> None:
        while source.store.has_idle_work:
            source.store.idle()

    finish(backup, between)
    between()
    assert not old.exists()
    assert stored(tmp_path / "backup")[1] == first
    assert source.store.read(GRAPH) == second


def test_a_step_is_short(source: Source, tmp_path: Path) -> None:
    """So that a commit waits for one step, not for the backup: no step copies more than STEP_PAGES."""
    source.fill(4)
    backup = begin_backup(source.store, str(tmp_path / "backup"))
    steps = 0
    while backup._pages is not None:
        before = backup._handed
        backup.step()
        assert backup._handed - before <= (online.STEP_PAGES + 256) * 4096
        steps += backup._handed > before
    assert steps >= 8
    finish(backup)


def test_the_spool_is_a_file() -> None:
    """As far as SQLite may look at it: the first page, the size, zeros for whatever it is going to overwrite."""
    spool = Spool()
    assert spool.read(100, 0) == b""
    spool.write(b"first" + bytes(4091), 0)
    spool.write(b"other" + bytes(4091), 8192)
    assert spool.take().keys() == {0, 8192}
    assert (spool.size, spool.waiting, spool.take()) == (12288, 0, {})
    assert spool.read(5, 0) == b"first"
    assert spool.read(4096, 8192) == bytes(4096)
    assert spool.read(4096, 12000) == bytes(288)
    spool.write(b"again" + bytes(4091), 8192)
    spool.write(b"twice" + bytes(4091), 8192)
    assert spool.waiting == 4096
    spool.truncate(8192)
    assert spool.read(4096, 8192) == b""


# -- a disk that is slow, stuck, full or gone ------------------------------------------------------------------------


class Gate:
    """A sync that waits until it is let go, for files below `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.opened = str(directory), threading.Event()
        self.waits = threading.Event()

    def fsync(self, fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").startswith(self.directory):
            self.waits.set()
            assert self.opened.wait(30)
        os.fsync(fd)


def test_commits_never_wait_for_the_backups_disk(tmp_path: Path) -> None:
    """Its sync hangs: steps return at once, commits go on, the copied pages stay bounded; then it goes on."""
    gate = Gate(tmp_path / "backup")
    with opened(tmp_path / "store", fsync=gate.fsync) as store:
        source = Source(store)
        source.fill(12)
        backup = begin_backup(store, str(tmp_path / "backup"))
        assert gate.waits.wait(30)
        while backup.ready:
            backup.step()
        assert backup._handed <= online.AHEAD_BYTES + (online.STEP_PAGES + 256) * 4096
        for number in range(20):
            source.commit({key(f"f{number}-7"): b"changed"})
            assert backup.step() is None
            assert not backup.ready
        gate.opened.set()
        copied = finish(backup)
    assert copied.last_commit == source.seq
    assert stored(tmp_path / "backup") == (source.values, None)


def test_a_disk_that_takes_nothing_ends_the_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What commits change meanwhile is kept in memory up to a limit, and then it is the backup that goes."""
    monkeypatch.setattr(online, "MOST_BYTES", 1 << 20)
    gate = Gate(tmp_path / "backup")
    with opened(tmp_path / "store", fsync=gate.fsync) as store:
        source = Source(store)
        source.fill(12)
        backup = begin_backup(store, str(tmp_path / "backup"))
        assert gate.waits.wait(30)
        while backup.ready:
            backup.step()
        while backup._pages is not None:
            source.fill(2)
            backup.step()
        gate.opened.set()
        with pytest.raises(StoreUnavailable, match="too slow, or stuck"):
            finish(backup)
        assert sorted(os.listdir(tmp_path)) == ["store"]
        assert content(store) == source.values


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "t", place], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.decode(errors='replace').strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("large", ["database", "snapshot"])
def test_no_room_for_the_backup(source: Source, tmpfs: Path, large: str) -> None:
    """StoreFull, and nothing is left; the store goes on."""
    if large == "database":
        source.fill(4)
    else:
        source.snapshot(os.urandom(4 << 20))
    with pytest.raises(StoreFull, match="No space left"):
        back_up(source.store, tmpfs / "backup")
    assert os.listdir(tmpfs) == []
    source.commit({key("after"): b"1"})
    assert content(source.store) == source.values
    assert not source.store._snapshots._pinned


def test_another_file_system_is_fine(source: Source, tmpfs: Path) -> None:
    """Nothing is linked or renamed across."""
    source.commit({key("a"): b"1"})
    source.snapshot(b"graph")
    back_up(source.store, tmpfs / "backup")
    assert stored(tmpfs / "backup") == (source.values, b"graph")


def test_the_root_of_a_file_system_is_none(source: Source, tmpfs: Path) -> None:
    """Nothing can be renamed to it; told before anything is written beside it."""
    with pytest.raises(ConfigError, match="root of a file system"):
        back_up(source.store, tmpfs)


def test_every_sync_of_the_backups_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever: the backup is SyncFailed and leaves nothing; the store is not touched, nor its commits."""
    monkeypatch.setattr(pace, "_SLOW_S", math.inf)  # as many syncs each time, however slow this disk is
    place = str(tmp_path / "backup")
    syncs, fails_at = 0, 1

    def fsync(fd: int) -> None:
        nonlocal syncs
        path = os.readlink(f"/proc/self/fd/{fd}")
        if path.startswith(place) or path == str(tmp_path):
            syncs += 1
            if syncs == fails_at:
                raise OSError(5, "Input/output error")
        os.fsync(fd)

    with opened(tmp_path / "store") as store:
        source = Source(store)
        source.fill(1)
        source.snapshot(os.urandom(400_000))
        store._fsync = fsync
        while True:
            syncs = 0
            try:
                back_up(store, tmp_path / "backup")
            except SyncFailed:
                assert syncs >= fails_at
                assert os.listdir(tmp_path) == ["store"]
            else:
                break
            source.commit({key(f"after{fails_at}"): b"1"})
            fails_at += 1
        assert 10 < fails_at == syncs + 1
        assert content(store) == source.values


def test_the_order_of_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contents, then the database's name, then the backup's: each is synced before the next."""
    story: list[str] = []
    place = str(tmp_path / "backup")

    def fsync(fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        if path.startswith(place) or path == str(tmp_path):
            story.append(f"sync {os.path.basename(path)}")
        os.fsync(fd)

    rename = os.rename

    def renamed(old: str, new: str) -> None:
        if str(new).startswith(place):
            story.append(f"rename {os.path.basename(new)}")
        rename(old, new)

    with opened(tmp_path / "store", fsync=fsync) as store:
        source = Source(store)
        source.snapshot(b"graph")
        file = store._pointers[GRAPH].file
        monkeypatch.setattr(os, "rename", renamed)
        story.clear()
        back_up(store, tmp_path / "backup")
    order = [line for before, line in pairwise(["", *story]) if line != before]
    assert order == [
        "sync lock",
        f"sync {UNFINISHED}",
        f"sync {file}",
        "sync snapshots",
        f"rename {DATABASE}",
        "sync backup.partial",
        "rename backup",
        f"sync {tmp_path.name}",
        "sync lock",
    ]


# -- a source that is damaged ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["missing", "flipped", "short"])
def test_a_damaged_snapshot_is_not_backed_up(source: Source, tmp_path: Path, damage: str) -> None:
    """Whoever restores that backup would find out too late: StoreCorrupt, with its key."""
    source.snapshot(b"graph" * 1000)
    path = tmp_path / "store" / "snapshots" / source.store._pointers[GRAPH].file
    match damage:
        case "missing":
            path.unlink()
        case "flipped":
            path.write_bytes(b"Graph" + path.read_bytes()[5:])
        case _:
            os.truncate(path, 100)
    with pytest.raises(StoreCorrupt, match="network_graph"):
        back_up(source.store, tmp_path / "backup")
    assert os.listdir(tmp_path) == ["store"]


def test_a_connection_in_doubt_has_no_backup(source: Source, tmp_path: Path) -> None:
    """After a failed sync nobody reads through it: what is in its memory is not on the disk."""
    source.fill(1)
    backup = begin_backup(source.store, str(tmp_path / "backup"))
    source.store._open_connection()._sync_failed = True
    with pytest.raises(SyncFailed):
        finish(backup)
    assert os.listdir(tmp_path) == ["store"]


# -- places ----------------------------------------------------------------------------------------------------------


def refused(source: Source, place: Path, kind: type[BgsuperError], match: str) -> None:
    with pytest.raises(kind, match=match):
        back_up(source.store, place)


def test_places_that_are_taken(source: Source, tmp_path: Path) -> None:
    """Nothing is touched that is there, and nothing is made beside it."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letters").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    before = sorted(os.listdir(tmp_path))
    refused(source, tmp_path / "file", ConfigError, "found something else")
    refused(source, tmp_path / "full", ConfigError, "'letters'")
    refused(source, tmp_path / "link", ConfigError, "found something else")
    refused(source, tmp_path / "store", ConfigError, "found 'bgsuper.sqlite3'")
    refused(source, tmp_path / "no" / "where", StoreUnwritable, "make or mount it first")
    refused(source, tmp_path / "store" / "backup", ConfigError, "outside of the store")
    refused(source, tmp_path / "store" / "snapshots" / "backup", ConfigError, "outside of the store")
    (tmp_path / "way").symlink_to(tmp_path / "store")
    refused(source, tmp_path / "way" / "backup", ConfigError, "outside of the store")
    (tmp_path / "way").unlink()
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "full" / "letters").read_text() == "mine"


def test_an_empty_directory_will_do(source: Source, tmp_path: Path) -> None:
    """It is replaced, with our mode."""
    (tmp_path / "backup").mkdir(mode=0o755)
    source.commit({key("a"): b"1"})
    back_up(source.store, tmp_path / "backup")
    assert stored(tmp_path / "backup") == (source.values, None)
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o700


def test_a_place_that_is_taken_meanwhile(tmp_path: Path) -> None:
    """It is looked at again before the rename; what came there stays."""
    gate = Gate(tmp_path / "backup.partial" / UNFINISHED)
    with opened(tmp_path / "store", fsync=gate.fsync) as store:
        Source(store).commit({key("a"): b"1"})
        backup = begin_backup(store, str(tmp_path / "backup"))
        while not gate.waits.is_set():
            backup.step()
        (tmp_path / "backup").mkdir()
        (tmp_path / "backup" / "letters").write_text("mine")
        gate.opened.set()
        with pytest.raises(ConfigError, match="'letters'"):
            finish(backup)
    assert os.listdir(tmp_path / "backup") == ["letters"]
    assert not (tmp_path / "backup.partial").exists()


def test_a_relative_place_is_refused(source: Source) -> None:
    """The worker's working directory is nobody's business: the host makes it absolute."""
    with pytest.raises(ConfigError, match="absolute"):
        begin_backup(source.store, "backup")


def test_only_one_at_a_time(source: Source, tmp_path: Path) -> None:
    """A second one waits for the first to be over."""
    backup = begin_backup(source.store, str(tmp_path / "one"))
    with pytest.raises(StoreUnavailable, match="under way"):
        begin_backup(source.store, str(tmp_path / "two"))
    finish(backup)
    back_up(source.store, tmp_path / "two")
    assert stored(tmp_path / "one") == stored(tmp_path / "two")


def test_other_backends_say_what_to_do(tmp_path: Path) -> None:
    """ConfigError, before anything is written."""
    from bgsuper.worker.persister import PersisterStore

    with pytest.raises(ConfigError, match="bgsuper store copy"):
        begin_backup(PersisterStore("json:JSONEncoder", {}), str(tmp_path / "backup"))


# -- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["pages", "snapshots"])
def test_given_up(tmp_path: Path, when: str) -> None:
    """At any point: nothing is left, no file stays pinned, and the store goes on."""
    gate = Gate(tmp_path / "backup.partial" / ("snapshots" if when == "snapshots" else UNFINISHED))
    with opened(tmp_path / "store", fsync=gate.fsync) as store:
        source = Source(store)
        source.fill(6)
        source.snapshot(os.urandom(1 << 20))
        backup = begin_backup(store, str(tmp_path / "backup"))
        while not gate.waits.is_set():
            backup.step()
        backup.abort()
        assert not store._snapshots._pinned, "its disk may never let it end"
        backup.abort()
        gate.opened.set()
        with pytest.raises(StoreError, match="given up"):
            finish(backup)
        assert os.listdir(tmp_path) == ["store"]
        assert not store._snapshots._pinned
        source.commit({key("after"): b"1"})
        back_up(store, tmp_path / "backup")
    assert stored(tmp_path / "backup") == (source.values, source.graph)


def test_given_up_for_a_reason(source: Source, tmp_path: Path) -> None:
    """It is what `step` raises."""
    source.fill(1)
    backup = begin_backup(source.store, str(tmp_path / "backup"))
    backup.step()
    backup.abort(StoreFull("for a commit"))
    with pytest.raises(StoreFull, match="for a commit"):
        finish(backup)
    assert os.listdir(tmp_path) == ["store"]


def test_a_store_that_closes_gives_it_up(tmp_path: Path) -> None:
    """close() does not wait for it, and succeeds."""
    store = new_store(tmp_path / "store")
    store.open()
    Source(store).fill(2)
    backup = begin_backup(store, str(tmp_path / "backup"))
    backup.step()
    store.close()
    backup.join(30)
    assert os.listdir(tmp_path) == ["store"]
    with pytest.raises(StoreError, match="given up"):
        backup.step()


def leave(tmp_path: Path, megabytes: int = 1) -> None:
    """What a worker that was killed in the middle of a backup leaves."""
    child = os.fork()
    if child == 0:
        try:
            gate = Gate(tmp_path / "backup.partial" / "snapshots")
            store = new_store(tmp_path / "store", fsync=gate.fsync)
            store.open()
            source = Source(store)
            source.fill(megabytes)
            source.snapshot(os.urandom(1 << 20))
            backup = begin_backup(store, str(tmp_path / "backup"))
            while not gate.waits.is_set():
                backup.step()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert UNFINISHED in os.listdir(tmp_path / "backup.partial")


def test_what_a_killed_worker_left_is_begun_anew(tmp_path: Path) -> None:
    """It is known for what it is by the database's name in it."""
    leave(tmp_path)
    with opened(tmp_path / "store") as store:
        back_up(store, tmp_path / "backup")
        values = content(store)
    assert stored(tmp_path / "backup")[0] == values
    assert not (tmp_path / "backup.partial").exists()


@pytest.mark.parametrize("killed_before", [DATABASE, "backup"])
def test_a_kill_between_its_names(tmp_path: Path, killed_before: str) -> None:
    """Before either rename, the next backup is made all the same; so it is of the place that is complete."""
    child = os.fork()
    if child == 0:
        rename = os.rename

        def renamed(old: str, new: str) -> None:
            if os.path.basename(new) == killed_before:
                os._exit(7)
            rename(old, new)

        try:
            store = new_store(tmp_path / "store")
            store.open()
            Source(store).snapshot(b"graph")
            setattr(os, "rename", renamed)  # noqa: B010 - mypy takes it for no function of its kind
            back_up(store, tmp_path / "backup")
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert (DATABASE in os.listdir(tmp_path / "backup.partial")) == (killed_before == "backup")
    with opened(tmp_path / "store") as store:
        store.apply([commit(2, {key("later"): b"2"})])
        back_up(store, tmp_path / "backup")
    assert not (tmp_path / "backup.partial").exists()
    assert "unfinished" not in (tmp_path / "backup" / "lock").read_text()
    assert stored(tmp_path / "backup") == ({key("later"): b"2"}, b"graph")


def test_a_claim_that_fails_half_way(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every descriptor is closed, and nothing is left."""
    mkdir = os.mkdir

    def full(path: str, mode: int = 0o777) -> None:
        if os.path.basename(path) == "snapshots":
            raise OSError(28, "No space left on device")
        mkdir(path, mode)

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(StoreFull):
        back_up(source.store, tmp_path / "backup")
    assert len(os.listdir("/proc/self/fd")) == before
    assert os.listdir(tmp_path) == ["store"]


def test_a_left_over_is_no_store(tmp_path: Path) -> None:
    """Nobody takes it for one, empty or not."""
    leave(tmp_path)
    with pytest.raises(StoreError):
        new_store(tmp_path / "backup.partial").open()
    assert UNFINISHED in os.listdir(tmp_path / "backup.partial")


@pytest.mark.parametrize("foreign", ["letters", "snapshots/letters", "store", "file", "link", "lost"])
def test_what_is_not_ours_beside_it_is_not_removed(source: Source, tmp_path: Path, foreign: str) -> None:
    """`DEST.partial` of somebody else, a store above all: StoreForeign, and it is as it was."""
    partial = tmp_path / "backup.partial"
    match foreign:
        case "file":
            partial.write_text("mine")
        case "link":
            (tmp_path / "mine").mkdir()
            partial.symlink_to(tmp_path / "mine")
        case "store":
            with opened(partial) as other:
                other.apply([commit(1, {key("a"): b"1"})])
            (partial / f"{DATABASE}-wal").unlink(missing_ok=True)  # only its lock tells it from ours
        case "lost":
            # A store whose database is gone, and whose snapshots could still be saved.
            (partial / "snapshots").mkdir(parents=True)
            (partial / "snapshots" / source.store._snapshots.write(GRAPH, Seq(1), 1, b"x").file).write_text("mine")
            (partial / "lock").touch()
        case _:
            (partial / "snapshots").mkdir(parents=True)
            (partial / UNFINISHED).touch()
            (partial / foreign).write_text("mine")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    refused(source, tmp_path / "backup", StoreForeign, "move it away")
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_two_stores_to_one_place(source: Source, tmp_path: Path) -> None:
    """The second one is told who is at work there, and removes nothing of it."""
    gate = Gate(tmp_path / "backup.partial" / UNFINISHED)
    with opened(tmp_path / "other", fsync=gate.fsync) as other:
        other.apply([commit(1, {key("a"): b"1"})])
        first = begin_backup(other, str(tmp_path / "backup"))
        while not gate.waits.is_set():
            first.step()
        with pytest.raises(StoreLocked) as locked:
            back_up(source.store, tmp_path / "backup")
        assert locked.value.pid == os.getpid()
        gate.opened.set()
        finish(first)
    assert stored(tmp_path / "backup") == ({key("a"): b"1"}, None)


def test_a_death_leaves_no_pinned_file(tmp_path: Path) -> None:
    """A snapshot that was kept for a backup only is an orphan at the next open."""
    gate = Gate(tmp_path / "backup.partial" / "snapshots")
    store = new_store(tmp_path / "store", fsync=gate.fsync)
    store.open()
    source = Source(store)
    source.snapshot(b"old")
    old = tmp_path / "store" / "snapshots" / store._pointers[GRAPH].file
    backup = begin_backup(store, str(tmp_path / "backup"))
    while not gate.waits.is_set():
        backup.step()
    source.snapshot(b"new")
    while store.has_idle_work:
        store.idle()
    assert old.exists()
    die(store)
    gate.opened.set()
    backup.join(30)
    with opened(tmp_path / "store") as again:
        while again.has_idle_work:
            again.idle()
        assert not old.exists()


def test_no_thread_is_to_be_had(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """StoreUnavailable, and the store goes on."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(StoreUnavailable, match="thread"):
        begin_backup(source.store, str(tmp_path / "backup"))
    monkeypatch.undo()
    source.commit({key("a"): b"1"})
    back_up(source.store, tmp_path / "backup")
