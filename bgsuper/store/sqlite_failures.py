"""SQLite's result codes as `StoreError`s, by the table in `failures`."""

from __future__ import annotations

import os

import apsw

from ..errors import StoreCorrupt, StoreError, StoreFull, StoreLocked, StoreUnavailable, StoreUnwritable, SyncFailed
from .failures import NO_DESCRIPTORS, NO_SPACE


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
