"""A backup of a SQLite store beside its commits: SQLite's own online backup, a few pages at a time.

    writer's thread    step(): pages of the database -> Spool     (and every commit, to pages that are copied already)
    backup's thread    Spool -> DEST.partial, synced; then the snapshots that the copied pointers name; then DEST

Rules:
1. The database is copied by the connection that commits, between commits: SQLite carries each of these into the copy,
   and the last step makes the copy one moment, after a commit and before the next. (A second connection would keep the
   write-ahead log from ever starting anew.)
2. The writer's thread does nothing that could wait for DEST's disk. While that does not keep up, nothing is copied.
3. DEST is written as snapshots are, in slices that are synced, with pauses (`pace`): where it is on the store's own
   file system, one sync of all of it would hold up every commit.
4. Snapshot files are kept until they are copied, though nothing refers to them any more (`Snapshots.pin`).
5. It fails by itself: the store and its commits go on, and `DEST.partial` is removed. An error of the source, though,
   is one of the store's connection, as if it had been read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from typing import Final, NamedTuple, Protocol, runtime_checkable

from ...errors import ConfigError, StoreError, StoreUnavailable
from ..api import SnapshotFile, Store
from ..connection import Connection
from ..identity import Identity
from ..layout import Layout
from ..lock import Holder
from ..snapshots import Snapshots
from .carrier import Carrier, Copied, Rest
from .destination import Destination
from .spool import Spool, open_target

#: What one step copies: 512 KiB, 0.75 ms. (64 pages: 0.38 ms; 256 pages: 1.4 ms, at most 2.)
STEP_PAGES: Final = 128
#: Nothing more is copied while so many bytes are not yet in DEST.
AHEAD_BYTES: Final = 4 * 1024 * 1024
#: What commits change in the meantime must go somewhere: a disk that lets so much pile up is too slow for a backup.
MOST_BYTES: Final = 64 * 1024 * 1024


class Moment(NamedTuple):
    """What a store is between two commits, beside its database."""

    identity: Identity
    snapshots: tuple[SnapshotFile, ...]


@runtime_checkable
class CanBackUp(Protocol):
    """A store that can be backed up while it is in use."""

    def begin_backup(self, directory: str) -> Backup:
        """Raises as `begin_backup`."""


def begin_backup(store: Store, directory: str) -> Backup:
    """Begin a backup of the open `store` to `directory`, an absolute path.

    Raises `ConfigError` if its backend has no such thing, `StoreUnavailable` if one is under way, or no thread is to be
    had.
    """
    if not isinstance(store, CanBackUp):
        raise ConfigError(
            "only a sqlite: store can be backed up while it is in use: stop the node, and use `bgsuper store copy`"
        )
    return store.begin_backup(directory)


class Backup:
    """A backup under way. Its methods are for the thread that owns the store; `moment` says what that is just now."""

    def __init__(
        self,
        connection: Connection,
        snapshots: Snapshots,
        moment: Callable[[], Moment],
        layout: Layout,
        holder: Holder,
        directory: str,
        fsync: Callable[[int], None],
    ) -> None:
        if not os.path.isabs(directory):
            raise ConfigError(f"expected an absolute path for the backup, got {directory!r:.200}")
        self._snapshots, self._moment, self._layout = snapshots, moment, layout
        self._spool = Spool()
        self._target = open_target(self._spool)
        self._pages: Generator[None, None, None] | None = connection.copy(self._target, STEP_PAGES)
        self._handed = 0
        self._failure: Exception | None = None
        self._carrier = Carrier(Destination(directory, layout.directory, fsync), holder, fsync)
        try:
            self._carrier.thread.start()
        except RuntimeError as error:
            self._end_copy()
            raise StoreUnavailable(f"no thread is to be had for a backup: {error}; raise the limit of them") from error

    @property
    def over(self) -> bool:
        """Whether it is complete, or has failed, and nothing of it goes on."""
        return not self._carrier.thread.is_alive()

    @property
    def ready(self) -> bool:
        """Whether `step` would do anything: else it waits for DEST, and is worth another call in some milliseconds."""
        return self.over or (self._pages is not None and self._has_room)

    @property
    def progress(self) -> int:
        """Rises as long as anything is done."""
        return self._handed + self._carrier.written

    def step(self) -> Copied | None:
        """Copy some pages, about a millisecond's worth, if DEST keeps up. What the backup holds, once it is complete.

        Raises why it failed (`ConfigError`, a `StoreError`) as soon as nothing of it is left.
        """
        if self._pages is not None:
            try:
                self._copy_some(self._pages)
            except StoreError as error:
                self._give_up(error)
        if not self.over:
            return None
        self._end_copy()
        self._snapshots.unpin()
        failure = self._failure or self._carrier.failure
        if failure is not None:
            raise failure
        return self._carrier.copied

    def abort(self, why: Exception | None = None) -> None:
        """Give it up, without waiting for that: `step` tells when nothing of it is left, by raising `why`, else a
        `StoreError`."""
        self._give_up(why or StoreError("the backup was given up, and what there was of it removed"))

    def join(self, timeout_s: float) -> None:
        """Wait for its thread to end, but not longer than that."""
        self._carrier.thread.join(timeout_s)

    @property
    def _has_room(self) -> bool:
        return self._handed - self._carrier.written < AHEAD_BYTES

    def _copy_some(self, pages: Generator[None, None, None]) -> None:
        if not self._has_room:
            if self._spool.waiting > MOST_BYTES:
                raise StoreUnavailable(
                    f"the backup's disk has not taken {self._spool.waiting} bytes that commits changed meanwhile: "
                    "it is too slow, or stuck; use another one"
                )
            return
        for _ in pages:
            self._hand_over()
            return
        self._pages = None
        self._target.close()
        moment = self._moment()
        self._snapshots.pin([snapshot.file for snapshot in moment.snapshots])
        self._hand_over()
        self._carrier.inbox.put(Rest(moment.identity, moment.snapshots, self._spool.size, self._layout.snapshots))

    def _hand_over(self) -> None:
        self._handed += self._spool.waiting
        self._carrier.inbox.put(self._spool.take())

    def _give_up(self, why: Exception) -> None:
        if self._carrier.copied is None:
            self._failure = self._failure or why
            self._carrier.give_up()
            # Its disk may never answer; what it misses now is its end anyway.
            self._snapshots.unpin()
        self._end_copy()

    def _end_copy(self) -> None:
        if self._pages is not None:
            self._pages.close()
            self._pages = None
            self._target.close(True)
