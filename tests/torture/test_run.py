"""`bgsuper torture` itself: a short run of everything finds nothing, and a run over a store that somebody meddles with,
or over a bgsuper with a bug, finds just that."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from random import Random

import apsw
import pytest

from bgsuper.key import Key, Seq
from bgsuper.store import rows
from bgsuper.store.identity import Identity
from bgsuper.torture.run import overseer as overseer_module
from bgsuper.torture.run import watch as watch_module
from bgsuper.torture.run.blows import CLEAR, Blow
from bgsuper.torture.run.overseer import Options, Overseer
from bgsuper.torture.run.timeline import Outcome
from bgsuper.torture.run.values import Origin, value_of
from bgsuper.torture.run.watch import Watch
from bgsuper.torture.run.workspace import Workspace

pytestmark = pytest.mark.usefixtures("no_leaks")

PATIENCE_S = 30.0


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    made = Workspace.make(f"sqlite://{tmp_path}/store")
    yield made
    made.remove()


def torture(workspace: Workspace, kills: int, seed: int = 1, filling_bytes: int = 0) -> Outcome:
    options = Options(kills=kills, seed=seed, filling_bytes=filling_bytes)
    return Overseer(options, workspace, lambda _: None).run()


def only(monkeypatch: pytest.MonkeyPatch, *blows: Blow) -> None:
    """No others are struck."""

    def choose(random: Random) -> Blow:
        return random.choice(blows)

    monkeypatch.setattr(overseer_module, "choose", choose)


# -- the whole --------------------------------------------------------------------------------------------------------


def test_forty_kills_lose_nothing(workspace: Workspace) -> None:
    """Worker and host, at random and at named points, slow, failing and full disks: what was acknowledged is there.
    (2,000 by command: ``bgsuper torture --kills 2000``.)"""
    outcome = torture(workspace, 40, seed=4)
    assert outcome.ok, outcome.verdict
    assert outcome.timeline.killed >= 40
    assert outcome.timeline.looks > 10
    assert outcome.timeline.records > 1000
    assert sum(name.startswith("worker") for name in outcome.timeline.kills) >= 4
    assert sum(name.startswith("host") for name in outcome.timeline.kills) >= 4


def test_each_rare_blow_is_recovered_from(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each strikes, counts, and has its recovery time."""
    blows = [Blow.WORKER_FROZEN, Blow.FAILED_SYNC, Blow.HOST_STOPPED, Blow.ORPHAN_STOPPED, Blow.HOST_ACKED]
    turns = iter(blows)
    monkeypatch.setattr(overseer_module, "choose", lambda _: next(turns))
    # On a full disk no sync is reached that could fail.
    monkeypatch.setattr(watch_module, "forecast", lambda _: CLEAR._replace(lasts_s=PATIENCE_S))
    outcome = torture(workspace, 2)
    assert outcome.ok, outcome.verdict
    assert outcome.timeline.blows == dict.fromkeys(blows, 1)
    # The sync may have been that of a snapshot which is given up.
    assert outcome.timeline.recoveries.keys() | {Blow.FAILED_SYNC} == set(blows)
    assert outcome.timeline.kills == {**dict.fromkeys(blows, 0), Blow.ORPHAN_STOPPED: 1, Blow.HOST_ACKED: 1}


def test_a_store_that_is_filled_first_is_read_whole_at_the_end(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last look sees the filling too, byte for byte."""
    only(monkeypatch, Blow.HOST)
    outcome = torture(workspace, 1, filling_bytes=3 * 2**20)
    assert outcome.ok, outcome.verdict
    looks = [line for line in outcome.timeline.lines if line["what"] == "look"]
    assert looks[-1]["bytes"] > 3 * 2**20 > looks[0]["bytes"]


def test_a_run_that_is_interrupted_ends_in_good_order(workspace: Workspace) -> None:
    """With the last look at the store, and says so."""

    def interrupt(overseer: Overseer) -> None:
        overseer.interrupted = overseer.interrupted or overseer.watch.timeline.killed >= 1

    outcome = Overseer(Options(kills=1000), workspace, interrupt).run()
    assert outcome.ok, outcome.verdict
    assert outcome.interrupted
    assert outcome.timeline.lines[-1]["what"] == "host"


# -- a store that is meddled with between two hosts -------------------------------------------------------------------


def sql(workspace: Workspace, statement: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(workspace.store.path / "bgsuper.sqlite3"))
    try:
        return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


def lose_a_record(workspace: Workspace) -> bool:
    """An acknowledged record is gone."""
    return bool(sql(workspace, "DELETE FROM record WHERE id = (SELECT max(id) FROM record) RETURNING id"))


def alter_a_value(workspace: Workspace) -> bool:
    """One bit, with a checksum of the store's own that fits."""
    [(identifier, primary, secondary, name, value)] = sql(
        workspace, "SELECT id, primary_namespace, secondary_namespace, name, value FROM record ORDER BY id LIMIT 1"
    )
    assert isinstance(value, bytes)
    assert isinstance(name, str)
    value = value[:-1] + bytes([value[-1] ^ 1])
    checksum = rows.checksum(Key(str(primary), str(secondary), name), value)
    sql(workspace, "UPDATE record SET value = ?, checksum = ? WHERE id = ?", (value, checksum, identifier))
    return True


def revert_a_snapshot(workspace: Workspace) -> bool:
    """An older value of the key is in its place, whole."""
    found = sql(workspace, "SELECT name, seq, file FROM snapshot WHERE secondary_namespace = 'snapshots'")
    if not found:
        return False
    name, seq, file = found[0]
    assert isinstance(seq, int)
    value = value_of(Key("torture", "snapshots", str(name)), Origin(1, Seq(seq - 1), 2000))
    (workspace.store.path / "snapshots" / str(file)).write_bytes(value)
    digest = blake2b(value, digest_size=16).digest()
    sql(workspace, "UPDATE snapshot SET length = ?, digest = ? WHERE file = ?", (len(value), digest, file))
    return True


def add_a_record(workspace: Workspace) -> bool:
    """One that nobody submitted, in perfect order otherwise."""
    key = Key("torture", "records", "77")
    value = value_of(key, Origin(1, Seq(5), 30))
    values = (*key, rows.checksum(key, value), value)
    sql(
        workspace,
        "INSERT INTO record(primary_namespace, secondary_namespace, name, checksum, value) VALUES(?, ?, ?, ?, ?)",
        values,
    )
    return True


def forget_the_last_commit(workspace: Workspace) -> bool:
    """The store's newest number is that of an older store."""
    [(packed,)] = sql(workspace, "SELECT identity FROM meta")
    identity = Identity.unpack(packed, "the store")
    older = identity._replace(last_commit=Seq(1), last_snapshot=Seq(0))
    sql(workspace, "UPDATE meta SET identity = ?", (older.pack(),))
    return identity.last_commit > 1


def meddle(monkeypatch: pytest.MonkeyPatch, workspace: Workspace, how: Callable[[Workspace], bool]) -> list[bool]:
    """After each host's death, and its worker's, until it has happened once."""
    done: list[bool] = []
    bury = Watch.bury

    def bury_and_meddle(watch: Watch, died_at: float, *, orphan_stopped_s: float = 0.0) -> None:
        bury(watch, died_at, orphan_stopped_s=orphan_stopped_s)
        deadline = time.monotonic() + PATIENCE_S
        while watch.worker is not None and watch.worker.alive:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        if not done and how(workspace):
            done.append(True)

    monkeypatch.setattr(Watch, "bury", bury_and_meddle)
    return done


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        (lose_a_record, "lost"),
        (alter_a_value, "altered"),
        (revert_a_snapshot, "backwards"),
        (add_a_record, "foreign"),
        (forget_the_last_commit, "lost"),
    ],
)
def test_a_store_that_was_meddled_with_is_found_out(
    how: Callable[[Workspace], bool], kind: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next host, at its first look; and the store is kept as it was found."""
    only(monkeypatch, Blow.HOST)
    done = meddle(monkeypatch, workspace, how)
    outcome = torture(workspace, 10)
    assert done
    assert not outcome.ok
    assert kind in {violation.what for violation in outcome.timeline.violations}, outcome.verdict
    assert (workspace.evidence / "store" / "bgsuper.sqlite3").exists()


def test_the_same_run_without_meddling_finds_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above rests on."""
    only(monkeypatch, Blow.HOST)
    done = meddle(monkeypatch, workspace, lambda _: True)
    outcome = torture(workspace, 2)
    assert done
    assert outcome.ok, outcome.verdict


# -- a bgsuper with a bug ---------------------------------------------------------------------------------------------

ACK_BEFORE_THE_COMMIT = """
from bgsuper.ipc.frames import Kind
from bgsuper.worker.writer import Writer
apply = Writer._persistently
def acked_first(self, attempt):
    newest = [cell.cell_contents for cell in attempt.__closure__ if isinstance(cell.cell_contents, list)]
    if newest:
        self._link.send(Kind.ACK, newest[0][-1].seq, [0.0, 1])
    apply(self, attempt)
Writer._persistently = acked_first
"""
A_RECORD_NOT_READ = """
from bgsuper.store.sqlite import SQLiteStore
read = SQLiteStore.scan
SQLiteStore.scan = lambda self, primary, secondary, after, limit: read(self, primary, secondary, after, limit)[:-1]
"""
HALF_OF_A_BATCH = """
from bgsuper.store.sqlite import SQLiteStore
apply = SQLiteStore.apply
def half(self, group):
    apply(self, [commit._replace(puts=commit.puts[:6]) for commit in group])
SQLiteStore.apply = half
"""
REPLAY_DROPPED = """
from bgsuper.supervisor.backlog import Backlog
replay = Backlog.replay
def dropped(self, last_commit):
    replay(self, last_commit)
    if self._queued:
        self._newest_commit = self._queued[-1].commit.seq
        self.acked_commit = self._newest_commit
        self._queued.clear()
Backlog.replay = dropped
"""
EPOCH_REUSED = """
from bgsuper.store.identity import Identity
replace = Identity._replace
def without_the_bump(self, **changes):
    if "epoch" in changes:
        changes["epoch"] = max(changes["epoch"] - 1, 1)
    return replace(self, **changes)
Identity._replace = without_the_bump
from bgsuper.supervisor import core
core.check_epoch = lambda *_: None
"""


LATER_COMMIT_FORGOTTEN = """
from bgsuper.worker.writer import Writer
Writer._note_overtaken = lambda self, group: None
"""
ORPHAN_LEAVES_AT_ONCE = """
import os
from bgsuper.worker.inbox import Closed, Inbox
put = Inbox.put
def put_or_leave(self, item):
    if isinstance(item, Closed) and len(self):
        os._exit(0)
    put(self, item)
Inbox.put = put_or_leave
"""
SNAPSHOT_NOT_ADOPTED = """
from bgsuper.store.sqlite import SQLiteStore
adopt = SQLiteStore.adopt_snapshot
def sometimes(self, snapshot):
    if snapshot.seq % 4:
        adopt(self, snapshot)
SQLiteStore.adopt_snapshot = sometimes
"""


@pytest.mark.parametrize(
    ("bug", "said"),
    [
        pytest.param(ACK_BEFORE_THE_COMMIT, "was acknowledged", id="ack before the commit"),
        pytest.param(A_RECORD_NOT_READ, "missing", id="a record is not read"),
        pytest.param(HALF_OF_A_BATCH, "expected that of", id="half of a batch"),
        pytest.param(REPLAY_DROPPED, "was acknowledged", id="replay dropped"),
        pytest.param(EPOCH_REUSED, "a worker has the epoch 1, but there was one with 1", id="epoch reused"),
        pytest.param(LATER_COMMIT_FORGOTTEN, "torture/mixed/", id="a snapshot over a later commit"),
        pytest.param(ORPHAN_LEAVES_AT_ONCE, "expected that of|had received|missing", id="an orphan leaves at once"),
        pytest.param(SNAPSHOT_NOT_ADOPTED, "torture/", id="a snapshot is acknowledged and not adopted"),
    ],
)
def test_a_planted_bug_is_found(
    bug: str, said: str, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the general run, within few kills. The bug is in every host and worker: Python runs it at their start."""
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "sitecustomize.py").write_text(bug)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'planted'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    outcome = torture(workspace, 100, seed=2)
    assert not outcome.ok
    assert re.search(said, outcome.verdict), outcome.verdict
