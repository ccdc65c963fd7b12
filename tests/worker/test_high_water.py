"""The mark lane: it keeps up with acknowledgements, delays none of them, and survives its disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import cast

import pytest

from bgsuper.errors import ConfigError, StoreCorrupt, StoreError, StoreFull, StoreUnavailable
from bgsuper.ipc.frames import Kind
from bgsuper.ipc.messages import Commit, Message
from bgsuper.ipc.remote import Allowed, RemoteException
from bgsuper.key import Key, Seq
from bgsuper.store.api import Opened
from bgsuper.store.high_water import BEYOND, SLOT_BYTES, Found, HighWater, Mark, read_mark
from bgsuper.worker import high_water as module
from bgsuper.worker.high_water import MarkLane, open_lane
from bgsuper.worker.inbox import Commits, Inbox, SnapshotDone
from bgsuper.worker.link import Link
from bgsuper.worker.snapshots import SnapshotLane
from bgsuper.worker.writer import Writer

from ..supervisor.hosts import eventually
from .model import Disk, Killed, ModelLane, ModelLink, ModelStore

OURS = b"o" * 16
A = Key("app", "", "a")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mark"


@pytest.fixture(autouse=True)
def long_seconds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The second between two writes never ends, but where a test lets it; and no thread is left behind."""
    monkeypatch.setattr(module, "INTERVAL_S", 3600.0)
    lanes: list[MarkLane] = []
    start = MarkLane.start

    def kept(lane: MarkLane) -> None:
        lanes.append(lane)
        start(lane)

    monkeypatch.setattr(MarkLane, "start", kept)
    yield
    for lane in lanes:
        lane.close()
        assert not lane._thread.is_alive()


def opened(last_commit: int, last_seq: int = 0, epoch: int = 1, store_id: bytes = OURS) -> Opened:
    return Opened(epoch, Seq(last_commit), Seq(max(last_commit, last_seq)), store_id)


def lane_of(path: Path, last_commit: int, last_seq: int = 0, epoch: int = 1) -> MarkLane:
    lane = open_lane(str(path), opened(last_commit, last_seq, epoch), required=True)
    assert lane is not None
    return lane


def highest(path: Path) -> int:
    mark = read_mark(str(path))
    assert mark is not None
    return mark.highest


# -- keeping up -------------------------------------------------------------------------------------------------------


def test_a_second_of_commits_is_one_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is written at once, the others wait for the second to pass; at the end the last is written, synced."""
    done: list[str] = []
    raise_to, sync = HighWater.raise_to, HighWater.sync

    def write(mark: HighWater, seq: Seq, snapshot: Seq, epoch: int) -> None:
        raise_to(mark, seq, snapshot, epoch)
        done.append(f"write {seq}")

    def make_durable(mark: HighWater) -> None:
        sync(mark)
        done.append("sync")

    monkeypatch.setattr(HighWater, "raise_to", write)
    lane = lane_of(path, 0)
    eventually(lambda: done == ["write 0"])
    monkeypatch.setattr(HighWater, "sync", make_durable)
    for seq in range(1, 1000):
        lane.acknowledged(Seq(seq))
    assert done == ["write 0"]
    lane.close()
    assert done == ["write 0", "write 999", "sync"]
    assert highest(path) == 999


def test_the_last_commit_before_a_pause_is_written_within_a_second(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to send anything more for that."""
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)
    lane = lane_of(path, 0)
    for seq in range(1, 50):
        lane.acknowledged(Seq(seq))
    eventually(lambda: highest(path) == 49)
    lane.acknowledged(Seq(50))
    eventually(lambda: highest(path) == 50)


def test_a_critical_snapshot_is_written_within_a_second(path: Path) -> None:
    """Those of several keys come in any order; and they are no commits."""
    lane = lane_of(path, 3, last_seq=5)
    lane.snapshot_acknowledged(Seq(9))
    lane.snapshot_acknowledged(Seq(8))
    lane.close()
    assert read_mark(str(path)) == Mark(OURS, Seq(3), 1, snapshot=Seq(9))


def test_while_it_changes_it_is_synced_every_some_seconds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the records alternate, and one that is damaged leaves one that is hardly older; also in a pause."""
    monkeypatch.setattr(module, "INTERVAL_S", 0.001)
    monkeypatch.setattr(module, "SYNC_S", 0.05)
    lane = lane_of(path, 0)
    for seq in range(1, 6):
        lane.acknowledged(Seq(seq))
        eventually(lambda seq=seq: not lane._mark.unsynced and highest(path) == seq)  # type: ignore[misc]
    content = bytearray(path.read_bytes())
    newest = lane._mark._newest.slot * SLOT_BYTES
    lane.close()
    content[newest + 10] ^= 1
    path.write_bytes(content)
    assert highest(path) == 4


def test_a_mark_that_does_not_change_is_not_synced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for hours; nor does a sync that fails come again at once."""
    lane = lane_of(path, 0)
    assert lane._until_sync() is None
    lane._mark.raise_to(Seq(1), Seq(0), 1)
    assert lane._until_sync() == pytest.approx(module.SYNC_S, abs=5)
    lane._synced_at -= module.SYNC_S
    assert lane._until_sync() == 0.0
    monkeypatch.setattr(lane._mark, "_fsync", lambda _: os.fsync(10**6))
    with pytest.raises(StoreError):
        lane._keep_up()
    assert lane._until_sync() == pytest.approx(module.SYNC_S, abs=5)


def test_what_the_mark_lagged_behind_by_is_caught_up_at_the_start(path: Path) -> None:
    """HELLO claims it, so it is durable."""
    lane_of(path, 5).close()
    lane_of(path, 9, epoch=2)
    eventually(lambda: read_mark(str(path)) == Mark(OURS, Seq(9), 2))


def test_a_disk_that_hangs_holds_up_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither acknowledgements nor the end."""
    lane = lane_of(path, 0)
    hangs, goes_on = Event(), Event()
    pwrite = os.pwrite

    def slow(fd: int, data: bytes, offset: int) -> int:
        hangs.set()
        assert goes_on.wait(30)
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", slow)
    monkeypatch.setattr(module, "INTERVAL_S", 0.0)
    monkeypatch.setattr(module, "CLOSE_S", 0.01)
    lane.acknowledged(Seq(1))
    lane._hurry.set()
    assert hangs.wait(30)
    for seq in range(2, 1000):
        lane.acknowledged(Seq(seq))
    lane.close()
    assert lane._thread.is_alive()
    goes_on.set()
    lane._thread.join(30)
    assert highest(path) == 999


def test_a_mark_that_cannot_be_written_is_told_once_a_time(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the file; when there is space again it is written again."""
    lane = lane_of(path, 0)
    tries: list[int] = []

    def full(*_: object) -> int:
        tries.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "INTERVAL_S", 0.001)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        lane._hurry.set()
        for seq in range(1, 4):
            lane.acknowledged(Seq(seq))
            eventually(lambda seq=seq: len(tries) >= seq)  # type: ignore[misc]
    lane.acknowledged(Seq(9))
    eventually(lambda: highest(path) == 9)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert f"{path} failed: No space left on device" in said[0]
    assert "commits go on" in said[0]


# -- the start --------------------------------------------------------------------------------------------------------


def test_what_hello_claims_of_a_store_that_is_behind(path: Path) -> None:
    """The mark and what was found, and numbers beyond anything that was ever given out."""
    lane_of(path, 100).close()
    lane = lane_of(path, 60)
    assert lane.claims() == (100 + BEYOND, [100, 60])
    lane.close()
    assert lane_of(path, 60, last_seq=2 * BEYOND).claims() == (2 * BEYOND, [100, 60])


def test_what_hello_claims_of_a_store_that_is_not(path: Path) -> None:
    """As if there was no mark."""
    lane_of(path, 100).close()
    assert lane_of(path, 100, last_seq=105).claims() == (105, None)


def test_a_new_mark_for_a_store_in_use_is_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its disk may not be mounted. A new store's first start is nothing to speak of."""
    lane_of(path, 7)
    said = capsys.readouterr().err
    assert f"a new high-water mark was made at {path}, though the store has come to 7 already" in said
    lane_of(path.with_name("other"), 0)
    assert capsys.readouterr().err == ""


def test_one_damaged_record_is_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The other one serves."""
    lane_of(path, 0).close()
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    lane_of(path, 0)
    assert f"a record of the high-water mark {path} was damaged" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"nonsense", None])
def test_a_hosts_first_worker_insists_on_its_mark_and_a_successor_does_not(
    path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Damaged, or another store's: its host knows from the first one how the store stands."""
    if content is not None:
        path.write_bytes(content)
    else:
        HighWater.open(str(path), opened(0, store_id=b"x" * 16)).close()
    with pytest.raises((StoreCorrupt, ConfigError), match=str(path)):
        open_lane(str(path), opened(5), required=True)
    assert capsys.readouterr().err == ""
    assert open_lane(str(path), opened(5), required=False) is None
    assert "this worker goes on without it" in capsys.readouterr().err


# -- proved current ---------------------------------------------------------------------------------------------------


def test_proved_current_is_answered_once_it_is_durable(path: Path) -> None:
    """At once, not after the second; from what is acknowledged by then."""
    lane_of(path, 100).close()
    lane = lane_of(path, 60, epoch=2)
    lane.acknowledged(Seq(200))
    answers: list[tuple[StoreError | None, Mark | None]] = []
    lane.prove_current(lambda error: answers.append((error, read_mark(str(path)))))
    eventually(lambda: answers)
    assert answers == [(None, Mark(OURS, Seq(200), 2, floor=Seq(100 + BEYOND)))]


def test_a_proof_that_cannot_be_made_durable_is_answered_with_why(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is still behind, and another try may succeed."""
    lane_of(path, 100).close()
    lane = lane_of(path, 60)
    answers: list[StoreError | None] = []

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        lane.prove_current(answers.append)
        eventually(lambda: answers)
    assert isinstance(answers[0], StoreFull)
    assert read_mark(str(path)) == Mark(OURS, Seq(100), 1, Found(Seq(60), Seq(100)), floor=Seq(100 + BEYOND))
    lane.prove_current(answers.append)
    eventually(lambda: len(answers) == 2)
    assert answers[1] is None


# -- the writer -------------------------------------------------------------------------------------------------------


class Steps:
    """In the place of a lane: the mark is written in the writer's own time, and it may die before that or after."""

    def __init__(self, mark: HighWater, dies: str) -> None:
        self.mark, self.dies = mark, dies

    def acknowledged(self, seq: Seq) -> None:
        self._dies("after the ACK")
        self.mark.raise_to(seq, Seq(0), 1)
        self._dies("after the mark")

    def _dies(self, here: str) -> None:
        if self.dies == here:
            raise Killed


class Life:
    """One worker on a model disk and a real mark, up to its death."""

    def __init__(self, disk: Disk, path: Path, dies: str = "") -> None:
        self.store = ModelStore(disk)
        claimed = self.store.open()
        self.found = HighWater.open(str(path), claimed._replace(store_id=OURS))
        self.link = ModelLink()
        self.last = claimed.last_commit

        def die() -> None:
            raise Killed

        if dies == "before the sync":
            self.store.before_sync = die
        if dies == "after the sync":
            self.store.after_sync = die
        steps = cast(MarkLane, Steps(self.found, dies))
        self.writer = Writer(self.store, claimed, cast(Link, self.link), Inbox(), Allowed(), mark=steps)
        self.writer._lane = cast(SnapshotLane, ModelLane(self.store))

    def commit(self, count: int) -> None:
        group = [
            Commit(Seq(seq), Seq(seq - 1), ((A, b"%d" % seq),), ())
            for seq in range(self.last + 1, self.last + 1 + count)
        ]
        self.last, before = group[-1].seq, self.found.mark.highest
        try:
            self.writer._serve([Commits(group, 0)])
        finally:
            acks = [message.seq for message in self.link.take() if message.kind is Kind.ACK]
            assert self.found.mark.highest in (before, *acks)


@pytest.mark.parametrize("dies", ["before the sync", "after the sync", "after the ACK", "after the mark"])
def test_a_worker_that_dies_at_any_step_never_leaves_its_store_behind(path: Path, dies: str) -> None:
    """The mark is never ahead of what is durable, whether a kill or a power cut ends it."""
    disk = Disk()
    for power_cut in (False, True):
        for count in (1, 3, 2):
            life = Life(disk, path)
            life.commit(2)
            assert highest(path) == disk.durable.last_commit
            life.found.close()
            life = Life(disk, path, dies)
            with pytest.raises(Killed):
                life.commit(count)
            life.found.close()
            assert highest(path) <= disk.durable.last_commit
            if power_cut:
                disk.cache = disk.durable.copy()
            life = Life(disk, path)
            assert life.found.mark.behind is None
            life.found.close()


class Told:
    """In the place of a lane: what it was told of, and what had been sent by then."""

    def __init__(self, link: ModelLink) -> None:
        self.link = link
        self.told: list[tuple[int, list[tuple[Kind, int]]]] = []

    def acknowledged(self, seq: int) -> None:
        self.told.append((seq, [(message.kind, message.seq) for message in self.link.sent]))

    snapshot_acknowledged = acknowledged


def test_the_writer_tells_its_lane_of_acknowledged_commits(path: Path) -> None:
    """After the ACK, with its number."""
    life = Life(Disk(), path)
    lane = Told(life.link)
    life.writer._mark = cast(MarkLane, lane)
    life.commit(3)
    life.commit(1)
    assert lane.told == [(3, [(Kind.ACK, 3)]), (4, [(Kind.ACK, 4)])]
    life.found.close()


def test_the_writer_tells_its_lane_of_critical_snapshots_that_are_in_the_store(path: Path) -> None:
    """After their ACK. A mere one is no truth that is missed, and one that a commit overtook is not in the store."""
    life = Life(Disk(), path)
    lane = Told(life.link)
    life.writer._mark = cast(MarkLane, lane)
    for seq, critical in ((1, False), (2, True)):
        snapshot(life, seq, critical)
    assert lane.told == [(2, [(Kind.SNAPSHOT_ACK, 1), (Kind.SNAPSHOT_ACK, 2)])]
    lane.told.clear()
    life.writer._serve([Message(Kind.SNAPSHOT, 3, [*A, True], b"whole")])
    life.writer._serve([Commits([Commit(Seq(4), Seq(0), ((A, b"4"),), ())], 0)])
    finish(life, 3, critical=True)
    assert [seq for seq, _ in lane.told] == [4]
    assert life.link.sent[-1].kind is Kind.SNAPSHOT_ACK
    life.found.close()


def snapshot(life: Life, seq: int, critical: bool) -> None:
    life.writer._serve([Message(Kind.SNAPSHOT, seq, [*A, critical], b"whole")])
    finish(life, seq, critical)


def finish(life: Life, seq: int, critical: bool) -> None:
    written = life.store.write_snapshot(A, Seq(seq), b"whole")
    life.writer._serve([SnapshotDone(Message(Kind.SNAPSHOT, seq, [*A, critical], b""), written)])


def test_the_writer_answers_for_its_lane(path: Path) -> None:
    """A proof is a question like any other; without a mark it says so."""
    life = Life(Disk(), path)
    answers: list[StoreError | None] = [None, StoreFull("no space")]

    class Lane:
        def prove_current(self, answer: module.Answer) -> None:
            answer(answers.pop(0))

    life.writer._mark = cast(MarkLane, Lane())
    life.writer._serve([Message(Kind.CURRENT, 1, []), Message(Kind.CURRENT, 2, [])])
    life.writer._mark = None
    life.writer._serve([Message(Kind.CURRENT, 3, [])])
    first, second, third = life.link.take()
    assert (first.kind, first.seq, first.fields) == (Kind.REPLY, 1, ["records", []])
    for message, kind in ((second, StoreFull), (third, StoreUnavailable)):
        assert message.fields[0] == "error"
        assert isinstance(RemoteException.decode(message.fields[1], allowed=Allowed()).rebuild(), kind)
    life.found.close()
