"""Disks that are full, read-only or failing under a real `Supervisor`: what `test_power_disks.py` runs, each in a
process with mounts of its own, so that none is left behind.

``python -m tests.torture.power_disks NAME DIRECTORY``; exit status 2 and a reason where the machine has no such disk.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from bgsuper import Key, Supervisor
from bgsuper.errors import BgsuperError, StoreError, StoreFull, StoreUnwritable, SyncFailed
from bgsuper.health import DeathCause, WorkerState
from bgsuper.key import NETWORK_GRAPH, Seq
from bgsuper.supervisor.children import Child, best_child
from bgsuper.supervisor.launch import BOOT, PACKAGE_ROOT, Launcher, launch
from bgsuper.torture.power.loopmount import LoopDisk, NoDisk, isolate, run, why_not

PATIENCE_S = 30.0
#: What happens, in a directory of its own; raises `NoDisk` or an assertion's error.
Scenario = Callable[[Path], None]


def key(name: str) -> Key:
    return Key("channels", "", name)


def stored(directory: Path) -> dict[Key, bytes]:
    """All commits of the store, read by a host that finds a good disk."""
    with Supervisor(f"sqlite://{directory}") as supervisor:
        return dict(supervisor.scan("channels"))


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# -- full -------------------------------------------------------------------------------------------------------------


@contextmanager
def tmpfs(directory: Path, size: str) -> Iterator[Path]:
    disk = directory / "tmpfs"
    disk.mkdir()
    run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "bgsuper", str(disk)])
    try:
        yield disk
    finally:
        run(["umount", str(disk)])


def fill(file: Path) -> None:
    """Leave no space."""
    with open(file, "wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            pass


def full(directory: Path) -> None:
    """A disk that fills up and is freed again: DISK_FULL with no restart, nothing acknowledged meanwhile, nothing lost,
    on either lane; and no new store on a full disk."""
    with tmpfs(directory, "2m") as disk:
        filler = disk / "filler"
        supervisor = Supervisor(f"sqlite://{disk}/store")
        supervisor.start()
        supervisor.wait(supervisor.commit({key("a"): b"1"}), PATIENCE_S)
        fill(filler)
        seq = supervisor.commit({key("b"): os.urandom(100_000)})
        last = supervisor.snapshot(NETWORK_GRAPH, [os.urandom(300_000)], critical=True)
        eventually(lambda: supervisor.health().state is WorkerState.DISK_FULL)
        with pytest.raises(TimeoutError):
            supervisor.wait(seq, 0.5)
        filler.unlink()
        supervisor.wait(last, PATIENCE_S)
        assert supervisor.health().restarts == 0
        fill(filler)
        again = supervisor.snapshot(NETWORK_GRAPH, [b"!" * 300_000], critical=True)
        eventually(lambda: supervisor.health().state is WorkerState.DISK_FULL)
        filler.unlink()
        supervisor.wait(again, PATIENCE_S)
        assert supervisor.read(NETWORK_GRAPH) == b"!" * 300_000
        supervisor.stop()
        assert sorted(stored(disk / "store")) == [key("a"), key("b")]
        fill(filler)
        with pytest.raises(StoreFull):
            Supervisor(f"sqlite://{disk}/other").start()


# -- read-only --------------------------------------------------------------------------------------------------------


def read_only(directory: Path) -> None:
    """An ext4 that goes read-only under a running store, as it does when it finds itself damaged: a `StoreError` out of
    stop(), and what was acknowledged is there once it can be written again. Until then a start is `StoreUnwritable`."""
    reason = why_not(["ext4"])
    if reason is not None:
        raise NoDisk(reason)
    disk = LoopDisk("ext4", directory / "image", directory / "disk")
    disk.make()
    disk.mount()
    store = disk.path / "store"
    supervisor = Supervisor(f"sqlite://{store}")
    supervisor.start()
    supervisor.wait(supervisor.commit({key("a"): b"1"}), PATIENCE_S)
    run(["mount", "-o", "remount,errors=remount-ro", str(disk.path)])
    run(["mount", "-o", "remount,abort", str(disk.path)])
    supervisor.commit({key("b"): b"2"})
    failed(supervisor, StoreError)
    refused(store)
    disk.unmount()
    disk.mount()
    assert stored(store) == {key("a"): b"1"}
    run(["mount", "-o", "remount,ro", str(disk.path)])
    refused(store)
    disk.unmount()


def failed(supervisor: Supervisor, expected: type[BgsuperError]) -> None:
    """The supervisor gives up by itself; stop() says why, and it is what is `expected`."""
    eventually(lambda: supervisor.failure() is not None)
    with pytest.raises(expected):
        supervisor.stop(PATIENCE_S)


def refused(store: Path) -> None:
    with pytest.raises(StoreUnwritable, match=r"[Rr]ead-only"):
        Supervisor(f"sqlite://{store}").start()


# -- failing ----------------------------------------------------------------------------------------------------------


def traced(inject: str, workers: int) -> Launcher:
    """What starts workers; the first so many of them have system calls that fail as strace's `inject` says."""
    left = workers

    def launch_traced() -> Child:
        nonlocal left
        if not left:
            return launch()
        left -= 1
        ours, theirs = socket.socketpair()
        # -D: the worker is our child, strace is not.
        command = ["strace", "-D", "-f", "-qq", "-o", os.devnull, "-e", f"inject={inject}"]
        with theirs:
            process = subprocess.Popen(
                [*command, sys.executable, "-P", "-c", BOOT, PACKAGE_ROOT, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        return best_child()(process, ours)

    return launch_traced


def need_strace() -> None:
    if shutil.which("strace") is None:
        raise NoDisk("there is no strace: install strace")
    if subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False).returncode:
        raise NoDisk("strace may not trace here")


def work(supervisor: Supervisor) -> Seq:
    """Twenty commits, each waited for, and a critical snapshot of several slices among them."""
    seq = Seq(0)
    for number in range(20):
        seq = supervisor.commit({key(f"{number}"): b"%d" % number * 100})
        if number == 10:
            seq = supervisor.snapshot(NETWORK_GRAPH, [bytes(1_200_000)], critical=True)
        supervisor.wait(seq, PATIENCE_S)
    return seq


def failing_once(inject: str, cause: DeathCause | None) -> Scenario:
    """A call that fails once: who dies of it is replaced, all is acknowledged in the end, and all of it is there."""

    def scenario(directory: Path) -> None:
        need_strace()
        store = directory / "store"
        stored(store)
        supervisor = Supervisor(f"sqlite://{store}", launcher=traced(inject, workers=1))
        supervisor.start()
        work(supervisor)
        health = supervisor.health()
        supervisor.stop()
        assert (health.restarts, health.last_cause) == ((1, cause) if cause else (0, None)), health
        assert len(stored(store)) == 20

    return scenario


def overwrite(supervisor: Supervisor) -> int:
    """Commit again, one by one; which of them found the disk refusing."""
    for number in range(100):
        seq = supervisor.commit({key(f"{number}"): b"new"})
        try:
            supervisor.wait(seq, PATIENCE_S)
        except SyncFailed:
            return number
    raise AssertionError("a disk that fails acknowledged all")


def failing_again(inject: str) -> Scenario:
    """A call that fails for the successor as well: `SyncFailed`, and what was acknowledged before is there."""

    def scenario(directory: Path) -> None:
        need_strace()
        store = directory / "store"
        with Supervisor(f"sqlite://{store}") as supervisor:
            work(supervisor)
        before = stored(store)
        supervisor = Supervisor(f"sqlite://{store}", launcher=traced(inject, workers=9))
        supervisor.start()
        under_way = overwrite(supervisor)
        failed(supervisor, SyncFailed)
        acknowledged = {key(f"{number}"): b"new" for number in range(under_way)}
        # The one under way may be there or not.
        assert stored(store) in (before | acknowledged, before | acknowledged | {key(f"{under_way}"): b"new"})

    return scenario


SCENARIOS: dict[str, Scenario] = {
    "full": full,
    "read-only": read_only,
    "sync": failing_once("fdatasync:error=EIO:when=6", DeathCause.SYNC),
    "write": failing_once("pwrite64:error=EIO:when=40", DeathCause.SYNC),
    "snapshot-write": failing_once("write:error=EIO:when=1", DeathCause.SYNC),
    # strace counts per thread: the sixth fsync is one of the snapshot lane.
    "snapshot-sync": failing_once("fsync:error=EIO:when=6", DeathCause.SYNC),
    "rename": failing_once("rename:error=EIO:when=1", DeathCause.SYNC),
    "quota": failing_once("pwrite64:error=EDQUOT:when=40", None),
    "snapshot-quota": failing_once("write:error=EDQUOT:when=1", None),
    "sync-again": failing_again("fdatasync:error=EIO:when=6+"),
    "write-again": failing_again("pwrite64:error=EIO:when=40+"),
}


def main(arguments: Sequence[str]) -> int:
    name, directory = arguments
    try:
        isolate()
        SCENARIOS[name](Path(directory))
    except NoDisk as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
