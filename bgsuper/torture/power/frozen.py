"""A file system of our own on a loop device that can be frozen: a disk that does not answer, for tests and benchmarks.

Whoever writes to it, or opens a file for writing, is in uninterruptible sleep (ps and psutil call it disk-sleep, D)
until it is thawed, and SIGKILL stays pending meanwhile. Needs root and loop devices.

Rules:
1. Nothing but that file system is ever frozen: `freeze` looks at the device first.
2. It is thawed and unmounted whatever happens. A keeper, a process in a session of its own, makes the mount and undoes
   it when its pipe closes: at the end of its user's block, or at its user's death. (A mount namespace, which is what
   `loopmount.isolate` gives, goes with its last process, but one that is stuck in a frozen disk never ends.)
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ...supervisor.launch import PACKAGE_ROOT
from .loopmount import LoopDisk, NoDisk, why_not

#: include/uapi/linux/fs.h: _IOWR('X', 119, int) and _IOWR('X', 120, int).
FIFREEZE: Final = 0xC0045877
FITHAW: Final = 0xC0045878

_BOOT: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from bgsuper.torture.power.frozen import keep; keep(sys.argv[2], sys.argv[3])"
)


class FreezableDisk:
    """The file system that is mounted at `mountpoint`. Raises `NoDisk` if there is none of its own."""

    def __init__(self, mountpoint: Path) -> None:
        self.path = mountpoint
        self._device = os.stat(mountpoint).st_dev
        if self._device == os.stat(mountpoint.parent).st_dev:
            raise NoDisk(f"{mountpoint} is not a file system of its own")

    def freeze(self) -> None:
        """Write out what is dirty, then let nobody write; may be called while it is frozen."""
        self._ioctl(FIFREEZE, already=errno.EBUSY)

    def thaw(self) -> None:
        """Let everybody go on; may be called while it is not frozen."""
        self._ioctl(FITHAW, already=errno.EINVAL)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Frozen as long as the block runs."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def _ioctl(self, request: int, already: int) -> None:
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if os.fstat(fd).st_dev != self._device:
                raise NoDisk(f"{self.path} is not the file system that was mounted there")
            fcntl.ioctl(fd, request, 0)
        except OSError as error:
            if error.errno != already:
                raise
        finally:
            os.close(fd)


@contextmanager
def mounted(directory: Path) -> Iterator[FreezableDisk]:
    """A new ext4 under `directory`, in ``directory/disk``. Raises `NoDisk` where that is impossible."""
    reason = why_not(["ext4"])
    if reason is not None:
        raise NoDisk(reason)
    mountpoint = directory / "disk"
    keeper = subprocess.Popen(
        [sys.executable, "-P", "-c", _BOOT, PACKAGE_ROOT, str(directory / "disk.image"), str(mountpoint)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    try:
        said = keeper.stdout.readline().strip()
        if said != _MOUNTED:
            raise NoDisk(f"cannot mount an ext4 on a loop device: {said or 'its keeper died'}")
        yield FreezableDisk(mountpoint)
    finally:
        keeper.stdin.close()
        keeper.wait()
        keeper.stdout.close()


# -- the keeper -------------------------------------------------------------------------------------------------------

_MOUNTED: Final = "mounted"


def keep(image: str, mountpoint: str) -> None:
    """Mount, say so, wait for the end of standard input; then thaw and unmount."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    disk = LoopDisk("ext4", Path(image), Path(mountpoint))
    try:
        disk.make()
        disk.mount()
    except NoDisk as problem:
        print(problem, flush=True)
        return
    try:
        print(_MOUNTED, flush=True)
        sys.stdin.read()
    finally:
        with suppress(NoDisk):  # somebody unmounted it
            FreezableDisk(disk.path).thaw()
        with suppress(NoDisk):
            # Whoever was stuck in it is just about to go on. The loop device goes with its last user.
            disk.abandon()
