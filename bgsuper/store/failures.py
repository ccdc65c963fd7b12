"""What went wrong underneath, in the store's own words: errno and SQLite result codes become `StoreError`s.

The supervisor acts on the class alone, so this table decides what is retried, what costs a worker, and what is fatal:

    no space (ENOSPC, EDQUOT, SQLITE_FULL)                  StoreFull        retried by the worker
    no descriptors (EMFILE, ENFILE)                         StoreUnavailable retried by the worker
    no permission, read-only, not a directory               StoreUnwritable  fatal
    damaged (SQLITE_CORRUPT, _NOTADB, cut, wrong schema)    StoreCorrupt     fatal
    another program holds the database (SQLITE_BUSY)        StoreLocked      fatal
    any other I/O error, above all EIO of a sync            SyncFailed       a new worker, which distrusts the cache
"""

from __future__ import annotations

import errno
import os
from typing import Final

import apsw

from ..errors import StoreCorrupt, StoreError, StoreFull, StoreLocked, StoreUnavailable, StoreUnwritable, SyncFailed

NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
#: open() alone says these, so that no sync can have failed.
NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})
_UNWRITABLE: Final = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EEXIST,
        errno.EROFS,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ENOENT,
        errno.ELOOP,
        errno.ENAMETOOLONG,
    }
)


def from_os_error(error: OSError, doing: str) -> StoreError:
    """The `StoreError` for a system call that failed while `doing` (a gerund with its path)."""
    said = f"{doing} failed: {error.strerror or error}"
    if error.errno in NO_SPACE:
        return StoreFull(f"{said}; free some space")
    if error.errno in NO_DESCRIPTORS:
        return StoreUnavailable(f"{said}; raise the limit of open files")
    if error.errno in _UNWRITABLE:
        return StoreUnwritable(f"{said}; expected a directory that this user can write to")
    return SyncFailed(f"{said}; check the disk and the kernel log")


def from_sqlite_error(error: apsw.Error, doing: str, *, system_errno: int = 0) -> StoreError:
    """The `StoreError` for what SQLite raised while `doing`; `system_errno` is `apsw.Connection.system_errno`."""
    said = f"{doing} failed: {error}"
    extended = getattr(error, "extendedresult", 0)
    match error:
        case apsw.FullError():
            return StoreFull(f"{said}; free some space")
        case apsw.IOError():
            if extended == apsw.SQLITE_IOERR_WRITE and system_errno in NO_SPACE:
                return StoreFull(f"{said}: the disk quota is used up; free some space")
            if extended == apsw.SQLITE_IOERR_SHORT_READ:
                return StoreCorrupt(f"{said}; the file was cut short: restore a backup or salvage the database")
            if extended == apsw.SQLITE_IOERR_CORRUPTFS:
                return StoreCorrupt(f"{said}; the file system is damaged: check it, then restore a backup")
            return SyncFailed(f"{said} (SQLite code {extended}); check the disk and the kernel log")
        case apsw.CorruptError() | apsw.NotADBError() | apsw.SQLError() | apsw.FormatError():
            return StoreCorrupt(f"{said}; restore a backup or salvage the database")
        case apsw.CantOpenError() if system_errno in NO_DESCRIPTORS:
            return StoreUnavailable(f"{said}: {os.strerror(system_errno)}; raise the limit of open files")
        case apsw.ReadOnlyError() | apsw.PermissionsError() | apsw.CantOpenError() | apsw.AuthError():
            return StoreUnwritable(f"{said}; expected files that this user can write to")
        case apsw.BusyError() | apsw.LockedError():
            return StoreLocked(f"{said}; another program has the database open: close it")
    return StoreError(said)
