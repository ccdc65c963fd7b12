"""Backups beside commits: one after the other, a step at a time, and whose errors are whose."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bgsuper.errors import ConfigError, FrameError, StoreFull, SyncFailed
from bgsuper.ipc.frames import Kind
from bgsuper.ipc.messages import Message
from bgsuper.ipc.remote import Allowed, RemoteException
from bgsuper.worker.backups import LOOK_S, Backups, backup_directory
from bgsuper.worker.inbox import BackupOrder, Closed, Inbox, Item
from bgsuper.worker.link import Link
from bgsuper.worker.writer import Writer

from .model import Disk, ModelLink, ModelStore


class Step:
    """A backup that takes so many steps; then it fails with `error`, if there is one."""

    def __init__(self, directory: str, steps: int = 2, error: Exception | None = None) -> None:
        self.directory, self.left, self.error = directory, steps, error
        self.progress, self.ready, self.aborted, self.joined = 0, True, 0, False

    def step(self) -> tuple[int, int] | None:
        if self.aborted:
            raise StoreFull("given up")
        if self.ready:
            self.progress += 1
        if self.progress < self.left:
            return None
        if self.error is not None:
            raise self.error
        return 7, 100

    def abort(self) -> None:
        self.aborted += 1

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
