"""Which failure becomes which error."""

from __future__ import annotations

import errno
import os

import apsw
import pytest

from bgsuper.errors import (
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreUnavailable,
    StoreUnwritable,
    SyncFailed,
)
from bgsuper.store.failures import from_os_error
from bgsuper.store.sqlite_failures import from_sqlite_error


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EACCES, StoreUnwritable),
        (errno.EPERM, StoreUnwritable),
        (errno.EROFS, StoreUnwritable),
        (errno.ENOTDIR, StoreUnwritable),
        (errno.EEXIST, StoreUnwritable),
        (errno.ENOENT, StoreUnwritable),
        (errno.ENOLCK, StoreUnwritable),
        (errno.EOPNOTSUPP, StoreUnwritable),
        (errno.ENOSYS, StoreUnwritable),
        (errno.EMFILE, StoreUnavailable),
        (errno.EIO, SyncFailed),
        (errno.ESTALE, SyncFailed),
    ],
)
def test_system_calls(number: int, expected: type[StoreError]) -> None:
    """errno decides, and the text says what was being done."""
    error = from_os_error(OSError(number, os.strerror(number)), "writing x")
    assert type(error) is expected
    assert f"writing x failed: {os.strerror(number)}" in str(error)


@pytest.mark.parametrize(
    ("code", "system_errno", "expected"),
    [
        (apsw.SQLITE_FULL, 0, StoreFull),
        (apsw.SQLITE_IOERR_WRITE, errno.EDQUOT, StoreFull),
        (apsw.SQLITE_IOERR_WRITE, errno.ENOSPC, StoreFull),
        (apsw.SQLITE_IOERR_WRITE, errno.EIO, SyncFailed),
        (apsw.SQLITE_IOERR_FSYNC, errno.ENOSPC, SyncFailed),
        (apsw.SQLITE_IOERR_FSYNC, errno.EIO, SyncFailed),
        (apsw.SQLITE_IOERR_DIR_FSYNC, errno.EIO, SyncFailed),
        (apsw.SQLITE_IOERR_TRUNCATE, errno.EIO, SyncFailed),
        (apsw.SQLITE_IOERR_READ, errno.EIO, SyncFailed),
        (apsw.SQLITE_IOERR_CORRUPTFS, 0, StoreCorrupt),
        (apsw.SQLITE_CORRUPT, 0, StoreCorrupt),
        (apsw.SQLITE_CORRUPT_INDEX, 0, StoreCorrupt),
        (apsw.SQLITE_NOTADB, 0, StoreCorrupt),
        (apsw.SQLITE_ERROR, 0, StoreCorrupt),
        (apsw.SQLITE_READONLY, 0, StoreUnwritable),
        (apsw.SQLITE_PERM, 0, StoreUnwritable),
        (apsw.SQLITE_CANTOPEN, 0, StoreUnwritable),
        (apsw.SQLITE_BUSY, 0, StoreLocked),
        (apsw.SQLITE_LOCKED, 0, StoreLocked),
        (apsw.SQLITE_TOOBIG, 0, StoreError),
    ],
)
def test_sqlite(code: int, system_errno: int, expected: type[StoreError]) -> None:
    """SQLite's result code decides; a failed sync is one whatever its errno, a failed write may be a full quota."""
    cause = apsw.exception_for(code)
    assert isinstance(cause, apsw.Error)
    error = from_sqlite_error(cause, "writing x", system_errno=system_errno)
    assert type(error) is expected
    assert str(error).startswith("writing x failed")
