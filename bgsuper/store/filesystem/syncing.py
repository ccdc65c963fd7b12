"""How the store makes files and names durable: one by one, or the whole file system at once.

Measured (ext4, fsync of 4 KiB 0.17 ms, a machine with other work to do), commits of so many 1 KiB values in one
directory, the two ways in turn, ms:

    values                       1          2          4          8         16          64
    fsync each     p50, p90   3.8, 14    6.1, 19    7.6, 35     14, 72     20, 114     61, 253
    one syncfs     p50, p90   5.4, 18    5.8, 19    6.8, 28     14, 49     13, 72      45, 113

One syncfs waits for whatever other programs have written to that file system, too, so a small group does not use it.

Rule: syncfs is used only where it is known to do what it says. On most FUSE file systems it does nothing and succeeds;
overlayfs does not hear of what its upper layer failed to write; what 9p makes of it is its server's affair; f2fs's
succeeds after a checkpoint that failed. fsync is every file system's own word for one file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from typing import Final

from ..failures import from_os_error
from ..files import full_sync, sync_directory, sync_file
from ..mounts import file_system_type
from .tree import Kind, Tree

#: From so many files or directories on, one syncfs takes the place of an fsync each.
SYNCFS_FROM: Final = 8
#: Of these file systems one syncfs is as good as an fsync of everything.
SYNCFS_KEEPS: Final = frozenset({"ext4", "xfs", "btrfs"})
#: Since Linux 5.8 syncfs says if a file could not be written since its descriptor was opened, and since 5.17 if the
#: file system's own step failed (its log, its transaction); before, it does not.
_SYNCFS_TELLS: Final = (5, 17)

Sync = Callable[[int], None]


class Syncing:
    """The ways to the disk of one open store.

    `syncfs` None is the kernel's. With an `fsync` of the caller's own it is none at all: it would pass by whatever that
    counts, delays or fails. Either is used only on a file system in `SYNCFS_KEEPS`.
    """

    def __init__(self, tree: Tree, fsync: Sync, syncfs: Sync | None) -> None:
        self._tree = tree
        self.fsync = fsync
        if syncfs is None and fsync is full_sync:
            syncfs = kernel_syncfs()
        self._syncfs = syncfs if file_system_type(tree.root) in SYNCFS_KEEPS else None
        # Held open: what fails to be written from now on is told to this descriptor's next syncfs.
        try:
            self._fd = os.open(tree.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise from_os_error(error, f"opening {tree.root}") from error

    def close(self) -> None:
        """Let the root directory go; further calls do nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def is_still_there(self) -> bool:
        """Whether the root directory still has its path."""
        try:
            return os.path.samestat(os.stat(self._tree.root), os.fstat(self._fd))
        except OSError:
            return False

    def at_once(self, count: int) -> bool:
        """Whether `count` files or directories are better made durable by one syncfs."""
        return self._syncfs is not None and count >= SYNCFS_FROM

    def file_system(self) -> None:
        """Make all that was written durable, where `at_once`. Raises `SyncFailed`, `StoreFull`."""
        assert self._syncfs is not None
        try:
            self._syncfs(self._fd)
        except OSError as error:
            raise from_os_error(error, f"syncing the file system of {self._tree.root}") from error

    def directories(self, paths: Collection[str]) -> None:
        """Make the names in `paths` durable. Raises `SyncFailed`, `StoreFull`."""
        if self.at_once(len(paths)):
            self.file_system()
            return
        for path in paths:
            sync_directory(path, self.fsync)

    def what_is_there(self) -> None:
        """Make durable whatever a predecessor left. Raises `SyncFailed`, `StoreFull`.

        Without syncfs that is an fsync of each file and directory: ours and LDK both sync a file before they give it
        its name, but a backup that was just copied back is in the page cache alone. What is clean costs 43 us each on
        ext4, 0.4 s for 10,000 values, or one request to the server of a network or FUSE file system.
        """
        if self._syncfs is not None:
            self.file_system()
            return
        # macOS: to the drive, whose own cache is emptied once, with the directories.
        sync = os.fsync if self.fsync is full_sync else self.fsync
        sync_file(self._tree.redo, sync)
        for item in self._tree.walk():
            if item.kind in (Kind.VALUE, Kind.LEFTOVER):
                sync_file(item.path, sync)
            elif item.kind is Kind.NAMESPACE:
                sync_directory(item.path, sync)
        sync_directory(self._tree.root, self.fsync)


def kernel_syncfs() -> Sync | None:
    """Linux's syncfs, where it tells of failures; None elsewhere."""
    if sys.platform != "linux" or kernel_version(os.uname().release) < _SYNCFS_TELLS:
        return None
    # Not every worker needs it.
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def syncfs(fd: int) -> None:
        if libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return syncfs


def kernel_version(release: str) -> tuple[int, int]:
    """The first two numbers of `release`, as in "6.1.0-18-amd64"; (0, 0) if there are none."""
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else (0, 0)
