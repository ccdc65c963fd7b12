"""What a running worker is taken for: each state that health reports, really brought about, with its evidence and with
what is done about it. Disk-sleep is in `test_processes_disk_sleep`; STOPPED and DISK_FULL are in `test_processes`."""

from __future__ import annotations

import logging
import os
import re
import resource
import signal
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from bgsuper import Key, Limits, RestartPolicy, Supervisor
from bgsuper.errors import RemoteError
from bgsuper.health import DeathCause, Transition
from bgsuper.health import WorkerState as State
from bgsuper.key import MANAGER, NETWORK_GRAPH
from bgsuper.supervisor.diagnosis import Doctor, Finding
from bgsuper.supervisor.vitals import Vitals

from .hosts import (
    PATIENCE_S,
    QUICK,
    Place,
    eventually,
    freeze,
    host,
    key,
    persister,
    pid_of,
    send,
    state_is,
    states,
    thaw,
)
from .persisters import BAD

pytestmark = pytest.mark.usefixtures("no_leaks")

STRICT = replace(QUICK, hung_s=0.6, dump_s=0.2)
#: Long enough for a heartbeat, which comes each second.
PATIENT = replace(STRICT, hung_s=1.1)


#: What follows when a worker is done with.
REPLACED = [State.EXITED, State.STARTING, State.READY]


def transitions(supervisor: Supervisor, state: State) -> list[Transition]:
    return [transition for transition in supervisor.health_log() if transition.state is state]


# -- HUNG -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "policy", "phase", "spins"),
    [
        ("deadlock", PATIENT, "snapshot", False),
        ("spin", STRICT, "", True),
        # No heartbeat comes out of it: what its writer does is not known.
        ("hog", PATIENT, "(?!snapshot)", True),
    ],
    ids=["deadlock", "spin", "hog"],
)
def test_a_worker_that_hangs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str, policy: RestartPolicy, phase: str, spins: bool
) -> None:
    """HUNG: its evidence tells spinning from waiting, though the heartbeat may be lively; it writes its stacks, even if
    it never lets go of the GIL, before it is killed; its successor goes on with what it left."""
    with Supervisor(persister(tmp_path, "Faulty", fault=fault, times=1), restart=policy) as supervisor:
        seq = supervisor.snapshot(MANAGER, [BAD], critical=True)
        supervisor.wait(seq, PATIENCE_S)
        [hung] = transitions(supervisor, State.HUNG)
        assert re.search(rf"in phase '{phase}", hung.evidence), hung.evidence
        cpu_s = re.search(r"it used (\d+\.\d) s of CPU", hung.evidence)
        assert cpu_s is not None, hung.evidence
        # Of a machine that is busy with other things it may have had little.
        assert (float(cpu_s[1]) > 0.1) is spins, hung.evidence
        [death] = transitions(supervisor, State.EXITED)
        assert death.cause is DeathCause.KILLED
        assert death.at - hung.at >= policy.dump_s
        last_death = str(supervisor.health().last_death)
        assert f"in {fault}" in last_death
        assert "in _read" in last_death, "all threads' stacks"
        assert hung.evidence in last_death
        assert fault in caplog.text
        assert states(supervisor) == [State.STARTING, State.READY, State.HUNG, *REPLACED]
    assert (tmp_path / "manager").read_bytes() == BAD


def test_on_a_busy_machine_too_who_runs_does_not_wait() -> None:
    """Running at every look, with a third of a core."""
    doctor = Doctor(RestartPolicy(hung_s=10.0), since=0.0)
    found = [doctor.look(Vitals("running", cpu_s=at / 3), float(at), work_waits=True) for at in range(1, 30)]
    hung = [diagnosis.evidence for diagnosis in found if diagnosis is not None and diagnosis.finding is Finding.HUNG]
    assert hung[0].endswith("it spins")


def test_a_worker_that_hangs_as_it_is_stopped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """stop() needs not wait for its deadline: the hung worker is killed, and a successor finishes what it left."""
    supervisor = Supervisor(persister(tmp_path, "Faulty", fault="deadlock", times=1), restart=STRICT)
    supervisor.start(PATIENCE_S)
    supervisor.snapshot(MANAGER, [BAD], critical=True)
    supervisor.stop(PATIENCE_S)
    assert supervisor.health().restarts == 1
    assert supervisor.health().state is State.ENDED
    death, _ = transitions(supervisor, State.EXITED)
    assert death.cause is DeathCause.KILLED
    assert "nothing was done" in death.evidence
    assert "deadlock" in caplog.text
    assert (tmp_path / "manager").read_bytes() == BAD


def test_a_hang_that_ends_while_the_stacks_are_written(tmp_path: Path) -> None:
    """It got on after all: READY again, and nobody is killed."""
    ref = persister(tmp_path, "Faulty", fault="dawdle", times=1, amount=1000)
    with Supervisor(ref, restart=replace(QUICK, hung_s=0.4, dump_s=PATIENCE_S)) as supervisor:
        pid = pid_of(supervisor)
        supervisor.wait(supervisor.snapshot(MANAGER, [BAD], critical=True), PATIENCE_S)
        eventually(state_is(supervisor, State.READY))
        # A heartbeat may tell of what was done before, and so take it for one that gets on a little early.
        assert set(states(supervisor)) == {State.STARTING, State.READY, State.HUNG}
        assert (pid_of(supervisor), supervisor.health().restarts) == (pid, 0)


def test_slow_syncs_that_get_on_are_no_hang(place: Place) -> None:
    """0.3 s each, for much longer than a hang may take: nothing is said of it, and nobody is killed."""
    with place.running(replace(QUICK, hung_s=1.0)) as supervisor:
        place.plan.sync_delay_s = 0.3
        until = time.monotonic() + 1.7
        number = 0
        while time.monotonic() < until:
            number += 1
            supervisor.commit({key(number): b"%d" % number})
            time.sleep(0.01)
        place.plan.sync_delay_s = 0
        supervisor.wait(supervisor.health().submitted, PATIENCE_S)
        assert states(supervisor) == [State.STARTING, State.READY]
        assert supervisor.health().restarts == 0


def test_an_idle_worker_is_not_hung(place: Place) -> None:
    """Nothing waits for it, so there is nothing to blame it for."""
    with place.running(replace(QUICK, hung_s=0.2)) as supervisor:
        supervisor.wait(supervisor.commit({key(0): b"0"}), PATIENCE_S)
        time.sleep(0.5)
        assert states(supervisor) == [State.STARTING, State.READY]


# -- BLOATED ----------------------------------------------------------------------------------------------------------


def test_a_worker_that_grew_too_large_is_replaced(place: Place) -> None:
    """BLOATED after three looks: it finishes what it has, its successor goes on with the rest, and nobody who commits
    meanwhile notices. Free of charge, and once a period at most."""
    policy = replace(QUICK, rss_soft_bytes=1, intensity=1)
    with place.running(policy) as supervisor:
        place.plan.sync_delay_s = 0.02
        number = 0
        while supervisor.health().restarts == 0 or number < 300:
            number += 1
            supervisor.commit({key(number): b"%d" % number})
            if number % 20 == 1:
                graph = [bytes(500_000), b"%d" % number]  # one may be half sent as the worker is told to finish
                supervisor.snapshot(NETWORK_GRAPH, graph)
            time.sleep(0.001)
        supervisor.wait(supervisor.snapshot(NETWORK_GRAPH, graph), PATIENCE_S)
        assert supervisor.read(NETWORK_GRAPH) == b"".join(graph)
        [bloated] = transitions(supervisor, State.BLOATED)
        assert re.search(r"its memory, \d{7,} bytes, was over the soft limit at \d+ looks in a row", bloated.evidence)
        [death] = transitions(supervisor, State.EXITED)
        assert death.cause is DeathCause.ASKED
        assert states(supervisor) == [State.STARTING, State.READY, State.BLOATED, *REPLACED]
        # One death is still allowed within the period, and it is no reason to recycle again.
        send(supervisor, signal.SIGKILL)
        supervisor.wait(supervisor.commit({key(0): b"0"}), PATIENCE_S)
        assert supervisor.health().restarts == 2
    assert place.stored() == {key(n): b"%d" % n for n in range(number + 1)}


def test_a_large_worker_that_does_not_finish_is_killed(place: Place) -> None:
    """After `recycle_timeout_s`; its successor replays what it left."""
    with place.running(replace(QUICK, rss_soft_bytes=1, recycle_timeout_s=0.3)) as supervisor:
        place.plan.sync_delay_s = 600
        seq = supervisor.commit({key(0): b"0"})
        eventually(state_is(supervisor, State.BLOATED))
        eventually(lambda: supervisor.health().last_cause is DeathCause.KILLED)
        place.plan.sync_delay_s = 0
        supervisor.wait(seq, PATIENCE_S)
        assert "not finished after 0.3 s" in str(supervisor.health().last_death)
        assert supervisor.health().restarts == 1


def test_a_worker_far_too_large_is_killed(tmp_path: Path) -> None:
    """Over the hard limit at a single look; its successor takes what it left, and is as small as it ever was."""
    policy = replace(QUICK, rss_soft_bytes=200 * 2**20, rss_hard_bytes=200 * 2**20)
    ref = persister(tmp_path, "Faulty", fault="swell_and_rest", times=1, amount=300 * 2**20)
    with Supervisor(ref, restart=policy) as supervisor:
        supervisor.wait(supervisor.snapshot(MANAGER, [BAD], critical=True), PATIENCE_S)
        health = supervisor.health()
        assert (health.restarts, health.last_cause) == (1, DeathCause.KILLED)
        assert "over the hard limit" in str(health.last_death)
        assert State.BLOATED in states(supervisor)
        eventually(lambda: (supervisor.health().rss_bytes or 2**40) < 100 * 2**20)


# -- RETRYING, LAGGING ------------------------------------------------------------------------------------------------


def test_a_worker_without_descriptors_goes_on_when_there_are_some(place: Place) -> None:
    """RETRYING: a critical snapshot finds no descriptor for its file, again and again; nobody is restarted, nothing is
    lost. One that is not critical is given up, and says why."""
    with place.running() as supervisor:
        supervisor.wait(supervisor.commit({key(0): b"0"}), PATIENCE_S)
        pid = pid_of(supervisor)
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        # As text, since without a descriptor the worker cannot import what would pickle it.
        with pytest.raises(RemoteError, match=r"StoreUnavailable.*raise the limit of open files"):
            supervisor.wait(supervisor.snapshot(NETWORK_GRAPH, [b"graph"]), PATIENCE_S)
        seq = supervisor.snapshot(MANAGER, [b"manager"], critical=True)
        eventually(state_is(supervisor, State.RETRYING))
        assert "StoreUnavailable" in supervisor.health().evidence
        assert not supervisor._core.backlog.is_durable(seq)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        supervisor.wait(seq, PATIENCE_S)
        eventually(state_is(supervisor, State.READY))
        assert (supervisor.health().restarts, pid_of(supervisor)) == (0, pid)
        assert states(supervisor) == [State.STARTING, State.READY, State.RETRYING, State.READY]
        assert supervisor.read(MANAGER) == b"manager"


def test_a_worker_that_falls_behind(place: Place) -> None:
    """LAGGING once the oldest commit is too old, however young its successors; READY again when it has caught up."""
    with place.running(limits=Limits(lagging_s=0.1)) as supervisor:
        place.plan.sync_delay_s = 0.5
        supervisor.commit({key(0): b"0"})
        eventually(state_is(supervisor, State.LAGGING))
        assert supervisor.health().gate == "holding"
        place.plan.sync_delay_s = 0
        supervisor.wait(supervisor.health().submitted, PATIENCE_S)
        eventually(state_is(supervisor, State.READY))
        assert states(supervisor) == [State.STARTING, State.READY, State.LAGGING, State.READY]


# -- clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step_s", [-86_400.0, 86_400.0])
def test_a_step_of_the_clock_on_the_wall_changes_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    """No restart and no state: only the times that the log shows are by that clock, as it stands when it is read."""
    with place.running(replace(QUICK, hung_s=0.5, stopped_grace_s=0.5)) as supervisor:
        before = supervisor.health_log()
        as_ever = time.time
        monkeypatch.setattr(time, "time", lambda: as_ever() + step_s)
        for number in range(20):
            supervisor.wait(supervisor.commit({key(number): b"x"}), PATIENCE_S)
        after = supervisor.health_log()
        assert [transition.state for transition in after] == [transition.state for transition in before]
        assert after[0].at - before[0].at == pytest.approx(step_s, abs=1)
        assert supervisor.health().since_s < 60


PAUSED_HOST = """
import sys, time
from bgsuper import Key, RestartPolicy, Supervisor
hasty = RestartPolicy(
    vitals_interval_s=0.05, hung_s=0.7, stopped_grace_s=0.7, hello_timeout_s=0.7, intensity=1, rss_soft_bytes=2**40,
    rss_hard_bytes=2**40,
)
with Supervisor(sys.argv[1], restart=hasty) as supervisor:
    time.sleep(0.3)  # its first checkpoint is done by then
    print(supervisor.health().pid, flush=True)
    time.sleep(0.1)
    supervisor.wait(supervisor.commit({Key("app", "", "k"): b"v"}))
    print(*[transition.state.name for transition in supervisor.health_log()], flush=True)
"""


def test_a_pause_of_both_processes_is_nobodys_fault(place: Place) -> None:
    """Stopped for longer than any deadline, with a commit under way, and continued, as a suspended laptop is: no
    restart, and nobody is taken for hung."""
    process = host(PAUSED_HOST, f"{place.url}")
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    place.plan.sync_delay_s, written = 1.4, place.plan.writes
    eventually(lambda: place.plan.writes > written, "a commit is under way")
    pids = (process.pid, worker)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(1.0)
    place.plan.sync_delay_s = 0
    for pid in reversed(pids):  # the commit is still under way, and nothing was heard of it for long
        os.kill(pid, signal.SIGCONT)
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    assert [state for state in output.split() if state not in ("STOPPED", "READY")] == ["STARTING"], output
    assert place.stored() == {Key("app", "", "k"): b"v"}


# -- the history ------------------------------------------------------------------------------------------------------


def test_the_log_of_a_whole_life(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """health_log(), callbacks and the log's lines tell the same, in order, each change once, each with its evidence,
    its process and the cause of its death."""
    caplog.set_level(logging.DEBUG, "bgsuper.supervisor")
    supervisor = place.supervisor()
    told: list[Transition] = []
    supervisor.on_transition(told.append)
    supervisor.start(PATIENCE_S)
    first = pid_of(supervisor)
    send(supervisor, signal.SIGKILL)
    eventually(lambda: supervisor.health().restarts == 1)
    eventually(state_is(supervisor, State.READY))
    second = pid_of(supervisor)
    supervisor.stop(PATIENCE_S)
    log = supervisor.health_log()
    assert states(supervisor) == [State.STARTING, State.READY, *REPLACED, State.STOPPING, State.EXITED, State.ENDED]
    assert [replace(one, at=0) for one in told] == [replace(one, at=0) for one in log]
    assert all(one.before is before.state for before, one in pairwise(log))
    assert [one.at for one in log] == sorted(one.at for one in log)
    assert time.time() - 60 < log[0].at <= time.time()
    assert all(one.evidence for one in log)
    deaths = [(one.pid, one.cause) for one in log if one.state is State.EXITED]
    assert deaths == [(first, DeathCause.OUTSIDE), (second, DeathCause.ASKED)]
    lines = [re.search(r"(\w+) -> (\w+)", record.getMessage()) for record in caplog.records]
    assert [line.groups() for line in lines if line] == [(one.before.name, one.state.name) for one in log]


def test_a_callback_that_fails_harms_nobody(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, the next one is still called, and so is the next time; one that is taken away hears no more. A
    callback may ask for health."""
    with place.running() as supervisor:
        heard: list[State] = []
        asked: list[State] = []
        gone: list[State] = []

        def bad(transition: Transition) -> None:
            raise ValueError(f"a bug of the callback at {transition.state.name}")

        end_bad = supervisor.on_transition(bad)
        supervisor.on_transition(lambda transition: heard.append(transition.state))
        supervisor.on_transition(lambda _: asked.append(supervisor.health().state))
        end = supervisor.on_transition(lambda transition: gone.append(transition.state))
        end()
        end()
        send(supervisor, signal.SIGKILL)
        eventually(lambda: heard[-2:] == REPLACED[1:] and len(asked) == len(heard))
        supervisor.wait(supervisor.commit({key(0): b"0"}), PATIENCE_S)
        # The first READY may have been told before, or after they listened.
        assert [state for state in heard if state is not State.DYING][-3:] == REPLACED
        assert gone == []
        assert caplog.text.count("a bug of the callback at READY") >= 1
        end_bad()


def test_a_state_that_lasts_is_told_once(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """However often the worker is looked at."""
    with place.running() as supervisor:
        freeze(supervisor)
        eventually(state_is(supervisor, State.STOPPED))
        for _ in range(10):
            looked_at = supervisor._shell._looked_at
            eventually(lambda looked_at=looked_at: supervisor._shell._looked_at != looked_at)
        thaw(supervisor)
        eventually(state_is(supervisor, State.READY))
        assert states(supervisor) == [State.STARTING, State.READY, State.STOPPED, State.READY]
        assert caplog.text.count("-> STOPPED") == 1


def test_a_full_disk_is_told_once(place: Place) -> None:
    """What was done before, and is heard of later by a heartbeat, is no space."""
    with place.running() as supervisor:
        for number in range(10):
            supervisor.wait(supervisor.commit({key(number): b"%d" % number}), PATIENCE_S)
        place.plan.full = 1
        seq = supervisor.commit({key(10): b"10"})
        eventually(state_is(supervisor, State.DISK_FULL))
        eventually(lambda: supervisor._core._worker.doctor.phase == "retrying", "a heartbeat came")
        assert states(supervisor)[-2:] == [State.READY, State.DISK_FULL]
        place.plan.full = 0
        send(supervisor, signal.SIGKILL)  # its next try is seconds away
        supervisor.wait(seq, PATIENCE_S)
        assert states(supervisor) == [State.STARTING, State.READY, State.DISK_FULL, *REPLACED]
