"""A store of the user's own, named by a `PersisterRef`: the worker uses it as one of ours."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bgsuper import PersisterRef, RestartPolicy, Supervisor
from bgsuper.errors import (
    BgsuperError,
    ConfigError,
    NotFound,
    PoisonCommit,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    SyncFailed,
)
from bgsuper.health import WorkerState
from bgsuper.key import MANAGER, NETWORK_GRAPH, Key
from bgsuper.store.api import Opened
from bgsuper.worker.__main__ import verdict
from bgsuper.worker.users import Whose, whose

from ..store import pickled
from ..supervisor.hosts import PATIENCE_S, eventually, pid_of
from . import users_stores
from .users_stores import BAD, DriverError

pytestmark = pytest.mark.usefixtures("no_leaks")

QUICK = RestartPolicy(backoff_first_s=0.01, backoff_max_s=0.05, vitals_interval_s=0.05, intensity=9, start_intensity=2)
A, B = Key("app", "", "a"), Key("app", "", "b")


def ref(directory: Path, name: str = "", **config: object) -> PersisterRef:
    """The store that works, or one of `users_stores`."""
    path = f"{users_stores.__name__}:{name}" if name else f"{pickled.__name__}:PickledStore"
    return PersisterRef(path, {"directory": str(directory), **config}, raises=(DriverError,))


@contextmanager
def running(target: PersisterRef) -> Iterator[Supervisor]:
    """Started; stopped at the end whatever happened, without a word about it."""
    supervisor = Supervisor(target, restart=QUICK)
    supervisor.start(PATIENCE_S)
    try:
        yield supervisor
    finally:
        try:
            supervisor.stop(PATIENCE_S)
        except (BgsuperError, DriverError, RuntimeError):
            pass


# -- one that works ---------------------------------------------------------------------------------------------------


def test_it_is_used_as_one_of_ours(tmp_path: Path) -> None:
    """Commits, removes, snapshots of any key, reads, scans; and everything is there for the next host."""
    with Supervisor(ref(tmp_path)) as supervisor:
        supervisor.commit({A: b"1", B: b"2"})
        supervisor.wait(supervisor.commit({A: b"3"}, [B]), PATIENCE_S)
        supervisor.wait(supervisor.snapshot(NETWORK_GRAPH, [b"graph"]), PATIENCE_S)
        supervisor.wait(supervisor.snapshot(Key("x", "", "any"), [b"any"], critical=True), PATIENCE_S)
        assert supervisor.read(A) == b"3"
        with pytest.raises(NotFound):
            supervisor.read(B)
        assert supervisor.health().atomic
        submitted, epoch = supervisor.health().submitted, supervisor.health().epoch
    with Supervisor(ref(tmp_path)) as supervisor:
        assert list(supervisor.scan("app")) == [(A, b"3")]
        assert supervisor.read(NETWORK_GRAPH) == b"graph"
        assert (supervisor.health().submitted, supervisor.health().epoch) == (submitted, epoch + 1)


def test_its_worker_may_die(tmp_path: Path) -> None:
    """The successor has what was acknowledged, and is given the rest again."""
    with running(ref(tmp_path)) as supervisor:
        for number in range(5):
            supervisor.commit({A: b"%d" % number})
            os.kill(pid_of(supervisor), signal.SIGKILL)
            supervisor.wait(supervisor.commit({B: b"%d" % number}), PATIENCE_S)
            assert (supervisor.read(A), supervisor.read(B)) == (b"%d" % number, b"%d" % number)
        assert supervisor.health().restarts == 5


def test_atomic_is_its_own_word(tmp_path: Path) -> None:
    """Health repeats it; commits are taken all the same."""
    with running(ref(tmp_path, "NotAtomic")) as supervisor:
        assert not supervisor.health().atomic
        supervisor.wait(supervisor.commit({A: b"1"}), PATIENCE_S)
        assert supervisor.read(A) == b"1"


def test_a_second_host_is_locked_out(tmp_path: Path) -> None:
    """Its `StoreLocked` is one."""
    with running(ref(tmp_path)), pytest.raises(StoreLocked):
        Supervisor(ref(tmp_path)).start(PATIENCE_S)


# -- what it raises ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["StoreFull", "StoreUnavailable"])
@pytest.mark.parametrize("at", ["apply", "adopt_snapshot", "write_snapshot"])
def test_what_may_pass_is_tried_again(tmp_path: Path, error: str, at: str) -> None:
    """By the same worker, commits and critical snapshots alike."""
    with running(ref(tmp_path, "Failing", error=error, times=2, at=at)) as supervisor:
        seq = supervisor.commit({A: BAD}) if at == "apply" else supervisor.snapshot(A, [BAD], critical=True)
        supervisor.wait(seq, PATIENCE_S)
        assert supervisor.read(A) == BAD
        assert supervisor.health().restarts == 0
        seen = {transition.state for transition in supervisor.health_log()}
        assert seen & {WorkerState.DISK_FULL, WorkerState.RETRYING}


def test_a_failed_sync_costs_a_worker(tmp_path: Path) -> None:
    """One; the successor is given the commit again. A second one ends it."""
    with running(ref(tmp_path / "once", "Failing", error="SyncFailed", times=1)) as supervisor:
        supervisor.wait(supervisor.commit({A: BAD}), PATIENCE_S)
        assert supervisor.health().restarts == 1
    always = ref(tmp_path / "always", "Failing", error="SyncFailed")
    with running(always) as supervisor, pytest.raises(SyncFailed, match="what the store says"):
        supervisor.wait(supervisor.commit({A: BAD}), PATIENCE_S)


def test_a_fatal_store_error_is_fatal(tmp_path: Path) -> None:
    """As it is from a store of ours."""
    with running(ref(tmp_path, "Failing", error="StoreCorrupt")) as supervisor:
        with pytest.raises(StoreCorrupt, match="what the store says"):
            supervisor.wait(supervisor.commit({A: BAD}), PATIENCE_S)
        assert supervisor.health().restarts == 0


def test_a_plain_store_error_is_a_crash(tmp_path: Path) -> None:
    """Restarted within the budget."""
    with running(ref(tmp_path, "Failing", error="StoreError", times=1)) as supervisor:
        supervisor.wait(supervisor.commit({A: BAD}), PATIENCE_S)
        assert supervisor.health().restarts == 1


@pytest.mark.parametrize("at", ["apply", "adopt_snapshot", "write_snapshot"])
def test_anything_else_is_its_own_word(tmp_path: Path, at: str) -> None:
    """Fatal, not retried, out of wait() and stop() as itself, with the worker's traceback."""
    supervisor = Supervisor(ref(tmp_path, "Failing", error="DriverError", at=at), restart=QUICK)
    supervisor.start(PATIENCE_S)
    seq = supervisor.commit({A: BAD}) if at == "apply" else supervisor.snapshot(A, [BAD], critical=True)
    for call in (lambda: supervisor.wait(seq, PATIENCE_S), supervisor.stop):
        with pytest.raises(DriverError, match="the driver broke") as caught:
            call()
        assert caught.value.code == 7
        assert "in _fail" in str(caught.value.__cause__)
    assert supervisor.health().restarts == 0


def test_an_adoption_that_fails_ends_it_whatever_it_was_for(tmp_path: Path) -> None:
    """A snapshot that is not critical may fail to be written, but adopting it is the commit lane's: nobody knows what
    the store holds now."""
    with running(ref(tmp_path, "Failing", error="DriverError", at="adopt_snapshot")) as supervisor:
        with pytest.raises(DriverError):
            supervisor.wait(supervisor.snapshot(NETWORK_GRAPH, [BAD]), PATIENCE_S)
        assert isinstance(supervisor.failure(), DriverError)


def test_a_mere_snapshot_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """And costs nothing else."""
    with running(ref(tmp_path, "Failing", error="DriverError", at="write_snapshot")) as supervisor:
        with pytest.raises(DriverError):
            supervisor.wait(supervisor.snapshot(NETWORK_GRAPH, [BAD]), PATIENCE_S)
        supervisor.wait(supervisor.commit({A: b"1"}), PATIENCE_S)
        assert supervisor.health().restarts == 0


def test_a_read_that_fails(tmp_path: Path) -> None:
    """A `StoreError` is the reader's; anything else ends the worker."""
    bad = Key("app", "", BAD.decode())
    with running(ref(tmp_path, "Failing", error="StoreCorrupt", at="read")) as supervisor:
        with pytest.raises(StoreCorrupt):
            supervisor.read(bad)
        supervisor.wait(supervisor.commit({A: b"1"}), PATIENCE_S)
    with running(ref(tmp_path, "Failing", error="DriverError", at="read")) as supervisor:
        with pytest.raises(DriverError):
            supervisor.read(bad)
        eventually(lambda: supervisor.health().state is WorkerState.FAILED)


@pytest.mark.parametrize("at", ["__init__", "open"])
@pytest.mark.parametrize(
    ("error", "comes_out"), [("DriverError", DriverError), ("StoreCorrupt", StoreCorrupt), ("StoreFull", StoreFull)]
)
def test_what_it_raises_at_start(tmp_path: Path, at: str, error: str, comes_out: type[Exception]) -> None:
    """From its constructor or from open(): out of start(), as itself."""
    with pytest.raises(comes_out):
        Supervisor(ref(tmp_path, "Failing", error=error, at=at), restart=QUICK).start(PATIENCE_S)


# -- what is no store -------------------------------------------------------------------------------------------------


def test_half_a_store_is_refused(tmp_path: Path) -> None:
    """By name of what it lacks."""
    target = PersisterRef(f"{users_stores.__name__}:HasNoScan")
    with pytest.raises(ConfigError, match=r"has apply\(\), so it is taken for a store, but it has no open, .*scan"):
        Supervisor(target).start(PATIENCE_S)


def test_claims_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    """With words about what was expected."""
    with pytest.raises(ConfigError, match=r"expected open\(\) of a store to return Opened.*got None"):
        Supervisor(ref(tmp_path, "SaysTooLittle")).start(PATIENCE_S)


@pytest.mark.parametrize(
    "claims",
    [
        None,
        (1, 0, 0, b""),
        Opened(0, 0, 0),
        Opened(1, 5, 4),
        Opened(1, -1, 0),
        Opened("1", 0, 0),
        Opened(1, 0, 0, None),
    ],
)
def test_what_a_store_may_claim(claims: object) -> None:
    """Numbers that a host can do something with."""
    with pytest.raises(ConfigError):
        Whose.USERS_STORE.checked(claims)  # type: ignore[arg-type]
    assert Whose.USERS_STORE.checked(Opened(3, 4, 5)) == (3, 4, 5, b"")  # type: ignore[arg-type]


def test_a_class_with_apply_is_a_store() -> None:
    """Everything else is a persister."""
    assert whose(f"{pickled.__name__}:PickledStore") is Whose.USERS_STORE
    assert whose("tests.supervisor.persisters:Files") is Whose.USERS_PERSISTER


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (StoreFull("no"), "unavailable"),
        (SyncFailed("no"), "sync"),
        (StoreLocked("no"), "fatal"),
        (StoreError("no"), "crash"),
        (DriverError("no", 1), "fatal"),
        (RuntimeError("no"), "fatal"),
        (SystemExit(3), "crash"),
        (ConfigError("no"), "fatal"),
    ],
)
def test_the_verdict_on_a_users_store(error: BaseException, says: str) -> None:
    """`StoreError`s mean what they mean for ours; any other exception is fatal."""
    assert verdict(error, Whose.USERS_STORE.users_word(error)) == says


def test_a_manager_that_is_one_value(tmp_path: Path) -> None:
    """The seed's way works with it too."""
    with running(ref(tmp_path)) as supervisor:
        supervisor.wait(supervisor.snapshot(MANAGER, [b"state"], critical=True), PATIENCE_S)
        assert supervisor.read(MANAGER) == b"state"


def test_a_commit_that_it_never_takes_is_told_apart(tmp_path: Path) -> None:
    """A plain `StoreError` at each attempt: the commit is named, with the store's own words."""
    target = ref(tmp_path, "Failing", error="StoreError")
    with running(target) as supervisor:
        supervisor.commit({B: b"good"})
        seq = supervisor.commit({A: BAD})
        with pytest.raises(PoisonCommit, match="what the store says") as caught:
            supervisor.wait(seq, PATIENCE_S)
    assert caught.value.seq == 2
    with running(target) as supervisor:
        assert supervisor.read(B) == b"good"
