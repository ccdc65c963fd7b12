"""The high-water mark: how far a store had come, kept where no backup of the store reaches.

An old copy of a store is whole, and does not know that it is old. A node that acts on it may publish a state that was
revoked since, and pay for that with its channels. So the highest number of a commit and that of a critical snapshot
that were ever acknowledged are kept in a small file outside of the store's directory: a store that ends before them is
*behind*.

Rules:
1. Only what was acknowledged is written, after it was: a mark is never ahead of what is durable, and a store that is
   not old is never called so. It may lag: a kill takes a second of it, a power cut what was not synced yet. Then a
   store that is behind by no more than that goes unnoticed.
2. It is written in place, into one of two slots, a page apart; never into the one whose record is known to be durable,
   so that no write that is torn leaves none. What must not be lost goes to both, one after the other, each synced: that
   the store was found behind, and that it was proved current.
3. That it was found behind stays until somebody proves otherwise: commits made meanwhile do not hide it. They get
   numbers `beyond` a floor above the mark, so that no number of the lost future comes again. The floor outlives the
   proof, and what ends between the two is the lost store, put back after all: behind in its turn.
4. All numbers come from one row, but a store keeps only its newest commit and its newest snapshot of either care. So a
   critical snapshot counts as missing if the store has nothing as new, not even a mere snapshot; one that was still on
   its way when something newer became durable is missed only together with that. Mere snapshots raise no mark: a store
   that lost its newest scorer is nobody's danger.
5. A mark belongs to one store, and to its copies. What cannot be read, or is another store's, is an error and never
   "no mark": the protection must not end unnoticed.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from contextlib import suppress
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
from .api import Opened
from .failures import from_os_error
from .files import full_sync, sync_directory
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
#: Magic, version, flags, store id, serial, highest, epoch, the two numbers of `Found`, snapshot, floor; then a CRC-32
#: of all of it.
_LAYOUT: Final = struct.Struct(f">4sBB{STORE_ID_BYTES}s7Q")
_CHECKSUM: Final = struct.Struct(">I")
_RECORD_BYTES: Final = _LAYOUT.size + _CHECKSUM.size
#: Far more than there will be.
_NUMBERS: Final = range(1 << 62)


class Found(NamedTuple):
    """How a store was found behind. The numbers are those of commits and snapshots alike."""

    store: Seq  #: its newest one
    mark: Seq  #: the highest one that had been acknowledged, or given up with a lost future


class Mark(NamedTuple):
    """How far a store had come."""

    store_id: bytes
    highest: Seq  #: the newest commit that was acknowledged
    epoch: int  #: of the writer that acknowledged it
    behind: Found | None = None  #: until it is proved current
    snapshot: Seq = Seq(0)  #: the newest critical snapshot that was acknowledged
    floor: Seq = Seq(0)  #: the highest number that a lost future may have used

    @property
    def newest(self) -> Seq:
        """The highest number of all that was acknowledged."""
        return max(self.highest, self.snapshot)

    def missing(self, last_commit: Seq, last_seq: Seq) -> Found | None:
        """What shows that a store with these newest numbers, of a commit and of anything, is not this mark's store as
        it was acknowledged; None if nothing does."""
        if last_commit < self.highest or last_seq < self.snapshot:
            return Found(last_seq, self.newest)
        # In recovery mode the newer store may be put back: it is not the lost one yet.
        if self.behind is None and self.newest < last_seq <= self.floor:
            return Found(last_seq, self.floor)
        return None


class _Record(NamedTuple):
    """A mark as it is written; `serial` tells the newer of two, `slot` is where it stands."""

    serial: int
    mark: Mark
    slot: int

    def pack(self) -> bytes:
        store_id, highest, epoch, behind, *others = self.mark
        flags = 0 if behind is None else _BEHIND
        numbers = (self.serial, highest, epoch, *(behind or (0, 0)), *others)
        packed = _LAYOUT.pack(_MAGIC, _VERSION, flags, store_id, *numbers)
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
    serial, highest, epoch, store, lacking, snapshot, floor = numbers
    found = Found(Seq(store), Seq(lacking)) if flags else None
    return _Record(serial, Mark(store_id, Seq(highest), epoch, found, Seq(snapshot), Seq(floor)), slot)


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
    def open(cls, path: str, store: Opened, fsync: Callable[[int], None] = full_sync) -> Self:
        """The mark in the file `path`, held against a `store` that has just been opened.

        Durable on return: a new file, and that the store is behind. Raises `ConfigError` for another store's mark,
        `StoreCorrupt`, `StoreTooNew`, `StoreUnwritable`, `StoreFull`, `StoreUnavailable`.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return cls._create(path, _as_it_is(store), fsync)
        except OSError as error:
            raise _failed(error, f"opening the high-water mark {path}") from error
        try:
            records = _records(_content(fd, path), path)
            found = cls(path, fd, records[-1], fsync)
            found.damaged = len(records) < 2
            # Whoever wrote it may have been killed before its sync.
            found.sync()
            found._hold_against(store)
        except BaseException:
            os.close(fd)
            raise
        return found

    @classmethod
    def _create(cls, path: str, mark: Mark, fsync: Callable[[int], None]) -> Self:
        records = [_Record(slot, mark, slot) for slot in (0, 1)]
        # Nobody else's: what lies beside a mark is not ours to remove, whatever its name.
        building = f"{path}.{os.urandom(8).hex()}.new"
        try:
            fd = os.open(building, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.fchmod(fd, 0o600)
                os.ftruncate(fd, 2 * SLOT_BYTES)
                for record in records:
                    os.pwrite(fd, record.pack(), record.slot * SLOT_BYTES)
                fsync(fd)
                os.rename(building, path)
                sync_directory(os.path.dirname(path), fsync)
            except BaseException:
                os.close(fd)
                with suppress(FileNotFoundError):  # it has its name already
                    os.unlink(building)
                raise
        except OSError as error:
            raise _failed(error, f"making the high-water mark {path}") from error
        except StoreError as error:
            raise StoreUnavailable(f"making the high-water mark {path}: {error}") from error
        created = cls(path, fd, records[-1], fsync)
        created.created = True
        return created

    def _hold_against(self, store: Opened) -> None:
        mark = self.mark
        if mark.store_id != store.store_id:
            raise ConfigError(
                f"expected the high-water mark of the store {store.store_id.hex()}, but {self._path} belongs to the "
                f"store {mark.store_id.hex()}: is that store's disk mounted, and its directory named? If a store of "
                "its own is meant, name another file for its mark, which is then made"
            )
        found = mark.missing(store.last_commit, store.last_seq)
        if found is None:
            return
        if mark.behind is not None:
            found = found._replace(store=min(found.store, mark.behind.store))
        if found != mark.behind:
            self._settle(mark._replace(behind=found, floor=Seq(max(mark.newest, mark.floor) + BEYOND)))

    @property
    def mark(self) -> Mark:
        """What was written last."""
        return self._newest.mark

    @property
    def unsynced(self) -> bool:
        """Whether something was written that is not known to be durable."""
        return self._newest.slot != self._durable_slot

    def beyond(self, last_seq: Seq) -> Seq:
        """The number after which a store whose newest one is `last_seq` may give out new ones."""
        return max(last_seq, self.mark.floor)

    def raise_to(self, commit: Seq, snapshot: Seq, epoch: int) -> None:
        """These, the `snapshot` a critical one, were acknowledged, under `epoch`. Not synced, and nothing if neither is
        news."""
        mark = self.mark
        if commit > mark.highest or snapshot > mark.snapshot:
            commit, snapshot = max(commit, mark.highest), max(snapshot, mark.snapshot)
            self._write(mark._replace(highest=commit, epoch=epoch, snapshot=snapshot))

    def prove_current(self, store: Opened) -> None:
        """The `store`, with its numbers as they are now, was proved current: from now on it is held against that."""
        self._settle(_as_it_is(store)._replace(floor=self.mark.floor))

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


def _as_it_is(store: Opened) -> Mark:
    """What is taken of a `store` that has to answer for nothing earlier."""
    snapshot = store.last_seq if store.last_seq > store.last_commit else Seq(0)
    return Mark(store.store_id, store.last_commit, store.epoch, snapshot=snapshot)


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
