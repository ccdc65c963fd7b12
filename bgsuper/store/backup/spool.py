"""The database of a backup as SQLite sees it: a file in memory, emptied by whoever writes it to the disk.

SQLite writes the copy on the thread that commits, and not only when it is told to copy: a commit that changes a page
which is copied already changes the copy, too. So that no commit ever waits for the backup's disk, whatever SQLite
writes stays here until it is taken, and nothing is read back from that disk:

1. The first page is kept: SQLite looks at it.
2. Of any other page, which SQLite's backup asks for only to overwrite all of it, zeros are as good as the real bytes.
3. No call from SQLite ever fails: what one raised would come out of the commit that SQLite makes meanwhile.
"""

from __future__ import annotations

from typing import Final

import apsw

#: What of a rollback journal would be written is written nowhere: a backup that fails is removed.
_PRAGMAS: Final = (
    ("locking_mode", "EXCLUSIVE"),
    ("journal_mode", "OFF"),
    ("synchronous", "OFF"),
    # In pages. A page leaves the cache for the spool once so many others are in it.
    ("cache_size", 256),
)


class Spool:
    """What SQLite wrote and nobody took yet. `size` is how many bytes the file has."""

    def __init__(self) -> None:
        self.size = 0
        self.waiting = 0  #: bytes
        self._writes: dict[int, bytes] = {}
        self._first = b""

    def write(self, content: bytes, offset: int) -> None:
        """As SQLite does."""
        if offset == 0:
            self._first = content
        self.waiting += len(content) - len(self._writes.get(offset, b""))
        self._writes[offset] = content
        self.size = max(self.size, offset + len(content))

    def read(self, amount: int, offset: int) -> bytes:
        """What SQLite may believe to stand there: rules 1 and 2. Less at the end of the file."""
        amount = max(0, min(amount, self.size - offset))
        return self._first[offset : offset + amount] if offset < len(self._first) else bytes(amount)

    def truncate(self, size: int) -> None:
        """Forget what stands from `size` on."""
        self.size = size

    def take(self) -> dict[int, bytes]:
        """What was written since the last time, by its offset; it is the caller's now."""
        writes, self._writes, self.waiting = self._writes, {}, 0
        return writes


def open_target(spool: Spool) -> apsw.Connection:
    """An empty database in `spool`, for one use."""
    name = f"bgsuper-backup-{id(spool):x}"
    vfs = _SpoolVFS(name, spool)
    target = apsw.Connection("backup", vfs=name)
    # Registered as long as somebody refers to it; an open file does.
    del vfs
    for pragma, value in _PRAGMAS:
        target.pragma(pragma, value)
    return target


class _SpoolVFS(apsw.VFS):
    """One file, whatever it is called, beside which there is nothing."""

    def __init__(self, name: str, spool: Spool) -> None:
        super().__init__(name, "")
        self._spool = spool

    def xFullPathname(self, name: str) -> str:
        return name

    def xAccess(self, _pathname: str, _flags: int) -> bool:
        return False

    def xDelete(self, _filename: str, _syncdir: bool) -> None:
        """There is nothing."""

    def xOpen(self, _name: str | apsw.URIFilename | None, _flags: list[int]) -> apsw.VFSFile:
        return _SpoolFile(self, self._spool)


class _SpoolFile(apsw.VFSFile):
    def __init__(self, vfs: _SpoolVFS, spool: Spool) -> None:
        # Not VFSFile's own: there is no file underneath.
        self._vfs, self._spool = vfs, spool

    def xRead(self, amount: int, offset: int) -> bytes:
        return self._spool.read(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._spool.write(data, offset)

    def xTruncate(self, newsize: int) -> None:
        self._spool.truncate(newsize)

    def xFileSize(self) -> int:
        return self._spool.size

    def xSync(self, _flags: int) -> None:
        """Whoever writes the file syncs it."""

    def xLock(self, _level: int) -> None:
        """Nobody else can have it."""

    def xUnlock(self, _level: int) -> None:
        """As xLock."""

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, _op: int, _ptr: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return 4096

    def xDeviceCharacteristics(self) -> int:
        return 0

    def xClose(self) -> None:
        """Nothing to close."""
