"""Cutting the power: what of a directory tree would be there if the machine stopped now.

`PowerCut` watches a tree. It learns what is durable from every sync that goes through it: SQLite's by its VFS, the
store's own by its `fsync`. `cut()` then puts the tree into the state that a disk may be in after a power cut.

The rules are those that POSIX grants, and no more:
1. A file's content is durable as of its last sync; one never synced is empty.
2. A name (a file made, renamed or removed) is durable as of its directory's last sync. SQLite syncs the directory with
   the first sync of a new journal or WAL, and when it removes one.
3. What was not synced may be there or not, each sector and each name for itself: `cut(random)` throws the dice,
   `cut()` takes all of it away.

Linux only (O_PATH keeps an inode's number from being given out again). For tests: it keeps a copy of every file.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterator
from typing import Final

import apsw

from .vfs import BASE

NAME: Final = "bgsuper-powercut"
SECTOR: Final = 512


class PowerCut:
    """The durable state of the tree under `root`. What is there at the start is durable.

    While it lives, a VFS named `name` is registered: hand that, and `fsync`, to the store.
    """

    def __init__(self, root: str | os.PathLike[str], name: str = NAME, base: str = BASE) -> None:
        self._root = os.path.abspath(root)
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._held: dict[int, int] = {}
        self.name = name
        self._vfs = _VFS(self, name, base)
        self.sync_all()

    def close(self) -> None:
        """Unregister the VFS and let the watched inodes go."""
        self._vfs.unregister()
        self._forget()

    def _forget(self) -> None:
        self._contents.clear()
        self._names.clear()
        while self._held:
            os.close(self._held.popitem()[1])

    def sync_all(self) -> None:
        """Take all that is there now for durable. No SQLite of this process may have a file open: reading one here
        would drop its locks."""
        self._forget()
        for directory, _, files in os.walk(self._root):
            self.directory_synced(directory)
            for file in files:
                path = os.path.join(directory, file)
                with open(path, "rb") as opened:
                    self.file_synced(path, opened.read())

    def fsync(self, fd: int) -> None:
        """os.fsync, noticed: for the store's own files and directories."""
        os.fsync(fd)
        path = os.readlink(f"/proc/self/fd/{fd}")
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            self.directory_synced(path)
        else:
            self.file_synced(path, os.pread(fd, status.st_size, 0))

    def file_synced(self, path: str, content: bytes) -> None:
        """The file at `path` is durable with `content`; its name is not, by that."""
        self._contents[self._hold(path)] = content

    def directory_synced(self, path: str) -> None:
        """The names in the directory `path` are durable."""
        names = {name: self._hold(os.path.join(path, name)) for name in os.listdir(path)}
        self._names[self._hold(path)] = names

    def _hold(self, path: str) -> int:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        inode = os.fstat(fd).st_ino
        if inode in self._held:
            os.close(fd)
        else:
            self._held[inode] = fd
        return inode

    def cut(self, dice: random.Random | None = None) -> None:
        """Put the tree into the state after a power cut. Nobody may have its files open."""
        after = dict(self._after(self._root, dice))
        for directory, directories, files in os.walk(self._root, topdown=False):
            for name in files:
                os.unlink(os.path.join(directory, name))
            for name in directories:
                os.rmdir(os.path.join(directory, name))
        for path, content in after.items():
            if content is None:
                os.mkdir(path, 0o700)
            else:
                with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(content)
        self.sync_all()

    def _after(self, directory: str, dice: random.Random | None) -> Iterator[tuple[str, bytes | None]]:
        """Paths and contents after the cut, parents first; None is a directory."""
        inode = os.stat(directory).st_ino if os.path.isdir(directory) else -1
        durable = self._names.get(inode, {})
        for name, file in _mixed_names(durable, _names_now(directory), dice).items():
            path = os.path.join(directory, name)
            if stat.S_ISDIR(os.stat(self._held.get(file, path)).st_mode):
                yield path, None
                yield from self._after(path, dice)
            else:
                yield path, _mixed_content(self._contents.get(file, b""), self._content_now(file, path), dice)

    def _content_now(self, inode: int, path: str) -> bytes:
        # A held inode may have lost its name.
        with open(f"/proc/self/fd/{self._held[inode]}" if inode in self._held else path, "rb") as file:
            return file.read()


class _VFS(apsw.VFS):
    def __init__(self, power: PowerCut, name: str, base: str) -> None:
        super().__init__(name, base)
        self._power = power
        self._base = base

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self._power, self._base, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        if syncdir:
            self._power.directory_synced(os.path.dirname(filename))


class _File(apsw.VFSFile):
    def __init__(self, power: PowerCut, base: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__(base, name, flags)
        self._power = power
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._new_name = bool(flags[0] & (apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL))

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        if self._path is None:
            return
        # Not by another descriptor: closing it would drop SQLite's locks.
        self._power.file_synced(self._path, super().xRead(super().xFileSize(), 0))
        if self._new_name:
            self._new_name = False
            self._power.directory_synced(os.path.dirname(self._path))


def _names_now(directory: str) -> dict[str, int]:
    try:
        return {entry.name: entry.inode() for entry in os.scandir(directory)}
    except FileNotFoundError:
        return {}


def _mixed_names(durable: dict[str, int], now: dict[str, int], dice: random.Random | None) -> dict[str, int]:
    if dice is None:
        return durable
    mixed = {}
    for name in sorted(durable.keys() | now.keys()):
        file = dice.choice((durable, now)).get(name)
        if file is not None:
            mixed[name] = file
    return mixed


def _mixed_content(durable: bytes, now: bytes, dice: random.Random | None) -> bytes:
    if dice is None or durable == now:
        return durable
    length = dice.choice((len(durable), len(now)))
    sectors = []
    for start in range(0, length, SECTOR):
        end = min(start + SECTOR, length)
        sectors.append(dice.choice((durable, now))[start:end].ljust(end - start, b"\0"))
    return b"".join(sectors)
