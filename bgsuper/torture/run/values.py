"""Values that say what they are: for which key, by which host, under which number, and whether they are whole.

    b"key host seq length checksum\\n" + filling                  all of it determined by (key, Origin)

So a value found in a store is judged by itself: damaged, another key's, older, or as it was submitted.
"""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple
from zlib import crc32

from ...key import Key, Seq

#: Fillings are cut from here; a length that no period of the file system's divides.
_POOL: Final = Random(0).randbytes(1_000_003)
#: The largest filling.
MOST_BYTES: Final = len(_POOL) // 2


class Origin(NamedTuple):
    """Where a value comes from. `host` counts the hosts of a run from 1; `size` is that of the filling, in bytes."""

    host: int
    seq: Seq
    size: int


def value_of(key: Key, origin: Origin) -> bytes:
    """The value that `origin` put under `key`."""
    start = (origin.seq * 7919 + origin.host * 104_729) % (len(_POOL) - MOST_BYTES)
    filling = _POOL[start : start + origin.size]
    head = f"{key} {origin.host} {origin.seq} {origin.size}"
    return f"{head} {_checksum(head, filling):08x}\n".encode() + filling


def origin_of(key: Key, value: bytes) -> Origin | None:
    """Where `value` says it comes from; None if it is damaged, or not a value of `key`."""
    line, newline, filling = value.partition(b"\n")
    try:
        name, host, seq, size, checksum = line.decode("ascii").split(" ")
        origin = Origin(int(host), Seq(int(seq)), int(size))
        whole = (
            newline
            and len(filling) == origin.size
            and int(checksum, 16) == _checksum(f"{name} {host} {seq} {size}", filling)
        )
    except ValueError:
        return None
    return origin if whole and name == str(key) else None


def _checksum(head: str, filling: bytes) -> int:
    return crc32(filling, crc32(head.encode()))
