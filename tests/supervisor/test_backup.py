"""Backups through the supervisor: whole, whatever happens to the worker meanwhile, and in nobody's way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from bgsuper import Key, Supervisor
from bgsuper.errors import ConfigError, PoisonCommit, StoreError, StoreFull, SyncFailed, WorkerError
from bgsuper.health import WorkerState as State
from bgsuper.ipc.frames import Kind
from bgsuper.ipc.remote import Allowed, describe
from bgsuper.key import NETWORK_GRAPH, Seq
from bgsuper.supervisor import BackupReport
from bgsuper.supervisor.requests import BACKUP_DEATHS, Request

from .hosts import PATIENCE_S, Place, alive, eventually, host, key, persister, pid_of, send
from .rig import B, Rig

pytestmark = pytest.mark.usefixtures("no_leaks")

LATEST = Key("app", "", "latest")


class Asked:
    """`Supervisor.backup` on a thread of its own."""

    def __init__(self, supervisor: Supervisor, directory: str | os.PathLike[str]) -> None:
        self._call: Callable[[], BackupReport] = lambda: supervisor.backup(directory)
        self.outcome: BackupReport | Exception | None = None
        self.thread = Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.outcome = self._call()
        except Exception as error:  # noqa: BLE001 - whatever it is, a test looks at it
            self.outcome = error

    @property
    def over(self) -> bool:
        return not self.thread.is_alive()

    def report(self) -> BackupReport:
        self.thread.join(PATIENCE_S)
        assert isinstance(self.outcome, BackupReport), self.outcome
        return self.outcome

    def error(self) -> Exception:
        self.thread.join(PATIENCE_S)
        assert isinstance(self.outcome, Exception), self.outcome
        return self.outcome


@contextmanager
def opened(directory: Path) -> Iterator[Supervisor]:
    with Supervisor(f"sqlite://{directory}") as supervisor:
        yield supervisor


def stored(directory: Path) -> dict[Key, bytes]:
    with opened(directory) as supervisor:
        return dict(supervisor.scan("app"))


def fill(supervisor: Supervisor, megabytes: int) -> None:
    for number in range(megabytes * 16):
        supervisor.commit({key(number * 64 + record): os.urandom(1024) for record in range(64)})
    supervisor.wait(supervisor.health().submitted, PATIENCE_S)


def begun(place: Place) -> Callable[[], bool]:
    """Whether the backup has written anything."""
    file = place.directory / "backup.partial" / "bgsuper.sqlite3.partial"
    return lambda: file.exists() and file.stat().st_size > 0


# -- with real workers ------------------------------------------------------------------------------------------------


def test_commits_stream_meanwhile(place: Place) -> None:
    """The backup is exactly what the commits up to its number make, none of them half, and holds all that was submitted
    before it was asked for."""
    with place.running() as supervisor:
        fill(supervisor, 8)
        before = dict(supervisor.scan("app"))
        first = supervisor.commit({LATEST: b"0"})
        asked, commits = Asked(supervisor, place.directory / "backup"), {first: {LATEST: b"0"}}
        while not asked.over:
            number = len(commits)
            puts = {LATEST: b"%d" % number, key(number * 97 % 8192): os.urandom(1024)}
            commits[supervisor.commit(puts)] = puts
            time.sleep(0.0005)
        report = asked.report()
        assert supervisor.health().restarts == 0
    assert report.last_commit >= first
    for seq, puts in commits.items():
        if seq <= report.last_commit:
            before |= puts
    assert stored(place.directory / "backup") == before
    assert sorted(os.listdir(place.directory)) == ["backup", "plan", "store"]


def test_snapshots_are_replaced_meanwhile(place: Place) -> None:
    """Whichever of them the backup has, it has whole."""
    graphs = [bytes([number]) * 3_000_000 for number in range(12)]
    with place.running() as supervisor:
        fill(supervisor, 2)
        supervisor.wait(supervisor.snapshot(NETWORK_GRAPH, [graphs[0]]), PATIENCE_S)
        asked = Asked(supervisor, place.directory / "backup")
        for graph in graphs[1:]:
            supervisor.wait(supervisor.snapshot(NETWORK_GRAPH, [graph]), PATIENCE_S)
        asked.report()
        assert supervisor.read(NETWORK_GRAPH) == graphs[-1]
        eventually(lambda: len(os.listdir(place.directory / "store" / "snapshots")) == 1, "nothing stays pinned")
    with opened(place.directory / "backup") as backup:
        assert backup.read(NETWORK_GRAPH) in graphs


def test_a_worker_killed_meanwhile(place: Place) -> None:
    """Its successor begins anew, and removes what was left."""
    with place.running() as supervisor:
        fill(supervisor, 8)
        asked = Asked(supervisor, place.directory / "backup")
        eventually(begun(place))
        send(supervisor, signal.SIGKILL)
        seq = supervisor.commit({LATEST: b"after"})
        supervisor.wait(seq, PATIENCE_S)
        report = asked.report()
        assert supervisor.health().restarts == 1
        values = dict(supervisor.scan("app"))
    values.pop(LATEST) if report.last_commit < seq else None
    assert stored(place.directory / "backup") == values
    assert not (place.directory / "backup.partial").exists()


def test_the_supervisor_is_stopped_meanwhile(place: Place) -> None:
    """stop() waits for no backup, however slow: what there is of it is removed, and who asked is told."""
    with place.running() as supervisor:
        fill(supervisor, 8)
        asked = Asked(supervisor, place.directory / "backup")
        eventually(begun(place))
        place.plan.sync_delay_ns = 50_000_000
        began = time.monotonic()
        supervisor.stop(PATIENCE_S)
        assert time.monotonic() - began < 5
        assert isinstance(asked.error(), WorkerError)
    assert sorted(os.listdir(place.directory)) == ["plan", "store"]


HOST = """
import os, sys, time
from bgsuper import Key, Supervisor
supervisor = Supervisor(sys.argv[1])
supervisor.start()
for number in range(64):
    supervisor.commit({Key("app", "", f"k{number}-{record}"): os.urandom(1024) for record in range(64)})
supervisor.wait(supervisor.health().submitted)
print(supervisor.health().pid, flush=True)
supervisor.backup(sys.argv[2])
"""


def test_a_host_killed_meanwhile(place: Place) -> None:
    """Its orphan gives the backup up, removes it, and ends."""
    place.plan.sync_delay_ns = 20_000_000
    process = host(HOST, place.url, place.directory / "backup")
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    eventually(begun(place))
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    eventually(lambda: not alive(worker), "the orphan ends")
    assert sorted(os.listdir(place.directory)) == ["plan", "store"]


def test_two_at_once(place: Place) -> None:
    """One after the other; commits and reads go on beside both."""
    with place.running() as supervisor:
        fill(supervisor, 2)
        both = [Asked(supervisor, place.directory / name) for name in ("one", "two")]
        assert len(supervisor.read(key(3))) == 1024
        for asked in both:
            asked.report()
    assert stored(place.directory / "one") == stored(place.directory / "two")


def test_a_read_does_not_wait_for_a_backup(place: Place) -> None:
    """Its answer comes first, though it was asked for later."""
    with place.running() as supervisor:
        fill(supervisor, 4)
        place.plan.sync_delay_ns = 30_000_000
        asked = Asked(supervisor, place.directory / "backup")
        eventually(begun(place))
        assert len(supervisor.read(key(3))) == 1024
        supervisor.wait(supervisor.commit({LATEST: b"1"}), PATIENCE_S)
        assert not asked.over
        place.plan.sync_delay_ns = 0
        asked.report()


def test_a_relative_place(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to the host's directory as it is then, wherever the worker was started."""
    with place.running() as supervisor:
        supervisor.wait(supervisor.commit({LATEST: b"1"}), PATIENCE_S)
        (place.directory / "here").mkdir()
        monkeypatch.chdir(place.directory / "here")
        supervisor.backup("backup")
    assert stored(place.directory / "here" / "backup") == {LATEST: b"1"}


def test_a_place_that_is_no_unicode(place: Place) -> None:
    """Paths are bytes."""
    with place.running() as supervisor:
        supervisor.backup(os.fsdecode(os.fsencode(place.directory / "ba") + b"\xff"))
    assert b"ba\xff" in os.listdir(os.fsencode(place.directory))


def test_where_it_cannot_be(place: Place) -> None:
    """The worker's own error, here; the worker lives on, and nothing is charged."""
    with place.running() as supervisor:
        before = pid_of(supervisor)
        supervisor.backup(place.directory / "backup")
        for directory, match in (("backup", "in it"), ("store/backup", "outside"), ("store", "in it")):
            with pytest.raises(ConfigError, match=match):
                supervisor.backup(place.directory / directory)
        with pytest.raises(StoreError, match="mount it first"):
            supervisor.backup(place.directory / "no" / "backup")
        supervisor.wait(supervisor.commit({LATEST: b"1"}), PATIENCE_S)
        assert pid_of(supervisor) == before
        assert [transition.state for transition in supervisor.health_log()] == [State.STARTING, State.READY]


def test_a_persister_has_none(tmp_path: Path) -> None:
    """It takes the manager, the graph and the scorer: there is nothing to read back."""
    with Supervisor(persister(tmp_path)) as supervisor, pytest.raises(ConfigError, match="only a sqlite: store"):
        supervisor.backup(tmp_path / "backup")


def test_before_start_and_after_stop(place: Place) -> None:
    """As a read."""
    supervisor = place.supervisor()
    with pytest.raises(ConfigError, match="not running"):
        supervisor.backup(place.directory / "backup")
    supervisor.start(PATIENCE_S)
    supervisor.stop(PATIENCE_S)
    with pytest.raises(WorkerError, match="stopped"):
        supervisor.backup(place.directory / "backup")
    assert not (place.directory / "backup").exists()


# -- the core ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.up()
    return rig


def ask(rig: Rig) -> Request:
    return rig.core.ask(Kind.BACKUP, [b"/backup"])


def kinds(rig: Rig) -> list[Kind]:
    return [message.kind for message in rig.take_all()]


def again(rig: Rig) -> None:
    """The worker is dead; its successor says HELLO."""
    while rig.state is State.EXITED:
        rig.tick(0.1)
    rig.hello(rig.core.backlog.acked_commit)


def test_it_is_asked_for_behind_the_commits_before_it(rig: Rig) -> None:
    """So that it holds them."""
    rig.commit()
    ask(rig)
    rig.commit(B)
    sent = kinds(rig)
    assert sent.index(Kind.BACKUP) > sent.index(Kind.COMMIT)


def test_answers_may_come_in_any_order(rig: Rig) -> None:
    """A read that was asked for later is answered meanwhile."""
    backup, read = ask(rig), rig.core.ask(Kind.READ, ["app", "", "a"])
    assert set(kinds(rig)) == {Kind.BACKUP, Kind.READ}
    rig.say(Kind.REPLY, read.number, ["records", []])
    assert (read.answer, backup.answer) == ([], None)
    rig.say(Kind.REPLY, backup.number, ["backup", [7, 100, 0.5]])
    assert backup.answer == BackupReport(Seq(7), 100, 0.5)


def test_its_errors_are_its_own(rig: Rig) -> None:
    """A full or failing disk of the backup's says nothing of the store's."""
    for error in (StoreFull("no"), SyncFailed("no")):
        backup = ask(rig)
        rig.take_all()
        rig.say(Kind.REPLY, backup.number, ["error", describe(error, allowed=Allowed())])
        assert type(backup.answer.rebuild()) is type(error)  # type: ignore[union-attr]
    assert rig.state is State.READY


def test_its_waiting_is_no_hang(rig: Rig) -> None:
    """Its own disk may be stuck for hours: only what waits for the store is a sign."""
    ask(rig)
    rig.take_all()
    rig.looks(200, "sleeping", cpu_s=1.0, write_bytes=5, switches=7)
    assert rig.state is State.READY
    rig.commit()
    rig.take_all()
    rig.looks(200, "sleeping", cpu_s=1.0, write_bytes=5, switches=7)
    assert rig.state is not State.READY


def test_a_successor_is_asked_again_but_not_for_ever(rig: Rig) -> None:
    """After so many deaths that is the answer: a backup must not use up the restarts."""
    backup = ask(rig)
    for _ in range(BACKUP_DEATHS):
        assert kinds(rig) == [Kind.BACKUP]
        assert backup.answer is None
        rig.die()
        again(rig)
    assert isinstance(backup.answer, WorkerError)
    assert kinds(rig) == []
    assert rig.state is State.READY


def test_deaths_before_it_was_sent_do_not_count(rig: Rig) -> None:
    """It was in nobody's hands."""
    backup = ask(rig)
    for _ in range(BACKUP_DEATHS + 1):
        rig.die()
        again(rig)
    assert kinds(rig) == [Kind.BACKUP]
    assert backup.deaths == 0


def test_it_gets_no_commit_accused(rig: Rig) -> None:
    """Two deaths of the worker's own doing under a backup and a commit: then the commit is tried without the backup,
    and that comes when the commit is settled."""
    for _ in range(2):
        commit = rig.commit()
        ask(rig) if not rig.core.requests.in_hand else None
        rig.take_all()
        rig.die(signal=signal.SIGSEGV)
        again(rig)
    assert rig.core.backlog.one_at_a_time
    assert Kind.BACKUP not in kinds(rig)
    rig.ack(commit - 1)
    assert Kind.BACKUP not in kinds(rig)
    rig.ack(commit)
    assert Kind.BACKUP in kinds(rig)
    assert not isinstance(rig.core.failure(), PoisonCommit)


def test_a_wait_for_the_mark_holds_no_commit(rig: Rig) -> None:
    """One at a time or not: the mark's disk is none of the store's, and may hang. Nor does it clear a commit that
    kills."""
    for _ in range(2):
        rig.commit()
        rig.take_all()
        rig.die(signal=signal.SIGSEGV)
        again(rig)
    assert rig.core.backlog.one_at_a_time
    while rig.state is State.READY:
        rig.core.ask(Kind.CURRENT, [])
        rig.core.requests.take() if rig.core.requests.due(None) else None
        assert Kind.COMMIT in kinds(rig)
        rig.die(signal=signal.SIGSEGV)
        again(rig) if rig.core.failure() is None else None
    assert isinstance(rig.core.failure(), PoisonCommit)


def test_a_search_with_nothing_to_accuse_does_not_hold_it(rig: Rig) -> None:
    """No commit may come for long, and one that comes does not wait for it."""
    rig.commit()
    rig.take_all()
    rig.ack(1)
    for _ in range(2):
        rig.die(signal=signal.SIGSEGV)
        again(rig)
    assert rig.core.backlog.one_at_a_time
    ask(rig)
    assert kinds(rig) == [Kind.BACKUP]
    rig.commit()
    assert kinds(rig) == [Kind.COMMIT]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Kind.BACKUP, ["records", []]),
        (Kind.READ, ["backup", [1, 2, 3.0]]),
        (Kind.BACKUP, ["backup", [1, 2, 3]]),
        (Kind.BACKUP, ["backup", [1, 2]]),
        (Kind.BACKUP, ["backup"]),
    ],
)
def test_an_answer_of_another_kind_is_a_broken_worker(rig: Rig, kind: Kind, fields: list[object]) -> None:
    """No worker says that."""
    request = rig.core.ask(kind, [])
    rig.take_all()
    rig.say(Kind.REPLY, request.number, fields)
    assert rig.state is State.DYING
    assert request.answer is None


def test_one_that_was_withdrawn_is_asked_no_more(rig: Rig) -> None:
    """Who waited for it was interrupted."""
    backup = ask(rig)
    rig.core.requests.withdraw(backup)
    assert kinds(rig) == []
    backup = ask(rig)
    rig.take_all()
    rig.core.requests.withdraw(backup)
    rig.say(Kind.REPLY, backup.number, ["backup", [1, 2, 3.0]])
    assert rig.state is State.READY
