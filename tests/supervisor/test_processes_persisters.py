"""Persisters of the user: what they take, and what they raise."""

from __future__ import annotations

import asyncio
import errno
import os
import traceback
from pathlib import Path

import pytest

from bgsuper import PersisterRef, Supervisor
from bgsuper.errors import BgsuperError, ConfigError, RemoteError
from bgsuper.health import DeathCause
from bgsuper.ipc.remote import RemoteTraceback
from bgsuper.key import MANAGER, NETWORK_GRAPH
from tests.ipc import exceptions
from tests.processor.ldk_node import Node

from . import persisters
from .hosts import PATIENCE_S, persister
from .persisters import DiskOfMineError

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_a_persister_takes_whole_values(tmp_path: Path) -> None:
    """Its return means durable; there is no batch and nothing to read."""
    with Supervisor(persister(tmp_path)) as supervisor:
        assert not supervisor.health().atomic
        supervisor.wait(supervisor.snapshot(MANAGER, [b"one", b"two"], critical=True), PATIENCE_S)
        assert (tmp_path / "manager").read_bytes() == b"onetwo"
        with pytest.raises(ConfigError):
            supervisor.commit({MANAGER: b"x"})


def test_what_a_persister_raises_for_the_manager_ends_it_as_itself(tmp_path: Path) -> None:
    """The same type, text and attributes, out of wait() and stop(), not retried."""
    supervisor = Supervisor(persister(tmp_path, fails="manager"))
    supervisor.start(PATIENCE_S)
    seq = supervisor.snapshot(MANAGER, [b"state"], critical=True)
    for call in (lambda: supervisor.wait(seq, PATIENCE_S), supervisor.stop):
        with pytest.raises(DiskOfMineError, match="cannot write the manager") as caught:
            call()
        assert caught.value.code == 7
        assert "in _write" in str(caught.value.__cause__)
    assert supervisor.health().restarts == 0


def test_what_a_persister_raises_for_the_graph_is_for_whoever_waits(tmp_path: Path) -> None:
    """The worker goes on; wait() and snapshot_failure() tell."""
    with Supervisor(persister(tmp_path, fails="graph")) as supervisor:
        seq = supervisor.snapshot(NETWORK_GRAPH, [b"graph"])
        with pytest.raises(DiskOfMineError, match="cannot write the graph"):
            supervisor.wait(seq, PATIENCE_S)
        with pytest.raises(DiskOfMineError):
            asyncio.run(supervisor.durable(seq))
        assert isinstance(supervisor.snapshot_failure(NETWORK_GRAPH), DiskOfMineError)
        supervisor.wait(supervisor.snapshot(MANAGER, [b"state"], critical=True), PATIENCE_S)
        assert supervisor.health().restarts == 0


@pytest.mark.parametrize("config", [{"a": object()}, {"a": {1: 2}}, {"a": "x" * 2_000_000}, {"a": 2**70}])
def test_a_persisters_config_must_fit_the_pipe(config: dict[str, object]) -> None:
    """Told where it is written, not when a worker chokes on it."""
    with pytest.raises(ConfigError):
        PersisterRef("package.module:Class", config)


@pytest.mark.parametrize("path", ["no_such_module:Class", "tests.supervisor.persisters:Nothing", "os:getcwd"])
def test_a_persister_that_is_none_is_raised_by_start(path: str) -> None:
    """With Python's own words."""
    with pytest.raises((ConfigError, BgsuperError)):
        Supervisor(PersisterRef(path)).start(PATIENCE_S)


# -- what it raises, and what comes out -------------------------------------------------------------------------------

#: What `persist_manager` raises, how it comes out, and words of its text.
CROSSINGS: list[tuple[str, type[Exception], str]] = [
    ("with an errno", OSError, "Read-only file system"),
    ("with attributes", DiskOfMineError, "cannot write the manager"),
    ("a group", ExceptionGroup, "two disks"),
    ("large", RemoteError, "HEADxx"),
    ("evil", RemoteError, "touch"),
    ("local", RemoteError, "nobody can import me"),
    ("gone from the host", RemoteError, "now you see me"),
    ("SubPlain", RemoteError, "what it says"),
    ("TwoArguments", RemoteError, "7 at home"),
    ("Garbled", RemoteError, "code what it says"),
    ("DumpsFails", RemoteError, "what it says"),
    ("DumpsExits", RemoteError, "what it says"),
    ("LoadsFails", RemoteError, "what it says"),
    ("LoadsExits", RemoteError, "what it says"),
    ("Impostor", RemoteError, "what it says"),
    ("Unprintable", RemoteError, "cannot be printed"),
    ("ExitsWhenPrinted", RemoteError, "cannot be printed"),
    ("NoString", RemoteError, "cannot be printed"),
]


def raising(directory: Path, error: str) -> PersisterRef:
    """A persister that raises it, and a host that admits it: what cannot cross comes as text all the same. A subclass
    of what is admitted is not."""
    own: list[type[Exception]] = (
        [exceptions.Plain] if error == "SubPlain" else [getattr(exceptions, error, DiskOfMineError)]
    )
    ref = persister(directory, "Raises", error=error)
    return PersisterRef(ref.path, ref.config, (DiskOfMineError, persisters.Evil, persisters.Vanishing, *own))


@pytest.mark.parametrize(("error", "expected", "words"), CROSSINGS, ids=[case[0] for case in CROSSINGS])
def test_whatever_a_persister_raises_for_the_manager_comes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, expected: type[Exception], words: str
) -> None:
    """As itself if it is admitted and survives the pipe, else as RemoteError; with its notes and its remote traceback,
    cause included; each time anew; and without a second try."""
    supervisor = Supervisor(raising(tmp_path, error))
    supervisor.start(PATIENCE_S)
    if error == "gone from the host":
        monkeypatch.delattr(persisters, "Vanishing")
    seq = supervisor.snapshot(MANAGER, [b"state"], critical=True)
    caught = []
    for call in (lambda: supervisor.wait(seq, PATIENCE_S), supervisor.stop, supervisor.stop):
        with pytest.raises(expected, match=words) as raised:
            call()
        caught.append(raised.value)
    assert len({id(each) for each in caught}) == 3
    for each in caught:
        assert type(each) is expected
        assert each.__notes__ == ["while the manager was written"]
        assert isinstance(each.__cause__, RemoteTraceback)
        remote = str(each.__cause__)
        assert "in persist_manager" in remote
        assert "the first cause" in remote
        assert len(remote) < 100_000
        assert len(str(each)) < 20_000
    assert (supervisor.health().restarts, supervisor.health().last_cause) == (0, DeathCause.STORE)
    assert os.listdir(tmp_path) == []


def test_an_errno_comes_along(tmp_path: Path) -> None:
    """On the exception itself, and on what stands for it; so do the members of a group."""
    for error, of in (("with an errno", lambda e: e.errno), ("a group", lambda e: e.exceptions[0].errno)):
        supervisor = Supervisor(raising(tmp_path, error))
        supervisor.start(PATIENCE_S)
        supervisor.snapshot(MANAGER, [b"state"], critical=True)
        with pytest.raises((OSError, ExceptionGroup)) as raised:
            supervisor.stop()
        assert of(raised.value) in (errno.EROFS, errno.EIO)


def test_two_joins_give_independent_tracebacks(tmp_path: Path) -> None:
    """Of a processor too: nobody's traceback grows by another's, and the worker's own is in each."""
    node = Node()
    node.manager.change()
    processor = node.start(raising(tmp_path, "with attributes"))
    caught = []
    for call in (processor.join, processor.join, processor.stop, processor.stop):
        with pytest.raises(DiskOfMineError) as raised:
            call()
        caught.append(raised.value)
    assert len({id(error) for error in caught}) == 4
    assert [error.code for error in caught] == [7] * 4
    depths = [len(traceback.extract_tb(error.__traceback__)) for error in caught]
    assert depths[0] == depths[1]
    assert depths[2] == depths[3]
    assert all("in persist_manager" in str(error.__cause__) for error in caught)
