"""`memory:`: a store like any other while its worker lives, and honest about what is left when it dies."""

from __future__ import annotations

import os
import signal

import pytest

from bgsuper import RestartPolicy, Supervisor
from bgsuper.errors import ConfigError, NotFound, StoreError, StoreInconsistent
from bgsuper.health import WorkerState
from bgsuper.key import Key, Seq
from bgsuper.store.api import CopyTarget
from bgsuper.store.identity import Identity
from bgsuper.store.memory import MemoryStore
from bgsuper.store.schemes import Opening, make_store, open_view
from bgsuper.store.url import parse

from ..supervisor.hosts import PATIENCE_S, eventually, pid_of
from .stores import GRAPH, commit, key

#: The rest of its rules are in test_conformance.py.
QUICK = RestartPolicy(backoff_first_s=0.01, backoff_max_s=0.05, vitals_interval_s=0.05)


def test_it_is_made_as_other_stores_are() -> None:
    """By its URL, with the options of a worker's, none of which means anything here."""
    store = make_store(parse("memory:"), Opening(os.getpid(), distrust_cache=True, check=True, lock_timeout_s=0.0))
    assert isinstance(store, MemoryStore)
    assert store.open() == (1, 0, 0, b"")
    store.close()


def test_nothing_outlives_it() -> None:
    """Closed, it is empty; opened again, it begins anew, at the same epoch: it claims nothing that it does not have."""
    store = MemoryStore()
    store.open()
    store.apply([commit(1, {key("a"): b"1"})])
    with pytest.raises(StoreError, match="open already"):
        store.open()
    store.close()
    assert store.open() == (1, 0, 0, b"")
    with pytest.raises(NotFound):
        store.read(key("a"))


def test_two_of_them_share_nothing() -> None:
    """So there is nothing that one of them could lock."""
    one, two = MemoryStore(), MemoryStore()
    one.open(), two.open()
    one.apply([commit(1, {key("a"): b"1"})])
    assert two.scan("channels", "", "", 1000) == []


def test_a_store_can_be_copied_into_it() -> None:
    """Records under no commit's number; then it goes on as the original, with the seal that it has."""
    store: CopyTarget = MemoryStore(seal=b"s" * 16)
    store.open()
    store.import_records([(key("a"), b"1"), (key("b"), b"2")])
    store.import_identity(Identity(b"i" * 16, epoch=7, last_commit=Seq(40), last_snapshot=Seq(41)))
    assert dict(store.scan("channels", "", "", 1000)) == {key("a"): b"1", key("b"): b"2"}
    with pytest.raises(StoreError):
        store.apply([commit(40, {key("a"): b"3"})])
    store.apply([commit(41, {key("a"): b"3"})])
    assert store.read(key("a")) == b"3"


def test_a_snapshot_of_another_store_is_refused() -> None:
    """Whatever it is named."""
    store = MemoryStore()
    store.open()
    written = store.write_snapshot(GRAPH, Seq(1), b"1")
    store.adopt_snapshot(written)
    with pytest.raises(StoreError, match="that this store wrote"):
        store.adopt_snapshot(written)


def test_there_is_nothing_to_look_into() -> None:
    """Another process's memory is not ours to read."""
    with pytest.raises(ConfigError, match="lives in its worker"):
        open_view("memory:")


@pytest.mark.usefixtures("no_leaks")
def test_a_host_uses_it_as_any_store() -> None:
    """Commit, read, scan, snapshot, remove, stop."""
    with Supervisor("memory:") as supervisor:
        a, b = Key("app", "", "a"), Key("app", "", "b")
        supervisor.commit({a: b"1", b: b"2"})
        supervisor.snapshot(GRAPH, [b"graph ", b"of mine"])
        seq = supervisor.commit({a: b"3"}, [b])
        supervisor.wait(supervisor.snapshot(GRAPH, [b"newer"], critical=True), PATIENCE_S)
        supervisor.wait(seq, PATIENCE_S)
        assert list(supervisor.scan("app")) == [(a, b"3")]
        assert supervisor.read(GRAPH) == b"newer"
        with pytest.raises(NotFound):
            supervisor.read(b)
        assert supervisor.health().atomic
    assert supervisor.health().state is WorkerState.ENDED


@pytest.mark.usefixtures("no_leaks")
def test_the_workers_death_is_the_stores() -> None:
    """What was acknowledged is lost, and the host learns it at once: the successor's claims contradict it."""
    supervisor = Supervisor("memory:", restart=QUICK)
    supervisor.start(PATIENCE_S)
    supervisor.wait(supervisor.commit({Key("app", "", "a"): b"1"}), PATIENCE_S)
    os.kill(pid_of(supervisor), signal.SIGKILL)
    eventually(lambda: supervisor.health().state is WorkerState.FAILED)
    with pytest.raises(
        StoreInconsistent, match=r"lost everything with its worker, as memory: does.*use a store that lasts"
    ):
        supervisor.stop()
    with pytest.raises(StoreInconsistent):
        supervisor.commit({Key("app", "", "a"): b"2"})
