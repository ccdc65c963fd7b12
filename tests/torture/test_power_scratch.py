"""The directory of a run of power cuts goes with it, and those of dead runs with the next."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bgsuper.torture.power.loopmount import LoopDisk, NoDisk
from bgsuper.torture.power.scratch import PREFIX, scratch

DYING = """
import os, signal, sys
from pathlib import Path
from bgsuper.torture.power.scratch import scratch
with scratch(Path(sys.argv[1])) as directory:
    (directory / "disk").mkdir()
    (directory / "disk" / "image").write_bytes(b"x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_run(parent: Path) -> Path:
    """What a run leaves that was killed."""
    subprocess.run([sys.executable, "-c", DYING, str(parent)], check=False)
    (left,) = parent.glob(f"{PREFIX}*")
    return left


def test_a_directory_goes_with_its_run(tmp_path: Path) -> None:
    """Whatever is in it, and however the run ends."""

    def run() -> None:
        with scratch(tmp_path) as directory:
            (directory / "image").write_bytes(b"x")
            raise RuntimeError("bad")

    with pytest.raises(RuntimeError, match="bad"):
        run()
    assert os.listdir(tmp_path) == []


def test_what_a_killed_run_left_goes_with_the_next(tmp_path: Path) -> None:
    """Only that: not a living run's, and nothing that has no lock file or another name."""
    left = killed_run(tmp_path)
    foreign = (tmp_path / f"{PREFIX}of-somebody-else", tmp_path / "store")
    for directory in foreign:
        directory.mkdir()
    with scratch(tmp_path) as living:
        assert not left.exists()
        with scratch(tmp_path) as other:
            assert living.exists()
            assert living != other
    assert sorted(tmp_path.iterdir()) == sorted(foreign)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount file systems")
def test_what_a_killed_run_had_mounted_is_unmounted(tmp_path: Path) -> None:
    """Mounts that were made in the open, with a space in their path."""
    parent = tmp_path / "a b"
    parent.mkdir()
    mountpoint = killed_run(parent) / "disk"
    done = subprocess.run(["mount", "-t", "tmpfs", "bgsuper", str(mountpoint)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.decode(errors='replace').strip()}")
    with scratch(parent):
        assert not os.path.ismount(mountpoint)
        assert not mountpoint.exists()


def test_nothing_is_shut_down_that_was_not_mounted(tmp_path: Path) -> None:
    """A disk that is not mounted: its mountpoint is a directory of the machine's own file system."""
    disk = LoopDisk("ext4", tmp_path / "image", tmp_path)
    with pytest.raises(NoDisk, match="nothing is shut down"):
        disk.cut_power()
    disk.abandon()
    assert (tmp_path / "image").exists() is False
    (tmp_path / "still writable").touch()
