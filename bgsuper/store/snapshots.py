"""Snapshot files: whole large values (graph, scorer), each an immutable file of its own.

Rules:
1. A file is complete and durable, content and name, before its name is handed out; a reader checks its length and
   digest all the same, and damage is an error that names the key.
2. Nothing refers to a file but a pointer row in the database; a file without one is an orphan of a dead worker.
3. It is written in slices, each synced: a sync of the commit lane waits for at most one slice of ours, whatever the
   snapshot's size (beside 30 MiB in one piece, the commits' p99 of 0.74 ms becomes 34 ms).
4. A name comes from the key's hash, the seq and the epoch, never from text that was handed in; two writers never
   share one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from typing import Final

from ..errors import StoreCorrupt, StoreError
from ..key import Key, Seq
from .api import SnapshotFile
from .failures import from_os_error
from .files import create_private, make_directory, sync_directory

try:
    # hashlib imports OpenSSL: 3.7 MiB of a worker that shall idle in 30.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

SLICE_BYTES: Final = 256 * 1024
DIGEST_BYTES: Final = 16

_NAME = re.compile(r"[0-9a-f]{32}-[0-9]{1,20}-[0-9]{1,20}")
_TEMPORARY: Final = ".tmp"


def digest(content: bytes) -> bytes:
    """BLAKE2b-128 of `content`."""
    return blake2b(content, digest_size=DIGEST_BYTES).digest()


def is_name(file: str) -> bool:
    """Whether `file` is a name that we give to snapshot files."""
    return _NAME.fullmatch(file) is not None


class Snapshots:
    """The directory of snapshot files. `write` may run beside anything else; it touches its own new file only."""

    def __init__(self, directory: str, fsync: Callable[[int], None]) -> None:
        self._directory = directory
        self._fsync = fsync

    def prepare(self) -> None:
        """Create the directory if it is missing."""
        make_directory(self._directory, self._fsync)

    def write(self, key: Key, seq: Seq, epoch: int, content: bytes) -> SnapshotFile:
        """Write `content` to a new file, durable on return. Raises `StoreFull`, `StoreUnwritable`, `SyncFailed`."""
        name = f"{digest(repr(tuple(key)).encode()).hex()}-{seq}-{epoch}"
        path = self._path(name)
        temporary = path + _TEMPORARY
        try:
            self._write(temporary, content)
            os.rename(temporary, path)
        except OSError as error:
            self._unlink(temporary)
            raise from_os_error(error, f"writing the snapshot of {key} to {path}") from error
        sync_directory(self._directory, self._fsync)
        return SnapshotFile(key, seq, name, len(content), digest(content))

    def _write(self, path: str, content: bytes) -> None:
        fd = create_private(path)
        try:
            view = memoryview(content)
            for start in range(0, len(view), SLICE_BYTES):
                part = view[start : start + SLICE_BYTES]
                while part:
                    part = part[os.write(fd, part) :]
                self._fsync(fd)
            if not content:
                self._fsync(fd)
        finally:
            os.close(fd)

    def read(self, snapshot: SnapshotFile) -> bytes:
        """The content of `snapshot`, verified. Raises `StoreCorrupt`, `StoreUnwritable`, `SyncFailed`."""
        path = self._path(snapshot.file)
        try:
            with open(path, "rb") as file:
                content = file.read(snapshot.length + 1)
        except FileNotFoundError:
            raise StoreCorrupt(f"the snapshot of {snapshot.key} is missing: {path}; restore a backup") from None
        except OSError as error:
            raise from_os_error(error, f"reading the snapshot of {snapshot.key} from {path}") from error
        if len(content) != snapshot.length:
            raise StoreCorrupt(
                f"the snapshot of {snapshot.key} should have {snapshot.length} bytes, but {path} has "
                f"{'more' if len(content) > snapshot.length else len(content)}; restore a backup"
            )
        if digest(content) != snapshot.digest:
            raise StoreCorrupt(f"the snapshot of {snapshot.key} does not match its digest: {path}; restore a backup")
        return content

    def remove(self, file: str) -> None:
        """Remove a file that nothing refers to any more. One that stays behind goes at the next open."""
        self._unlink(self._path(file))

    def remove_orphans(self, referred: Collection[str]) -> None:
        """Remove the files of ours that are not `referred` to: what a dead worker wrote and never adopted."""
        try:
            names = os.listdir(self._directory)
        except OSError as error:
            raise from_os_error(error, f"listing {self._directory}") from error
        for name in names:
            if name not in referred and is_name(name.removesuffix(_TEMPORARY)):
                self._unlink(self._path(name))

    def _path(self, file: str) -> str:
        if not is_name(file.removesuffix(_TEMPORARY)):
            raise StoreError(f"expected the name of a snapshot file, got {file!r:.200}")
        return os.path.join(self._directory, file)

    def _unlink(self, path: str) -> None:
        # Its owner's value is durable elsewhere: a file that cannot be removed costs space, never a commit.
        try:
            os.unlink(path)
        except OSError:
            pass
