"""The high-water mark: how far a store had come, kept where no backup of the store reaches.

An old copy of a store is whole, and does not know that it is old. A node that acts on it may publish a state that was
revoked since, and pay for that with its channels. So the highest commit number that was ever acknowledged is kept in a
small file outside of the store's directory: a store that ends before it is *behind*.

Rules:
1. Only what was acknowledged is written, after it was: a mark is never ahead of what is durable, and a store that is
   not old is never called so. It may lag: a kill takes a second of it, a power cut what was not synced yet. Then a
   store that is behind by no more than that goes unnoticed.
2. It is written in place, into one of two slots, a page apart; never into the one whose record is known to be durable,
   so that no write that is torn leaves none. What must not be lost goes to both, one after the other, each synced: that
   the store was found behind, and that it was proved current.
3. That it was found behind stays until somebody proves otherwise: commits made meanwhile do not hide it. They get
   numbers `beyond` the mark, so that no number of the lost future comes again, and the lost store, should it be put
   back after all, is behind in its turn.
4. A mark belongs to one store, and to its copies. What cannot be read, or is another store's, is an error and never
   "no mark": the protection must not end unnoticed.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Final, NamedTuple, Self
from zlib import crc32

from ..errors import (
    ConfigError,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreTooNew,
    StoreUnavailable,
    StoreUnwritable,
    SyncFailed,
)
from ..key import Seq
from .failures import from_os_error
from .files import create_private, full_sync, sync_directory
from .identity import STORE_ID_BYTES
from .url import StoreURL

#: The URL option that names the file.
OPTION: Final = "high-water"
#: Where the second slot begins: no disk writes more than a page for a record in the first.
SLOT_BYTES: Final = 4096
#: How far beyond the mark a store that is behind goes on: more commits than a mark can have missed in a power cut.
BEYOND: Final = 1 << 20

_MAGIC: Final = b"bgHW"
_VERSION: Final = 1
_BEHIND: Final = 1
#: Magic, version, flags, store id, serial, highest, epoch, and the two numbers of `Found`; then a CRC-32 of all of it.
_LAYOUT: Final = struct.Struct(f">4sBB{STORE_ID_BYTES}sQQQQQ")
_CHECKSUM: Final = struct.Struct(">I")
_RECORD_BYTES: Final = _LAYOUT.size + _CHECKSUM.size
#: Far more than there will be.
_NUMBERS: Final = range(1 << 62)


class Found(NamedTuple):
    """How a store was found behind."""

    store: Seq  #: its newest commit
    mark: Seq  #: the highest one that had been acknowledged


class Mark(NamedTuple):
    """How far a store had come."""

    store_id: bytes
    highest: Seq  #: the newest commit that was acknowledged
    epoch: int  #: of the writer that acknowledged it
    behind: Found | None = None  #: until it is proved current


class _Record(NamedTuple):
    """A mark as it is written; `serial` tells the newer of two, `slot` is where it stands."""

    serial: int
    mark: Mark
    slot: int

    def pack(self) -> bytes:
        store_id, highest, epoch, behind = self.mark
        flags = 0 if behind is None else _BEHIND
        packed = _LAYOUT.pack(_MAGIC, _VERSION, flags, store_id, self.serial, highest, epoch, *(behind or (0, 0)))
        return packed + _CHECKSUM.pack(crc32(packed))


def _unpack(content: bytes, slot: int, where: str) -> _Record | None:
    """The record in the `slot` of a file's `content`, if it is whole. Raises `StoreTooNew`."""
    record = content[slot * SLOT_BYTES :][:_RECORD_BYTES]
    packed, checksum = record[: _LAYOUT.size], record[_LAYOUT.size :]
    if len(packed) < _LAYOUT.size or _CHECKSUM.pack(crc32(packed)) != checksum:
        return None
    magic, version, flags, store_id, *numbers = _LAYOUT.unpack(packed)
    if magic != _MAGIC:
        return None
    if version > _VERSION:
        raise StoreTooNew(f"a later bgsuper wrote the high-water mark {where}; upgrade bgsuper")
    if flags not in (0, _BEHIND) or any(number not in _NUMBERS for number in numbers):
        return None
    serial, highest, epoch, *found = numbers
    return _Record(serial, Mark(store_id, Seq(highest), epoch, Found(*map(Seq, found)) if flags else None), slot)


def _records(content: bytes, where: str) -> list[_Record]:
    """Those of a file's two that are whole, the newest last; one at least. Raises `StoreCorrupt`, `StoreTooNew`."""
    records = (_unpack(content, slot, where) for slot in (0, 1))
    whole = [record for record in records if record is not None]
    if not whole:
        raise StoreCorrupt(
            f"the high-water mark {where} is damaged, so nobody can say whether the store is an old backup (the store "
            "itself may be whole). If you know that it is not one, remove the mark: it is made anew, from the store as "
            "it is"
        )
    return sorted(whole, key=lambda record: record.serial)


def mark_path(url: StoreURL) -> str | None:
    """Where the high-water mark of `url`'s store lies, free of symbolic links; None if the URL names none.

    Raises `ConfigError` for a file inside of the store's directory: whoever puts that back puts back the mark, too.
    """
    given = url.options.get(OPTION)
    if given is None:
        return None
    path, directory = os.path.realpath(given), os.path.realpath(url.path)
    if os.path.commonpath([path, directory]) == directory:
        raise ConfigError(
            f"expected the high-water mark outside of the store's directory {directory}, got {given!r:.200}: a backup "
            "of the one must not bring back the other"
        )
    return path


def read_mark(path: str) -> Mark | None:
    """The mark in the file `path`, which may be in use; None if there is no such file. Raises `StoreCorrupt`,
    `StoreTooNew`, `StoreUnwritable`, `StoreUnavailable`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failed(error, f"opening the high-water mark {path}") from error
    try:
        return _records(_content(fd, path), path)[-1].mark
    finally:
        os.close(fd)


class HighWater:
    """An open mark. `mark` is what its file says. One thread at a time; raises `StoreError`s, after which it may be
    called again."""

    def __init__(self, path: str, fd: int, newest: _Record, fsync: Callable[[int], None]) -> None:
        self._path, self._fd, self._newest, self._fsync = path, fd, newest, fsync
        self._durable_slot = newest.slot
        self.created = False  #: there was no file before
        self.damaged = False  #: one of its two records was: what the other says may be a little old

    @classmethod
    def open(
        cls, path: str, store_id: bytes, last_commit: Seq, epoch: int, fsync: Callable[[int], None] = full_sync
    ) -> Self:
        """The mark in the file `path`, held against a store that has just been opened and ends at `last_commit`.

        Durable on return: a new file, and that the store is behind. Raises `ConfigError` for another store's mark,
        `StoreCorrupt`, `StoreTooNew`, `StoreUnwritable`, `StoreFull`, `StoreUnavailable`.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return cls._create(path, Mark(store_id, last_commit, epoch), fsync)
        except OSError as error:
            raise _failed(error, f"opening the high-water mark {path}") from error
        try:
            records = _records(_content(fd, path), path)
            found = cls(path, fd, records[-1], fsync)
            found.damaged = len(records) < 2
            # Whoever wrote it may have been killed before its sync.
            found.sync()
            found._hold_against(store_id, last_commit)
        except BaseException:
            os.close(fd)
            raise
        return found

    @classmethod
    def _create(cls, path: str, mark: Mark, fsync: Callable[[int], None]) -> Self:
        records = [_Record(slot, mark, slot) for slot in (0, 1)]
        building = f"{path}.new"
        try:
            fd = create_private(building)
            try:
                os.ftruncate(fd, 2 * SLOT_BYTES)
                for record in records:
                    os.pwrite(fd, record.pack(), record.slot * SLOT_BYTES)
                fsync(fd)
                os.rename(building, path)
                sync_directory(os.path.dirname(path), fsync)
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            raise _failed(error, f"making the high-water mark {path}") from error
        except StoreError as error:
            raise StoreUnavailable(f"making the high-water mark {path}: {error}") from error
        created = cls(path, fd, records[-1], fsync)
        created.created = True
        return created

    def _hold_against(self, store_id: bytes, last_commit: Seq) -> None:
        mark = self.mark
        if mark.store_id != store_id:
            raise ConfigError(
                f"expected the high-water mark of the store {store_id.hex()}, but {self._path} belongs to the store "
                f"{mark.store_id.hex()}: is that store's disk mounted, and its directory named? If a store of its own "
                "is meant, name another file for its mark, which is then made"
            )
        if last_commit < mark.highest:
            found = Found(last_commit if mark.behind is None else min(last_commit, mark.behind.store), mark.highest)
            if found != mark.behind:
                self._settle(mark._replace(behind=found))

    @property
    def mark(self) -> Mark:
        """What was written last."""
        return self._newest.mark

    def beyond(self, last_commit: Seq) -> Seq:
        """The number after which a store that ends at `last_commit` may give out new ones."""
        highest = self.mark.highest
        return last_commit if last_commit >= highest else Seq(highest + BEYOND)

    def raise_to(self, acknowledged: Seq, epoch: int) -> None:
        """Commit `acknowledged` was acknowledged, under `epoch`. Not synced, and nothing if it is no news."""
        if acknowledged > self.mark.highest:
            self._write(self.mark._replace(highest=acknowledged, epoch=epoch))

    def prove_current(self, last_commit: Seq, epoch: int) -> None:
        """The store, which ends at `last_commit`, was proved current: from now on it is held against that."""
        self._settle(self.mark._replace(highest=last_commit, epoch=epoch, behind=None))

    def sync(self) -> None:
        """Make what was written durable."""
        try:
            self._fsync(self._fd)
        except OSError as error:
            raise _failed(error, f"syncing the high-water mark {self._path}") from error
        self._durable_slot = self._newest.slot

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    def _settle(self, mark: Mark) -> None:
        """Write `mark` to both slots, one durable before the other is touched."""
        for _ in range(2):
            self._write(mark)
            self.sync()

    def _write(self, mark: Mark) -> None:
        record = _Record(self._newest.serial + 1, mark, 1 - self._durable_slot)
        try:
            # A file that lost its name can be written to for ever, and nobody will read it.
            if not os.path.samestat(os.fstat(self._fd), os.stat(self._path)):
                raise StoreUnavailable(f"the high-water mark {self._path} was replaced while it was in use: restart")
            if os.pwrite(self._fd, record.pack(), record.slot * SLOT_BYTES) < _RECORD_BYTES:
                raise StoreFull(f"writing the high-water mark {self._path}: only a part of it found space; free some")
        except OSError as error:
            raise _failed(error, f"writing the high-water mark {self._path}") from error
        self._newest = record


def _content(fd: int, path: str) -> bytes:
    try:
        return os.pread(fd, 2 * SLOT_BYTES, 0)
    except OSError as error:
        raise _failed(error, f"reading the high-water mark {path}") from error


def _failed(error: OSError, doing: str) -> StoreError:
    """What went wrong, but never `SyncFailed`: the store's own disk has done nothing."""
    match from_os_error(error, doing):
        case SyncFailed() as failed:
            return StoreUnavailable(str(failed))
        case StoreUnwritable():
            return StoreUnwritable(
                f"{doing} failed: {error.strerror}; expected a file that this user can read and write, in a directory "
                "that is there (is its disk mounted?)"
            )
        case failed:
            return failed
