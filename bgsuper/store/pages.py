"""The pages of a database that may be damaged, as SQLite would see them if it could: each the newest that was durable.

Rules:
1. A page that cannot be read, or that is not the newest (see `frames`), is damaged: no older one takes its place.
2. The page size is the log's, whose header has a checksum. Without a log it is what the database's header says, if as
   many pages as it says make up the file, or else the one that ours have: a damaged header ends nothing.
3. A page is given out once: whoever reads it takes it, so that no two places of a tree share one.

The format: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Final, Self

from ..errors import StoreCorrupt
from .connection import PAGE_BYTES
from .database import HEADER_BYTES, MAGIC
from .frames import NO_FRAMES, newest_frames
from .wal import PAGE_SIZES

#: The header's page size (1: 64 KiB), and how many pages it says there are.
_SIZES: Final = struct.Struct(">16xH10xI")


class Pages:
    """The pages of the database at `path` and its WAL, of which SQLite took the first `recovered` frames."""

    def __init__(self, path: str, recovered: int) -> None:
        """Raises `OSError`."""
        self._database = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._wal = -1
        self._taken: set[int] = set()
        try:
            header = os.pread(self._database, HEADER_BYTES, 0).ljust(HEADER_BYTES, b"\0")
            size = os.fstat(self._database).st_size
            self._frames = NO_FRAMES
            try:
                self._wal = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                pass
            else:
                self._frames = newest_frames(self._wal, recovered, size)
            claimed, pages = _SIZES.unpack_from(header)
            claimed = 1 << 16 if claimed == 1 else claimed
            is_possible = claimed in PAGE_SIZES and claimed * pages == size
            self.page_size = self._frames.page_size or (claimed if is_possible else PAGE_BYTES)
            #: What is wrong with the header, in words, if its page size is not the one that is taken.
            self.damage: str | None = None
            if claimed != self.page_size:
                self.damage = f"the database's header says that a page has {claimed} bytes, it has {self.page_size}"
            self.count = self._frames.page_count or size // self.page_size
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for fd in (self._database, self._wal):
            if fd >= 0:
                os.close(fd)

    def read(self, number: int) -> bytes:
        """The content of a page. Raises `StoreCorrupt`."""
        if not 1 <= number <= self.count:
            raise StoreCorrupt(f"there is no page {number}")
        frames = self._frames
        try:
            if number in frames.offsets:
                content = os.pread(self._wal, self.page_size, frames.offsets[number])
            elif frames.says_nothing_of(number):
                content = os.pread(self._database, self.page_size, (number - 1) * self.page_size)
            else:
                raise StoreCorrupt(f"page {number} is damaged in the write-ahead log")
        except OSError as error:
            raise StoreCorrupt(f"page {number} cannot be read: {error.strerror or error}") from error
        if len(content) < self.page_size:
            raise StoreCorrupt(f"page {number} was cut off")
        return content

    def take(self, number: int) -> bytes:
        """`read`, but each page once. Raises `StoreCorrupt`."""
        content = self.read(number)
        self.reserve(number)
        return content

    def reserve(self, number: int) -> None:
        """Nobody else may take the page. Raises `StoreCorrupt` if somebody did."""
        if number in self._taken:
            raise StoreCorrupt(f"two places lead to page {number}")
        self._taken.add(number)

    def free(self, number: int) -> None:
        """Give a page back that was reserved."""
        self._taken.discard(number)

    def untaken(self) -> Iterator[int]:
        """The pages that nobody has taken or reserved."""
        return (number for number in range(1, self.count + 1) if number not in self._taken)

    def reserve_unused(self) -> Iterator[str]:
        """Take the pages that are not in use, so that what they held once is never taken for data; gives what is wrong
        with their list."""
        try:
            first = self.read(1)
            if not first.startswith(MAGIC):
                raise StoreCorrupt("the header is damaged")
        except StoreCorrupt as error:
            yield f"where the list of unused pages begins is lost: {error}"
            return
        trunk, count = struct.unpack_from(">2I", first, 32)
        found = 0
        try:
            while trunk:
                number, content = trunk, self.read(trunk)
                trunk, leaves = struct.unpack_from(">2I", content)
                listed = struct.unpack_from(f">{min(leaves, self.page_size // 4 - 2)}I", content, 8)
                if leaves > len(listed) or not all(1 <= leaf <= self.count for leaf in listed):
                    # Not even that page is in the list, then.
                    raise StoreCorrupt(f"page {number} is no part of it")
                for unused in (number, *listed):
                    self.reserve(unused)
                found += 1 + leaves
        except StoreCorrupt as error:
            yield f"the list of unused pages is damaged: {error}"
        else:
            if found != count:
                yield f"expected {count} unused pages, found {found}"
