"""The disk that can be frozen harms nobody else, and outlives nobody."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgsuper.torture.power.frozen import FreezableDisk, mounted
from bgsuper.torture.power.loopmount import NoDisk
from tests.supervisor.hosts import PATIENCE_S, eventually, host


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FreezableDisk]:
    """A file system of its own that can be frozen."""
    try:
        with mounted(tmp_path) as disk:
            yield disk
    except NoDisk as reason:
        pytest.skip(str(reason))


KILLED_TEST = """
import os, signal, sys
from pathlib import Path
from bgsuper.torture.power.frozen import mounted
with mounted(Path(sys.argv[1])) as disk, disk.frozen():
    print(disk.path, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def mounts() -> str:
    return Path("/proc/mounts").read_text()


def loop_devices_of(directory: Path) -> list[str]:
    """The loop devices whose images lie in `directory`."""
    backing = Path("/sys/block").glob("loop*/loop/backing_file")
    return [str(path) for path in backing if str(directory) in path.read_text()]


def test_a_killed_test_leaves_no_frozen_disk_behind(disk: FreezableDisk, tmp_path: Path) -> None:
    """Its keeper thaws and unmounts: nothing on this machine hangs because a test was killed."""
    other = tmp_path / "other"
    other.mkdir()
    process = host(KILLED_TEST, other)
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output) == (-signal.SIGKILL, f"{other / 'disk'}\n"), errors
    eventually(lambda: str(other) not in mounts(), "it is unmounted")
    eventually(lambda: not loop_devices_of(other), "its loop device is free")
    assert str(disk.path) in mounts()


def test_only_the_mounted_disk_is_ever_frozen(disk: FreezableDisk, tmp_path: Path) -> None:
    """Neither a directory of the file system that the tests run from, nor what shows once the disk is unmounted."""
    with pytest.raises(NoDisk, match="not a file system of its own"):
        FreezableDisk(tmp_path)
    subprocess.run(["umount", disk.path], check=True)
    with pytest.raises(NoDisk, match="not the file system that was mounted there"):
        disk.freeze()
