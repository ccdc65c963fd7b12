"""A real directory as the explorer's disk: un-synced writes apart, failed syncs that lie, deaths at any operation.

`Platter` is `faults.powercut.PowerCut` with one more rule: after a sync that failed, the pages that it should have
written are clean. They can be read, and no later sync writes them; what is written again is dirty again (fsyncgate).
`Hand` is what a store has of the disk: a VFS for SQLite and an `fsync` for its own files, which count operations, fail
them, and end the process at one of them, after which nothing of it happens any more.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from random import Random
from typing import Final

import apsw

from ...faults.powercut import PowerCut
from ...faults.vfs import sqlite_error
from .store import Outcomes

PAGE: Final = 4096


class Dead(OSError):
    """The process is gone: the operation does not happen, and nothing after it."""


class Platter(PowerCut):
    """A power cut on a disk where a failed sync leaves pages clean that it did not write (fsyncgate)."""

    def __init__(self, root: str, name: str) -> None:
        self.lying: dict[str, set[int]] = {}  #: pages that can be read, and that no sync will write
        super().__init__(root, name)

    def file_synced(self, path: str, content: bytes) -> None:
        """As `PowerCut.file_synced`, but for pages that lie."""
        lying = self.lying.get(path)
        if lying:
            durable = self.durable(path)
            pages = [content[at : at + PAGE] for at in range(0, len(content), PAGE)]
            for page in lying:
                if page < len(pages):
                    pages[page] = durable[page * PAGE : page * PAGE + PAGE].ljust(len(pages[page]), b"\0")
            content = b"".join(pages)
        super().file_synced(path, content)

    def sync_failed(self, path: str, content: bytes) -> None:
        """A sync of the file failed, and that was its content."""
        durable = self.durable(path)
        lying = self.lying.setdefault(path, set())
        for at in range(0, len(content), PAGE):
            if content[at : at + PAGE] != durable[at : at + PAGE]:
                lying.add(at // PAGE)

    def written(self, path: str, offset: int, size: int) -> None:
        """What was written is dirty, whatever it was before."""
        lying = self.lying.get(path)
        if lying:
            lying.difference_update(range(offset // PAGE, (offset + size - 1) // PAGE + 1))

    def drop_cached_pages(self, paths: Iterable[str]) -> None:
        """`store.files.drop_cached_pages`: clean pages are read from the disk again. Nobody has the files open."""
        for path in paths:
            lying = self.lying.pop(path, None)
            if lying and os.path.exists(path):
                durable, size = self.durable(path), os.path.getsize(path)
                with open(path, "r+b") as file:
                    for start in (page * PAGE for page in lying):
                        file.seek(start)
                        # What never reached the disk reads as a hole; the file's length is the kernel's to know.
                        file.write(durable[start : start + PAGE].ljust(PAGE, b"\0")[: max(0, size - start)])

    def durable(self, path: str) -> bytes:
        """What of the file's content would survive."""
        return self._contents.get(self._hold(path), b"")

    def cut(self, dice: Random | None = None) -> None:
        """As `PowerCut.cut`; afterwards nothing lies."""
        self.lying.clear()
        super().cut(dice)


class Hand:
    """What stands between the store and the disk: it counts operations, fails them, and ends their process."""

    def __init__(self, platter: Platter, name: str) -> None:
        self.platter = platter
        self.outcomes = Outcomes()
        self.dead = False
        self.full = False
        self._vfs = _VFS(self, name, platter.name)

    def close(self) -> None:
        """Nobody uses it any more."""
        self._vfs.unregister()

    def operation(self) -> None:
        """One more disk operation."""
        left = self.outcomes.dies_at
        if left is not None:
            self.outcomes.dies_at = left - 1
            self.dead = self.dead or left <= 1
        if self.dead:
            raise Dead(errno.EIO, "the process is gone")

    def sync_fails(self) -> bool:
        """Whether this is the sync that shall fail."""
        left = self.outcomes.fails_at
        if left is None:
            return False
        self.outcomes.fails_at = left - 1 if left > 1 else None
        return left <= 1

    def fsync(self, fd: int) -> None:
        """os.fsync for the store."""
        self.operation()
        if self.sync_fails():
            raise OSError(errno.EIO, "the explorer failed this sync")
        self.platter.fsync(fd)


class _VFS(apsw.VFS):
    def __init__(self, hand: Hand, name: str, base: str) -> None:
        super().__init__(name, base)
        self._hand, self._base = hand, base

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self._hand, self._base, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        try:
            self._hand.operation()
        except OSError as error:
            raise sqlite_error(apsw.SQLITE_IOERR_DELETE, error) from error
        super().xDelete(filename, syncdir)


class _File(apsw.VFSFile):
    def __init__(self, hand: Hand, base: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__(base, name, flags)
        self._hand = hand
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else name

    def xSync(self, flags: int) -> None:
        try:
            self._hand.operation()
            if self._hand.sync_fails():
                if self._path is not None:
                    self._hand.platter.sync_failed(self._path, super().xRead(super().xFileSize(), 0))
                raise OSError(errno.EIO, "the explorer failed this sync")
        except OSError as error:
            raise sqlite_error(apsw.SQLITE_IOERR_FSYNC, error) from error
        super().xSync(flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        try:
            self._hand.operation()
        except OSError as error:
            raise sqlite_error(apsw.SQLITE_IOERR_WRITE, error) from error
        if self._hand.full:
            raise sqlite_error(apsw.SQLITE_FULL, OSError(errno.ENOSPC, "the explorer's disk is full"))
        super().xWrite(data, offset)
        if self._path is not None:
            self._hand.platter.written(self._path, offset, len(data))

    def xTruncate(self, newsize: int) -> None:
        try:
            self._hand.operation()
        except OSError as error:
            raise sqlite_error(apsw.SQLITE_IOERR_TRUNCATE, error) from error
        super().xTruncate(newsize)
