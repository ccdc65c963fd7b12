"""Where a run has its disks: a directory that goes with it, also when the run is killed.

Rule: a run holds a lock on a file in its directory for as long as it lives. What a later run finds without that lock is
of a dead one: its mounts are undone and it is removed. Whatever has another name is nobody's business here.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .loopmount import NoDisk, run

PREFIX: Final = "bgsuper-power-"
_OWNER: Final = "owner"


@contextmanager
def scratch(parent: Path | None = None) -> Iterator[Path]:
    """A new directory under `parent`, or among the temporary ones. Those of dead runs there are removed first."""
    parent = (parent or Path(tempfile.gettempdir())).absolute()
    remove_leftovers(parent)
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    owner = _lock(directory)
    try:
        yield directory
    finally:
        _remove(directory)
        if owner is not None:
            os.close(owner)


def remove_leftovers(parent: Path) -> None:
    """Undo what dead runs left under `parent`."""
    for directory in parent.glob(f"{PREFIX}*"):
        # One without a lock file is just being made, or is not ours.
        if not (directory / _OWNER).is_file():
            continue
        owner = _lock(directory)
        if owner is not None:
            _remove(directory)
            os.close(owner)


def _lock(directory: Path) -> int | None:
    owner = os.open(directory / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(owner)
        return None
    return owner


def _remove(directory: Path) -> None:
    for mountpoint in reversed(_mountpoints(directory)):
        try:
            run(["umount", "--lazy", mountpoint])
        except NoDisk:
            continue  # it went with the one above it
    shutil.rmtree(directory, ignore_errors=True)


def _mountpoints(directory: Path) -> list[str]:
    """What is mounted below `directory`, in the order of mounting; by proc(5), whose fifth field it is."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return []
    mountpoints = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    return [mountpoint for mountpoint in mountpoints if mountpoint.startswith(f"{directory}/")]
