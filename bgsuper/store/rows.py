"""What a row of the database says, once that is proved: SQLite's pages carry no checksums.

Rules:
1. A record's checksum is of its whole key and its value, so that neither is ever taken for another one's.
2. A pointer's row says key and number twice, in its columns and in the name of its file; the file's digest says the
   rest.
3. In a damaged row each column may be of any type, and none is put into an error's text whole.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

from ..errors import StoreCorrupt
from ..key import Key, Seq
from .api import SnapshotFile
from .connection import Connection, Row
from .identity import Identity
from .snapshots import is_name_of

WHERE_KEY: Final = " WHERE primary_namespace = ? AND secondary_namespace = ? AND name = ?"
_RECORD: Final = "SELECT checksum, value FROM record" + WHERE_KEY
_POINTERS: Final = "SELECT * FROM snapshot"
_IDENTITY: Final = "SELECT identity FROM meta"


def read_record(connection: Connection, key: Key) -> bytes | None:
    """The value of the record `key`, None if there is none. Raises `StoreCorrupt`, `SyncFailed`."""
    row = connection.row(_RECORD, key, f"reading {key}")
    return None if row is None else verified(key, *row)


def read_pointers(connection: Connection, path: str) -> dict[Key, SnapshotFile]:
    """All snapshots of the database at `path`. Raises `StoreCorrupt`, `SyncFailed`."""
    pointers = map(pointer, connection.rows(_POINTERS, (), f"opening {path}"))
    return {snapshot.key: snapshot for snapshot in pointers}


def read_identity(connection: Connection, path: str) -> Identity:
    """Which store the database at `path` is. Raises `StoreCorrupt`, `StoreTooNew`, `SyncFailed`."""
    row = connection.row(_IDENTITY, (), f"opening {path}")
    if row is None:
        raise StoreCorrupt(f"the database {path} has lost its meta row; restore it from a backup")
    return Identity.unpack(row[0], path)


def checksum(key: Key, value: bytes) -> int:
    """The CRC-32 of `key` and `value`."""
    primary, secondary, name = key
    # No part of a key may contain what joins them.
    return crc32(value, crc32(f"{primary}/{secondary}/{name}".encode()))


def verified(key: Key, recorded: object, value: object) -> bytes:
    """`value`, if it is what the `recorded` checksum is of; else raises `StoreCorrupt`."""
    texts = all(isinstance(part, str) for part in key)
    if not texts or not isinstance(value, bytes) or checksum(key, value) != recorded:
        name = "/".join(str(part) for part in key if part)
        raise StoreCorrupt(
            f"the record {name:.400} does not match its checksum; restore a backup or salvage the database"
        )
    return value


def pointer(row: Row) -> SnapshotFile:
    """The snapshot that a row of its table points to. Raises `StoreCorrupt`."""
    match row:
        case (str(primary), str(secondary), str(name), int(seq), str(file), int(length), bytes(digest)):
            snapshot = SnapshotFile(Key(primary, secondary, name), Seq(seq), file, length, digest)
            if is_name_of(file, snapshot.key, snapshot.seq):
                return snapshot
    raise StoreCorrupt(f"a row of the snapshot table is damaged ({row[:4]!r:.200}); restore a backup")
