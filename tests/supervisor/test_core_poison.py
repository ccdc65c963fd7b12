"""The search for what workers die of, through the core: when it begins, what goes out meanwhile, how it ends."""

from __future__ import annotations

from collections.abc import Callable
from signal import SIGSEGV

import pytest

from bgsuper.errors import PoisonCommit, StoreFull
from bgsuper.health import WorkerState as State
from bgsuper.ipc.frames import Kind
from bgsuper.key import Seq
from bgsuper.supervisor.children import Exit
from bgsuper.supervisor.core import Action
from bgsuper.supervisor.policy import RestartPolicy

from .rig import A, B, C, Rig
from .test_core_health import LONG_ENOUGH, bloat, hang, numbers, ready, reborn


def segfault(rig: Rig) -> None:
    rig.die(signal=SIGSEGV)


def searching(rig: Rig) -> None:
    """Two deaths of their own doing, and the successor is up."""
    for _ in range(2):
        rig.take_all()
        segfault(rig)
        reborn(rig)


def test_the_commit_that_kills_its_workers_is_found_and_named() -> None:
    """Two deaths begin the search, the innocent ones before it become durable, two more with it alone are proof;
    everything un-acknowledged is still there."""
    rig = ready()
    first, second, third = rig.commit(A), rig.commit(B, value=b"secret"), rig.commit(C)
    searching(rig)
    assert numbers(rig) == [first]
    rig.ack(first)
    for proof in (1, 2):
        assert numbers(rig) == [second]
        assert rig.core.failure() is None
        segfault(rig)
        if proof == 1:
            reborn(rig, first)
    failure = rig.core.failure()
    assert isinstance(failure, PoisonCommit)
    assert failure.seq == second
    assert (rig.state, Action.LAUNCH in rig.actions()) == (State.FAILED, False)
    assert (rig.core.backlog.unacked, rig.core.backlog.durable) == (2, first)
    for words in (f"commit {second}", str(B), "SIGSEGV"):
        assert words in str(failure)
    assert "secret" not in str(failure)
    assert third == second + 1


def test_a_kill_from_outside_is_never_poison() -> None:
    """However often; what is submitted goes on going out at once."""
    rig = ready()
    seqs = [rig.commit(A), rig.commit(B)]
    for _ in range(50):
        assert numbers(rig) == seqs
        rig.die()
        reborn(rig)
    assert not rig.core.backlog.one_at_a_time
    assert rig.core.failure() is None


def test_a_kill_from_outside_proves_nothing_during_the_search() -> None:
    """Nor does the OOM killer's."""
    rig = ready()
    rig.commit(A)
    searching(rig)
    for _ in range(20):
        rig.take_all()
        rig.die()
        reborn(rig)
    assert rig.core.failure() is None
    assert rig.core.backlog.one_at_a_time


def spin(rig: Rig) -> None:
    """Until it is HUNG, taking a whole core."""
    policy = rig.core.policy
    for number in range(1 + round(policy.hung_s / policy.vitals_interval_s)):
        rig.looks(1, "running", switches=7, write_bytes=4096, cpu_s=number * policy.vitals_interval_s)


@pytest.mark.parametrize(
    "death",
    [
        segfault,
        lambda rig: rig.die(code=0),
        lambda rig: (rig.error("crash", MemoryError("a large one")), rig.die(code=1)),
        lambda rig: (rig.core.broken(ValueError("nonsense"), rig.now), rig.die()),
        lambda rig: (spin(rig), rig.tick(rig.core.policy.dump_s), rig.die()),
        lambda rig: (rig.look(rss_bytes=10**12), rig.die()),
    ],
    ids=["fault", "exit", "exception", "nonsense", "spin", "memory"],
)
def test_every_death_of_its_own_doing_raises_suspicion(death: Callable[[Rig], object]) -> None:
    """Also where it was our SIGKILL that ended it, for what it did."""
    rig = ready()
    rig.commit(A)
    rig.commit(B)
    for _ in range(2):
        assert not rig.core.backlog.one_at_a_time
        rig.take_all()
        death(rig)
        reborn(rig)
    assert rig.core.backlog.one_at_a_time
    assert numbers(rig) == [1]


@pytest.mark.parametrize(
    "death",
    [
        lambda rig: (rig.look("stopped"), rig.tick(rig.core.policy.stopped_grace_s), rig.die()),
        lambda rig: (hang(rig), rig.tick(rig.core.policy.dump_s), rig.die()),
        lambda rig: (bloat(rig), rig.take_all(), rig.ack(rig.core.backlog.submitted), rig.die(code=0)),
        lambda rig: (rig.error("unavailable", StoreFull("no space")), rig.die(code=1)),
        lambda rig: rig.core.died(Exit(None, None), "", rig.now),
    ],
    ids=["stopped", "waits for a storage", "recycled", "no space", "status taken away"],
)
def test_no_other_death_does(death: Callable[[Rig], object]) -> None:
    """What was done to it, or to its store, says nothing of what it was given."""
    rig = ready()
    rig.commit(A)
    rig.commit(B)
    for _ in range(4):
        rig.take_all()
        death(rig)
        reborn(rig, rig.core.backlog.acked_commit)
        rig.tick(rig.core.policy.period_s)
    assert not rig.core.backlog.one_at_a_time


@pytest.mark.parametrize(
    "submit",
    [
        lambda rig: (rig.snapshot(A), None),
        lambda rig: (rig.snapshot(A), rig.commit(B)),
    ],
    ids=["alone", "with a commit"],
)
def test_a_mere_snapshot_that_is_poison_is_dropped(submit: Callable[[Rig], tuple[Seq, Seq | None]]) -> None:
    """Whoever waits for it is told; everything else is made durable, and life goes on at full speed. Within the default
    budget: it would end the supervisor else."""
    rig = ready(RestartPolicy(backoff_max_s=5.0))
    snapshot, commit = submit(rig)
    for _ in range(2):
        rig.take_all()
        segfault(rig)
        rig.tick(5.0)
        rig.hello()
    if commit is not None:
        assert numbers(rig) == [commit]
        rig.ack(commit)
    for _ in range(2):
        assert numbers(rig) == [snapshot]
        segfault(rig)
        rig.tick(5.0)
        rig.hello(commit or 0)
    rig.actions()
    assert (rig.state, rig.core.failure()) == (State.READY, None)
    told, by_key = rig.core.snapshot_failures.at(snapshot), rig.core.snapshot_failures.of(A)
    assert told is not None
    assert by_key is not None
    error = told()
    assert isinstance(error, PoisonCommit)
    assert error.seq == snapshot
    assert told() is not error
    assert (rig.core.has_output, rig.core.backlog.unacked) == (False, 0)
    newer = [rig.commit(B), rig.commit(C)]
    assert numbers(rig) == newer


def test_a_critical_snapshot_that_is_poison_ends_it() -> None:
    """Outputs wait for it."""
    rig = ready()
    snapshot = rig.snapshot(A, critical=True)
    searching(rig)
    for _ in range(2):
        assert numbers(rig) == [snapshot]
        segfault(rig)
        if not rig.core.ended:
            reborn(rig)
    failure = rig.core.failure()
    assert isinstance(failure, PoisonCommit)
    assert (failure.seq, rig.core.backlog.unacked) == (snapshot, 1)


def test_the_search_ends_when_all_that_was_suspect_is_durable() -> None:
    """What came later goes out at once again."""
    rig = ready()
    suspects = [rig.commit(A), rig.commit(B)]
    searching(rig)
    later = [rig.commit(C) for _ in range(3)]
    for seq in suspects:
        assert numbers(rig) == [seq]
        rig.ack(seq)
    assert numbers(rig) == later


def test_a_worker_that_proved_itself_ends_the_search() -> None:
    """It has been up for a whole period, and made something durable."""
    rig = ready()
    suspects = [rig.commit(A), rig.commit(B), rig.commit(C)]
    searching(rig)
    rig.tick(rig.core.policy.period_s)
    assert numbers(rig) == suspects[:1]
    rig.ack(suspects[0])
    assert numbers(rig) == suspects[1:]


def test_stop_during_the_search_drains_one_by_one_and_ends() -> None:
    """The half-close comes after the last one, not before."""
    rig = ready()
    seqs = [rig.commit(A), rig.commit(B), rig.commit(C)]
    searching(rig)
    rig.stop(100.0)
    for seq in seqs:
        assert rig.actions() == []
        assert [message.seq for message in rig.take()] == [seq]
        if seq != seqs[-1]:
            assert not rig.core.has_output
        rig.ack(seq)
    rig.take_all()
    assert rig.actions() == [Action.HALF_CLOSE]
    rig.die(code=0)
    assert (rig.state, rig.core.failure()) == (State.ENDED, None)


def test_stop_during_the_search_names_the_culprit() -> None:
    """The cause, not that time ran out."""
    rig = ready()
    rig.commit(A)
    searching(rig)
    rig.stop(1000.0)
    while not rig.core.ended:
        rig.take_all()
        segfault(rig)
        if not rig.core.ended:
            reborn(rig)
    assert isinstance(rig.core.failure(), PoisonCommit)


def test_a_worker_that_never_had_it_proves_nothing() -> None:
    """Killed for nonsense, or for its memory, before HELLO: it was given nothing."""
    for misbehave in (
        lambda rig: rig.core.broken(ValueError("nonsense"), rig.now),
        lambda rig: rig.look(rss_bytes=10**12),
    ):
        rig = ready()
        rig.commit(A)
        searching(rig)
        rig.take_all()
        segfault(rig)  # the first proof
        rig.tick(LONG_ENOUGH)
        assert rig.state is State.STARTING
        misbehave(rig)
        rig.die()
        assert rig.core.failure() is None


def test_a_read_is_never_beside_a_commit_during_the_search() -> None:
    """ "It was alone with the worker" must be true: a read of a damaged page kills as well."""
    rig = ready(RestartPolicy(intensity=100))
    rig.core.ask(Kind.READ, list(A))
    rig.commit(A)
    rig.core.ask(Kind.READ, list(A))
    searching(rig)
    for _ in range(3):
        assert [message.kind for message in rig.take_all()] == [Kind.READ]
        segfault(rig)
        reborn(rig)
    assert rig.core.failure() is None
    [read] = rig.take_all()
    rig.say(Kind.REPLY, read.seq, ["records", []])
    assert [message.kind for message in rig.take_all()] == [Kind.COMMIT]
    rig.ack(1)
    assert [message.kind for message in rig.take_all()] == [Kind.READ]


def test_the_search_ends_though_others_are_submitted_meanwhile() -> None:
    """A first death stays remembered, too: acknowledgements of a young worker are no proof of health."""
    rig = ready()
    first = rig.commit(A)
    rig.take_all()
    segfault(rig)
    reborn(rig)
    rig.take_all()
    rig.ack(first)
    second = rig.commit(A)
    rig.take_all()
    segfault(rig)
    reborn(rig, first)
    rig.commit(B)
    assert rig.core.backlog.one_at_a_time
    rig.take_all()
    rig.ack(second)
    assert not rig.core.backlog.one_at_a_time
