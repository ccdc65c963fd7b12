"""What SQLite would drop from a damaged write-ahead log without a word.

SQLite ends a WAL at the first frame that its checksums refuse, because so ends one whose newest transaction was cut
short by a crash: that was never acknowledged. A byte that flips later, in a frame that was acknowledged, looks the same
to it, and it drops that transaction and all that follow. They can be told apart:

1. The first frame of a transaction is written only when the transaction before it is synced: a commit returns after its
   sync, and a store that opens syncs the WAL before it adds to it.
2. A frame's checksum goes on from that of the frame before it, so a whole frame proves what it was written after.
3. So a whole frame that goes on from the end of a transaction which SQLite dropped proves that this one was durable.
4. Frames under a header that is none prove the same: SQLite syncs the header before it writes a frame. (It overwrites
   it in place, and relies, as we do, on a disk that writes a sector whole or not at all.)

What cannot be told: damage in the newest transaction of all, or of the whole frame before it, and a WAL that was cut or
is gone. That looks like a crash before the sync, and only whoever remembers the number of its newest commit can know
(the running host does).

The format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import os
import struct
from typing import Final

from ..errors import StoreCorrupt
from .failures import from_os_error

#: Magic, version, page size, checkpoint number, two salts, two checksums.
HEADER: Final = struct.Struct(">8I")
#: Page number, pages after a commit (0 within a transaction), two salts, two checksums.
FRAME: Final = struct.Struct(">6I")
#: The lowest bit says that the checksums' words are big-endian.
_MAGIC: Final = 0x377F0682
_SECTOR: Final = 512
#: That SQLite knows, in bytes.
PAGE_SIZES: Final = frozenset(1 << power for power in range(9, 17))

Sums = tuple[int, int]


def check_tail(path: str, recovered: int) -> None:
    """Raise `StoreCorrupt` if the WAL at `path`, of which SQLite took the first `recovered` frames, held more that was
    durable. Changes nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, f"opening {path}") from error
    try:
        lost = Log(fd).loses(recovered)
    except OSError as error:
        raise from_os_error(error, f"reading {path}") from error
    finally:
        os.close(fd)
    if lost is not None:
        raise StoreCorrupt(
            f"the write-ahead log {path} is damaged {lost}: commits after it were durable, and SQLite would drop them; "
            "restore a backup, or move the log away to go on without them"
        )


class Log:
    """A WAL file, read where it must be."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.header = os.pread(fd, HEADER.size, 0).ljust(HEADER.size, b"\0")
        magic, _, self.page_size, _, *self.salts, _, _ = HEADER.unpack(self.header)
        self.words = ">" if magic & 1 else "<"
        is_log = magic & ~1 == _MAGIC and self.page_size in PAGE_SIZES
        #: Whether the header is one, and undamaged.
        self.is_log = is_log and self.sums((0, 0), self.header[:24]) == stored(self.header)

    @property
    def step(self) -> int:
        """How long a frame is, with its header."""
        return int(FRAME.size + self.page_size)

    def loses(self, recovered: int) -> str | None:
        """Where the damage is, if durable frames follow the first `recovered`."""
        size = os.fstat(self._fd).st_size
        if not self.is_log:
            return "in its header" if size > HEADER.size else None
        for index in range(recovered, (size - HEADER.size) // self.step - 1):
            _, pages_after, *_ = FRAME.unpack(self.frame_header(index))
            if pages_after and self.goes_on(index):
                return f"between frames {recovered + 1} and {index + 1}"
        return None

    def goes_on(self, index: int) -> bool:
        """Whether the frame after `index`, which ends a transaction, is whole, and was written after that one."""
        following = self.frame(index + 1)
        if len(following) < self.step or list(FRAME.unpack_from(following)[2:4]) != self.salts:
            return False
        header, wanted, content = self.frame_header(index), stored(following[: FRAME.size]), covered(following)
        if self.sums(stored(header), content) == wanted:
            # A sector of an older frame may show through a torn one: that it ends a transaction must be as new as its
            # checksums.
            return self._in_one_sector(index) or self.own_sums(index) == stored(header)
        # Its checksums may be all that is damaged.
        return self.sums(self.own_sums(index), content) == wanted

    def own_sums(self, index: int) -> Sums:
        """What the checksums of a frame should be, if those of the one before are right."""
        before = self.frame_header(index - 1) if index else self.header
        return self.sums(stored(before), covered(self.frame(index)))

    def _in_one_sector(self, index: int) -> bool:
        at = self.at(index)
        return at // _SECTOR == (at + FRAME.size - 1) // _SECTOR

    def frame(self, index: int) -> bytes:
        """Header and page of a frame; less at the end of the file."""
        return os.pread(self._fd, self.step, self.at(index))

    def frame_header(self, index: int) -> bytes:
        """The header of a frame that is there."""
        return os.pread(self._fd, FRAME.size, self.at(index))

    def at(self, index: int) -> int:
        """Where a frame begins."""
        return int(HEADER.size + index * self.step)

    def sums(self, sums: Sums, content: bytes) -> Sums:
        """SQLite's WAL checksum, going on from `sums`."""
        first, second = sums
        for left, right in struct.iter_unpack(f"{self.words}2I", content):
            first = (first + left + second) & 0xFFFFFFFF
            second = (second + right + first) & 0xFFFFFFFF
        return first, second


def covered(frame: bytes) -> bytes:
    """What of a frame its checksums are of."""
    return frame[:8] + frame[FRAME.size :]


def stored(header: bytes) -> Sums:
    """The two checksums that a header of either kind ends with."""
    first, second = struct.unpack(">2I", header[-8:])
    return first, second
