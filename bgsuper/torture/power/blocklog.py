"""A disk's log, each write and flush in the order of their arrival, and the disks that a power cut may leave of it.
Pure, but for files.

Rules of what a disk may do, those of the kernel's block layer:
1. What was written before a flush that was answered is there.
2. Of what was written since, each sector of 512 bytes has its old content or that of any write to it: writes are lost,
   torn at any sector and re-ordered. Never anything else.

An entry is a header of `HEADER` and its data: kind, time of its arrival (nanoseconds of the monotonic clock), offset,
length. A log may end in an entry that was cut short: its writer was killed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from random import Random
from typing import BinaryIO, Final, NamedTuple

SECTOR: Final = 512
HEADER: Final = struct.Struct("<BqQI")


class Kind(IntEnum):
    WRITE = 1
    FLUSH = 2


class Entry(NamedTuple):
    """One request to the disk. Offsets and lengths are whole sectors."""

    kind: Kind
    at: int
    offset: int = 0
    data: bytes = b""

    def to_bytes(self) -> bytes:
        return HEADER.pack(self.kind, self.at, self.offset, len(self.data)) + self.data


def read_log(path: Path) -> list[Entry]:
    """All whole entries of the log at `path`."""
    return list(_entries(path.read_bytes()))


def _entries(log: bytes) -> Iterator[Entry]:
    at = 0
    while at + HEADER.size <= len(log):
        kind, time, offset, length = HEADER.unpack_from(log, at)
        at += HEADER.size + length
        if at > len(log):
            return
        yield Entry(Kind(kind), time, offset, log[at - length : at])


Sectors = Mapping[int, bytes]


class Fate(NamedTuple):
    """A way in which a disk treats what it had not flushed."""

    name: str
    left: Callable[[list[Entry], Random], Sectors]


def _sectors(entry: Entry) -> Iterator[tuple[int, bytes]]:
    for start in range(0, len(entry.data), SECTOR):
        yield (entry.offset + start) // SECTOR, entry.data[start : start + SECTOR]


def _lost(writes: list[Entry], dice: Random) -> Sectors:
    return {}


def _kept(writes: list[Entry], dice: Random) -> Sectors:
    return {number: sector for entry in writes for number, sector in _sectors(entry)}


def _in_order(writes: list[Entry], dice: Random) -> Sectors:
    """Up to a sector of one write, all; then nothing."""
    sectors = [sector for entry in writes for sector in _sectors(entry)]
    return dict(sectors[: dice.randint(0, len(sectors))])


def _reordered(writes: list[Entry], dice: Random) -> Sectors:
    """Some writes, in any order, the last of them torn."""
    some = [entry for entry in writes if dice.random() < 0.5]
    dice.shuffle(some)
    left = dict(_kept(some[:-1], dice))
    left.update(_in_order(some[-1:], dice))
    return left


def _scattered(writes: list[Entry], dice: Random) -> Sectors:
    """Each sector for itself: its old content, or that of any write."""
    versions: dict[int, list[bytes]] = {}
    for entry in writes:
        for number, sector in _sectors(entry):
            versions.setdefault(number, []).append(sector)
    left = {}
    for number, contents in versions.items():
        which = dice.randint(0, len(contents))
        if which:
            left[number] = contents[which - 1]
    return left


FATES: Final = (
    Fate("lost", _lost),
    Fate("in order", _in_order),
    Fate("reordered", _reordered),
    Fate("scattered", _scattered),
    Fate("kept", _kept),
)


@dataclass(slots=True)
class Disk:
    """The content of a disk while its log is read on: all that is flushed is in `image`, the rest is under way."""

    image: BinaryIO
    log: list[Entry]
    read: int = 0  #: so many entries were read
    under_way: list[Entry] | None = None

    def advance(self, to: int) -> list[Entry]:
        """Read the log up to its entry `to`; what the disk had not flushed by then."""
        under_way = self.under_way or []
        for entry in self.log[self.read : to]:
            if entry.kind is Kind.WRITE:
                under_way.append(entry)
                continue
            for write in under_way:
                self.image.seek(write.offset)
                self.image.write(write.data)
            under_way = []
        self.image.flush()
        self.read, self.under_way = to, under_way
        return under_way


def write_sectors(image: BinaryIO, sectors: Sectors) -> None:
    """Put `sectors` into `image`."""
    for number, sector in sectors.items():
        image.seek(number * SECTOR)
        image.write(sector)
    image.flush()
