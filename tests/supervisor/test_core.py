"""What the core makes of a worker's words, silence and deaths: no process, no sleep."""

from __future__ import annotations

import pytest

from bgsuper.errors import (
    ConfigError,
    RestartBudgetSpent,
    ShutdownIncomplete,
    StoreCorrupt,
    StoreFull,
    StoreInconsistent,
    SyncFailed,
    WorkerStartFailed,
)
from bgsuper.health import WorkerState as State
from bgsuper.ipc.frames import Kind
from bgsuper.ipc.messages import Message
from bgsuper.ipc.remote import Allowed, describe
from bgsuper.supervisor.children import Exit
from bgsuper.supervisor.core import Action
from bgsuper.supervisor.policy import RestartPolicy
from bgsuper.supervisor.restarts import UNAVAILABLE_RETRY_S
from bgsuper.supervisor.snapshot_failures import KEPT

from .rig import A, B, Rig, observe


def ready(policy: RestartPolicy | None = None) -> Rig:
    rig = Rig(policy)
    rig.up()
    rig.actions()
    return rig


# -- restarts ---------------------------------------------------------------------------------------------------------


def test_a_crash_storm_fails_with_everything_unacknowledged_intact() -> None:
    """After `intensity` deaths the next one is RestartBudgetSpent; the commits are still there to be counted."""
    rig = ready(RestartPolicy(intensity=3))
    rig.commit(A)
    rig.commit(B)
    for _ in range(3):
        rig.die()
        rig.tick(1)
        rig.hello()
    assert rig.state is State.READY
    rig.die()
    assert rig.state is State.FAILED
    assert isinstance(rig.core.failure(), RestartBudgetSpent)
    assert rig.core.backlog.unacked == 2
    assert rig.core.failure() is not rig.core.failure()


def test_boot_failures_have_a_budget_of_their_own() -> None:
    """A successor that never says HELLO is tried `start_intensity` times, though crashes have a larger budget."""
    rig = ready(RestartPolicy(intensity=50, start_intensity=2))
    rig.die()
    for _ in range(2):
        rig.die(code=3)
        rig.tick(1)
        assert rig.state is State.STARTING
    rig.die(code=3)
    assert isinstance(rig.core.failure(), RestartBudgetSpent)
    assert "exit status 3" in str(rig.core.failure())


def test_the_streak_ends_only_with_an_ack_after_a_whole_period() -> None:
    """Being up for long is not enough, nor is an ack of a young worker: both together prove a worker."""
    for up_s, acked, starts_at_once in ((60.0, True, True), (59.0, True, False), (60.0, False, False)):
        rig = ready(RestartPolicy(intensity=50, backoff_first_s=1e6, backoff_max_s=1e6))
        rig.die()
        rig.hello()
        seq = rig.commit()
        rig.take_all()
        rig.tick(up_s)
        if acked:
            rig.ack(seq)
        rig.die()
        assert (rig.state is State.STARTING) is starts_at_once


def test_stop_cuts_a_back_off_short_and_charges_nothing_for_it() -> None:
    """What is un-acknowledged is still made durable; the death that it waits after is not counted twice."""
    rig = ready(RestartPolicy(intensity=2, backoff_first_s=1e6, backoff_max_s=1e6))
    rig.commit()
    rig.die()
    rig.hello()
    rig.die()
    assert (rig.state, rig.actions()) == (State.EXITED, [Action.LAUNCH])
    rig.stop()
    assert (rig.state, rig.actions()) == (State.STARTING, [Action.LAUNCH])
    assert rig.core.failure() is None


def test_stop_during_a_back_off_with_nothing_to_write_ends_for_good() -> None:
    """No successor is launched for nothing, not even when its time comes."""
    rig = ready(RestartPolicy(intensity=9))
    rig.die()
    rig.hello()
    rig.die()
    rig.actions()
    rig.stop()
    rig.tick(1000)
    assert (rig.state, rig.actions(), rig.core.failure()) == (State.ENDED, [], None)


def test_a_worker_that_says_it_ends_and_does_not_is_killed() -> None:
    """ERROR announces a death; it has `kill_timeout_s` to keep its word, and then as long to die of SIGKILL."""
    rig = ready()
    rig.error("crash", RuntimeError("oops"))
    assert (rig.state, rig.actions()) == (State.DYING, [])
    rig.tick(5)
    assert (rig.state, rig.actions()) == (State.DYING, [Action.KILL])
    rig.tick(4.9)
    assert rig.state is State.DYING
    rig.tick(0.1)
    assert rig.state is State.WEDGED


def test_a_wedged_worker_is_never_replaced_until_it_is_dead() -> None:
    """Two writers never exist, whatever it costs."""
    rig = ready()
    seq = rig.commit()
    rig.core.broken(RuntimeError("nonsense"), rig.now)
    assert rig.actions() == [Action.KILL]
    for _ in range(1000):
        rig.tick(60)
    assert (rig.state, rig.actions(), rig.core.timer()) == (State.WEDGED, [], None)
    rig.die()
    assert (rig.state, rig.actions()) == (State.STARTING, [Action.LAUNCH])
    rig.hello()
    assert [message.seq for message in rig.take_all()] == [seq]


# -- the start --------------------------------------------------------------------------------------------------------


def test_a_worker_without_hello_fails_the_start_within_its_deadline() -> None:
    """The host learns of it at the deadline; the worker is killed."""
    rig = Rig()
    rig.start(timeout=7.0)
    assert (rig.actions(), rig.core.timer()) == ([Action.LAUNCH], rig.now + 7.0)
    rig.tick(6.9)
    assert rig.core.failure() is None
    rig.tick(0.1)
    assert isinstance(rig.core.failure(), WorkerStartFailed)
    assert (rig.state, rig.actions()) == (State.DYING, [Action.KILL])
    rig.die()
    assert rig.state is State.FAILED


def test_a_worker_that_dies_before_the_first_hello_says_why() -> None:
    """Its last words are in the message."""
    rig = Rig()
    rig.start()
    rig.core.died(Exit(1, None), "ModuleNotFoundError: No module named 'apsw'", rig.now)
    assert rig.state is State.FAILED
    assert "No module named 'apsw'" in str(rig.core.failure())


@pytest.mark.parametrize("verdict", ["fatal", "sync", "unavailable"])
def test_a_store_that_cannot_be_opened_fails_the_start_with_its_own_error(verdict: str) -> None:
    """At start nothing is retried: whoever starts it decides."""
    rig = Rig()
    rig.start()
    rig.error(verdict, StoreCorrupt("the header is damaged"))
    rig.die(code=1)
    assert rig.state is State.FAILED
    assert isinstance(rig.core.failure(), StoreCorrupt)


def test_a_successor_that_finds_no_space_is_tried_again_without_charge() -> None:
    """A full disk outlasts any budget, and loses nothing."""
    rig = ready(RestartPolicy(intensity=1, start_intensity=1))
    seq = rig.commit()
    rig.die()
    for _ in range(50):
        assert (rig.state, rig.actions()) == (State.STARTING, [Action.LAUNCH])
        rig.error("unavailable", StoreFull("no space"))
        rig.die(code=1)
        assert rig.state is State.EXITED
        rig.tick(UNAVAILABLE_RETRY_S)
    rig.hello(epoch=2)
    assert rig.state is State.READY
    assert [message.seq for message in rig.take_all()] == [seq]


def test_stop_does_not_wait_for_space_that_a_successor_lacks() -> None:
    """A worker that ends for want of space while we stop: the host hears of the disk."""
    rig = ready()
    rig.commit()
    rig.stop()
    rig.error("unavailable", StoreFull("no space"))
    rig.die(code=1)
    assert isinstance(rig.core.failure(), StoreFull)
    assert rig.state is State.FAILED


# -- HELLO ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("claimed", [1, 6, 99])
def test_a_hello_that_goes_back_or_ahead_is_inconsistent(claimed: int) -> None:
    """The store may not lack what was acknowledged, nor have what was never submitted."""
    rig = ready()
    for _ in range(5):
        rig.commit()
    rig.take_all()
    rig.ack(2)
    rig.die()
    rig.hello(claimed)
    assert isinstance(rig.core.failure(), StoreInconsistent)
    assert (rig.state, rig.actions()[-1]) == (State.DYING, Action.KILL)
    assert rig.core.backlog.unacked == 3  # nothing was dropped
    assert rig.core.backlog.durable == 2
    rig.die()
    assert rig.state is State.FAILED


@pytest.mark.parametrize(
    ("launches", "epoch", "good"),
    [(1, 7, False), (1, 6, False), (1, 8, True), (1, 9, False), (3, 10, True), (3, 11, False)],
)
def test_an_epoch_that_none_of_our_workers_made_is_inconsistent(launches: int, epoch: int, good: bool) -> None:
    """It rises by one with each worker at most: a greater jump is another program's, whose commits may bear the numbers
    of ours; one that does not rise is an older copy's."""
    rig = Rig(RestartPolicy(intensity=9, start_intensity=9))
    rig.start()
    rig.hello(epoch=7)
    for _ in range(launches):
        rig.die()
        rig.tick(1)
    assert rig.state is State.STARTING
    rig.hello(epoch=epoch)
    assert (rig.core.failure() is None) is good
    if not good:
        assert isinstance(rig.core.failure(), StoreInconsistent)


def test_a_persisters_epochs_mean_nothing() -> None:
    """It has no fence: its epoch is its process id."""
    rig = Rig()
    rig.start()
    rig.hello(epoch=5000, atomic=None)
    rig.die()
    rig.hello(epoch=17, atomic=None)
    assert rig.state is State.READY
    assert not rig.core.atomic


def test_numbers_go_on_from_the_stores_newest() -> None:
    """A snapshot's number is never given out again, though commits follow the newest commit."""
    rig = Rig()
    rig.up(last_commit=41, last_seq=57)
    assert rig.core.backlog.durable == 57
    assert rig.commit() == 58
    [message] = rig.take_all()
    assert (message.seq, message.fields[0]) == (58, 41)


# -- words that no worker says ----------------------------------------------------------------------------------------

NONSENSE: list[tuple[Kind, int, list[object]]] = [
    (Kind.HELLO, 0, [2, 0, 0, True, None]),
    (Kind.ACK, 4, [0.1, 1]),
    (Kind.ACK, 99, [0.1, 1]),
    (Kind.ACK, 1, []),
    (Kind.ACK, 1, [1, 1]),
    (Kind.SNAPSHOT_ACK, 1, []),
    (Kind.SNAPSHOT_FAILED, 1, []),
    (Kind.REPLY, 1, []),
    (Kind.REPLY, 1, ["records", [["a", "", "b", 5]]]),
    (Kind.PROGRESS, 0, [1, 2, 3]),
    (Kind.RETRYING, 0, ["no space"]),
    (Kind.ERROR, 0, ["maybe", []]),
    (Kind.ERROR, 0, ["crash", []]),
    (Kind.COMMIT, 1, []),
    (Kind.CONFIG, 0, []),
    (Kind.SHUTDOWN, 0, []),
]


@pytest.mark.parametrize(("kind", "seq", "fields"), NONSENSE)
def test_nonsense_kills_the_worker_and_loses_nothing(kind: Kind, seq: int, fields: list[object]) -> None:
    """Nothing it says can be trusted any more: it is replaced, and its successor gets what was un-acknowledged."""
    rig = ready()
    for _ in range(3):
        rig.commit()
    rig.take_all()
    rig.say(kind, seq, fields)
    assert (rig.state, rig.actions()) == (State.DYING, [Action.KILL])
    assert rig.core.backlog.durable == 0
    rig.die()
    rig.hello()
    assert [message.seq for message in rig.take_all()] == [1, 2, 3]


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (Kind.HELLO, Kind.ERROR)])
def test_before_its_hello_a_successor_is_believed_nothing(kind: Kind) -> None:
    """An ACK from a worker that has not said what it has would drop what its predecessor was sent."""
    rig = ready()
    rig.commit()
    rig.take_all()
    rig.die()
    rig.actions()
    rig.say(kind, 1, [0.1, 1])
    assert (rig.state, rig.actions()) == (State.DYING, [Action.KILL])
    assert rig.core.backlog.unacked == 1


def test_acks_that_a_dying_worker_sent_still_count() -> None:
    """What it said before it died is true."""
    rig = ready()
    seq = rig.commit()
    rig.take_all()
    rig.core.pipe_closed(rig.now)
    rig.ack(seq)
    assert rig.core.backlog.durable == seq


# -- reads ------------------------------------------------------------------------------------------------------------


def test_a_read_goes_behind_the_commits_submitted_before_it_and_before_later_ones() -> None:
    """It must see every earlier commit, and must not wait for a busy host's later ones."""
    rig = ready()
    before = [rig.commit() for _ in range(50)]
    request = rig.core.ask(Kind.READ, list(A))
    after = [rig.commit() for _ in range(50)]
    sent = [(message.kind, message.seq) for message in rig.take_all()]
    at = sent.index((Kind.READ, request.number))
    assert {seq for _, seq in sent[:at]} >= set(before)
    assert {seq for _, seq in sent[at:]} & set(after)


def test_a_read_is_asked_again_of_the_successor_behind_what_is_replayed() -> None:
    """A worker's death is not a read's end, and its answer is as new as ever."""
    rig = ready()
    seq = rig.commit()
    request = rig.core.ask(Kind.READ, list(A))
    rig.take_all()
    rig.die()
    rig.hello()
    assert [(m.kind, m.seq) for m in rig.take_all()] == [(Kind.COMMIT, seq), (Kind.READ, request.number)]
    rig.say(Kind.REPLY, request.number, ["records", [[*A, 1]]], b"v")
    assert request.answer == [(A, b"v")]


def test_a_reply_that_nobody_waits_for_is_dropped() -> None:
    """Whoever asked may have given up; that is no fault of the worker's."""
    rig = ready()
    request = rig.core.ask(Kind.READ, list(A))
    rig.take_all()
    rig.core.requests.withdraw(request)
    rig.say(Kind.REPLY, request.number, ["records", []])
    assert (rig.state, request.answer) == (State.READY, None)


def test_a_withdrawn_read_is_not_sent() -> None:
    """Nor does it block what is behind it."""
    rig = ready()
    rig.core.requests.withdraw(rig.core.ask(Kind.READ, list(A)))
    seq = rig.commit()
    assert [message.seq for message in rig.take_all()] == [seq]


def test_nothing_can_be_read_before_the_first_hello() -> None:
    """There is nobody to ask."""
    with pytest.raises(ConfigError):
        Rig().core.ask(Kind.READ, list(A))


# -- the disk ---------------------------------------------------------------------------------------------------------


def test_one_failed_sync_is_survived_by_a_worker_that_distrusts_the_cache() -> None:
    """Nothing is lost: everything un-acknowledged is written again."""
    rig = ready()
    seq = rig.commit()
    rig.take_all()
    assert not rig.core.distrust_cache
    rig.error("sync", SyncFailed("EIO"))
    rig.die(code=1)
    assert rig.core.distrust_cache
    assert (rig.state, rig.core.failure()) == (State.STARTING, None)
    rig.hello()
    assert [message.seq for message in rig.take_all()] == [seq]


@pytest.mark.parametrize(("gap", "fails"), [(59.9, True), (60.0, False)])
def test_two_failed_syncs_within_the_period_end_it(gap: float, fails: bool) -> None:
    """The disk, not the process, is at fault; each caller gets an error object of its own."""
    rig = ready()
    rig.error("sync", SyncFailed("EIO"))
    rig.die(code=1)
    rig.hello()
    rig.tick(gap)
    rig.error("sync", SyncFailed("EIO"))
    rig.die(code=1)
    assert (rig.state is State.FAILED) is fails
    if fails:
        first, second = rig.core.failure(), rig.core.failure()
        assert type(first) is type(second) is SyncFailed
        assert first is not second


def test_a_full_disk_is_a_state_and_no_restart() -> None:
    """RETRYING makes DISK_FULL, an ack ends it, and nothing is charged."""
    rig = ready()
    seq = rig.commit()
    rig.take_all()
    for _ in range(20):
        rig.retrying(StoreFull("no space"))
        rig.tick(2)
        assert rig.state is State.DISK_FULL
    assert "no space" in rig.core.evidence
    rig.ack(seq)
    assert (rig.state, rig.core.restarts, rig.actions()) == (State.READY, 0, [])


# -- stopped, slow, suspended -----------------------------------------------------------------------------------------


def test_a_stopped_worker_is_killed_after_its_grace_and_a_debugged_one_never() -> None:
    """SIGSTOP may be a mistake, a debugger is meant."""
    rig = ready()
    rig.look("stopped")
    rig.tick(9.9)
    assert (rig.state, rig.actions()) == (State.STOPPED, [])
    rig.tick(0.1)
    assert (rig.state, rig.actions()) == (State.DYING, [Action.KILL])

    rig = ready()
    rig.look("tracing-stop")
    rig.tick(1e6)
    assert (rig.state, rig.actions()) == (State.STOPPED, [])


def test_a_stopped_worker_that_goes_on_is_ready_again() -> None:
    """No restart, and a later stop has the whole grace again."""
    rig = ready()
    rig.look("stopped")
    rig.tick(9)
    rig.look("sleeping")
    assert (rig.state, rig.core.restarts) == (State.READY, 0)
    rig.tick(5)
    rig.look("stopped")
    rig.tick(9)
    assert rig.state is State.STOPPED


def test_an_old_commit_makes_it_lagging_and_an_ack_ready_again() -> None:
    """Measured at the oldest commit or critical snapshot; a new worker gets the whole time."""
    rig = ready()
    first = rig.commit()
    rig.take_all()
    rig.tick(3)
    second = rig.commit()
    rig.take_all()
    assert rig.core.timer() == rig.now + 2
    rig.tick(2)
    assert rig.state is State.LAGGING
    rig.ack(first)
    assert rig.state is State.READY
    rig.tick(3)
    assert rig.state is State.LAGGING
    rig.die()
    rig.hello(first)
    rig.tick(4.9)
    assert rig.state is State.READY
    rig.tick(0.1)
    assert rig.state is State.LAGGING
    rig.take_all()
    rig.ack(second)
    assert (rig.state, rig.core.timer()) == (State.READY, None)


def test_an_ack_that_leaves_an_old_commit_keeps_it_lagging() -> None:
    """Progress alone is not catching up."""
    rig = ready()
    seqs = [rig.commit() for _ in range(2)]
    rig.take_all()
    rig.tick(5)
    rig.ack(seqs[0])
    assert rig.state is State.LAGGING


def test_a_mere_snapshot_never_makes_it_lag() -> None:
    """Nobody's output waits for a graph."""
    rig = ready()
    rig.snapshot(A)
    rig.tick(1000)
    assert rig.state is State.READY


def test_time_that_nobody_ran_counts_for_no_deadline_of_the_workers() -> None:
    """A suspended machine must not kill its worker on waking up."""
    rig = Rig()
    rig.start(timeout=10)
    rig.now += 3600
    rig.core.slept(3595)
    rig.tick()
    assert rig.state is State.STARTING
    rig.hello()
    rig.look("stopped")
    rig.now += 3600
    rig.core.slept(3595)
    rig.tick()
    assert rig.state is State.STOPPED
    rig.tick(5)
    assert rig.state is State.DYING
    rig.now += 3600
    rig.core.slept(3600)
    rig.tick()
    assert rig.state is State.DYING


# -- stop -------------------------------------------------------------------------------------------------------------


def stop_ready(rig: Rig) -> None:
    rig.commit()


def stop_frozen(rig: Rig) -> None:
    rig.commit()
    rig.look("stopped")


def stop_saying_goodbye(rig: Rig) -> None:
    rig.commit()
    rig.error("crash", RuntimeError("oops"))


@pytest.mark.parametrize("state", [stop_ready, stop_frozen, stop_saying_goodbye])
@pytest.mark.parametrize(("timeout", "kill_at"), [(1.0, 0.8), (4.0, 3.2), (10.0, 8.0), (30.0, 28.0)])
def test_stop_drains_then_kills_then_abandons(state: object, timeout: float, kill_at: float) -> None:
    """One deadline: the last fifth of it, 2 s at most, is SIGKILL's; a worker that outlives that is abandoned."""
    rig = ready(RestartPolicy(kill_timeout_s=1000, stopped_grace_s=1000))
    assert callable(state)
    state(rig)
    rig.stop(timeout)
    assert rig.core.timer() == pytest.approx(rig.now + kill_at)
    rig.tick(kill_at - 0.01)
    assert rig.actions() == []
    rig.tick(0.02)
    assert (rig.state, rig.actions()) == (State.DYING, [Action.KILL])
    # Nothing is due before the end: a shell that waits for `timer` does not spin.
    assert rig.core.timer() == pytest.approx(rig.now + timeout - kill_at - 0.01)
    rig.tick(timeout - kill_at)
    assert (rig.state, rig.actions()) == (State.FAILED, [Action.ABANDON])
    failure = rig.core.failure()
    assert isinstance(failure, ShutdownIncomplete)
    assert (failure.unacked, failure.outcome) == (1, "abandoned")


def test_a_worker_killed_by_stop_is_reported_with_what_it_left() -> None:
    """ShutdownIncomplete counts what was never acknowledged."""
    rig = ready()
    rig.commit(A)
    rig.commit(B)
    rig.snapshot(A)
    rig.stop(10)
    rig.tick(8)
    rig.die()
    failure = rig.core.failure()
    assert isinstance(failure, ShutdownIncomplete)
    assert (rig.state, failure.unacked, failure.outcome) == (State.FAILED, 3, "killed")


def test_a_stop_that_must_kill_a_worker_with_nothing_left_is_a_good_one() -> None:
    """Everything is durable: how the worker ended does not matter."""
    rig = ready()
    rig.stop(10)
    rig.tick(8)
    assert rig.actions() == [Action.KILL]
    rig.die()
    assert (rig.state, rig.core.failure()) == (State.ENDED, None)


def test_stop_sends_everything_before_it_half_closes_once() -> None:
    """End of file is the worker's signal to drain: nothing may come after it."""
    rig = ready()
    seqs = [rig.commit() for _ in range(100)]
    snapshot = rig.snapshot(B, bytes(1_000_000))
    rig.stop()
    assert rig.actions() == []
    assert [message.seq for message in rig.take_all()] == [*seqs, snapshot]
    assert rig.actions() == [Action.HALF_CLOSE]
    assert not rig.core.has_output
    rig.core.pipe_closed(rig.now)
    assert rig.state is State.STOPPING


def test_a_worker_that_dies_while_it_drains_is_replaced_at_once() -> None:
    """stop() means durable: the successor gets the rest, without a back-off, within the same deadline."""
    rig = ready()
    first, second = rig.commit(A), rig.commit(B)
    rig.stop(30)
    rig.take_all()
    rig.ack(first)
    rig.die()
    assert (rig.state, rig.actions()[-1]) == (State.STARTING, Action.LAUNCH)
    rig.hello(first)
    assert rig.state is State.STOPPING
    assert [message.seq for message in rig.take_all()] == [second]
    rig.ack(second)
    rig.die(code=0)
    assert (rig.state, rig.core.failure()) == (State.ENDED, None)


def test_a_second_stop_can_only_tighten_the_deadline() -> None:
    """A host that exits while a patient stop() runs must not wait for it."""
    rig = ready()
    rig.commit()
    rig.stop(3600)
    rig.stop(7200)
    assert rig.core.timer() == rig.now + 3598
    rig.stop(10)
    assert rig.core.timer() == rig.now + 8


def test_a_failure_is_what_stop_raises_even_after_it_abandons() -> None:
    """The first error is the cause; running out of time is its consequence."""
    rig = ready()
    rig.error("fatal", StoreCorrupt("damaged"))
    rig.stop(1)
    rig.tick(10)
    assert isinstance(rig.core.failure(), StoreCorrupt)
    assert rig.core.ended


# -- snapshots that fail ----------------------------------------------------------------------------------------------


def test_a_failed_snapshot_is_told_to_whoever_waits_and_forgotten_with_the_next_good_one() -> None:
    """By number for a waiter, by key for health."""
    rig = ready()
    seq = rig.snapshot(A)
    rig.take_all()
    described = Message(Kind.SNAPSHOT_FAILED, seq, _described(StoreFull("no space")))
    rig.core.received(described, rig.now)
    assert rig.core.backlog.is_durable(seq)  # settled: nobody waits any more
    error = rig.core.snapshot_failures.at(seq)
    assert error is not None
    assert str(error()).endswith("no space")
    assert rig.core.snapshot_failures.of(A) is not None
    newer = rig.snapshot(A)
    rig.take_all()
    rig.snapshot_ack(newer)
    assert rig.core.snapshot_failures.of(A) is None
    assert rig.state is State.READY


def test_a_failure_is_told_for_every_number_that_it_settles() -> None:
    """However many snapshots of one key piled up behind it: none of them may pass for durable."""
    rig = ready()
    numbers = [rig.snapshot(A) for _ in range(3 * KEPT)]
    rig.take_all()
    rig.say(Kind.SNAPSHOT_FAILED, numbers[-1], _described(StoreFull("no space")))
    assert all(rig.core.snapshot_failures.at(seq) is not None for seq in numbers)


def test_only_so_many_failures_are_remembered() -> None:
    """A disk that is full for a week must not fill the memory."""
    rig = ready()
    numbers = []
    for _ in range(KEPT + 10):
        numbers.append(rig.snapshot(A))
        rig.take_all()
        rig.say(Kind.SNAPSHOT_FAILED, numbers[-1], _described(StoreFull("no space")))
    assert [seq for seq in numbers if rig.core.snapshot_failures.at(seq) is None] == numbers[:10]


def _described(error: Exception) -> list[object]:
    return describe(error, allowed=Allowed())


@pytest.mark.parametrize("kind", Kind)
def test_no_word_makes_a_core_do_anything_before_it_is_started(kind: Kind) -> None:
    """Not that anybody could say one."""
    rig = Rig()
    before = observe(rig.core)
    rig.say(kind, 1, [])
    assert observe(rig.core) == before


def test_a_second_stop_after_the_kill_does_not_lift_the_deadline() -> None:
    """The worker is killed for want of time; a tighter stop() that follows must not call it back to life."""
    rig = ready()
    rig.commit()
    rig.stop(30.0)
    rig.tick(28.0)
    assert Action.KILL in rig.actions()
    rig.tick(0.1)
    rig.stop(1.0)
    rig.tick(0.1)
    rig.die()
    assert rig.state is State.FAILED
    assert rig.actions() == []
    assert isinstance(rig.core.failure(), ShutdownIncomplete)


def test_a_stop_without_time_still_gives_the_kernel_some() -> None:
    """A healthy worker is killed, not abandoned."""
    rig = ready()
    rig.stop(0.0)
    rig.tick(0.06)
    assert rig.actions() == [Action.KILL]
    assert rig.state is State.DYING
    rig.die()
    assert rig.state is State.ENDED


def test_a_debugger_that_comes_or_goes_while_it_is_stopped_counts() -> None:
    """The grace ends when a debugger attaches, and begins when it has gone and the stop has stayed."""
    rig = ready()
    grace = rig.core.policy.stopped_grace_s
    rig.look("stopped")
    rig.look("tracing-stop")
    rig.tick(10 * grace)
    assert rig.state is State.STOPPED
    rig.look("stopped")
    rig.tick(grace / 2)
    rig.look("stopped")
    assert rig.state is State.STOPPED
    rig.tick(grace / 2)
    assert rig.state is State.DYING
