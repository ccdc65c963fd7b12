"""Where a backup comes to be: `DEST.partial`, a store in the making that becomes `DEST` by one rename.

Rules:
1. `DEST` is new, or an empty directory; nothing that anybody put there is touched. Neither lies inside the store.
2. Whoever builds `DEST.partial` holds its writer lock, so that two never build one, and whoever takes it for a store is
   told. In it the database has another name until all else is durable, and the lock says until after the last rename
   that it is unfinished: what a killed worker left can be told from a store by either, and is begun anew; anything
   else at that place is refused.
3. Names are durable in this order: contents, the database's name, `DEST`; the lock's word comes last.
4. Large files are removed a bit at a time, as those of the store are (`snapshots`).

All of it may wait for a slow disk, so all of it runs on the backup's own thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ...errors import ConfigError, StoreError, StoreForeign, StoreUnwritable
from ..failures import from_os_error
from ..files import create_private, sync_directory
from ..layout import Layout
from ..lock import Holder, WriterLock
from ..pace import MAX_PAUSE_S
from ..snapshots import REMOVE_BYTES, is_name

SUFFIX: Final = ".partial"
#: The database's name while it is not complete.
_BUILDING: Final = ".partial"


class Destination:
    """`path`, an absolute directory that is to become a backup of the store in the directory `source`."""

    def __init__(self, path: str, source: str, fsync: Callable[[int], None]) -> None:
        self.path, self._source, self._fsync = path, source, fsync
        self._at = path + SUFFIX
        self._layout = Layout(self._at)
        self._database = self._layout.database + _BUILDING
        self._lock: WriterLock | None = None

    def claim(self, holder: Holder) -> int:
        """Make `DEST.partial`, for `holder`; a descriptor of the empty database in it.

        Raises `ConfigError` if no backup can be called so, `StoreLocked` if somebody else is at work on it,
        `StoreForeign` if something else has that name, and what the disk says.
        """
        self._check_place()
        try:
            os.mkdir(self._at, 0o700)
        except FileExistsError:
            self._refuse_foreign()
        except OSError as error:
            raise from_os_error(error, f"creating the directory {self._at}") from error
        try:
            self._lock = WriterLock.acquire(self._layout.lock, timeout_s=0.0)
        except StoreError:
            with suppress(OSError):
                os.rmdir(self._at)  # if it is empty, it is ours
            raise
        try:
            # Again, now that nobody else can be at work on it.
            self._refuse_foreign()
        except BaseException:
            self.release()
            raise
        self._lock.record(holder._replace(unfinished=True), self._fsync)
        self._clear()
        try:
            os.chmod(self._at, 0o700)
            fd = create_private(self._database)
            try:
                os.mkdir(self._layout.snapshots, 0o700)
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            raise from_os_error(error, f"creating {self._database}") from error
        return fd

    def create_snapshot(self, file: str) -> int:
        """A descriptor of the new, empty snapshot file of that name. Raises `OSError`."""
        return create_private(os.path.join(self._layout.snapshots, file))

    def publish(self, holder: Holder) -> None:
        """Everything is written and synced: give it its names. Raises what the disk says."""
        assert self._lock is not None
        sync_directory(self._layout.snapshots, self._fsync)
        try:
            os.rename(self._database, self._layout.database)
        except OSError as error:
            raise from_os_error(error, f"renaming {self._database}") from error
        sync_directory(self._at, self._fsync)
        self._check_place()
        try:
            os.rename(self._at, self.path)
        except OSError as error:
            raise from_os_error(error, f"renaming {self._at} to {self.path}") from error
        self._at = self.path
        sync_directory(os.path.dirname(self.path), self._fsync)
        self._lock.record(holder, self._fsync)

    def release(self) -> None:
        """Others may take it for what it is."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def remove(self) -> None:
        """Leave nothing of it, if it was ours; what cannot be removed stays, and is known for what it is."""
        if self._lock is None:
            return
        with suppress(OSError, StoreError):
            self._clear()
            os.unlink(os.path.join(self._at, os.path.basename(self._layout.lock)))
            os.rmdir(self._at)
        self.release()

    # -- what is there ------------------------------------------------------------------------------------------------

    def _check_place(self) -> None:
        path, parent = self.path, os.path.dirname(self.path)
        if not os.path.isdir(parent):
            raise StoreUnwritable(f"expected a directory {parent} for the backup to stand in; make or mount it first")
        inside = os.path.join(os.path.realpath(parent), os.path.basename(path))
        if inside.startswith(os.path.join(os.path.realpath(self._source), "")):
            raise ConfigError(f"expected a place outside of the store {self._source} for its backup, got {path}")
        if os.path.ismount(path):
            raise ConfigError(
                f"{path} is the root of a file system, which nothing can be renamed to: name a directory below it"
            )
        if not os.path.lexists(path):
            return
        if os.path.islink(path) or not os.path.isdir(path):
            raise ConfigError(f"expected nothing at {path}, or an empty directory, found something else: name another")
        names = _names(path)
        if names:
            raise ConfigError(
                f"expected nothing at {path}, or an empty directory, found {names[0]!r:.80} in it: name another"
            )

    def _refuse_foreign(self) -> None:
        """Raise `StoreForeign` unless all that `DEST.partial` holds is what a backup that was cut short leaves."""
        if os.path.islink(self._at) or not os.path.isdir(self._at):
            raise StoreForeign(f"expected nothing at {self._at}, found something; move it away")
        layout = self._layout
        names = set(_names(self._at))
        # The lock comes first, then the database, then all else.
        lock, building, database, snapshots = map(
            os.path.basename, (layout.lock, self._database, layout.database, layout.snapshots)
        )
        ours = {lock, building}
        if building in names:
            ours.add(snapshots)
        elif database in names and self._is_unfinished():
            ours |= {database, snapshots}
        foreign = sorted(names - ours)
        if not foreign and snapshots in names:
            foreign = [name for name in _names(layout.snapshots) if not is_name(name)]
        if foreign:
            raise StoreForeign(
                f"{self._at} is not what a backup that was cut short leaves ({foreign[0]!r:.80} is in it); move it away"
            )

    def _is_unfinished(self) -> bool:
        """Whether the lock says so. Raises `StoreLocked` if somebody holds it."""
        lock = self._lock or WriterLock.acquire_existing(self._layout.lock)
        try:
            holder = lock.holder() if lock is not None else None
        except OSError as error:
            raise from_os_error(error, f"reading {self._layout.lock}") from error
        finally:
            if lock is not None and lock is not self._lock:
                lock.release()
        return holder is not None and holder.unfinished

    def _clear(self) -> None:
        """Remove everything but the lock: the database last, by which the rest is known for ours. Raises `OSError`."""
        snapshots = os.path.join(self._at, os.path.basename(self._layout.snapshots))
        if os.path.isdir(snapshots):
            for name in _names(snapshots):
                _remove(os.path.join(snapshots, name))
            os.rmdir(snapshots)
        for path in (self._layout.database, self._database):
            _remove(os.path.join(self._at, os.path.basename(path)))


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError as error:
        raise from_os_error(error, f"listing {directory}") from error


def _remove(path: str) -> None:
    """Cut the file `path` down, and remove it. Raises `OSError`."""
    try:
        left = os.stat(path, follow_symlinks=False).st_size
    except FileNotFoundError:
        return
    while (left := left - REMOVE_BYTES) > 0:
        began = time.monotonic()
        os.truncate(path, left)
        time.sleep(min(time.monotonic() - began, MAX_PAUSE_S))
    os.unlink(path)
