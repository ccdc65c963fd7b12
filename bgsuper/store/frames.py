"""What a write-ahead log holds in spite of damage: for each page the newest of its contents that was durable.

SQLite drops all that follows the first damaged frame. To go on with what is left would be to go on with an old state
that looks whole, the one mistake that a node may not make. But frames are chained: one that goes on from the stored
checksums of a damaged one is as good as it ever was. So the log is read on behind the damage, and what the damage hit
is known to be damaged, not taken from an older frame or from the database.

Rules:
1. What SQLite recovered is taken as it is. After it, a frame counts only if a later one proves that its transaction
   was durable (see `wal`), or if its transaction is whole.
2. A frame is whole if it goes on from the frame before it, by that one's stored checksums or by those that it should
   have had; or if it would, but for its own stored checksums, by which no later frame was written.
3. The newest content of a page is, or may be, in a damaged frame: the page is damaged.
4. Which page a damaged frame holds cannot be told at all: every page that is not written after it is damaged.
5. Frames under a header of which nothing can be made may be of any page: every page is damaged.
6. How long a frame is, the log alone says: its header has a checksum, the database's has none.
"""

from __future__ import annotations

import os
import struct
from typing import Final, NamedTuple

from .wal import FRAME, HEADER, PAGE_SIZES, Log, Sums, covered, stored

_WORD: Final = 0xFFFFFFFF


class Frames(NamedTuple):
    """Which page's newest content is where."""

    offsets: dict[int, int]  #: by page number, where in the log its content begins
    damaged: set[int]  #: pages whose newest content was in the log, and is damaged
    rest_in_doubt: bool  #: all other pages may have been written to the log as well
    page_count: int  #: of the database as of the log's last transaction; 0: the log has none
    page_size: int  #: of the database, by checksum, in bytes; 0: the log cannot tell

    def says_nothing_of(self, page: int) -> bool:
        """Whether the database's own content of `page` is the newest."""
        return not self.rest_in_doubt and page not in self.damaged and page not in self.offsets


NO_FRAMES: Final = Frames({}, set(), False, 0, 0)


def newest_frames(fd: int, recovered: int, database_bytes: int) -> Frames:
    """Of the log `fd`, of which SQLite took the first `recovered` frames, over a database file of that length. Raises
    `OSError`."""
    log, size = Log(fd), os.fstat(fd).st_size
    if not (log.is_log or _guess_header(log)):
        return NO_FRAMES._replace(rest_in_doubt=size > HEADER.size)
    count = (size - HEADER.size) // log.step
    reader = _Reader(log, count, database_bytes // log.page_size + count)
    return reader.newest(recovered, reader.durable(recovered))


def _guess_header(log: Log) -> bool:
    """Make the best of a log whose header is damaged; False if its first frame was not written after that header."""
    for log.page_size in sorted(PAGE_SIZES):
        first = log.frame(0)
        if len(first) < log.step:
            return False
        number, _, *log.salts, _, _ = FRAME.unpack_from(first)
        if not number:
            # Zeros go on from zeros.
            continue
        for log.words in (">", "<"):
            if any(log.sums(sums, covered(first)) == stored(first[: FRAME.size]) for sums in _header_sums(log)):
                return True
    return False


def _header_sums(log: Log) -> tuple[Sums, Sums]:
    return stored(log.header), log.sums((0, 0), log.header[:24])


class _Reader:
    def __init__(self, log: Log, count: int, page_limit: int) -> None:
        self._log = log
        self._count = count
        self._page_limit = page_limit

    def durable(self, recovered: int) -> int:
        """How many frames count (rule 1)."""
        end = recovered
        for index in range(recovered, self._count - 1):
            _, pages_after, *_ = FRAME.unpack(self._log.frame_header(index))
            if pages_after and self._log.goes_on(index):
                end = index + 1
        whole = end
        while whole < self._count and self._salts_fit(whole) and self._is_whole(whole):
            whole += 1
            if FRAME.unpack(self._log.frame_header(whole - 1))[1]:
                end = whole
        return end

    def newest(self, recovered: int, end: int) -> Frames:
        offsets: dict[int, int] = {}
        damaged: set[int] = set()
        in_doubt, page_count = False, 0
        for index in range(end):
            number, pages_after, *_ = FRAME.unpack(self._log.frame_header(index))
            possible = {number}
            if whole := index < recovered or self._is_whole(index):
                page_count = pages_after or page_count
            elif self._salts_fit(index) and self._can_be(number, pages_after):
                possible |= self._rightful_numbers(index)
            else:
                # Its header is damaged for certain, so its page need not be.
                possible = self._rightful_numbers(index)
                whole = len(possible) == 1
            if not possible:
                offsets, damaged, in_doubt = {}, set(), True
            for page in possible:
                damaged.discard(page)
                offsets.pop(page, None)
            if whole:
                offsets.update(dict.fromkeys(possible, self._log.at(index) + FRAME.size))
            else:
                damaged |= possible
        return Frames(offsets, damaged, in_doubt, page_count, self._log.page_size)

    def _can_be(self, number: int, pages_after: int) -> bool:
        return 1 <= number <= self._page_limit and pages_after <= self._page_limit

    def _salts_fit(self, index: int) -> bool:
        return list(FRAME.unpack(self._log.frame_header(index))[2:4]) == self._log.salts

    def _is_whole(self, index: int) -> bool:
        """Rule 2."""
        log, frame = self._log, self._log.frame(index)
        following = log.frame(index + 1) if index + 1 < self._count else b""
        for before in self._sums_before(index):
            sums = log.sums(before, covered(frame))
            if sums == stored(frame[: FRAME.size]):
                return True
            if following and log.sums(sums, covered(following)) == stored(following[: FRAME.size]):
                return True
        return False

    def _sums_before(self, index: int) -> tuple[Sums, Sums]:
        if index == 0:
            return _header_sums(self._log)
        return stored(self._log.frame_header(index - 1)), self._log.own_sums(index - 1)

    def _rightful_numbers(self, index: int) -> set[int]:
        """Which pages the frame may be of if nothing but its header is damaged, by its checksums.

        They can be run backwards, from their end through the page to the two words before it. Where the page is what
        is damaged a number may come out as well: they are too weak to tell.
        """
        frame = self._log.frame(index)
        first, second = stored(frame[: FRAME.size])
        words = list(struct.iter_unpack(f"{self._log.words}2I", frame[FRAME.size :]))
        for left, right in reversed(words):
            second = (second - right - first) & _WORD
            first = (first - left - second) & _WORD
        numbers: set[int] = set()
        for before_first, before_second in self._sums_before(index):
            number = (first - before_first - before_second) & _WORD
            pages_after = (second - before_second - first) & _WORD
            if self._log.words == "<":
                number, pages_after = struct.unpack("<2I", struct.pack(">2I", number, pages_after))
            if self._can_be(number, pages_after):
                numbers.add(number)
        return numbers
