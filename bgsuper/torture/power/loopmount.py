"""File systems of our own on loop devices, whose power can be cut.

The cut is the shutdown ioctl of ext4 and XFS with NOLOGFLUSH (xfstests' godown): from that instant nothing more reaches
the image, what was not synced is lost, and names that were not synced are undone. About 20 ms with umount and remount.

Rules:
1. Nothing but a file system that we mounted is ever shut down: the device is looked at first.
2. A loop device goes with its mount's last user, and in the end a mount goes whoever uses it. `isolate` puts this
   process into a mount namespace of its own beforehand: then even a SIGKILL leaves no mount.
3. What cannot be had is `NoDisk`, with the reason and the package that is missing.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ...errors import BgsuperError

#: include/uapi/linux/ext4.h, fs/xfs/libxfs/xfs_fs.h: _IOR('X', 125, __u32).
GOING_DOWN: Final = 0x8004587D
NO_LOG_FLUSH: Final = 2

#: Sparse: what it takes of the real disk is what is written to it. mkfs.xfs refuses less than 300 MiB.
IMAGE_BYTES: Final = 320 * 1024 * 1024

# Nothing left to be initialized in the background, and a small journal: little to write, little to replay.
_MKFS: Final[Mapping[str, tuple[str, ...]]] = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=8", "-E", "lazy_itable_init=0,lazy_journal_init=0"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
}
#: e2fsck(8): no errors, or none any more.
_MENDED: Final = (0, 1)
_PACKAGE: Final[Mapping[str, str]] = {"ext4": "e2fsprogs", "xfs": "xfsprogs"}
FILE_SYSTEMS: Final = tuple(_MKFS)

#: How long whoever was killed may take to be gone.
_BUSY_S: Final = 5.0

_CLONE_NEWNS: Final = 0x20000
_MS_REC_PRIVATE: Final = 0x4000 | 0x40000


class NoDisk(BgsuperError):
    """This machine or user cannot have such a disk; the message says why."""


class LoopDisk:
    """A file system of type `kind` in the file `image`, to be mounted at `mountpoint`, a directory that is made."""

    def __init__(self, kind: str, image: Path, mountpoint: Path) -> None:
        self.kind, self.image, self.path = kind, image, mountpoint
        self._device: int | None = None

    def make(self, size: int = IMAGE_BYTES) -> None:
        """Make the image, of `size` bytes, and an empty file system in it. Raises `NoDisk`."""
        with open(self.image, "wb") as file:
            file.truncate(size)
        self.format()

    def format(self) -> None:
        """Make an empty file system in the image. Raises `NoDisk`."""
        run([*_MKFS[self.kind], str(self.image)])

    def mount(self) -> None:
        """Mount it; a log that is to be replayed is replayed. Raises `NoDisk`."""
        self.path.mkdir(exist_ok=True)
        run(["mount", "-t", self.kind, "-o", "loop", str(self.image), str(self.path)])
        self._device = os.stat(self.path).st_dev

    def repair(self) -> None:
        """Mend an ext4 that cannot be mounted, if need be from its second superblock. Raises `NoDisk`."""
        try:
            run(["e2fsck", "-f", "-y", str(self.image)], good=_MENDED)
        except NoDisk:
            run(["e2fsck", "-f", "-y", "-b", "32768", "-B", "4096", str(self.image)], good=_MENDED)

    def cut_power(self) -> None:
        """From now on nothing reaches the image. Raises `OSError`."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if self._device is None or os.fstat(fd).st_dev != self._device:
                raise NoDisk(f"{self.path} is not the file system that was mounted there; nothing is shut down")
            fcntl.ioctl(fd, GOING_DOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def unmount(self) -> None:
        """Take it away; waits for processes that are just ending. Raises `NoDisk` if somebody goes on using it."""
        deadline = time.monotonic() + _BUSY_S
        while True:
            try:
                run(["umount", str(self.path)])
            except NoDisk:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
            else:
                self._device = None
                return

    def abandon(self) -> None:
        """Take it away if it is mounted, whoever still uses it."""
        if self._device is not None:
            self._device = None
            run(["umount", "--lazy", str(self.path)])


def why_not(kinds: Sequence[str] = FILE_SYSTEMS) -> str | None:
    """Why there can be no such disks here, as far as can be told without trying; None if nothing speaks against it."""
    if os.geteuid() != 0:
        return "only root can mount file systems"
    if not os.path.exists("/dev/loop-control"):
        return "there are no loop devices (/dev/loop-control)"
    for kind in kinds:
        if shutil.which(_MKFS[kind][0], path=search_path()) is None:
            return f"there is no {_MKFS[kind][0]}: install {_PACKAGE[kind]}"
    return None


def isolate() -> None:
    """Give this process, and those that it will start, a mount namespace of its own: its mounts are seen by nobody else
    and go with its last process, however that ends. Before other threads are started. Raises `NoDisk`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None):
        raise NoDisk(f"cannot have mounts of its own: {os.strerror(ctypes.get_errno())}; run it as root")


def copy_image(image: Path, to: Path) -> None:
    """Copy a sparse file, sparse. Raises `NoDisk`."""
    run(["cp", "--sparse=auto", str(image), str(to)])


def run(command: Sequence[str], good: Sequence[int] = (0,)) -> None:
    """Run a tool, whose exit status should be one of `good`. Raises `NoDisk` with what it said."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": search_path()}
        )
    except OSError as error:
        raise NoDisk(f"{command[0]}: {error.strerror}") from error
    if done.returncode not in good:
        raise NoDisk(f"{' '.join(command)}: {' '.join(done.stderr.split()) or f'exit status {done.returncode}'}")


def search_path() -> str:
    """PATH, and where the tools of root are: not every shell has them."""
    return f"{os.environ.get('PATH', '/bin:/usr/bin')}:/usr/sbin:/sbin"
