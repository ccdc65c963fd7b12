"""Every way in which a worker can fare badly: by what evidence the core knows it, and what it does about it.

No process, no sleep: what psutil, the kernel and the worker say is made up, in the words in which a shell reports it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from itertools import pairwise

import pytest

from bgsuper.errors import (
    RestartBudgetSpent,
    ShutdownIncomplete,
    StoreCorrupt,
    StoreFull,
    StoreInconsistent,
    StoreUnavailable,
    WorkerStartFailed,
)
from bgsuper.health import DeathCause
from bgsuper.health import WorkerState as State
from bgsuper.ipc.frames import Kind
from bgsuper.supervisor.core import Action, Core
from bgsuper.supervisor.diagnosis import LOOKS
from bgsuper.supervisor.life import TRANSITIONS, Event
from bgsuper.supervisor.policy import RestartPolicy
from bgsuper.supervisor.restarts import SLOW_BOOTS, UNAVAILABLE_RETRY_S

from .rig import A, B, Rig
from .test_core_table import REACH, rig_in

#: Restarts are not what these tests are about.
PATIENT = RestartPolicy(intensity=1000, start_intensity=1000)
LONG_ENOUGH = 100.0  #: for any back-off


def ready(policy: RestartPolicy = PATIENT) -> Rig:
    rig = Rig(policy)
    rig.up()
    rig.actions()
    return rig


def reborn(rig: Rig, last_commit: int = 0) -> None:
    """The successor is up."""
    rig.tick(LONG_ENOUGH if rig.state is State.EXITED else 0)
    rig.hello(last_commit)
    rig.actions()


def numbers(rig: Rig) -> list[int]:
    """What goes on the wire now."""
    return [message.seq for message in rig.take_all()]


def stall(rig: Rig, looks: int = LOOKS) -> None:
    rig.looks(looks, "disk-sleep", switches=7, write_bytes=4096)


def hang(rig: Rig) -> None:
    """Until it is HUNG, and not a look longer."""
    looks = 1 + round(rig.core.policy.hung_s / rig.core.policy.vitals_interval_s)
    rig.looks(looks, "sleeping", switches=7, write_bytes=4096, cpu_s=1.0)


def bloat(rig: Rig) -> None:
    rig.looks(LOOKS, rss_bytes=rig.core.policy.rss_soft_bytes + 1)


# -- every row of the table -------------------------------------------------------------------------------------------


def read_and_hang(rig: Rig) -> None:
    rig.core.ask(Kind.READ, list(A))  # a commit would make it LAGGING first
    rig.take_all()
    hang(rig)


def catch_up(rig: Rig) -> None:
    if not rig.core.backlog.unacked:
        rig.commit()
    rig.take_all()
    rig.ack(rig.core.backlog.submitted)


def outlive(rig: Rig) -> None:
    rig.tick(rig.core.policy.kill_timeout_s)
    rig.tick(rig.core.policy.kill_timeout_s)


def launch(rig: Rig) -> None:
    if rig.state is State.IDLE:
        rig.start()
    else:
        rig.tick(LONG_ENOUGH)


def lag(rig: Rig) -> None:
    rig.commit()
    rig.tick(rig.core.limits.lagging_s)


def fail(rig: Rig) -> None:
    if rig.state is State.STARTING:
        rig.core.launch_failed(OSError("no memory"), rig.now)
    elif rig.state is State.EXITED:
        reborn(rig)
        rig.error("fatal", StoreCorrupt("damaged"))
        rig.die(code=1)
    else:
        rig.stop(1.0)
        rig.tick(0.8)
        rig.tick(0.2)


#: What a shell reports, or what the host asks for, that brings each event about.
BRING: dict[Event, Callable[[Rig], None]] = {
    Event.LAUNCH: launch,
    Event.HELLO: lambda rig: rig.hello(),
    Event.LAG: lag,
    Event.STALL: lambda rig: stall(rig, LOOKS + 1),  # a late one is none
    Event.NO_SPACE: lambda rig: rig.retrying(StoreFull("no space")),
    Event.RETRY: lambda rig: rig.retrying(StoreUnavailable("no descriptors")),
    Event.HANG: read_and_hang,
    Event.BLOAT: bloat,
    Event.CATCH_UP: catch_up,
    Event.FREEZE: lambda rig: rig.look("stopped"),
    Event.THAW: lambda rig: rig.look("sleeping", switches=8, write_bytes=8192),
    Event.STOP: lambda rig: rig.stop(),
    Event.KILL: lambda rig: rig.core.broken(ValueError("nonsense"), rig.now),
    Event.OUTLIVE: outlive,
    Event.DIE: lambda rig: rig.die(),
    Event.END: lambda rig: rig.stop(),
    Event.FAIL: fail,
    Event.COLLAPSE: lambda rig: rig.core.shell_failed(RuntimeError("a bug"), rig.now),
}

ROWS = [
    pytest.param(
        *row,
        id="-".join(part.name for part in row),
    )
    for row in TRANSITIONS
]


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[State, Event]]:
    """Every row that a core has walked, also those that do not change its state."""
    rows: list[tuple[State, Event]] = []
    go = Core._go

    def walk(core: Core, event: Event, now: float, evidence: str, cause: DeathCause | None = None) -> None:
        before = core.state
        go(core, event, now, evidence, cause)
        assert evidence
        rows.append((before, event))

    monkeypatch.setattr(Core, "_go", walk)
    return rows


@pytest.mark.parametrize(("state", "event"), ROWS)
def test_every_row_is_brought_about_by_what_a_shell_reports(
    state: State, event: Event, walked: list[tuple[State, Event]]
) -> None:
    """No row is there for show; each change of state stands in the history with what it rests on, in order."""
    rig = rig_in(state)
    walked.clear()
    BRING[event](rig)
    assert (state, event) in walked
    told = rig.core.history.all()
    for before, after in pairwise(told):
        assert before.state is after.before
        assert before.at <= after.at
    assert told[0].before is State.IDLE
    assert told[-1].state is rig.state
    for transition in told:
        assert transition.evidence
        assert transition.before is not transition.state
        # A cause is given exactly where a death is what happened.
        assert (transition.cause is not None) is (transition.state is State.EXITED)
    changes = [(row[0], TRANSITIONS[row]) for row in walked if TRANSITIONS[row] is not row[0]]
    walk = [(transition.before, transition.state) for transition in told]
    assert walk[len(walk) - len(changes) :] == changes


#: What each state's evidence must say.
SAYS = {
    State.IDLE: "not started",
    State.STARTING: "launched by start()",
    State.READY: "epoch 1",
    State.LAGGING: "older than 5 s",
    State.DISK_STALLED: "disk-sleep of its writer at 3 looks",
    State.DISK_FULL: "no space",
    State.RETRYING: "no descriptors",
    State.STOPPED: "psutil says stopped",
    State.HUNG: "work waits, and for 30.0 s nothing was done",
    State.BLOATED: "over the soft limit at 3 looks",
    State.DYING: "closed the pipe",
    State.WEDGED: "alive 5 s after SIGKILL",
    State.EXITED: "signal SIGKILL",
    State.STOPPING: "stop()",
    State.ENDED: "everything is acknowledged",
    State.FAILED: "damaged",
}


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_the_evidence_says_why_in_words(state: State) -> None:
    """What psutil, the kernel or the worker said; an operator acts on it."""
    assert SAYS[state] in rig_in(state).core.evidence
    assert set(REACH) == set(State)


def test_ready_says_what_its_writer_is_doing() -> None:
    """As its heartbeat has it."""
    rig = ready()
    rig.progress(done=0, phase="checkpoint")
    assert "checkpoint" in rig.core.evidence


# -- hung -------------------------------------------------------------------------------------------------------------


def hung(policy: RestartPolicy = PATIENT) -> Rig:
    rig = ready(policy)
    rig.commit()
    rig.take_all()
    hang(rig)
    assert rig.state is State.HUNG
    return rig


def test_a_hung_worker_writes_its_stacks_and_is_killed_and_replaced() -> None:
    """First the dump, `dump_s` later SIGKILL; nothing is lost, and the death says what hung."""
    rig = hung()
    assert rig.actions() == [Action.DUMP]
    assert rig.core.timer() == rig.now + rig.core.policy.dump_s
    rig.tick(0.99 * rig.core.policy.dump_s)
    assert rig.actions() == []
    rig.tick(0.01 * rig.core.policy.dump_s)
    assert (rig.state, rig.actions()) == (State.DYING, [Action.KILL])
    rig.die()
    assert (rig.core.last_cause, rig.actions()) == (DeathCause.KILLED, [Action.LAUNCH])
    assert "nothing was done" in (rig.core.last_death or "")
    reborn(rig)
    assert numbers(rig) == [1]


def test_a_dump_is_asked_for_once() -> None:
    """Looks go on while it is written."""
    rig = hung(RestartPolicy(dump_s=10.0))
    rig.looks(5)
    assert rig.actions() == [Action.DUMP]


@pytest.mark.parametrize(
    ("word", "then"),
    [
        (lambda rig: rig.ack(1), State.READY),
        (lambda rig: rig.progress(done=1), State.READY),
        (lambda rig: rig.retrying(StoreFull("no space")), State.DISK_FULL),
        (lambda rig: rig.retrying(StoreUnavailable("no descriptors")), State.RETRYING),
    ],
    ids=["ack", "heartbeat", "disk full", "retrying"],
)
def test_a_hung_worker_that_gets_on_is_spared(word: Callable[[Rig], None], then: State) -> None:
    """Until the last moment."""
    rig = hung()
    rig.actions()
    rig.now += 0.99 * rig.core.policy.dump_s
    word(rig)
    assert rig.state is then
    rig.now += rig.core.policy.dump_s
    rig.tick()
    assert rig.actions() == []
    assert rig.state in (then, State.LAGGING)


def test_a_hung_worker_that_answers_is_spared() -> None:
    """A read that took longer than `hung_s` came to its end after all."""
    rig = ready()
    request = rig.core.ask(Kind.READ, list(A))
    rig.take_all()
    hang(rig)
    assert rig.actions() == [Action.DUMP]
    rig.say(Kind.REPLY, request.number, ["records", []])
    rig.tick(rig.core.policy.dump_s)
    assert (rig.state, rig.actions()) == (State.READY, [])


def test_a_heartbeat_without_progress_spares_nobody() -> None:
    """Its reader lives, its writer does not."""
    rig = ready()
    rig.commit()
    rig.take_all()
    for _ in range(1 + round(rig.core.policy.hung_s)):
        rig.looks(1, switches=7, write_bytes=4096)
        rig.progress(done=0)
    assert rig.state is State.HUNG
    rig.progress(done=0)
    rig.tick(rig.core.policy.dump_s)
    assert rig.actions() == [Action.DUMP, Action.KILL]


@pytest.mark.parametrize("figures", [{"status": "disk-sleep"}, {"status": "sleeping", "write_bytes": 8192}])
def test_a_hung_worker_that_turns_out_to_wait_for_the_disk_is_spared(figures: dict[str, object]) -> None:
    """The disk is never taken for a hang, and a worker stuck in it is never killed for it."""
    rig = hung(RestartPolicy(dump_s=5.0))
    rig.actions()
    rig.looks(4, **figures)  # type: ignore[arg-type]
    rig.tick(5.0)
    assert rig.actions() == []


def test_a_debugger_that_looks_at_a_hung_worker_is_left_alone() -> None:
    """Whoever saw the alarm and attached wants to know why; a debugger's stop is never answered with a kill."""
    rig = hung(RestartPolicy(dump_s=5.0))
    rig.actions()
    rig.looks(10, "tracing-stop")
    assert rig.actions() == []


def test_hung_while_stopping_it_is_killed_and_its_successor_drains() -> None:
    """stop() means durable: a deadlock in the first worker does not cost the commits, within the same deadline."""
    rig = ready()
    seq = rig.commit()
    rig.stop(1000.0)
    rig.take_all()
    assert rig.actions() == [Action.HALF_CLOSE]
    hang(rig)
    assert (rig.state, rig.actions()) == (State.STOPPING, [Action.DUMP])
    assert "nothing was done" in rig.core.evidence
    rig.tick(rig.core.policy.dump_s)
    assert (rig.state, rig.actions()) == (State.DYING, [Action.KILL])
    rig.die()
    assert (rig.state, rig.actions()) == (State.STARTING, [Action.LAUNCH])
    rig.hello()
    assert (rig.state, numbers(rig)) == (State.STOPPING, [seq])
    rig.ack(seq)
    rig.die(code=0)
    assert (rig.state, rig.core.failure()) == (State.ENDED, None)


def test_a_worker_that_says_while_stopping_that_it_retries_is_spared() -> None:
    """It waits for space, not for a lock; the host's deadline ends it, nothing else."""
    rig = ready()
    rig.commit()
    rig.stop(1000.0)
    rig.take_all()
    hang(rig)
    rig.actions()
    rig.retrying(StoreFull("no space"))
    rig.tick(rig.core.policy.dump_s)
    assert (rig.state, rig.actions()) == (State.STOPPING, [])


def test_a_worker_that_boots_is_never_hung() -> None:
    """It has a deadline of its own, and faulthandler may not be there yet."""
    rig = ready(RestartPolicy(hung_s=5.0, hello_timeout_s=100.0))
    rig.commit()
    rig.die()
    rig.actions()
    rig.looks(50, switches=7, write_bytes=4096)
    assert (rig.state, rig.actions()) == (State.STARTING, [])


def test_hanging_is_charged() -> None:
    """A deadlock that is met again and again must end somewhere: with everything un-acknowledged intact."""
    rig = ready(RestartPolicy(intensity=1, period_s=3600.0))
    rig.commit()
    for _ in range(2):
        rig.take_all()
        hang(rig)
        rig.tick(rig.core.policy.dump_s)
        rig.die()
        if rig.state is State.STARTING:
            rig.hello()
    assert isinstance(rig.core.failure(), RestartBudgetSpent)
    assert rig.core.backlog.unacked == 1


def test_a_minute_that_nobody_ran_hangs_nobody() -> None:
    """Host and worker stopped together, or the machine slept: nothing is concluded from looks across the gap."""
    rig = ready()
    rig.commit()
    rig.take_all()
    rig.looks(29, switches=7, write_bytes=4096)
    for _ in range(5):
        rig.now += 60.0
        rig.core.slept(60.0)
        rig.look(switches=7, write_bytes=4096)
        rig.tick()
        rig.looks(28, switches=7, write_bytes=4096)
    assert rig.actions() == []
    assert rig.core.restarts == 0


# -- too large --------------------------------------------------------------------------------------------------------


def test_a_worker_that_grew_too_large_finishes_what_it_has_and_is_replaced() -> None:
    """The rest of a half-sent snapshot still goes out, nothing new does; its acknowledgements count; its successor
    comes at once and gets what was left."""
    rig = ready()
    sent = rig.commit()
    rig.take_all()
    snapshot = rig.snapshot(B, bytes(1_000_000))
    assert rig.take() == []  # its first frame
    bloat(rig)
    assert rig.state is State.BLOATED
    waiting = rig.commit()
    assert numbers(rig) == [snapshot]
    assert (rig.actions(), rig.core.has_output) == ([Action.HALF_CLOSE], False)
    rig.ack(sent)
    rig.snapshot_ack(snapshot)
    assert rig.state is State.BLOATED
    rig.core.pipe_closed(rig.now)
    rig.die(code=0)
    assert (rig.state, rig.actions(), rig.core.last_cause) == (State.STARTING, [Action.LAUNCH], DeathCause.ASKED)
    rig.hello(sent)
    assert numbers(rig) == [waiting]


def recycle(rig: Rig) -> None:
    bloat(rig)
    assert rig.state is State.BLOATED
    rig.take_all()
    rig.die(code=0)
    rig.hello()
    assert rig.state is State.READY


def test_planned_replacements_are_free() -> None:
    """As many as periods go by, and the one death that the budget allows is still allowed."""
    rig = ready(RestartPolicy(intensity=1))
    for _ in range(20):
        recycle(rig)
        rig.tick(rig.core.policy.period_s)
    recycle(rig)
    rig.die()
    assert (rig.state, rig.core.failure()) == (State.STARTING, None)
    rig.hello()
    rig.die()
    assert isinstance(rig.core.failure(), RestartBudgetSpent)


def test_it_is_replaced_once_a_period_at_most() -> None:
    """One large value makes every successor as large: it serves on, and health says how large it is."""
    rig = ready()
    recycle(rig)
    began = rig.now
    while rig.now < began + rig.core.policy.period_s - 2 * LOOKS:
        rig.looks(1, rss_bytes=rig.core.policy.rss_soft_bytes + 1)
        assert rig.state is State.READY
    rig.looks(2 * LOOKS, rss_bytes=rig.core.policy.rss_soft_bytes + 1)
    assert rig.state is State.BLOATED


def test_over_the_hard_limit_it_is_killed_at_once_and_charged() -> None:
    """There is no time to finish anything."""
    for state in (State.READY, State.BLOATED, State.STARTING, State.STOPPING, State.LAGGING):
        rig = rig_in(state)
        rig.actions()
        rig.look(rss_bytes=rig.core.policy.rss_hard_bytes + 1)
        assert (rig.state, rig.actions()) == (State.DYING, [Action.KILL])
        assert "hard limit" in rig.core.evidence
    rig = ready(RestartPolicy(intensity=1))
    for _ in range(2):
        rig.look(rss_bytes=rig.core.policy.rss_hard_bytes + 1)
        rig.die()
        assert rig.core.last_cause is DeathCause.KILLED
        if not rig.core.ended:
            rig.hello()
    assert isinstance(rig.core.failure(), RestartBudgetSpent)


def test_one_that_is_to_be_replaced_and_never_finishes_is_killed() -> None:
    """In bounded time; what it had is replayed."""
    rig = ready()
    seq = rig.commit()
    rig.take_all()
    bloat(rig)
    rig.take_all()
    began = rig.now
    rig.actions()
    rig.tick(rig.core.policy.recycle_timeout_s - 0.001)
    assert (rig.state, rig.actions()) == (State.BLOATED, [])
    rig.now = began
    rig.tick(rig.core.policy.recycle_timeout_s)
    assert (rig.state, rig.actions()) == (State.DYING, [Action.KILL])
    assert "not finished" in rig.core.evidence
    rig.die()
    assert rig.core.last_cause is DeathCause.KILLED
    reborn(rig)
    assert numbers(rig) == [seq]


def test_stop_while_it_is_being_replaced_drains_through_its_successor() -> None:
    """What it was not given any more is not lost."""
    rig = ready()
    bloat(rig)
    seq = rig.commit()
    rig.stop(100.0)
    assert (numbers(rig), rig.actions()) == ([], [Action.HALF_CLOSE])
    rig.die(code=0)
    rig.hello()
    assert (rig.state, numbers(rig)) == (State.STOPPING, [seq])
    rig.ack(seq)
    rig.die(code=0)
    assert (rig.state, rig.core.failure()) == (State.ENDED, None)


def test_one_that_dies_by_another_hand_while_it_is_being_replaced_is_charged() -> None:
    """Only what we asked for is free."""
    rig = ready(RestartPolicy(intensity=1))
    rig.die()
    rig.hello()
    bloat(rig)
    rig.take_all()
    rig.die()
    assert rig.core.last_cause is DeathCause.OUTSIDE
    assert isinstance(rig.core.failure(), RestartBudgetSpent)


# -- the disk ---------------------------------------------------------------------------------------------------------


def test_a_stalled_worker_is_never_killed_for_it() -> None:
    """A day in the disk, with work waiting: reported, and left alone; SIGKILL would not free it."""
    rig = ready()
    seq = rig.commit()
    rig.take_all()
    for _ in range(100):
        stall(rig, 864)
        assert rig.state is State.DISK_STALLED
        assert rig.core.timer() is None
    assert (rig.actions(), rig.core.restarts) == ([], 0)
    rig.ack(seq)
    assert rig.state is State.READY


def test_a_stalled_worker_that_moves_again_is_given_its_time() -> None:
    """A thawed disk is no reason to kill: it has the whole of `hung_s` from then on."""
    rig = ready()
    rig.commit()
    rig.take_all()
    stall(rig, 1000)
    rig.looks(round(rig.core.policy.hung_s) - 1, switches=8, write_bytes=4096)
    assert rig.state in (State.READY, State.LAGGING)
    assert rig.actions() == []


def test_a_late_look_thaws_nobody() -> None:
    """The host was starved for some seconds; nothing moved before, across or after the gap."""
    rig = ready()
    stall(rig)
    rig.tick(10.0)
    for _ in range(LOOKS):
        rig.look("disk-sleep", switches=7, write_bytes=4096)
        assert rig.state is State.DISK_STALLED
        rig.tick(1.0)


def test_a_heartbeat_ends_no_stall() -> None:
    """It may speak of what was done before."""
    rig = ready()
    stall(rig)
    rig.progress(done=5)
    assert rig.state is State.DISK_STALLED


def test_stop_while_stalled_is_bounded() -> None:
    """The one deadline of stop() holds whatever the disk does."""
    rig = ready()
    rig.commit()
    rig.take_all()
    stall(rig)
    rig.stop(10.0)
    for _ in range(8):
        stall(rig, 1)
    assert rig.actions() == [Action.KILL]
    for _ in range(2):
        stall(rig, 1)
    failure = rig.core.failure()
    assert isinstance(failure, ShutdownIncomplete)
    assert (failure.outcome, failure.unacked) == ("abandoned", 1)


def test_a_worker_that_retries_says_why_and_goes_back_to_work() -> None:
    """DISK_FULL and RETRYING are told apart, one may follow the other, and neither costs a restart."""
    rig = ready()
    seq = rig.commit()
    rig.take_all()
    for _ in range(5):
        rig.retrying(StoreFull("no space left"))
        assert (rig.state, "no space left" in rig.core.evidence) == (State.DISK_FULL, True)
        rig.looks(2)
        rig.retrying(StoreUnavailable("no descriptors"))
        assert (rig.state, "no descriptors" in rig.core.evidence) == (State.RETRYING, True)
        rig.looks(2)
    rig.ack(seq)
    assert (rig.state, rig.core.restarts, rig.actions()) == (State.READY, 0, [])


def test_whoever_says_that_it_retries_is_not_hung() -> None:
    """A full disk may last a week; but one that stops saying so is hung like any other."""
    rig = ready()
    rig.commit()
    rig.take_all()
    for _ in range(100):
        rig.retrying(StoreFull("no space"))
        rig.looks(round(rig.core.policy.hung_s) - 2, switches=7, write_bytes=4096)
        assert rig.state is State.DISK_FULL
    while rig.state is State.DISK_FULL:
        rig.looks(1, switches=7, write_bytes=4096)
    assert (rig.state, rig.actions()) == (State.HUNG, [Action.DUMP])


def test_a_start_that_hangs_says_what_psutil_saw() -> None:
    """Else the host knows only that it took too long."""
    rig = Rig()
    rig.start(timeout=7.0)
    stall(rig, 7)
    failure = rig.core.failure()
    assert isinstance(failure, WorkerStartFailed)
    assert "disk-sleep" in str(failure)
    assert (rig.state, rig.actions()) == (State.DYING, [Action.LAUNCH, Action.KILL])


# -- wedged -----------------------------------------------------------------------------------------------------------


def test_a_wedged_worker_is_reported_waited_for_and_never_doubled() -> None:
    """Whatever else happens meanwhile; once it is dead, its successor starts and gets everything."""
    rig = rig_in(State.WEDGED)
    rig.actions()
    seq = rig.commit()
    for _ in range(1000):
        stall(rig, 1)
        rig.hello()
        rig.progress(done=1)
        rig.core.pipe_closed(rig.now)
        rig.core.broken(ValueError("nonsense"), rig.now)
        assert not rig.core.has_output
    assert (rig.state, rig.actions()) == (State.WEDGED, [])
    rig.die()
    assert (rig.state, rig.actions()) == (State.STARTING, [Action.LAUNCH])
    rig.hello()
    assert numbers(rig) == [seq]


def test_a_death_tells_why_it_was_killed_however_long_it_took_to_die() -> None:
    """WEDGED is what came of the kill, not its reason."""
    rig = hung()
    rig.tick(rig.core.policy.dump_s)
    rig.tick(rig.core.policy.kill_timeout_s)
    assert rig.state is State.WEDGED
    rig.die()
    assert "nothing was done" in (rig.core.last_death or "")


def test_nothing_is_launched_after_the_end_of_stop() -> None:
    """However late the shell looks (suspended, starved): a worker made now would be abandoned alive at once, and one
    that cannot be made is an IllegalTransition."""
    rig = ready()
    rig.commit()
    rig.error("unavailable", StoreFull("no space"))
    rig.stop(10.0)
    rig.die(code=1)
    assert (rig.state, rig.actions()) == (State.EXITED, [])
    rig.tick(31.0)
    assert Action.LAUNCH not in rig.actions()
    assert isinstance(rig.core.failure(), ShutdownIncomplete)


# -- what proves a worker ---------------------------------------------------------------------------------------------


def test_a_snapshot_that_failed_proves_no_worker() -> None:
    """The streak of deaths ends with something durable."""
    rig = ready(RestartPolicy(intensity=50, backoff_first_s=1e6, backoff_max_s=1e6))
    rig.die()
    rig.hello()
    seq = rig.snapshot(A)
    rig.take_all()
    rig.tick(rig.core.policy.period_s)
    rig.snapshot_failed(seq, StoreFull("no space"))
    rig.die()
    assert rig.state is State.EXITED  # a back-off


# -- what a reviewer found --------------------------------------------------------------------------------------------


def test_a_host_short_of_descriptors_waits_until_there_are_some() -> None:
    """As a worker does that is short of them: nothing is charged, and nothing given up."""
    rig = ready()
    seq = rig.commit(A)
    rig.die()
    for _ in range(50):
        assert rig.actions() == [Action.LAUNCH]
        rig.core.launch_failed(OSError(errno.EMFILE, "Too many open files"), rig.now)
        assert (rig.state, rig.core.last_cause) == (State.EXITED, DeathCause.UNAVAILABLE)
        rig.tick(UNAVAILABLE_RETRY_S)
    reborn(rig)
    assert [message.seq for message in rig.take_all()] == [seq]


def test_launches_that_failed_do_not_excuse_a_strangers_epochs() -> None:
    """Nobody of ours opened the store meanwhile: an epoch that rose by more than one is a stranger's."""
    rig = ready()
    rig.die()
    for _ in range(5):
        rig.actions()
        rig.core.launch_failed(OSError(errno.EMFILE, "Too many open files"), rig.now)
        rig.tick(UNAVAILABLE_RETRY_S)
    rig.hello(epoch=rig.core.epoch + 2)
    assert isinstance(rig.core.failure(), StoreInconsistent)


def test_a_launch_that_fails_for_another_reason_is_charged() -> None:
    """An interpreter that is gone does not come back."""
    rig = ready(RestartPolicy())
    rig.die()
    while not rig.core.ended:
        if rig.actions():
            rig.core.launch_failed(FileNotFoundError(errno.ENOENT, "python"), rig.now)
        rig.tick(0.1)
    assert isinstance(rig.core.failure(), RestartBudgetSpent)


def test_a_successor_that_opens_slowly_gets_more_time_each_time_and_in_the_end_none() -> None:
    """Killed at the same deadline again and again it would never come up; and an end there must be."""
    rig = ready(RestartPolicy())
    rig.die()
    given = []
    while not rig.core.ended and len(given) < 100:
        rig.actions()
        began = rig.now
        while rig.state is State.STARTING:
            rig.tick(1.0)
        given.append(rig.now - began)
        rig.die()
        rig.tick(rig.core.policy.backoff_max_s)
    assert given[:4] == [30.0, 60.0, 120.0, 240.0]
    assert isinstance(rig.core.failure(), RestartBudgetSpent)
    assert len(given) == 1 + SLOW_BOOTS * rig.core.policy.start_intensity


def test_a_successor_that_is_stuck_in_the_disk_is_not_killed_for_being_late() -> None:
    """A kill would free nobody. The first worker's host must be told in time."""
    rig = ready()
    rig.die()
    rig.actions()
    rig.looks(600, "disk-sleep", switches=7, write_bytes=1)
    assert (rig.state, rig.actions()) == (State.STARTING, [])
    rig.looks(3, "sleeping", switches=8, write_bytes=1)
    assert rig.actions() == [Action.KILL]


def test_a_debugger_that_holds_a_worker_at_its_start_has_time() -> None:
    """Also one that holds the first."""
    rig = Rig()
    rig.start(10.0)
    rig.actions()
    rig.looks(100, "tracing-stop")
    assert (rig.state, rig.actions()) == (State.STARTING, [])


@pytest.mark.parametrize("status", ["tracing-stop", "disk-sleep"])
def test_a_large_worker_that_is_held_cannot_finish_and_is_not_killed_for_it(status: str) -> None:
    """And it is said that it is held: its replacement must not hide a frozen disk."""
    rig = ready()
    rig.commit(A)
    bloat(rig)
    rig.actions()
    rig.looks(100, status, switches=7, write_bytes=1)
    assert (rig.state, rig.actions()) == (State.BLOATED, [])
    assert status in rig.core.evidence


def test_a_stuck_worker_is_not_killed_for_its_size() -> None:
    """Whatever it holds, the disk holds it."""
    rig = ready()
    rig.commit(A)
    rig.take_all()
    rig.looks(20, "disk-sleep", rss_bytes=10**12, switches=7, write_bytes=1)
    assert (rig.state, rig.actions()) == (State.DISK_STALLED, [])


def test_a_stopped_worker_that_acknowledges_runs_again() -> None:
    """It was continued between two looks."""
    rig = ready()
    seq = rig.commit(A)
    rig.take_all()
    rig.look("stopped")
    rig.tick(rig.core.policy.stopped_grace_s - 0.1)
    rig.ack(seq)
    rig.tick(1.0)
    assert (rig.state, rig.actions()) == (State.READY, [])


def test_after_nonsense_nothing_is_believed() -> None:
    """What a worker says after it has said what none says is worth nothing, and least of all an ACK."""
    rig = ready()
    rig.commit(A)
    second = rig.commit(B)
    rig.take_all()
    rig.ack(99)
    rig.ack(second)
    assert (rig.core.backlog.durable, rig.state) == (0, State.DYING)


def test_what_is_wedged_says_what_it_is_seen_doing() -> None:
    """The operator wants to know what it waits for."""
    rig = ready()
    rig.core.broken(ValueError("nonsense"), rig.now)
    rig.tick(rig.core.policy.kill_timeout_s)
    assert rig.state is State.WEDGED
    rig.looks(LOOKS, "disk-sleep", switches=7, write_bytes=1)
    assert "SIGKILL is pending" in rig.core.evidence
    assert "disk-sleep" in rig.core.evidence


def test_told_to_end_and_gone_before_it_had_finished_it_has_crashed() -> None:
    """Whatever its exit status: nobody asked for that."""
    rig = ready()
    rig.commit(A)
    rig.stop()
    rig.take_all()
    rig.die(code=0)
    assert rig.core.last_cause is DeathCause.CRASHED


def test_no_evidence_is_longer_than_a_screen() -> None:
    """Whatever a worker's exception says; the exception itself says it all."""
    rig = ready()
    rig.error("fatal", StoreCorrupt("x" * 100_000))
    rig.die(code=1)
    assert rig.state is State.FAILED
    assert all(len(transition.evidence) <= 2000 for transition in rig.core.history.all())
