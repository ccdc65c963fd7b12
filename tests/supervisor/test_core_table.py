"""The life of a worker is a table: what has a row goes where it says, what has none raises and changes nothing."""

from __future__ import annotations

import errno
from collections.abc import Callable
from itertools import product

import pytest

from bgsuper.errors import ConfigError, StoreCorrupt, StoreFull, StoreUnavailable
from bgsuper.health import WorkerState as State
from bgsuper.supervisor.diagnosis import LOOKS
from bgsuper.supervisor.life import TRANSITIONS, Event, IllegalTransition

from .rig import Rig, observe


def idle(rig: Rig) -> None:
    """Nothing happened."""


def starting(rig: Rig) -> None:
    rig.start()


def ready(rig: Rig) -> None:
    rig.up()


def lagging(rig: Rig) -> None:
    rig.up()
    rig.commit()
    rig.tick(rig.core.limits.lagging_s)


def disk_stalled(rig: Rig) -> None:
    rig.up()
    rig.looks(LOOKS, "disk-sleep", switches=7, write_bytes=4096)


def disk_full(rig: Rig) -> None:
    rig.up()
    rig.retrying(StoreFull("no space"))


def retrying(rig: Rig) -> None:
    rig.up()
    rig.retrying(StoreUnavailable("no descriptors"))


def hung(rig: Rig) -> None:
    rig.up()
    rig.commit()
    rig.take_all()
    rig.looks(1 + round(rig.core.policy.hung_s / rig.core.policy.vitals_interval_s))


def bloated(rig: Rig) -> None:
    rig.up()
    rig.looks(LOOKS, rss_bytes=rig.core.policy.rss_soft_bytes + 1)


def stopped(rig: Rig) -> None:
    rig.up()
    rig.look("stopped")


def dying(rig: Rig) -> None:
    rig.up()
    rig.core.pipe_closed(rig.now)


def wedged(rig: Rig) -> None:
    dying(rig)
    rig.tick(rig.core.policy.kill_timeout_s)  # SIGKILL
    rig.tick(rig.core.policy.kill_timeout_s)


def exited(rig: Rig) -> None:
    rig.up()
    rig.die()
    rig.hello()
    rig.die()  # the second restart has a back-off


def stopping(rig: Rig) -> None:
    rig.up()
    rig.stop()


def ended(rig: Rig) -> None:
    stopping(rig)
    rig.die(code=0)


def failed(rig: Rig) -> None:
    rig.start()
    rig.error("fatal", StoreCorrupt("damaged"))
    rig.die(code=1)


#: What psutil may say, and what it does not.
STATUSES = ["sleeping", "running", "disk-sleep", "stopped", "tracing-stop", "zombie", "gone", "unknown", "parked"]

REACH: dict[State, Callable[[Rig], None]] = {
    State.IDLE: idle,
    State.STARTING: starting,
    State.READY: ready,
    State.LAGGING: lagging,
    State.DISK_STALLED: disk_stalled,
    State.DISK_FULL: disk_full,
    State.RETRYING: retrying,
    State.STOPPED: stopped,
    State.HUNG: hung,
    State.BLOATED: bloated,
    State.DYING: dying,
    State.WEDGED: wedged,
    State.EXITED: exited,
    State.STOPPING: stopping,
    State.ENDED: ended,
    State.FAILED: failed,
}


def rig_in(state: State) -> Rig:
    rig = Rig()
    REACH[state](rig)
    assert rig.state is state
    return rig


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_every_state_is_reachable_by_what_a_shell_reports(state: State) -> None:
    """No state is there for show."""
    assert rig_in(state).state is state


def test_every_state_but_the_last_two_can_be_left() -> None:
    """ENDED and FAILED are for good; from anywhere else the life goes on."""
    assert {state for state, _ in TRANSITIONS} == set(State) - {State.ENDED, State.FAILED}


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)), ids=lambda part: part.name)
def test_an_event_goes_where_the_table_says_or_raises_and_changes_nothing(state: State, event: Event) -> None:
    """Each state meets each event."""
    rig = rig_in(state)
    before = observe(rig.core)
    target = TRANSITIONS.get((state, event))
    if target is None:
        with pytest.raises(IllegalTransition, match=f"{state.name} cannot {event.name}"):
            rig.core._go(event, rig.now + 1, "because")
        assert observe(rig.core) == before
        return
    rig.core._go(event, rig.now + 1, "because")
    assert (rig.state, rig.core.evidence) == (target, "because")
    # A state that is not left keeps its beginning.
    assert rig.core.since == (rig.now + 1 if target is not state else rig.core.since)


@pytest.mark.parametrize(
    "state", [state for state in State if state not in (State.IDLE, State.EXITED)], ids=lambda state: state.name
)
def test_a_worker_is_never_launched_beside_another(state: State) -> None:
    """Two writers never exist: a launch has a row only where nothing lives."""
    assert (state, Event.LAUNCH) not in TRANSITIONS


@pytest.mark.parametrize("rss", [0, 2 * 1024**3, 4 * 1024**3], ids=["small", "large", "too large"])
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_time_is_lawful_in_every_state(state: State, status: str, rss: int) -> None:
    """However long a core is left alone, and whatever psutil says, no deadline meets a state without its row."""
    rig = rig_in(state)
    for seconds in (0, 0.1, *[1] * 40, 10, 100, 1000):
        rig.tick(seconds)
        rig.look(status, rss_bytes=rss, switches=1, write_bytes=1, cpu_s=1.0)
        rig.core.slept(0.1)
        if not rig.core.ended:
            timer = rig.core.timer()
            assert timer is None or isinstance(timer, float)


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_stop_is_lawful_in_every_state_and_bounded(state: State) -> None:
    """Whatever the worker does or does not do, after stop()'s deadline the supervisor has ended."""
    rig = rig_in(state)
    rig.stop(10.0)
    for _ in range(22):
        rig.tick(0.5)
    assert rig.core.ended


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_a_failed_shell_fails_the_core_from_every_state(state: State) -> None:
    """Nobody may wait for a supervisor whose thread is gone; what had ended before stays as it was."""
    rig = rig_in(state)
    had_ended = rig.core.ended
    rig.core.shell_failed(RuntimeError("a bug"), rig.now)
    assert rig.core.ended
    assert had_ended or "a bug" in str(rig.core.failure())


@pytest.mark.parametrize(
    "state", [State.IDLE, State.STARTING, State.STOPPING, State.ENDED], ids=lambda state: state.name
)
def test_nothing_is_taken_unless_it_runs(state: State) -> None:
    """Before the first HELLO there are no numbers, after stop() nobody would write."""
    rig = rig_in(state)
    before = observe(rig.core)
    with pytest.raises(ConfigError):
        rig.commit()
    assert observe(rig.core) == before


def test_what_was_not_started_stops_at_once() -> None:
    """stop() before start() ends it without a launch."""
    rig = Rig()
    rig.stop()
    assert (rig.state, rig.actions()) == (State.ENDED, [])


def test_a_launch_that_is_impossible_tells_the_first_host() -> None:
    """No process, no memory, no descriptor: start() raises, with the system's words."""
    rig = Rig()
    rig.start()
    rig.core.launch_failed(OSError(errno.EMFILE, "Too many open files"), rig.now)
    assert rig.state is State.FAILED
    assert "Too many open files" in str(rig.core.failure())
