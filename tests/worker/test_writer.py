"""The writer over a model store: acknowledgements after syncs, one order, one adoption, and what a full disk does."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from bgsuper.errors import ConfigError, FrameError, StoreFull, SyncFailed
from bgsuper.ipc.frames import Kind
from bgsuper.ipc.messages import Commit, Message
from bgsuper.ipc.remote import Allowed
from bgsuper.key import Key, Seq
from bgsuper.worker import writer as module
from bgsuper.worker.inbox import Closed, Commits, Inbox, Item, SnapshotDone
from bgsuper.worker.link import Link
from bgsuper.worker.snapshots import SnapshotLane
from bgsuper.worker.writer import Writer

from .model import Disk, Killed, ModelLane, ModelLink, ModelStore

A, B = Key("app", "", "a"), Key("app", "", "b")


def commit(
    seq: int, prev: int | None = None, puts: dict[Key, bytes] | None = None, removes: tuple[Key, ...] = ()
) -> Commits:
    batch = Commit(Seq(seq), Seq(seq - 1 if prev is None else prev), tuple((puts or {A: b"%d" % seq}).items()), removes)
    return Commits([batch], sum(len(value) for _, value in batch.puts))


def snapshot(seq: int, key: Key = A, *, critical: bool = False) -> Message:
    return Message(Kind.SNAPSHOT, seq, [*key, critical], b"snapshot %d" % seq)


class Bench:
    """A writer whose link, lane and disk lie open."""

    def __init__(self, *, users_persister: bool = False) -> None:
        self.store = ModelStore(Disk())
        self.link = ModelLink()
        self.inbox = Inbox()
        self.lane = ModelLane(self.store)
        self.writer = Writer(
            self.store,
            self.store.open(),
            cast(Link, self.link),
            self.inbox,
            Allowed(),
            users_persister=users_persister,
        )
        self.writer._lane = cast(SnapshotLane, self.lane)

    def serve(self, *items: Item) -> list[tuple[Kind, int]]:
        """What it says to `items`, taken in one pass."""
        self.writer._serve(list(items))
        return [(message.kind, message.seq) for message in self.link.take()]

    def finish(self, outcome: Exception | None = None) -> list[tuple[Kind, int]]:
        """The lane is done with its oldest job."""
        message, key, _ = self.lane.jobs.pop(0)
        return self.serve(
            SnapshotDone(message, outcome or self.store.write_snapshot(key, Seq(message.seq), message.payload))
        )

    @property
    def durable(self) -> dict[Key, bytes]:
        return self.store.disk.durable.values


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time passes when the writer sleeps, and at no other time."""
    pauses: list[float] = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    monkeypatch.setattr(module.time, "monotonic", lambda: 1000.0 + sum(pauses))
    return pauses


def times(count: int, error: Exception) -> Callable[[], None]:
    """Fails `count` times."""
    left = [count]

    def fail() -> None:
        if left[0]:
            left[0] -= 1
            raise error

    return fail


# -- commits ----------------------------------------------------------------------------------------------------------


def test_one_pass_is_one_group_and_one_ack() -> None:
    """Group commit: whatever came during the sync before."""
    bench = Bench()
    assert bench.serve(*(commit(seq) for seq in range(1, 6))) == [(Kind.ACK, 5)]
    assert bench.store.groups == [[1, 2, 3, 4, 5]]
    assert bench.durable == {A: b"5"}


def test_no_ack_before_the_sync() -> None:
    """A death between the write and its sync acknowledges nothing, though the commit can be read."""
    bench = Bench()

    def kill() -> None:
        raise Killed

    bench.store.before_sync = kill
    with pytest.raises(Killed):
        bench.serve(commit(1))
    assert bench.link.take() == []
    assert (bench.durable, bench.store.disk.cache.values) == ({}, {A: b"1"})


def test_a_duplicate_is_acknowledged_and_not_applied() -> None:
    """A replay after an ack that was lost."""
    bench = Bench()
    bench.serve(commit(1), commit(2))
    assert bench.serve(commit(1), commit(2), commit(3)) == [(Kind.ACK, 3)]
    assert bench.serve(commit(2)) == [(Kind.ACK, 3)]
    assert bench.store.groups == [[1, 2], [3]]


def test_of_commits_that_came_together_only_the_new_ones_are_applied() -> None:
    """Wherever in the row the new ones begin."""
    row = [commit(seq).row[0] for seq in range(1, 5)]
    for applied in range(5):
        bench = Bench()
        if applied:
            bench.serve(Commits(row[:applied], 0))
        assert bench.serve(Commits(row, 0)) == [(Kind.ACK, 4)]
        assert [seq for group in bench.store.groups for seq in group] == [1, 2, 3, 4]


def test_a_gap_is_an_error_and_never_bridged() -> None:
    """Numbers taken by snapshots leave holes; `prev` tells those from a loss."""
    bench = Bench()
    assert bench.serve(commit(4, prev=0)) == [(Kind.ACK, 4)]
    with pytest.raises(FrameError, match="a gap"):
        bench.serve(commit(7, prev=6))
    assert bench.store.groups == [[4]]


def test_groups_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In commits and in bytes, so that acks keep coming."""
    monkeypatch.setattr(module, "GROUP_COMMITS", 3)
    bench = Bench()
    assert bench.serve(*(commit(seq) for seq in range(1, 8))) == [(Kind.ACK, 3), (Kind.ACK, 6), (Kind.ACK, 7)]
    monkeypatch.setattr(module, "GROUP_BYTES", 100)
    bench = Bench()
    assert bench.serve(*(commit(seq, puts={A: bytes(60)}) for seq in range(1, 4))) == [(Kind.ACK, 2), (Kind.ACK, 3)]


def test_a_failed_sync_goes_up_unacknowledged() -> None:
    """It is never tried again by this process."""
    bench = Bench()
    bench.store.before_sync = times(1, SyncFailed("EIO"))
    with pytest.raises(SyncFailed):
        bench.serve(commit(1))
    assert bench.link.take() == []


def test_a_full_disk_is_tried_again_until_there_is_space(no_pauses: list[float]) -> None:
    """The host is told each time; pauses grow to a bound."""
    bench = Bench()
    bench.store.before_sync = times(9, StoreFull("no space"))
    assert bench.serve(commit(1)) == [(Kind.RETRYING, 0)] * 9 + [(Kind.ACK, 1)]
    assert no_pauses == sorted(no_pauses)
    assert (no_pauses[0], no_pauses[-1]) == (module.RETRY_FIRST_S, module.RETRY_MAX_S)


def test_an_orphan_gives_a_full_disk_up_in_bounded_time(no_pauses: list[float]) -> None:
    """Nobody will free space for a host that is gone, and its successor waits for the lock."""
    bench = Bench()
    bench.store.before_sync = times(10**9, StoreFull("no space"))
    bench.inbox.put(Closed(None))
    with pytest.raises(StoreFull):
        bench.serve(commit(1))
    assert module.ORPHAN_PATIENCE_S < sum(no_pauses) < module.ORPHAN_PATIENCE_S + 2 * module.RETRY_MAX_S


# -- reads ------------------------------------------------------------------------------------------------------------


def test_a_read_sees_the_commits_before_it_in_the_same_pass() -> None:
    """They are committed first."""
    bench = Bench()
    bench.writer._serve([commit(1), Message(Kind.READ, 1, list(A)), commit(2), Message(Kind.READ, 2, list(A))])
    assert [(m.kind, m.seq, m.payload) for m in bench.link.take()][1::2] == [
        (Kind.REPLY, 1, b"1"),
        (Kind.REPLY, 2, b"2"),
    ]


def test_reads_answer_absence_and_errors_apart() -> None:
    """An absent key is an empty answer; what cannot be read is an error, and nothing ends the worker."""
    bench = Bench()
    bench.writer._serve(
        [
            Message(Kind.READ, 1, list(A)),
            Message(Kind.READ, 2, ["a/b"]),
            Message(Kind.SCAN, 3, ["x"]),
            Message(Kind.SCAN, 4, ["app", "", ""]),
        ]
    )
    assert [message.fields[0] for message in bench.link.take()] == ["records", "error", "error", "records"]


# -- snapshots --------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_acknowledged_when_it_is_adopted() -> None:
    """And not when its file is written."""
    bench = Bench()
    assert bench.serve(snapshot(1)) == []
    assert bench.durable == {}
    assert bench.finish() == [(Kind.SNAPSHOT_ACK, 1)]
    assert bench.durable == {A: b"snapshot 1"}


def test_commits_do_not_wait_for_a_snapshot_and_those_of_its_key_win() -> None:
    """A later commit is never reverted; the file goes, the ack comes."""
    for late in (commit(2, 0), commit(2, 0, puts={B: b"x"}, removes=(A,))):
        bench = Bench()
        bench.serve(snapshot(1))
        assert bench.serve(late) == [(Kind.ACK, 2)]
        before = dict(bench.durable)
        assert bench.finish() == [(Kind.SNAPSHOT_ACK, 1)]
        assert bench.durable == before
        assert bench.store.files == {}


def test_a_commit_of_another_key_overtakes_nothing() -> None:
    """The snapshot is adopted beside it."""
    bench = Bench()
    bench.serve(snapshot(1), commit(2, prev=0, puts={B: b"x"}))
    bench.finish()
    assert bench.durable == {A: b"snapshot 1", B: b"x"}


def test_a_snapshot_after_a_commit_of_its_key_is_adopted() -> None:
    """What was overtaken is forgotten with its snapshot."""
    bench = Bench()
    bench.serve(snapshot(1), commit(2, prev=0))
    bench.finish()
    bench.serve(snapshot(3))
    assert bench.finish() == [(Kind.SNAPSHOT_ACK, 3)]
    assert bench.durable == {A: b"snapshot 3"}


def test_a_retried_snapshot_that_was_overtaken_is_not_adopted() -> None:
    """The disk was full when it was first written; the commit that came meanwhile stays."""
    bench = Bench()
    bench.serve(snapshot(1, critical=True))
    assert bench.finish(StoreFull("no space")) == [(Kind.RETRYING, 0)]
    bench.serve(commit(2, prev=0))
    assert bench.finish() == [(Kind.SNAPSHOT_ACK, 1)]
    assert bench.durable == {A: b"2"}

    bench = Bench()
    bench.serve(snapshot(1, critical=True), commit(2, prev=0))
    assert bench.finish(StoreFull("no space")) == [(Kind.SNAPSHOT_ACK, 1)]
    assert bench.lane.jobs == []
    assert bench.durable == {A: b"2"}


def test_a_mere_snapshot_that_fails_is_told_and_no_more() -> None:
    """The graph costs no worker; what it wrote is removed from the full disk."""
    bench = Bench()
    bench.serve(snapshot(1))
    assert bench.finish(StoreFull("no space")) == [(Kind.SNAPSHOT_FAILED, 1)]
    bench.serve(snapshot(2))
    bench.store.before_sync = times(1, StoreFull("no space"))
    assert bench.finish() == [(Kind.SNAPSHOT_FAILED, 2)]
    assert bench.store.files == {}
    assert bench.serve(commit(3, prev=0)) == [(Kind.ACK, 3)]


def test_a_critical_snapshot_waits_for_space_and_fails_loudly() -> None:
    """Written again after a pause, adopted when there is space; any other error ends the worker."""
    bench = Bench()
    bench.serve(snapshot(1, critical=True))
    assert bench.finish(StoreFull("no space")) == [(Kind.RETRYING, 0)]
    assert bench.lane.jobs[0][2] == module.RETRY_MAX_S
    bench.store.before_sync = times(2, StoreFull("no space"))
    assert bench.finish() == [(Kind.RETRYING, 0)] * 2 + [(Kind.SNAPSHOT_ACK, 1)]
    bench.serve(snapshot(2, critical=True))
    with pytest.raises(OSError, match="a bug"):
        bench.finish(OSError("a bug"))


@pytest.mark.parametrize("critical", [False, True])
def test_a_failed_sync_of_an_adoption_ends_the_worker(critical: bool) -> None:
    """It is the commit lane's: nothing more may be written by this process."""
    bench = Bench()
    bench.serve(snapshot(1, critical=critical))
    bench.store.before_sync = times(1, SyncFailed("EIO"))
    with pytest.raises(SyncFailed):
        bench.finish()


# -- the run ----------------------------------------------------------------------------------------------------------


def test_it_ends_when_everything_that_came_is_durable() -> None:
    """Also the snapshot that is still being written when the host hangs up."""
    bench = Bench()
    bench.writer._lane = SnapshotLane(bench.store, bench.inbox)
    for item in (commit(1), snapshot(2, B), commit(3, prev=1), Closed(None)):
        bench.inbox.put(item)
    bench.writer.run()
    assert bench.durable == {A: b"3", B: b"snapshot 2"}
    assert [message.kind for message in bench.link.take()].count(Kind.SNAPSHOT_ACK) == 1


def test_bytes_that_made_no_sense_end_it_after_what_came_before() -> None:
    """What was whole is durable; then the error goes up."""
    bench = Bench()
    bench.inbox.put(commit(1))
    bench.inbox.put(Closed(FrameError("nonsense")))
    with pytest.raises(FrameError, match="nonsense"):
        bench.writer.run()
    assert bench.durable == {A: b"1"}


@pytest.mark.parametrize(
    "message",
    [
        Message(Kind.HELLO, 0, []),
        Message(Kind.CONFIG, 0, []),
        Message(Kind.SNAPSHOT, 1, ["x"]),
        Message(Kind.SNAPSHOT, 1, ["", "x", "y", True]),
        Message(Kind.COMMIT, 1, ["x"]),
    ],
)
def test_what_no_host_sends_is_a_frame_error(message: Message) -> None:
    """Typed, whatever it is."""
    with pytest.raises(FrameError):
        Bench().serve(message)


def test_a_chore_without_space_is_put_off(no_pauses: list[float]) -> None:
    """A full disk must not end a worker that has nothing to write."""
    bench = Bench()

    class Busy(ModelStore):
        has_idle_work = True

        def idle(self) -> None:
            self.idled += 1
            if self.idled == 1:
                raise StoreFull("no space")
            bench.inbox.put(Closed(None))

    waits: list[float | None] = []
    take = bench.inbox.take

    def recording(timeout: float | None = None) -> list[Item]:
        waits.append(timeout)
        return take(0 if timeout is not None else None)

    bench.inbox.take = recording  # type: ignore[method-assign]
    busy = Busy(bench.store.disk)
    bench.writer._store = busy
    bench.writer.run()
    assert busy.idled == 2
    assert waits[:3] == [module.IDLE_S, module.RETRY_MAX_S, module.IDLE_S]


def test_a_persisters_key_must_be_one_it_takes() -> None:
    """A snapshot of another key is refused with a reason, not with a KeyError."""
    from bgsuper.worker.persister import PersisterStore

    with pytest.raises(ConfigError, match="manager"):
        PersisterStore("tests.supervisor.persisters:Files", {}).write_snapshot(A, Seq(1), b"")


def test_what_a_users_persister_raises_is_its_word() -> None:
    """Even StoreFull: for the manager it ends the worker and is not retried, for the graph it is told and no more."""
    bench = Bench(users_persister=True)
    bench.store.before_sync = times(1, StoreFull("my disk"))
    bench.serve(snapshot(1))
    assert bench.finish() == [(Kind.SNAPSHOT_FAILED, 1)]
    bench.store.before_sync = times(1, StoreFull("my disk"))
    bench.serve(snapshot(2, critical=True))
    with pytest.raises(StoreFull, match="my disk"):
        bench.finish()
