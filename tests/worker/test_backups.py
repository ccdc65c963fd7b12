"""Backups beside commits: one after the other, a step at a time, and whose errors are whose."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from bgsuper.errors import ConfigError, FrameError, StoreError, StoreFull, StoreUnavailable, SyncFailed
from bgsuper.ipc.frames import Kind
from bgsuper.ipc.messages import Message
from bgsuper.ipc.remote import Allowed, RemoteException
from bgsuper.key import Key, Seq
from bgsuper.worker.backups import END_S, LOOK_S, Backups, backup_directory
from bgsuper.worker.inbox import BackupOrder, Closed, Inbox, Item, SnapshotDone
from bgsuper.worker.link import Link
from bgsuper.worker.writer import IDLE_S, Writer

from .model import Disk, ModelLink, ModelStore
from .test_writer import commit, snapshot


class Step:
    """A backup that takes so many steps; then it fails with `error`, if there is one. Given up, it ends with the next
    step, unless it `hangs`."""

    def __init__(self, directory: str, steps: int = 2, error: Exception | None = None) -> None:
        self.directory, self.left, self.error = directory, steps, error
        self.progress, self.ready, self.aborted, self.joined = 0, True, 0, False
        self.over, self.hangs = False, False
        self.why: Exception = StoreError("given up")

    def step(self) -> tuple[int, int] | None:
        if self.aborted:
            if self.hangs:
                return None
            self.over = True
            raise self.why
        if self.ready:
            self.progress += 1
        if self.progress < self.left:
            return None
        self.over = not isinstance(self.error, MemoryError)
        if self.error is not None:
            raise self.error
        return 7, 100

    def abort(self, why: Exception | None = None) -> None:
        self.aborted += 1
        self.why = why or self.why

    def join(self, _timeout_s: float) -> None:
        self.joined = True


class Store:
    """Makes such backups."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.made: list[Step] = []

    def begin_backup(self, directory: str) -> Step:
        self.made.append(Step(directory, **self.settings))
        return self.made[-1]


class Bench:
    """`Backups`, and what was answered."""

    def __init__(self, store: object) -> None:
        self.backups = Backups(store, Allowed(), 1)  # type: ignore[arg-type]
        self.answers: dict[str, list[object]] = {}
        self.wanted = True

    def order(self, directory: str) -> None:
        self.backups.add(
            BackupOrder(directory, lambda fields: self.answers.update({directory: fields}), lambda: self.wanted)
        )

    def pause(self) -> float | None:
        return self.backups.pause

    def finish(self) -> None:
        while self.pause() is not None:
            self.backups.step()

    def error(self, directory: str) -> Exception:
        word, described = self.answers[directory]
        assert word == "error"
        return RemoteException.decode(described, allowed=Allowed()).rebuild()


def test_one_after_the_other() -> None:
    """In the order in which they were asked for."""
    store = Store()
    bench = Bench(store)
    assert not bench.backups.step()
    bench.order("/a")
    bench.order("/b")
    assert bench.pause() == 0.0
    assert bench.backups.step()
    assert [made.directory for made in store.made] == ["/a"]
    bench.finish()
    assert list(bench.answers) == ["/a", "/b"]
    match bench.answers["/a"]:
        case ["backup", [7, 100, float(seconds)]]:
            assert 0 <= seconds < 10
        case answer:
            pytest.fail(f"the answer was {answer}")


def test_one_that_waits_for_its_disk_is_looked_at_now_and_then() -> None:
    """And counts as no progress, so that a writer which hangs is not taken for a busy one."""
    store = Store()
    bench = Bench(store)
    bench.order("/a")
    assert bench.backups.step()
    store.made[0].ready = False
    assert bench.pause() == LOOK_S
    assert bench.backups.step() is False
    store.made[0].ready = True
    assert bench.backups.step()
    assert "/a" in bench.answers


@pytest.mark.parametrize("error", [StoreFull("full"), SyncFailed("its disk"), RuntimeError("a bug")])
def test_its_errors_go_to_who_asked(error: Exception) -> None:
    """And nowhere else; the next one is begun."""
    bench = Bench(Store(error=error))
    bench.order("/a")
    bench.order("/b")
    bench.finish()
    assert type(bench.error("/a")) is type(error)
    assert list(bench.answers) == ["/a", "/b"]


def test_a_store_without_backups() -> None:
    """ConfigError, and what to do."""
    bench = Bench(object())
    bench.order("/a")
    bench.finish()
    assert isinstance(bench.error("/a"), ConfigError)


def test_one_that_nobody_wants_is_given_up() -> None:
    """Who asked hung up."""
    store = Store()
    bench = Bench(store)
    bench.order("/a")
    bench.backups.step()
    bench.wanted = False
    bench.finish()
    assert store.made[0].aborted


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """[what time it is]; it passes when somebody sleeps, and when a test says so."""
    now = [1000.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    return now


def test_one_whose_disk_hangs_keeps_nobody_waiting(clock: list[float]) -> None:
    """Given up once; after a while who asked is told, and so is at once whoever asks until it has ended."""
    store = Store()
    bench = Bench(store)
    bench.order("/a")
    bench.backups.step()
    store.made[0].hangs = True
    bench.wanted = False
    bench.order("/b")
    for _ in range(10):
        assert not bench.backups.step()
    assert (store.made[0].aborted, bench.answers) == (1, {})
    bench.wanted = True
    clock[0] += END_S
    bench.finish()
    assert isinstance(bench.error("/a"), StoreError)
    assert isinstance(bench.error("/b"), StoreUnavailable)
    bench.order("/c")
    bench.finish()
    assert isinstance(bench.error("/c"), StoreUnavailable)
    assert (store.made[0].aborted, len(store.made)) == (1, 1)
    store.made[0].over = True
    bench.order("/d")
    bench.finish()
    assert bench.answers["/d"][0] == "backup"


def test_whatever_a_step_raises_ends_it() -> None:
    """Also what it does not expect itself: it is given up, and the next one begun when nothing of it is left."""
    store = Store(error=MemoryError())
    bench = Bench(store)
    bench.order("/a")
    bench.order("/b")
    while not store.made or not store.made[0].aborted:
        bench.backups.step()
    assert bench.answers == {}
    store.settings.clear()
    bench.finish()
    assert (store.made[0].aborted, store.made[0].over) == (1, True)
    assert isinstance(bench.error("/a"), MemoryError)
    assert bench.answers["/b"][0] == "backup"


def test_the_end_gives_all_up_and_answers_none() -> None:
    """A successor will be asked again. Nothing is begun any more."""
    store = Store()
    bench = Bench(store)
    bench.order("/a")
    bench.order("/b")
    bench.backups.step()
    bench.backups.give_up()
    assert (store.made[0].aborted, store.made[0].joined) == (1, False)
    bench.order("/c")
    assert bench.pause() is None
    bench.backups.stop()
    assert store.made[0].joined
    assert bench.answers == {}
    assert len(store.made) == 1


@pytest.mark.parametrize("end", [Closed(None), Message(Kind.SHUTDOWN, 0, [])])
def test_the_hosts_end_is_known_at_once(end: Item) -> None:
    """Not after the snapshots that are still to be written."""
    store = ModelStore(Disk())
    writer = Writer(store, store.open(), cast(Link, ModelLink()), Inbox(), Allowed())
    writer._serve([BackupOrder("/backup", lambda _: None), Message(Kind.BACKUP, 7, [b"/backup"])])
    assert writer._backups.pause == 0.0
    writer._serve([end])
    assert writer._backups.pause is None


@pytest.mark.parametrize("fields", [[], ["/text"], [b"relative"], [b"/with\0nul"], [b"/a", b"/b"], [None], [b""]])
def test_what_is_no_directory(fields: list[object]) -> None:
    """FrameError: no host sends that."""
    with pytest.raises(FrameError):
        backup_directory(fields)


def test_a_directory_is_bytes() -> None:
    """Of any encoding."""
    assert backup_directory([b"/a/\xff"]) == "/a/\udcff"


# -- beside the writer ------------------------------------------------------------------------------------------------


class BusyStore(ModelStore):
    """It has chores, and backups that are never complete: while the first goes on, each sync is `error`."""

    has_idle_work = True

    def __init__(self) -> None:
        super().__init__(Disk())
        self.made: list[Step] = []
        self.idled_at: list[float] = []
        self.error: StoreFull | StoreUnavailable = StoreFull("no space left")
        self.before_sync = self._needs_space

    def begin_backup(self, directory: str) -> Step:
        self.made.append(Step(directory, steps=10**9))
        return self.made[-1]

    def idle(self) -> None:
        self.idled_at.append(time.monotonic())

    def _needs_space(self) -> None:
        if self.made and not self.made[0].aborted:
            raise self.error


class Beside:
    """A writer with a backup under way, and what its asker was told."""

    def __init__(self) -> None:
        self.store, self.link, self.inbox = BusyStore(), ModelLink(), Inbox()
        self.answers: list[Any] = []
        self.writer = Writer(self.store, self.store.open(), cast(Link, self.link), self.inbox, Allowed())
        for directory in ("/a", "/b"):
            self.writer._serve([BackupOrder(directory, self.answers.append)])
        self.writer._backups.step()

    def serve(self, *items: Item) -> list[Kind]:
        self.writer._serve(list(items))
        return [message.kind for message in self.link.take()]

    def told(self) -> Exception:
        [[word, described]] = self.answers
        assert word == "error"
        return RemoteException.decode(described, allowed=Allowed()).rebuild()


@pytest.mark.parametrize("error", [StoreFull("no space left"), StoreUnavailable("no descriptors")])
@pytest.mark.usefixtures("clock")
def test_a_backup_gives_way_to_a_commit(error: StoreFull | StoreUnavailable) -> None:
    """What the commit lacks, the backup may have; its asker is told of what, and nothing is begun meanwhile."""
    beside = Beside()
    beside.store.error = error
    assert beside.serve(commit(1)) == [Kind.RETRYING, Kind.ACK]
    assert len(beside.store.made) == 1
    assert type(beside.told()) is type(error)
    assert str(error) in str(beside.told())


@pytest.mark.usefixtures("clock")
def test_a_backup_gives_way_to_a_critical_snapshot() -> None:
    """Whether its file or its pointer finds no space. It does not to another one."""
    for outcome in ("written", "not written"):
        beside = Beside()
        message, key = snapshot(1, critical=True), Key("app", "", "a")
        beside.writer._lane.write = lambda *_args, **_pause: None  # type: ignore[method-assign]
        written = beside.store.write_snapshot(key, Seq(1), b"x")
        beside.serve(SnapshotDone(message, written if outcome == "written" else StoreFull("no space left")))
        assert beside.store.made[0].aborted == 1
        assert isinstance(beside.told(), StoreFull)
        beside.writer._lane.stop()
    beside = Beside()
    beside.serve(SnapshotDone(snapshot(1), StoreFull("no space left")))
    assert beside.store.made[0].aborted == 0
    beside.writer._lane.stop()


def test_chores_beside_a_backup(clock: list[float]) -> None:
    """They are done when nothing came for IDLE_S, and not before, though the writer never waits that long."""
    beside = Beside()
    beside.store.before_sync = lambda: None
    came: list[tuple[float, Item]] = [(1000.0 + number * IDLE_S * 0.9, commit(number)) for number in range(1, 8)]
    quiet_since = came[-1][0]

    def take(timeout: float | None = None) -> list[Item]:
        assert timeout is not None
        clock[0] += IDLE_S / 10
        if clock[0] > quiet_since + 3 * IDLE_S:
            return [Closed(None)]
        return [came.pop(0)[1]] if came and clock[0] >= came[0][0] else []

    beside.inbox.take = take  # type: ignore[method-assign]
    beside.writer._served_at = clock[0]
    beside.writer.run()
    assert not came
    assert beside.store.idled_at
    assert min(beside.store.idled_at) >= quiet_since + IDLE_S
    assert min(beside.store.idled_at) <= quiet_since + 1.3 * IDLE_S
