"""Snapshot files: whole large values (graph, scorer), each an immutable file of its own.

Rules:
1. A file is complete and durable, content and name, before its name is handed out; a reader checks its length and
   digest all the same, and damage is an error that names the key.
2. Nothing refers to a file but a pointer row in the database; a file without one is an orphan of a dead worker.
3. Commits hardly notice: a file is written at a `Pace`, and one that is no longer needed is cut down in steps, by the
   snapshot lane or while the store idles (removing 30 MiB at once holds up ext4's journal for 17 ms).
4. A name comes from the key's hash, the seq, the epoch and a count, never from text that was handed in; no two files
   ever share one, not even two attempts at one snapshot.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from itertools import count
from typing import Final

from ..errors import StoreCorrupt, StoreError
from ..key import Key, Seq
from .api import SnapshotFile
from .failures import from_os_error
from .files import create_private, make_directory, sync_directory
from .pace import MAX_PAUSE_S, Pace

try:
    # hashlib imports OpenSSL: 3.7 MiB of a worker that shall idle in 30.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

DIGEST_BYTES: Final = 16
#: How much of an unneeded file goes in one step: about a millisecond.
REMOVE_BYTES: Final = 2 * 1024 * 1024

_NAME = re.compile(r"[0-9a-f]{32}(-[0-9]{1,20}){3}")
_TEMPORARY: Final = ".tmp"


def is_name(file: str) -> bool:
    """Whether `file` is a name that we give to snapshot files."""
    return _NAME.fullmatch(file) is not None


def is_name_of(file: str, key: Key, seq: Seq) -> bool:
    """Whether `file` is a name that we give to files of that snapshot."""
    return is_name(file) and file.startswith(_stem(key, seq))


def new_digest() -> blake2b:
    """A digest of nothing yet, to be fed."""
    return blake2b(digest_size=DIGEST_BYTES)


def _stem(key: Key, seq: Seq) -> str:
    return f"{blake2b(repr(tuple(key)).encode(), digest_size=DIGEST_BYTES).hexdigest()}-{seq}-"


class Snapshots:
    """The directory of snapshot files. `write` may run in another thread beside anything else."""

    def __init__(self, directory: str, fsync: Callable[[int], None]) -> None:
        self._directory = directory
        self._fsync = fsync
        # Appended to and taken from by both lanes; a deque's ends are safe for that.
        self._unneeded: deque[str] = deque()
        self._pinned: frozenset[str] = frozenset()
        self._kept: list[str] = []
        self._attempts = count()

    def prepare(self) -> None:
        """Create the directory if it is missing."""
        make_directory(self._directory, self._fsync)

    def write(self, key: Key, seq: Seq, epoch: int, content: bytes) -> SnapshotFile:
        """Write `content` to a new file, durable on return. Raises `StoreFull`, `StoreUnwritable`, `SyncFailed`."""
        while self.has_unneeded:
            began = time.monotonic()
            self.remove_some()
            time.sleep(min(time.monotonic() - began, MAX_PAUSE_S))
        name = f"{_stem(key, seq)}{epoch}-{next(self._attempts)}"
        path = self._path(name)
        try:
            digest = self._write(path + _TEMPORARY, content)
            os.rename(path + _TEMPORARY, path)
            sync_directory(self._directory, self._fsync)
        except (OSError, StoreError) as error:
            self.discard(name + _TEMPORARY)
            self.discard(name)
            if isinstance(error, StoreError):
                raise
            raise from_os_error(error, f"writing the snapshot of {key} to {path}") from error
        return SnapshotFile(key, seq, name, len(content), digest)

    def _write(self, path: str, content: bytes) -> bytes:
        """The digest of `content`, once it is durable at `path`."""
        digest = new_digest()
        pace = Pace()
        rest = memoryview(content)
        fd = create_private(path)
        try:
            while True:
                began = time.monotonic()
                part, rest = rest[: pace.slice_bytes], rest[pace.slice_bytes :]
                digest.update(part)
                while part:
                    part = part[os.write(fd, part) :]
                self._fsync(fd)
                pause = pace.synced(time.monotonic() - began)
                if not rest:
                    return digest.digest()
                time.sleep(pause)
        finally:
            os.close(fd)

    def read(self, snapshot: SnapshotFile) -> bytes:
        """The content of `snapshot`, verified. Raises `StoreCorrupt`, `StoreUnwritable`, `SyncFailed`."""
        path = self._path(snapshot.file)
        try:
            with open(path, "rb") as file:
                # Not as much as the pointer says: that may be damaged, too.
                length = os.fstat(file.fileno()).st_size
                content = file.read(length) if length == snapshot.length else b""
        except FileNotFoundError:
            raise StoreCorrupt(f"the snapshot of {snapshot.key} is missing: {path}; restore a backup") from None
        except OSError as error:
            raise from_os_error(error, f"reading the snapshot of {snapshot.key} from {path}") from error
        if length != snapshot.length or len(content) != length:
            raise StoreCorrupt(
                f"the snapshot of {snapshot.key} should have {snapshot.length} bytes, but {path} has {length}; "
                "restore a backup"
            )
        if blake2b(content, digest_size=DIGEST_BYTES).digest() != snapshot.digest:
            raise StoreCorrupt(f"the snapshot of {snapshot.key} does not match its digest: {path}; restore a backup")
        return content

    def discard(self, file: str) -> None:
        """Nothing refers to `file` any more: `remove_some` will remove it."""
        if file in self._pinned:
            self._kept.append(file)
        else:
            self._unneeded.append(self._path(file))

    def pin(self, files: Iterable[str]) -> None:
        """Keep `files`, discarded or not, until `unpin`: a backup reads them. For the thread that discards them."""
        self._pinned = frozenset(files)

    def unpin(self) -> None:
        """The backup has read them, or failed."""
        self._pinned = frozenset()
        kept, self._kept = self._kept, []
        for file in kept:
            self.discard(file)

    @property
    def has_unneeded(self) -> bool:
        """Whether `remove_some` would do anything."""
        return bool(self._unneeded)

    def remove_some(self) -> None:
        """Cut `REMOVE_BYTES` off an unneeded file, or remove it if that is all it has left."""
        try:
            path = self._unneeded.popleft()
        except IndexError:
            return
        # What cannot be removed costs space until the next open, never a commit.
        try:
            status = os.stat(path, follow_symlinks=False)
            left = status.st_size - REMOVE_BYTES
            # Under another name it is somebody's copy (`cp -al`).
            if left <= 0 or status.st_nlink > 1:
                os.unlink(path)
                return
            os.truncate(path, left)
        except OSError:
            return
        self._unneeded.appendleft(path)

    def discard_orphans(self, referred: Collection[str]) -> None:
        """Discard the files of ours that are not `referred` to: what a dead worker wrote and never adopted."""
        for name in self._names():
            if name not in referred:
                self.discard(name)

    def sizes(self) -> dict[str, int]:
        """Every file of ours, those that nothing refers to included, and its bytes. Raises as `read`."""
        sizes: dict[str, int] = {}
        if not os.path.lexists(self._directory):
            return sizes
        for name in self._names():
            try:
                sizes[name] = os.stat(self._path(name), follow_symlinks=False).st_size
            except FileNotFoundError:
                continue
            except OSError as error:
                raise from_os_error(error, f"looking at {self._path(name)}") from error
        return sizes

    def _names(self) -> list[str]:
        try:
            return [name for name in os.listdir(self._directory) if is_name(name.removesuffix(_TEMPORARY))]
        except OSError as error:
            raise from_os_error(error, f"listing {self._directory}") from error

    def _path(self, file: str) -> str:
        if not is_name(file.removesuffix(_TEMPORARY)):
            raise StoreError(f"expected the name of a snapshot file, got {file!r:.200}")
        return os.path.join(self._directory, file)
