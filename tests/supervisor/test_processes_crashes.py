"""Workers that die by their own doing: why is told, the culprit is found, and what cannot be helped is given up.

Deaths from outside never make a commit suspect: `test_processes` has them.
"""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from bgsuper import Key, RestartPolicy, Supervisor
from bgsuper.errors import BgsuperError, PoisonCommit, RestartBudgetSpent
from bgsuper.health import DeathCause
from bgsuper.health import WorkerState as State
from bgsuper.key import MANAGER, NETWORK_GRAPH, SCORER
from bgsuper.supervisor.children import Child
from bgsuper.supervisor.launch import launch

from .hosts import PATIENCE_S, QUICK, Place, eventually, key, persister, send, state_is, states
from .persisters import BAD

pytestmark = pytest.mark.usefixtures("no_leaks")

#: What a worker may do to itself: what is told of its death.
DEATHS = {
    "exit_quietly": ("exit status 0",),
    "exit_as_python_does": ("SystemExit: 0",),
    "segfault": ("signal SIGSEGV", "Fatal Python error: Segmentation fault", "in segfault"),
    "abort": ("signal SIGABRT", "Fatal Python error: Aborted", "in abort"),
    "close_everything": ("exit status 1",),
}


@contextmanager
def faulty(directory: Path, fault: str, restart: RestartPolicy = QUICK, **config: int) -> Iterator[Supervisor]:
    """Over a persister that goes wrong at what begins with `BAD`; stopped at the end without a word about it."""
    supervisor = Supervisor(persister(directory, "Faulty", fault=fault, **config), restart=restart)
    supervisor.start(PATIENCE_S)
    try:
        yield supervisor
    finally:
        with suppress(BgsuperError, MemoryError):
            supervisor.stop(PATIENCE_S)


def tries(directory: Path) -> int:
    """How often a `Faulty` persister was given what it cannot bear."""
    count = directory / "faults"
    return count.stat().st_size if count.exists() else 0


# -- deaths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", DEATHS)
def test_a_death_of_its_own_doing(tmp_path: Path, fault: str) -> None:
    """CRASHED, with its status and what it printed, stacks included; a successor makes durable what it left."""
    with faulty(tmp_path, fault, times=1) as supervisor:
        seq = supervisor.snapshot(MANAGER, [BAD], critical=True)
        supervisor.wait(seq, PATIENCE_S)
        health = supervisor.health()
        assert (health.restarts, health.last_cause) == (1, DeathCause.CRASHED)
        assert all(words in str(health.last_death) for words in DEATHS[fault]), health.last_death
        [death] = [transition for transition in supervisor.health_log() if transition.state is State.EXITED]
        assert death.cause is DeathCause.CRASHED
        assert DEATHS[fault][0] in death.evidence
    assert (tmp_path / "manager").read_bytes() == BAD


def test_memory_that_is_not_to_be_had_is_an_error_like_any_other(tmp_path: Path) -> None:
    """MemoryError for the graph costs no worker; for the manager it comes out as itself, once, and is not retried."""
    with faulty(tmp_path, "ask_too_much") as supervisor:
        with pytest.raises(MemoryError):
            supervisor.wait(supervisor.snapshot(NETWORK_GRAPH, [BAD]), PATIENCE_S)
        supervisor.wait(supervisor.snapshot(MANAGER, [b"good"], critical=True), PATIENCE_S)
        assert supervisor.health().restarts == 0
        with pytest.raises(MemoryError) as caught:
            supervisor.wait(supervisor.snapshot(MANAGER, [BAD], critical=True), PATIENCE_S)
        assert "in ask_too_much" in str(caught.value.__cause__)
        eventually(state_is(supervisor, State.FAILED))
        assert (supervisor.health().restarts, supervisor.health().last_cause) == (0, DeathCause.STORE)


def test_what_a_worker_prints_is_logged_line_by_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """faulthandler writes in pieces of a few bytes: whoever reads the log finds its lines whole."""
    with faulty(tmp_path, "segfault", times=1) as supervisor:
        supervisor.wait(supervisor.snapshot(MANAGER, [BAD], critical=True), PATIENCE_S)
        printed = [line for line in str(supervisor.health().last_death).splitlines() if line.startswith("  File ")]
    logged = [line for record in caplog.records for line in record.getMessage().splitlines()]
    assert len(printed) > 5
    assert [line for line in printed if not any(line in whole for whole in logged)] == []


# -- poison -----------------------------------------------------------------------------------------------------------

#: Address space that every worker here has: enough for its work, not for `TOO_LARGE`.
SPACE_BYTES = 160 * 2**20
TOO_LARGE = 50 * 2**20


def launch_with_little_memory() -> Child:
    child = launch()
    resource.prlimit(child.pid, resource.RLIMIT_AS, (SPACE_BYTES, SPACE_BYTES))
    return child


def test_a_commit_that_ends_every_worker_is_found(place: Place) -> None:
    """Among others, by giving it to workers alone: PoisonCommit with its number and its key. What came before it is
    durable, what comes after it is kept and counted."""
    with place.running(launcher=launch_with_little_memory) as supervisor:
        good = [supervisor.commit({key(number): b"%d" % number}) for number in range(5)]
        bad = supervisor.commit({Key("app", "", "large"): bytes(TOO_LARGE)})
        later = supervisor.commit({key(7): b"7"})
        for call in (lambda: supervisor.wait(later, PATIENCE_S), supervisor.stop, supervisor.stop):
            with pytest.raises(PoisonCommit, match="app/large") as caught:
                call()
            assert caught.value.seq == bad
        health = supervisor.health()
        assert (health.submitted, health.durable, health.gate) == (later, good[-1], "shut")
        assert health.last_cause is DeathCause.CRASHED
        assert "out of memory" in str(health.last_death)
        deaths = states(supervisor).count(State.EXITED)
        assert deaths == 4, "two that raise the suspicion, two that prove it"
    assert place.stored() == {key(number): b"%d" % number for number in range(5)}


def test_a_critical_snapshot_that_ends_every_worker(tmp_path: Path) -> None:
    """It cannot be left out either, and is found though the graph, which is innocent, is on its way with it."""
    with faulty(tmp_path, "segfault") as supervisor:
        supervisor.wait(supervisor.snapshot(MANAGER, [b"good"], critical=True), PATIENCE_S)
        supervisor.snapshot(NETWORK_GRAPH, [b"graph"])
        bad = supervisor.snapshot(MANAGER, [BAD], critical=True)
        with pytest.raises(PoisonCommit) as caught:
            supervisor.wait(bad, PATIENCE_S)
        assert caught.value.seq == bad
        assert "SIGSEGV" in str(caught.value)
    assert (tmp_path / "manager").read_bytes() == b"good"
    assert (tmp_path / "graph").read_bytes() == b"graph"


@pytest.mark.parametrize("fault", ["segfault", "exit_quietly"])
def test_a_graph_that_ends_every_worker_is_left_out(tmp_path: Path, fault: str) -> None:
    """Whoever waits for it, or asks, learns why. All the rest goes on, and a better graph is taken."""
    with faulty(tmp_path, fault) as supervisor:
        bad = supervisor.snapshot(NETWORK_GRAPH, [BAD])
        with pytest.raises(PoisonCommit) as caught:
            supervisor.wait(bad, PATIENCE_S)
        assert caught.value.seq == bad
        assert states(supervisor).count(State.EXITED) == 4, "two that raise the suspicion, two that prove it"
        assert isinstance(supervisor.snapshot_failure(NETWORK_GRAPH), PoisonCommit)
        assert supervisor.failure() is None
        supervisor.wait(supervisor.snapshot(NETWORK_GRAPH, [b"graph"]), PATIENCE_S)
        assert supervisor.snapshot_failure(NETWORK_GRAPH) is None
        supervisor.wait(supervisor.snapshot(MANAGER, [b"manager"], critical=True), PATIENCE_S)
        assert supervisor.health().restarts == 4
    assert [(tmp_path / name).read_bytes() for name in ("manager", "graph")] == [b"manager", b"graph"]


def test_a_graph_that_ends_every_worker_is_found_though_the_host_goes_on(tmp_path: Path) -> None:
    """What else is submitted and acknowledged meanwhile acquits nobody: the processor outlives its graph."""
    budget = RestartPolicy(intensity=7, backoff_first_s=0.001, backoff_max_s=0.001)
    with faulty(tmp_path, "exit_quietly", budget) as supervisor:
        supervisor.snapshot(NETWORK_GRAPH, [BAD])
        number = 0
        while supervisor.snapshot_failure(NETWORK_GRAPH) is None:
            number += 1
            supervisor.wait(supervisor.snapshot(MANAGER, [b"%d" % number], critical=True), PATIENCE_S)
        assert isinstance(supervisor.snapshot_failure(NETWORK_GRAPH), PoisonCommit)
        supervisor.wait(supervisor.snapshot(SCORER, [b"scores"]), PATIENCE_S)
    assert (tmp_path / "manager").read_bytes() == b"%d" % number


def test_what_kills_a_worker_twice_and_then_no_more_is_not_poison(tmp_path: Path) -> None:
    """The suspicion passes, and the same value is made durable."""
    with faulty(tmp_path, "abort", times=3) as supervisor:
        supervisor.wait(supervisor.snapshot(MANAGER, [BAD], critical=True), PATIENCE_S)
        assert supervisor.health().restarts == 3
        assert not supervisor._core.backlog.one_at_a_time


def test_deaths_from_outside_make_nothing_suspect(tmp_path: Path) -> None:
    """Killed four times with the same value alone in hand, which is durable at last."""
    with faulty(tmp_path, "dawdle", times=4, amount=60_000) as supervisor:
        seq = supervisor.snapshot(MANAGER, [BAD], critical=True)
        for number in range(1, 5):
            eventually(lambda number=number: tries(tmp_path) == number)
            send(supervisor, signal.SIGKILL)
        supervisor.wait(seq, PATIENCE_S)
        assert supervisor.health().restarts == 4
        assert supervisor.health().last_cause is DeathCause.OUTSIDE
    assert (tmp_path / "manager").read_bytes() == BAD


# -- given up ---------------------------------------------------------------------------------------------------------


def test_successors_that_do_not_boot_have_a_budget_of_their_own(place: Place) -> None:
    """BOOT, and RestartBudgetSpent after `start_intensity` of them, long before the other budget; what was not
    acknowledged is kept and counted, and is in the store of whoever restarts the host."""
    broken = False

    def launcher() -> Child:
        child = launch()
        if broken:
            resource.prlimit(child.pid, resource.RLIMIT_AS, (2**20, 2**20))
        return child

    with place.running(launcher=launcher) as supervisor:
        supervisor.wait(supervisor.commit({key(0): b"0"}), PATIENCE_S)
        broken = True
        place.plan.kill_before_write = 1
        seq = supervisor.commit({key(1): b"1"})
        for call in (lambda: supervisor.wait(seq, PATIENCE_S), supervisor.stop):
            with pytest.raises(RestartBudgetSpent):
                call()
        health = supervisor.health()
        assert health.last_cause is DeathCause.BOOT
        assert health.restarts == QUICK.start_intensity + 1
        assert (health.submitted, health.durable) == (2, 1)
    assert place.stored() == {key(0): b"0"}


def test_a_crash_storm_of_its_own_doing(tmp_path: Path) -> None:
    """A budget smaller than the search for poison takes: given up all the same, and the last death is in the error."""
    with faulty(tmp_path, "segfault", RestartPolicy(intensity=1, backoff_first_s=0.001)) as supervisor:
        seq = supervisor.snapshot(MANAGER, [BAD], critical=True)
        errors: list[BaseException] = []
        calls: list[Callable[[], None]] = [lambda: supervisor.wait(seq, PATIENCE_S), supervisor.stop, supervisor.stop]
        for call in calls:
            with pytest.raises(RestartBudgetSpent, match="SIGSEGV") as caught:
                call()
            errors.append(caught.value)
        assert len({id(error) for error in errors}) == 3
        assert states(supervisor)[-2:] == [State.EXITED, State.FAILED]
