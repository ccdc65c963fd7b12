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
_HEADER: Final = struct.Struct(">8I")
#: Page number, pages after a commit (0 within a transaction), two salts, two checksums.
_FRAME: Final = struct.Struct(">6I")
#: The lowest bit says that the checksums' words are big-endian.
_MAGIC: Final = 0x377F0682
_SECTOR: Final = 512
_PAGE_SIZES: Final = frozenset(1 << power for power in range(9, 17))

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
        lost = _Log(fd).loses(recovered)
    except OSError as error:
        raise from_os_error(error, f"reading {path}") from error
    finally:
        os.close(fd)
    if lost is not None:
        raise StoreCorrupt(
            f"the write-ahead log {path} is damaged {lost}: commits after it were durable, and SQLite would drop them; "
            "restore a backup, or move the log away to go on without them"
        )


class _Log:
    """A WAL file, read where it must be."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._header = os.pread(fd, _HEADER.size, 0)
        magic, _, page_size, _, *self._salts, _, _ = _HEADER.unpack(self._header.ljust(_HEADER.size, b"\0"))
        self._words = ">" if magic & 1 else "<"
        self._page_size = page_size
        self._is_log = magic & ~1 == _MAGIC and page_size in _PAGE_SIZES
        self._step = _FRAME.size + page_size

    def loses(self, recovered: int) -> str | None:
        """Where the damage is, if durable frames follow the first `recovered`."""
        size = os.fstat(self._fd).st_size
        if not self._is_log or self._sums((0, 0), self._header[:24]) != _stored(self._header):
            return "in its header" if size > _HEADER.size else None
        for index in range(recovered, (size - _HEADER.size) // self._step - 1):
            _, pages_after, *_ = _FRAME.unpack(self._frame_header(index))
            if pages_after and self._goes_on(index):
                return f"between frames {recovered + 1} and {index + 1}"
        return None

    def _goes_on(self, index: int) -> bool:
        """Whether the frame after `index`, which ends a transaction, is whole, and was written after that one."""
        following = self._frame(index + 1)
        if len(following) < self._step or list(_FRAME.unpack_from(following)[2:4]) != self._salts:
            return False
        header, wanted, covered = self._frame_header(index), _stored(following[: _FRAME.size]), _covered(following)
        if self._sums(_stored(header), covered) == wanted:
            # A sector of an older frame may show through a torn one: that it ends a transaction must be as new as its
            # checksums.
            return self._in_one_sector(index) or self._own_sums(index) == _stored(header)
        # Its checksums may be all that is damaged.
        return self._sums(self._own_sums(index), covered) == wanted

    def _own_sums(self, index: int) -> Sums:
        """What the checksums of a frame should be, if those of the one before are right."""
        before = self._frame_header(index - 1) if index else self._header
        return self._sums(_stored(before), _covered(self._frame(index)))

    def _in_one_sector(self, index: int) -> bool:
        at = self._at(index)
        return at // _SECTOR == (at + _FRAME.size - 1) // _SECTOR

    def _frame(self, index: int) -> bytes:
        return os.pread(self._fd, self._step, self._at(index))

    def _frame_header(self, index: int) -> bytes:
        return os.pread(self._fd, _FRAME.size, self._at(index))

    def _at(self, index: int) -> int:
        return int(_HEADER.size + index * self._step)

    def _sums(self, sums: Sums, content: bytes) -> Sums:
        """SQLite's WAL checksum, going on from `sums`."""
        first, second = sums
        for left, right in struct.iter_unpack(f"{self._words}2I", content):
            first = (first + left + second) & 0xFFFFFFFF
            second = (second + right + first) & 0xFFFFFFFF
        return first, second


def _covered(frame: bytes) -> bytes:
    """What of a frame its checksums are of."""
    return frame[:8] + frame[_FRAME.size :]


def _stored(header: bytes) -> Sums:
    """The two checksums that a header of either kind ends with."""
    first, second = struct.unpack(">2I", header[-8:])
    return first, second
