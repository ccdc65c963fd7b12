"""Damage to one value of a store on the disk, whatever its kind."""

from __future__ import annotations

import apsw

from bgsuper.key import Key

from .stores import Place

DATABASE = "bgsuper.sqlite3"


def flip(place: Place, key: Key, name: str = "store") -> None:
    """Flip a bit in the middle of the stored value of `key`, which is not empty."""
    directory = place.directory / name
    if place.kind.startswith("file"):
        path = directory.joinpath(*filter(None, key))
        path.write_bytes(_flipped(path.read_bytes()))
        return
    database = apsw.Connection(str(directory / DATABASE))
    try:
        where = "WHERE primary_namespace = ? AND secondary_namespace = ? AND name = ?"
        row = next(database.execute(f"SELECT value FROM record {where}", key), None)
        if row is None:
            [[file]] = database.execute(f"SELECT file FROM snapshot {where}", key)
            path = directory / "snapshots" / file
            path.write_bytes(_flipped(path.read_bytes()))
        else:
            database.execute(f"UPDATE record SET value = ? {where}", (_flipped(row[0]), *key))
    finally:
        database.close()


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
