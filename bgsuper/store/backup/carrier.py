"""The backup's own thread: everything that touches DEST, and so may have to wait for it.

It writes what it is handed, at a `Pace`, copies the snapshots that the copied database refers to, and gives the backup
its name, or removes it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Event, Thread
from typing import NamedTuple

from ...errors import StoreCorrupt, StoreError
from ...key import Seq
from ..api import SnapshotFile
from ..failures import from_os_error
from ..identity import Identity
from ..lock import Holder
from ..pace import SLICE_BYTES, Pace
from ..snapshots import new_digest
from .destination import Destination

#: Pages of the database, by their offset. A later hand-over may have one of them anew.
Pages = dict[int, bytes]


class Copied(NamedTuple):
    """What a backup that is complete holds."""

    last_commit: Seq
    size: int  #: bytes of the database and of the snapshots


class Rest(NamedTuple):
    """What follows the last page."""

    identity: Identity
    snapshots: tuple[SnapshotFile, ...]
    database_bytes: int
    directory: str  #: where the snapshots' files are


class Carrier:
    """Serves `inbox` until it has ended, with either `copied` or `failure` set."""

    def __init__(self, destination: Destination, holder: Holder, fsync: Callable[[int], None]) -> None:
        self._destination, self._holder, self._fsync = destination, holder, fsync
        self._given_up = Event()
        self.inbox: SimpleQueue[Pages | Rest | None] = SimpleQueue()
        self.written = 0  #: bytes
        self.copied: Copied | None = None
        self.failure: Exception | None = None
        # A disk that never answers must not keep the process from its end.
        self.thread = Thread(target=self._run, name="backup", daemon=True)

    def give_up(self) -> None:
        """Stop as soon as the disk lets it, and remove what there is."""
        self._given_up.set()
        self.inbox.put(None)

    def _run(self) -> None:
        try:
            self.copied = self._carry()
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever asked for the backup is told
            self.failure = error
            self._destination.remove()
        self._destination.release()

    def _carry(self) -> Copied:
        fd = self._destination.claim(self._holder)
        try:
            rest = self._write_database(fd)
        except OSError as error:
            raise from_os_error(error, f"writing the backup {self._destination.path}") from error
        finally:
            os.close(fd)
        for snapshot in rest.snapshots:
            self._copy_snapshot(snapshot, rest.directory)
        self._check_wanted()
        self._destination.publish(self._holder._replace(epoch=rest.identity.epoch))
        size = rest.database_bytes + sum(snapshot.length for snapshot in rest.snapshots)
        return Copied(rest.identity.last_commit, size)

    def _write_database(self, fd: int) -> Rest:
        pace = Pace()
        unsynced, began = 0, time.monotonic()
        while not isinstance(item := self.inbox.get(), Rest):
            self._check_wanted()
            for offset, content in _joined(item or {}):
                if unsynced == 0:
                    began = time.monotonic()
                _write(fd, content, offset)
                unsynced += len(content)
                self.written += len(content)
                if unsynced >= pace.slice_bytes:
                    unsynced = 0
                    self._sync(fd, pace, began)
        os.ftruncate(fd, item.database_bytes)
        self._fsync(fd)
        return item

    def _copy_snapshot(self, snapshot: SnapshotFile, directory: str) -> None:
        source = os.path.join(directory, snapshot.file)
        try:
            source_fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise StoreCorrupt(f"the snapshot of {snapshot.key} is missing: {source}; restore a backup") from None
        except OSError as error:
            raise from_os_error(error, f"opening {source}") from error
        try:
            fd = self._destination.create_snapshot(snapshot.file)
            try:
                length, digest = self._copy_file(source_fd, fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise from_os_error(error, f"copying {source} to {self._destination.path}") from error
        finally:
            os.close(source_fd)
        if (length, digest) != (snapshot.length, snapshot.digest):
            raise StoreCorrupt(f"the snapshot of {snapshot.key} does not match its digest: {source}; restore a backup")

    def _copy_file(self, source_fd: int, fd: int) -> tuple[int, bytes]:
        """Length and digest of what was copied, once it is durable."""
        digest = new_digest()
        pace, length = Pace(), 0
        while True:
            self._check_wanted()
            began = time.monotonic()
            content = os.read(source_fd, pace.slice_bytes)
            digest.update(content)
            _write(fd, content, length)
            self._sync(fd, pace, began)
            if not content:
                return length, digest.digest()
            length += len(content)
            self.written += len(content)

    def _sync(self, fd: int, pace: Pace, began: float) -> None:
        """A slice that was begun then is written: make it durable, and pause."""
        self._fsync(fd)
        time.sleep(pace.synced(time.monotonic() - began))

    def _check_wanted(self) -> None:
        if self._given_up.is_set():
            raise StoreError("the backup was given up, and what there was of it removed")


def _joined(pages: Pages) -> Iterator[tuple[int, bytes]]:
    """Pages that follow each other, as one piece: each write costs a turn at the interpreter, beside the writer's."""
    start, piece, size = 0, [b""], 0
    for offset, content in sorted(pages.items()):
        if offset != start + size or size >= SLICE_BYTES:
            yield start, b"".join(piece)
            start, piece, size = offset, [], 0
        piece.append(content)
        size += len(content)
    yield start, b"".join(piece)


def _write(fd: int, content: bytes, offset: int) -> None:
    rest = memoryview(content)
    while rest:
        written = os.pwrite(fd, rest, offset)
        rest, offset = rest[written:], offset + written
