"""The redo file on the disk: read as a whole, replaced as a whole.

Rule: while a store is open, its redo file is the one that it wrote last. If it is not, the directory was removed, or
somebody removed the lock file and writes as well: either way nothing more is acknowledged.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from ...errors import StoreCorrupt, StoreUnwritable
from ..failures import from_os_error
from ..files import create_private
from .redo import Redo
from .syncing import Sync, Syncing
from .tree import Tree, in_the_way
from .values import read_all, write_all

#: No redo file is longer: one that seems to be must not fill the memory. Half a million files make no group.
MOST_BYTES: Final = 1 << 28
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_redo(tree: Tree) -> Redo | None:
    """What the redo file says, None if there is none.

    Raises `StoreCorrupt`, `StoreForeign`, `StoreTooNew`, `StoreUnwritable`.
    """
    try:
        fd = os.open(tree.redo, _READ)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise in_the_way(tree.redo)
            if status.st_size > MOST_BYTES:
                raise StoreCorrupt(
                    f"{tree.redo}, which says how far the store had come, is damaged: expected at most {MOST_BYTES} "
                    f"bytes, found {status.st_size}; restore a backup, or salvage the store"
                )
            packed = read_all(fd, status.st_size)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise in_the_way(tree.redo) from None
        raise from_os_error(error, f"reading {tree.redo}") from error
    return Redo.unpack(packed, tree.redo)


class RedoFile:
    """That of one open store."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        #: The one that we wrote last, held open so that no other file can be taken for it.
        self._fd: int | None = None

    def refuse_replaced(self) -> None:
        """Raise `StoreUnwritable` unless the redo file is the one that we wrote last, if we wrote any."""
        if self._fd is None:
            return
        try:
            ours = os.path.samestat(os.stat(self._tree.redo, follow_symlinks=False), os.fstat(self._fd))
        except OSError:
            ours = False
        if not ours:
            raise StoreUnwritable(
                f"expected {self._tree.redo} to be as this process left it, but it was moved, removed or replaced; "
                "nothing since is acknowledged: see that one process alone writes here, and start again"
            )

    def write(self, redo: Redo, fsync: Sync) -> None:
        """Write `redo` beside the redo file, durable but for its name. A failure leaves the redo file as it was.

        Raises `StoreFull`, `StoreUnwritable`, `StoreUnavailable`, `SyncFailed`.
        """
        packed = redo.pack()
        if len(packed) > MOST_BYTES:
            raise StoreUnwritable(f"a group of {len(redo.operations)} files is too large: split it into several")
        try:
            fd = create_private(self._tree.new_redo)
            try:
                write_all(fd, memoryview(packed))
                fsync(fd)
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            raise from_os_error(error, f"writing {self._tree.new_redo}") from error
        self.close()
        self._fd = fd

    def replace(self, syncing: Syncing) -> None:
        """Put what was written in the redo file's place, durably. A failure leaves open which of them is there.

        Raises as `write`.
        """
        try:
            os.rename(self._tree.new_redo, self._tree.redo)
        except OSError as error:
            raise from_os_error(error, f"replacing {self._tree.redo}") from error
        syncing.directories((self._tree.root,))

    def close(self) -> None:
        """Let go of the file; further calls do nothing."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
