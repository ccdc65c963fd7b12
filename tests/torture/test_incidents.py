"""What happened to others, and must not happen here: one test an incident, as far as what exists is touched by it.

Others belong to what is still to be built, and have their tests there:
- a manager that LDK's own restore finds older than its monitor, the panics of an update after a full monitor (here is
  what the store does about them: one commit, in order), and a save function that forgot a new channel (Electrum #6656):
  the channels' own records, and `take_changes()`, checked against memory after each ack;
- a stale restore that closed all channels (CLN #5830), and an old copy put in place while no host runs (Electrum #8770,
  in part): the high-water mark outside the store.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgsuper import Key, Supervisor
from bgsuper.errors import NotFound, StoreCorrupt, StoreForeign, StoreFull, StoreInconsistent, StoreLocked
from bgsuper.faults.plan import Plan
from bgsuper.faults.powercut import PowerCut
from bgsuper.health import WorkerState
from bgsuper.key import MANAGER, NETWORK_GRAPH
from bgsuper.store.layout import CONTROL
from tests.store.stores import DATABASE, commit, new_store
from tests.supervisor.hosts import PATIENCE_S, Place, eventually, freeze, pid_of, send, state_is, thaw

pytestmark = pytest.mark.usefixtures("no_leaks")

HEAD, UPDATE = Key("monitors", "", "m"), "monitor_updates"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Plan.create(tmp_path / "plan") as plan:
        yield Place(tmp_path, plan)


# -- reads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["value", "index", "snapshot", "database"])
def test_a_read_error_is_not_a_missing_record(place: Place, damage: str) -> None:
    """ldk-node #1026: a read that failed was taken for "there is none", and an empty node started over the good one.
    https://github.com/lightningdevkit/ldk-node/issues/1026"""
    with Supervisor(place.url) as supervisor:
        supervisor.commit({MANAGER: b"the one and only manager" * 9})
        supervisor.wait(supervisor.snapshot(NETWORK_GRAPH, [b"graph" * 99]), PATIENCE_S)
    store = place.directory / "store"
    database = store / DATABASE
    content = bytearray(database.read_bytes())
    match damage:
        case "value":
            content[content.index(b"the one and only") + 5] ^= 0x20
        case "index":
            places = [at for at in range(len(content)) if content.startswith(b"manager", at)]
            [in_index] = [at for at in places if content[at // 4096 * 4096] == 0x0A]
            content[in_index] ^= 0x01
        case "snapshot":
            next((store / "snapshots").iterdir()).unlink()
        case "database":
            database.unlink()
    if damage == "database":
        with pytest.raises(StoreCorrupt, match="is missing, but there was one"):
            Supervisor(place.url).start()
        assert not database.exists()
        return
    database.write_bytes(content)
    supervisor = Supervisor(place.url)
    supervisor.start()
    try:
        with pytest.raises(StoreCorrupt):
            supervisor.read(NETWORK_GRAPH if damage == "snapshot" else MANAGER)
        eventually(lambda: supervisor.failure() is not None, "the check in the background finds it, too")
        with pytest.raises(StoreCorrupt):
            supervisor.commit({MANAGER: b"an empty one"})
    finally:
        with pytest.raises(StoreCorrupt):
            supervisor.stop()


# -- writes that fail -------------------------------------------------------------------------------------------------


def test_a_retry_never_overwrites_what_is_newer(place: Place) -> None:
    """rgb-lightning-node #110: a queue of failed writes was played over the newer values of the same keys.
    https://github.com/RGB-Tools/rgb-lightning-node/issues/110"""
    with place.running() as supervisor:
        supervisor.wait(supervisor.commit({HEAD: b"old"}), PATIENCE_S)
        place.plan.full = 1
        supervisor.snapshot(MANAGER, [b"1"], critical=True)
        supervisor.commit({HEAD: b"1"})
        eventually(state_is(supervisor, WorkerState.DISK_FULL))
        supervisor.snapshot(MANAGER, [b"2"], critical=True)
        supervisor.commit({HEAD: b"2"})
        last = supervisor.commit({MANAGER: b"3"}, {HEAD})
        place.plan.full = 0
        supervisor.wait(last, PATIENCE_S)
        for _ in range(2):
            assert supervisor.read(MANAGER) == b"3"
            with pytest.raises(NotFound):
                supervisor.read(HEAD)
            send(supervisor, signal.SIGKILL)
            eventually(lambda: supervisor.health().restarts and state_is(supervisor, WorkerState.READY)())
    assert place.stored() == {}
    with Supervisor(place.url) as supervisor:
        assert supervisor.read(MANAGER) == b"3"


def test_the_final_write_of_the_manager_is_not_left_in_a_queue(place: Place) -> None:
    """rgb-lightning-node #115: the manager's last write sat in a queue in memory when the node stopped. Here stop()
    waits for it, though the disk is slow and the worker is killed meanwhile.
    https://github.com/RGB-Tools/rgb-lightning-node/issues/115"""
    for number in range(3):
        with place.running() as supervisor:
            place.plan.sync_delay_s = 0.1
            supervisor.commit({HEAD: b"%d" % number})
            supervisor.snapshot(MANAGER, [b"%d" % number], critical=True)
            if number == 2:
                send(supervisor, signal.SIGKILL)
            supervisor.stop(PATIENCE_S)
        place.plan.sync_delay_s = 0
        with Supervisor(place.url) as supervisor:
            assert (supervisor.read(MANAGER), supervisor.read(HEAD)) == (b"%d" % number, b"%d" % number)


def test_a_failed_write_wedges_nothing(place: Place) -> None:
    """rgb-lightning-node #107: a write that had failed was never tried again, and its channel waited for ever. Here a
    commit is tried again by itself, and a graph's failed write neither stops the next one nor is forgotten before.
    https://github.com/RGB-Tools/rgb-lightning-node/issues/107"""
    with place.running() as supervisor:
        place.plan.full = 1
        seq = supervisor.commit({HEAD: b"1"})
        eventually(state_is(supervisor, WorkerState.DISK_FULL))
        place.plan.full = 0
        supervisor.wait(seq, PATIENCE_S)
        place.plan.full = 1
        with pytest.raises(StoreFull):
            supervisor.wait(supervisor.snapshot(NETWORK_GRAPH, [b"1"]), PATIENCE_S)
        assert isinstance(supervisor.snapshot_failure(NETWORK_GRAPH), StoreFull)
        place.plan.full = 0
        supervisor.wait(supervisor.snapshot(NETWORK_GRAPH, [b"2"]), PATIENCE_S)
        assert supervisor.snapshot_failure(NETWORK_GRAPH) is None
        assert supervisor.read(NETWORK_GRAPH) == b"2"
        assert supervisor.health().restarts == 0


# -- several records, and their order ---------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [1, 2, 3, 4, 5, 100])
def test_the_manager_is_never_older_than_its_monitor_nor_newer(place: Place, write: int) -> None:
    """rust-lightning #4286, #3615 (manager older: force-close), bitkit #847 and Alby hub #2468 (monitor older: does
    not start): two files, one of them written. Here both are in one commit, killed at each write and at its sync.
    https://github.com/lightningdevkit/rust-lightning/issues/4286 and /3615"""
    with place.running() as supervisor:
        supervisor.wait(supervisor.commit({MANAGER: b"1" * 5000, HEAD: b"1" * 5000}), PATIENCE_S)
        place.plan.kill_before_write = write
        place.plan.kill_before_sync = 1
        supervisor.wait(supervisor.commit({MANAGER: b"2" * 5000, HEAD: b"2" * 5000}), PATIENCE_S)
        assert supervisor.health().restarts >= 1
        place.plan.kill_before_write = write
        place.plan.kill_before_sync = 1
        supervisor.commit({MANAGER: b"3" * 5000, HEAD: b"3" * 5000})
        eventually(lambda: supervisor.health().restarts >= 2)
        assert supervisor.read(MANAGER) == supervisor.read(HEAD) == b"3" * 5000


def test_an_update_never_comes_before_or_after_its_full_write(place: Place) -> None:
    """LDK #3907 (updates written in another order than they were made), LDK #3196 (an update found beside a full write
    that contains it: panic at start). Here a head and the removal of the updates that it contains are one commit, and
    commits keep their order, though workers are killed all the time.
    https://github.com/lightningdevkit/rust-lightning/issues/3907 and /3196"""
    with place.running() as supervisor:
        contained = 0
        for number in range(1, 121):
            if number % 7 == 0:
                updates = [Key(UPDATE, "", f"{old:04}") for old in range(contained + 1, number)]
                supervisor.commit({HEAD: b"%d" % number}, updates)
                contained = number
            else:
                supervisor.commit({Key(UPDATE, "", f"{number:04}"): b"%d" % number})
            if number % 30 == 0:
                send(supervisor, signal.SIGKILL)
                head = int(supervisor.read(HEAD))
                updates_found = [int(value) for _, value in supervisor.scan(UPDATE)]
                assert updates_found == list(range(head + 1, number + 1))


# -- which store, and who writes it -----------------------------------------------------------------------------------


def test_an_older_copy_put_in_place_under_a_running_host(place: Place) -> None:
    """Electrum #8770: a copied or stale wallet went on as if nothing had happened, and revoked states came back. Here
    the successor of a worker must find what was acknowledged: StoreInconsistent, and nothing is written over the copy.
    https://github.com/spesmilo/electrum/issues/8770"""
    store, kept = place.directory / "store", place.directory / "kept"
    supervisor = place.supervisor()
    supervisor.start(PATIENCE_S)
    supervisor.wait(supervisor.commit({HEAD: b"old"}), PATIENCE_S)
    shutil.copytree(store, kept, ignore=shutil.ignore_patterns(CONTROL))
    supervisor.wait(supervisor.commit({HEAD: b"new"}), PATIENCE_S)
    pid = freeze(supervisor)
    store.rename(place.directory / "newest")
    kept.rename(store)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: supervisor.failure() is not None)
    for call in (lambda: supervisor.commit({HEAD: b"newer"}), supervisor.stop):
        with pytest.raises(StoreInconsistent):
            call()
    with Supervisor(place.url) as old:
        assert old.read(HEAD) == b"old"
    shutil.rmtree(store)
    (place.directory / "newest").rename(store)
    with Supervisor(place.url) as new:
        assert new.read(HEAD) == b"new"


def test_a_second_node_starts_while_the_first_ones_writer_lives(place: Place) -> None:
    """Two instances of a node on one directory (LND's leader election exists for it): the second is told who is there,
    though that writer does nothing at all just now, and what the first had submitted is not lost."""
    with place.running() as supervisor:
        supervisor.wait(supervisor.commit({HEAD: b"1"}), PATIENCE_S)
        pid = freeze(supervisor)
        supervisor.commit({HEAD: b"2"})
        with pytest.raises(StoreLocked) as caught:
            Supervisor(f"sqlite://{place.directory}/store").start()
        assert (caught.value.pid, caught.value.epoch) == (pid, supervisor.health().epoch)
        thaw(supervisor)
        supervisor.wait(supervisor.commit({MANAGER: b"3"}), PATIENCE_S)
        assert (supervisor.read(HEAD), pid_of(supervisor)) == (b"2", pid)


@pytest.mark.parametrize("found", ["directory", "database"])
def test_a_wrong_database_by_accident(place: Place, found: str) -> None:
    """eclair keeps the last JDBC URL in a file, since nodes were started on another database by accident. Here what is
    not a store of ours is refused and left alone. (A new, empty directory is not told from the right one yet: that is
    for the high-water mark.)"""
    store = place.directory / "store"
    store.mkdir()
    if found == "database":
        with sqlite3.connect(store / DATABASE) as database:
            database.executescript("CREATE TABLE channels(id); INSERT INTO channels VALUES (1)")
        database.close()
    else:
        (store / "eclair.sqlite").write_bytes(b"somebody's channels")
    before = {path.name: path.read_bytes() for path in store.iterdir()}
    with pytest.raises(StoreForeign, match="use another directory"):
        Supervisor(place.url).start()
    assert {path.name: path.read_bytes() for path in store.iterdir() if path.name != "lock"} == before


# -- power ------------------------------------------------------------------------------------------------------------


def test_the_power_goes_right_after_an_acknowledgement(tmp_path: Path) -> None:
    """LND #4477 and #1889, CLN #7915 and #7162: databases that a power cut left empty, truncated or corrupt. Here a new
    store, its first commit and a checkpoint each survive it, as soon as they were acknowledged. (Real file systems:
    `test_power`.) https://github.com/lightningnetwork/lnd/issues/4477"""
    (tmp_path / "disk").mkdir()
    power = PowerCut(tmp_path / "disk")
    store = new_store(tmp_path / "disk" / "a" / "store", vfs=power.name, fsync=power.fsync)
    try:
        for number in range(1, 6):
            seq = store.open().last_commit
            assert seq == number - 1
            if number > 1:
                assert store.read(HEAD) == b"%d" % (number - 1)
            if number % 2:
                while store.has_idle_work:
                    store.idle()
            store.apply([commit(number, {HEAD: b"%d" % number, MANAGER: b"m" * 9000})])
            store._release()
            power.cut()
            store = new_store(tmp_path / "disk" / "a" / "store", vfs=power.name, fsync=power.fsync)
    finally:
        store.close()
        power.close()
