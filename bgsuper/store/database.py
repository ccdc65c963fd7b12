"""The SQLite database as a file: whose it is, and how it comes into being.

Rules:
1. Nothing is written into what is not ours, or what a later version wrote: the header is read first, as plain bytes.
2. A database appears under its name whole (built under another name, synced, renamed), so that one that is empty or
   damaged is always a loss, never a creation that was cut short, and is refused: a node that starts empty over a lost
   store loses its channels.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from typing import Final

from ..errors import StoreCorrupt, StoreForeign, StoreTooNew
from .connection import Connection, Row
from .failures import from_os_error
from .files import create_private, sync_directory
from .identity import Identity

MAGIC: Final = b"SQLite format 3\0"
HEADER_BYTES: Final = 100
#: "bgsu" in ASCII, at byte 68 of the database.
APPLICATION_ID: Final = 0x62677375
#: The schema below; at byte 60 of the database.
SCHEMA_VERSION: Final = 2

_CREATING: Final = ".new"
_SUFFIXES: Final = ("", "-journal", "-wal")

# A rowid table with a unique index takes 22,528 records/s at 64 a commit, WITHOUT ROWID 9,466: values stay out of the
# tree that is searched. `checksum` is of key and value (see `rows`).
SCHEMA: Final = (
    """CREATE TABLE record(
        id INTEGER PRIMARY KEY,
        primary_namespace TEXT NOT NULL,
        secondary_namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        checksum INTEGER NOT NULL,
        value BLOB NOT NULL
    ) STRICT""",
    "CREATE UNIQUE INDEX record_key ON record(primary_namespace, secondary_namespace, name)",
    """CREATE TABLE snapshot(
        primary_namespace TEXT NOT NULL,
        secondary_namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        seq INTEGER NOT NULL,
        file TEXT NOT NULL,
        length INTEGER NOT NULL,
        digest BLOB NOT NULL,
        PRIMARY KEY(primary_namespace, secondary_namespace, name)
    ) STRICT""",
    """CREATE TABLE meta(
        id INTEGER PRIMARY KEY CHECK(id = 1),
        identity BLOB NOT NULL
    ) STRICT""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_NEW: Final = "INSERT INTO meta VALUES(1, ?)"


def check_header(path: str, *, written_before: bool) -> bool:
    """Whether there is a database of ours at `path` that can be written to; False if there is nothing at all.

    `written_before`: other traces say that a store of ours was here. Raises `StoreForeign`, `StoreTooNew`,
    `StoreCorrupt`, `StoreUnwritable`. Reads 100 bytes and changes nothing.
    """
    # For writing: SQLite would silently take a file that it can only read, and fail obscurely later.
    return _check_header(path, "r+b", written_before)


def check_header_to_read(path: str, *, written_before: bool) -> bool:
    """`check_header` for whoever only reads."""
    return _check_header(path, "rb", written_before)


def _check_header(path: str, mode: str, written_before: bool) -> bool:
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise StoreForeign(f"expected a database file at {path}, found something else; use another directory")
        with open(path, mode) as file:
            header = file.read(HEADER_BYTES)
    except FileNotFoundError:
        if written_before:
            raise StoreCorrupt(f"the database {path} is missing, but there was one; restore it from a backup") from None
        return False
    except OSError as error:
        raise from_os_error(error, f"reading {path}") from error
    if not header:
        raise StoreCorrupt(f"the database {path} is empty; restore it from a backup")
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        if written_before:
            raise StoreCorrupt(f"the header of the database {path} is damaged; restore it from a backup")
        raise StoreForeign(f"expected a SQLite database at {path}, found another file; use another directory")
    version, application = struct.unpack_from(">I4xI", header, 60)
    if application != APPLICATION_ID:
        raise StoreForeign(
            f"{path} is a SQLite database of another program "
            f"(application id {application:#x}, expected {APPLICATION_ID:#x}); use another directory"
        )
    check_schema_version(path, version)
    # Both versions say WAL, or both say rollback journal (as a database that was salvaged). A store of ours never
    # vacuums by itself: SQLite would look for pages that are not there, and only when it writes.
    vacuums = any(header[52:56]) or any(header[64:68])
    if header[18:20] not in (b"\1\1", b"\2\2") or vacuums:
        raise StoreCorrupt(f"the header of the database {path} is damaged; restore it from a backup")
    refuse_journal(path)
    return True


def refuse_journal(path: str) -> None:
    """Raise `StoreForeign` if there is a rollback journal: databases of ours never have one."""
    if os.path.lexists(path + _SUFFIXES[1]):
        raise StoreForeign(
            f"expected no rollback journal at {path + _SUFFIXES[1]}: another program wrote to the database, and SQLite "
            "would undo its work; see to that with that program, or move the journal away"
        )


def check_schema_version(path: str, version: int) -> None:
    """Raise `StoreTooNew` if this bgsuper does not know schema `version`."""
    if version < SCHEMA_VERSION:
        raise StoreForeign(f"a bgsuper before its first release wrote {path}; use another directory")
    if version > SCHEMA_VERSION:
        raise StoreTooNew(
            f"a later bgsuper wrote {path} (schema {version}, this one knows {SCHEMA_VERSION}); upgrade bgsuper"
        )


def create(path: str, identity: Identity, vfs: str, fsync: Callable[[int], None]) -> None:
    """Make a new, empty database at `path`, durable with its name, mode 0600. The writer lock must be held."""
    building = path + _CREATING
    try:
        for suffix in _SUFFIXES[1:]:
            _unlink_if_there(building + suffix)
        os.close(create_private(building))
        connection = Connection(building, vfs)
        try:
            statements: list[tuple[str, list[Row]]] = [(statement, [()]) for statement in SCHEMA]
            statements.append((_NEW, [(identity.pack(),)]))
            connection.transact(statements, f"creating the database {path}")
            # Syncs the database, too.
            connection.empty_wal()
        finally:
            connection.close()
        _unlink_if_there(building + "-wal")
        os.rename(building, path)
    except OSError as error:
        raise from_os_error(error, f"creating the database {path}") from error
    sync_directory(os.path.dirname(path), fsync)


def is_creation_leftover(path: str, name: str) -> bool:
    """Whether `name`, beside the database `path`, is what a creation that was cut short leaves."""
    return name in {os.path.basename(path) + _CREATING + suffix for suffix in _SUFFIXES}


def _unlink_if_there(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
