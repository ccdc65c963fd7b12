"""What went wrong underneath, in the store's own words: errno becomes a `StoreError` (SQLite's codes do in
`sqlite_failures`).

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
from typing import Final

from ..errors import StoreError, StoreFull, StoreUnavailable, StoreUnwritable, SyncFailed
from ..key import Key

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
        errno.ENOLCK,
        errno.EOPNOTSUPP,
        errno.ENOSYS,
    }
)


def too_large(key: Key) -> StoreUnavailable:
    """The `StoreError` for a `MemoryError` while the value of `key` was read."""
    return StoreUnavailable(f"the value of {key} does not fit into memory; look into the store with more of it")


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
