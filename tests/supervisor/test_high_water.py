"""Old backups: real workers, real copies of a store's directory, and what the host learns of it."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from bgsuper import ConfigError, Supervisor
from bgsuper.errors import StoreCorrupt, StoreError, StoreUnavailable, StoreUnwritable
from bgsuper.health import Behind
from bgsuper.ipc.frames import Kind
from bgsuper.store.high_water import BEYOND, Found, read_mark
from bgsuper.supervisor.children import Child
from bgsuper.supervisor.launch import launch

from .hosts import PATIENCE_S, QUICK, Place, eventually, host, key, pid_of
from .rig import Rig

pytestmark = pytest.mark.usefixtures("no_leaks")


class Node:
    """A store with its mark, and a copy that somebody put aside."""

    def __init__(self, directory: Path, scheme: str = "sqlite") -> None:
        self.store, self.mark, self.aside = directory / "store", directory / "mark", directory / "aside"
        self.url = f"{scheme}://{self.store}?high-water={self.mark}"

    def supervisor(self, **settings: object) -> Supervisor:
        return Supervisor(self.url, restart=QUICK, **settings)  # type: ignore[arg-type]

    def commit(self, count: int) -> int:
        """Run, make `count` commits durable, stop; the newest number."""
        with self.supervisor() as supervisor:
            return commit(supervisor, count)

    def back_up(self) -> None:
        shutil.copytree(self.store, self.aside)

    def put_back(self) -> None:
        shutil.rmtree(self.store)
        shutil.copytree(self.aside, self.store)

    @property
    def highest(self) -> int:
        mark = read_mark(str(self.mark))
        assert mark is not None
        return mark.highest


def commit(supervisor: Supervisor, count: int) -> int:
    seq = supervisor.durable_seq
    for number in range(count):
        seq = supervisor.commit({key(number): b"%d" % number})
    supervisor.wait(seq, PATIENCE_S)
    return seq


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.fixture
def old(node: Node) -> Node:
    """The store is one of 10 commits, and 30 had been acknowledged."""
    node.commit(10)
    node.back_up()
    assert node.commit(20) == 30
    node.put_back()
    return node


# -- an old backup ----------------------------------------------------------------------------------------------------


def test_an_old_backup_starts_in_recovery_mode(old: Node, caplog: pytest.LogCaptureFixture) -> None:
    """Health says so, the log says critically what to do, and everything else works."""
    with caplog.at_level(logging.CRITICAL, "bgsuper.supervisor"), old.supervisor() as supervisor:
        assert supervisor.behind == supervisor.health().behind == Behind(mark=30, store=10)  # type: ignore[arg-type]
        assert "recovery mode" in supervisor.health_log()[-1].evidence
        commit(supervisor, 5)
        assert supervisor.read(key(4)) == b"4"
    [record] = caplog.records
    assert "end at number 10, but number 30 had been acknowledged" in record.message
    assert "Supervisor.proven_current()" in record.message


def test_it_lasts_over_restarts_and_over_commits_beyond_the_mark(old: Node) -> None:
    """With the numbers as they were when it was found; no number that the lost store may have given out comes again."""
    expected = Behind(mark=30, store=10)  # type: ignore[arg-type]
    for _ in range(3):
        with old.supervisor() as supervisor:
            assert supervisor.behind == expected
            assert commit(supervisor, 40) > 30 + BEYOND
            os.kill(pid_of(supervisor), signal.SIGKILL)
            commit(supervisor, 1)
            assert supervisor.health().restarts == 1
            assert supervisor.behind == expected


def test_the_hosts_word_ends_it_for_good(old: Node) -> None:
    """Durably, also if nothing was written meanwhile; and the next old backup is found again."""
    with old.supervisor() as supervisor:
        supervisor.proven_current()
        assert supervisor.behind is supervisor.health().behind is None
        assert read_mark(str(old.mark)).behind is None  # type: ignore[union-attr]
        os.kill(pid_of(supervisor), signal.SIGKILL)
        newest = commit(supervisor, 1)
        assert supervisor.behind is None
        supervisor.proven_current()
    with old.supervisor() as supervisor:
        assert supervisor.behind is None
        assert supervisor.durable_seq == newest
    old.put_back()
    with old.supervisor() as supervisor:
        assert supervisor.behind == Behind(mark=newest, store=10)  # type: ignore[arg-type]


def test_the_lost_store_put_back_after_all_is_old_itself(node: Node) -> None:
    """The node has gone on from the backup: the store that was lost knows nothing of that."""
    node.commit(10)
    node.back_up()
    lost = node.commit(500)
    shutil.copytree(node.store, node.store.with_name("lost"))
    node.put_back()
    with node.supervisor() as supervisor:
        supervisor.proven_current()
        newest = supervisor.durable_seq
    shutil.rmtree(node.store)
    node.store.with_name("lost").rename(node.store)
    with node.supervisor() as supervisor:
        assert supervisor.behind == Behind(mark=newest, store=lost)  # type: ignore[arg-type]


def test_in_ldks_layout_too(tmp_path: Path) -> None:
    """What a mark needs of a store is its id and its newest commit."""
    node = Node(tmp_path, "file")
    node.commit(10)
    node.back_up()
    node.commit(20)
    node.put_back()
    with node.supervisor() as supervisor:
        assert supervisor.behind == Behind(mark=30, store=10)  # type: ignore[arg-type]
        supervisor.proven_current()
    assert node.commit(1) > 30 + BEYOND


def test_a_new_host_after_a_host_that_was_killed_in_recovery_mode(old: Node) -> None:
    """Before HELLO it was written down already."""
    script = (
        "import sys, os, signal; from bgsuper import Supervisor; s = Supervisor(sys.argv[1]); s.start(); "
        "print(s.behind, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    process = host(script, old.url)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert out == "Behind(mark=30, store=10)\n"
    assert read_mark(str(old.mark)).behind == Found(10, 30)  # type: ignore[union-attr, arg-type]
    with old.supervisor() as supervisor:
        assert supervisor.behind is not None


def test_a_backup_without_commits_since_is_not_old(node: Node) -> None:
    """Restarts alone lose nothing."""
    node.commit(10)
    node.back_up()
    node.commit(0)
    node.put_back()
    with node.supervisor() as supervisor:
        assert supervisor.behind is None


def test_mere_snapshots_raise_no_mark(node: Node) -> None:
    """A store that lost its newest scorer is not behind for that."""
    node.commit(3)
    node.back_up()
    with node.supervisor() as supervisor:
        supervisor.wait(supervisor.snapshot(key(0), [b"whole"], critical=False), PATIENCE_S)
    node.put_back()
    with node.supervisor() as supervisor:
        assert supervisor.behind is None


@pytest.mark.parametrize("scheme", ["sqlite", "file"])
def test_a_manager_that_is_persisted_whole_is_guarded_too(tmp_path: Path, scheme: str) -> None:
    """The seed's way, without a single commit. After the proof, the lost store is the old one."""
    node = Node(tmp_path, scheme)

    def persist(*states: bytes) -> None:
        with node.supervisor() as supervisor:
            for state in states:
                supervisor.wait(supervisor.snapshot(key(0), [state], critical=True), PATIENCE_S)

    persist(b"1")
    node.back_up()
    persist(b"2", b"3")
    shutil.copytree(node.store, node.store.with_name("lost"))
    node.put_back()
    with node.supervisor() as supervisor:
        assert supervisor.behind == Behind(mark=3, store=1)  # type: ignore[arg-type]
        again = supervisor.snapshot(key(0), [b"1 again"], critical=True)
        assert again > 3 + BEYOND
        supervisor.wait(again, PATIENCE_S)
        supervisor.proven_current()
        newest = supervisor.durable_seq
    shutil.rmtree(node.store)
    node.store.with_name("lost").rename(node.store)
    with node.supervisor() as supervisor:
        assert supervisor.behind == Behind(mark=newest, store=3)  # type: ignore[arg-type]


# -- a healthy store --------------------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_again_and_again_is_never_behind(node: Node) -> None:
    """Whenever that happens: the mark is written after what it says was acknowledged."""
    random = Random(5)
    with node.supervisor() as supervisor:
        for number in range(25):
            for _ in range(random.randrange(1, 200)):
                supervisor.commit({key(number): os.urandom(20)})
            if random.random() < 0.5:
                supervisor.wait(supervisor.health().submitted, PATIENCE_S)
            pid = supervisor.health().pid
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
        supervisor.wait(supervisor.health().submitted, PATIENCE_S)
        assert supervisor.health().restarts >= 10
        assert supervisor.behind is None
        newest = supervisor.durable_seq
    assert node.highest <= newest
    with node.supervisor() as supervisor:
        assert (supervisor.behind, supervisor.durable_seq) == (None, newest)
    assert node.highest == newest


HOST = """
import sys
from bgsuper import Key, Supervisor
supervisor = Supervisor(sys.argv[1])
print("start", supervisor.start(), supervisor.behind, flush=True)
number = 0
while True:
    supervisor.wait(supervisor.commit({Key("app", "", "k"): b"%d" % number}))
    number += 1
    if number % 5 == 0:
        print(number, flush=True)
"""


def test_a_host_that_is_killed_again_and_again_is_never_behind(node: Node) -> None:
    """Its orphan may still be writing when the next one starts, and the mark goes with the store's lock."""
    random = Random(7)
    before = 0
    for _ in range(12):
        process = host(HOST, node.url)
        try:
            assert process.stdout is not None
            word, durable, behind = process.stdout.readline().split(maxsplit=2)
            assert (word, behind) == ("start", "None\n")
            assert int(durable) >= before
            for _ in range(random.randrange(1, 12)):
                process.stdout.readline()
            before = int(durable)
        finally:
            process.kill()
            process.communicate(timeout=PATIENCE_S)
    with node.supervisor() as supervisor:
        assert supervisor.behind is None
        assert supervisor.durable_seq > 20


def test_a_mark_that_lags_is_caught_up_at_the_next_start(node: Node) -> None:
    """What a killed worker had no time to write down."""
    with node.supervisor() as supervisor:
        commit(supervisor, 300)
        os.kill(pid_of(supervisor), signal.SIGKILL)
        eventually(lambda: supervisor.health().restarts == 1 and supervisor.health().pid is not None)
        eventually(lambda: node.highest == 300)


def test_the_mark_goes_without_saying_where_none_is_named(place: Place) -> None:
    """No file, no recovery mode; a proof is nobody's business."""
    with place.running() as supervisor:
        commit(supervisor, 1)
        assert supervisor.behind is None
        supervisor.proven_current()
        assert supervisor.durable_seq == 1
    assert sorted(os.listdir(place.directory)) == ["plan", "store"]


# -- its place, its owner, its disk -----------------------------------------------------------------------------------


def test_a_mark_inside_of_the_store(node: Node) -> None:
    """Refused before anything is made."""
    with pytest.raises(ConfigError, match="outside of the store's directory"):
        Supervisor(f"sqlite://{node.store}?high-water={node.store}/mark").start(PATIENCE_S)
    assert not node.store.exists()


def test_another_stores_mark(node: Node) -> None:
    """Refused, which also tells a store that was made anew where the old one's disk is not mounted. The mark stays."""
    node.commit(5)
    before = node.mark.read_bytes()
    with pytest.raises(ConfigError, match="belongs to the store"):
        Supervisor(f"sqlite://{node.store}-2?high-water={node.mark}").start(PATIENCE_S)
    assert node.mark.read_bytes() == before


def test_a_damaged_mark(node: Node) -> None:
    """The node does not start on it, and is told what to do."""
    node.commit(5)
    node.mark.write_bytes(os.urandom(8192))
    with pytest.raises(StoreCorrupt, match=f"{node.mark} is damaged.*remove the mark"):
        node.supervisor().start(PATIENCE_S)
    node.mark.unlink()
    assert node.commit(1) == 6


def test_a_mark_whose_disk_is_not_there(node: Node) -> None:
    """Its directory is not made."""
    url = f"sqlite://{node.store}?high-water={node.store.parent}/disk/mark"
    with pytest.raises(StoreUnwritable, match="is its disk mounted"):
        Supervisor(url).start(PATIENCE_S)
    assert not (node.store.parent / "disk").exists()


def test_a_mark_that_is_removed_while_it_is_in_use(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    """Commits go on, workers are replaced, and the log says it once for each of them, with the file's name."""
    with node.supervisor() as supervisor:
        commit(supervisor, 3)
        eventually(lambda: node.highest == 3)
        node.mark.unlink()
        node.mark.mkdir()
        commit(supervisor, 300)

        def warnings() -> list[str]:
            return [record.message for record in caplog.records if str(node.mark) in record.message]

        eventually(warnings)
        commit(supervisor, 300)
        os.kill(pid_of(supervisor), signal.SIGKILL)
        commit(supervisor, 300)
        eventually(lambda: len(warnings()) == 2)
        assert "was replaced while it was in use" in warnings()[0]
        assert "goes on without it" in warnings()[1]
        assert supervisor.behind is None
    node.mark.rmdir()


def test_a_proof_without_a_mark_to_write_it_to(old: Node) -> None:
    """It stays in recovery mode, and so does a successor that cannot read the mark."""
    with old.supervisor() as supervisor:
        away = old.mark.rename(old.mark.with_name("away"))
        with pytest.raises(StoreUnwritable, match=str(old.mark)):
            supervisor.proven_current()
        old.mark.mkdir()
        os.kill(pid_of(supervisor), signal.SIGKILL)
        commit(supervisor, 1)
        assert supervisor.behind is not None
        with pytest.raises(StoreUnavailable, match="no high-water mark; its log says why"):
            supervisor.proven_current()
        old.mark.rmdir()
        away.rename(old.mark)
        os.kill(pid_of(supervisor), signal.SIGKILL)
        supervisor.proven_current()
    assert old.commit(0) > 30


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "t", directory], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.decode(errors='replace').strip()}")
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


def test_a_full_disk_is_no_place_for_a_new_mark(small: Path, tmp_path: Path) -> None:
    """And none for half of one; with space again it is made."""
    (small / "filler").write_bytes(bytes(os.statvfs(small).f_bavail * os.statvfs(small).f_frsize))
    url = f"sqlite://{tmp_path}/store?high-water={small}/mark"
    with pytest.raises(StoreError, match="No space left on device"):
        Supervisor(url).start(PATIENCE_S)
    (small / "filler").unlink()
    with Supervisor(url) as supervisor:
        # Once it is there, a full disk cannot hurt it: it is rewritten where it is.
        (small / "filler").write_bytes(bytes(os.statvfs(small).f_bavail * os.statvfs(small).f_frsize))
        commit(supervisor, 300)
    assert read_mark(str(small / "mark")).highest == 300  # type: ignore[union-attr]


def test_a_disk_that_becomes_read_only(small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Commits go on; a new host is told at once, since nobody could see an old backup any more."""
    url = f"sqlite://{tmp_path}/store?high-water={small}/mark"

    def launch_on_what_is_left() -> Child:
        if (small / "mark").exists():
            subprocess.run(["mount", "-o", "remount,ro", small], check=True)
        return launch()

    with Supervisor(url, restart=QUICK, launcher=launch_on_what_is_left) as supervisor:
        commit(supervisor, 3)
        os.kill(pid_of(supervisor), signal.SIGKILL)
        commit(supervisor, 300)
        eventually(lambda: any("goes on without it" in record.message for record in caplog.records))
    with pytest.raises(StoreUnwritable, match=f"{small}/mark failed: Read-only file system"):
        Supervisor(url).start(PATIENCE_S)


# -- the core ---------------------------------------------------------------------------------------------------------


def test_nothing_but_a_proof_ends_it() -> None:
    """A successor that says nothing of it may not have been able to read the mark."""
    rig = Rig()
    rig.start()
    rig.hello(10, 100, behind=[30, 10])
    assert rig.core.behind == Behind(mark=30, store=10)  # type: ignore[arg-type]
    assert "recovery mode" in rig.core.evidence
    rig.die()
    rig.hello(10, 100)
    assert rig.core.behind == Behind(mark=30, store=10)  # type: ignore[arg-type]
    assert "recovery mode" in rig.core.evidence


@pytest.mark.parametrize("behind", [[], [1], [1, 2, 3], ["1", 2], 5, "x", [None, None], False])
def test_a_hello_that_says_nonsense_of_it(behind: object) -> None:
    """No worker says that, and nothing of it is believed."""
    rig = Rig()
    rig.start()
    rig.say(Kind.HELLO, 0, [1, 10, 10, True, behind])
    assert not rig.core.greeted
    assert rig.core.behind is None
