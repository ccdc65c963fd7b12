"""SQLite's way to a database that must not change by a byte, not even by its WAL's recovery.

SQLite reads a WAL through an index that it makes first, in a file beside it or, in exclusive locking mode, in its
memory; for either it wants to write and to lock. Opened read-only it creates files, or refuses a read-only directory,
or does not see the WAL. So it is told here that it may write: each file is opened read-only all the same, a WAL that is
not there is an empty one, locks are not taken (the writer lock keeps writers out, and what has none is a backup), and
whatever would change something is an error. No copy is made: a store may be larger than the free space beside it.
"""

from __future__ import annotations

import os
from typing import Final, NoReturn

import apsw

from .connection import Connection

_NAME: Final = "bgsuper-untouched"
#: No locks: they cannot be had on a file that is open for reading only.
_BASE: Final = "unix-none"


def open_untouched(path: str) -> Connection:
    """The database at `path` and its WAL, to read. Raises `StoreCorrupt`, `StoreUnwritable`, `SyncFailed`."""
    return Connection(path, _NAME, _connect)


def _connect(path: str, vfs: str) -> apsw.Connection:
    sqlite = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    try:
        sqlite.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        sqlite.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        sqlite.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        # Before the first access: keeps the WAL's index in memory.
        sqlite.pragma("locking_mode", "EXCLUSIVE")
        sqlite.pragma("query_only", True)
        sqlite.pragma("temp_store", "MEMORY")
        sqlite.pragma("mmap_size", 0)
        sqlite.pragma("cell_size_check", True)
        sqlite.wal_autocheckpoint(0)
    except BaseException:
        sqlite.close(True)
        raise
    return sqlite


class _UntouchedVFS(apsw.VFS):
    def __init__(self) -> None:
        super().__init__(_NAME, _BASE)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _UntouchedFile(name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> NoReturn:
        _refuse()


class _UntouchedFile(apsw.VFSFile):
    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        wanted = flags[0]
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if wanted & apsw.SQLITE_OPEN_WAL and path is not None and not os.path.lexists(path):
            name = os.devnull
        # As a database: of a WAL SQLite sets the owner, if it is root, and with it the date of that.
        super().__init__(_BASE, name, [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY, 0])
        flags[1] = wanted

    def xWrite(self, data: bytes, offset: int) -> NoReturn:
        _refuse()

    def xTruncate(self, newsize: int) -> NoReturn:
        _refuse()

    def xSync(self, flags: int) -> NoReturn:
        _refuse()


def _refuse() -> NoReturn:
    raise apsw.ReadOnlyError("a view changes nothing")


#: SQLite knows it as long as somebody holds it.
_vfs: Final = _UntouchedVFS()
