"""Backups that were asked for: one after the other, a step at a time, beside the commits.

Rules:
1. A step takes about a millisecond, and comes between two groups of commits, or when nothing else waits.
2. What goes wrong with a backup is told to whoever asked for it, and to nobody else: it costs no worker and no retries.
   (If the store's own connection broke, its next commit says so.)
3. A commit that finds no space or descriptors may miss those that the backup has: then the backup gives way.
4. One that is given up is waited for a while, so that who asked for it, or asks for the next one, finds nothing left of
   it. If its disk hangs, he is told so, and so is everyone who asks until it has ended.
5. The host's end is the end of all backups, and no answer is given: a successor is asked again, a command sees that the
   worker is gone.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from ..errors import FrameError, StoreError, StoreFull, StoreUnavailable
from ..ipc.messages import Fields, shape
from ..ipc.remote import Allowed, describe
from ..store.api import Store
from .inbox import BackupOrder

if TYPE_CHECKING:
    from ..store.backup.online import Backup

#: How soon a backup that waits for its disk is looked at again.
LOOK_S: Final = 0.01
#: How long the next backup, and the end of the worker, wait for what there is of one to be removed.
END_S: Final = 2.0


class Backups:
    """On the writer's thread, as the store."""

    def __init__(self, store: Store, allowed: Allowed, epoch: int) -> None:
        self._store, self._allowed, self._epoch = store, allowed, epoch
        self._orders: deque[BackupOrder] = deque()
        self._backup: Backup | None = None  #: of the first order
        self._began = 0.0
        #: Why that backup was given up, and until when its end is waited for.
        self._aborted: tuple[Exception, float] | None = None
        #: One that was not waited for any longer.
        self._stuck: Backup | None = None
        self._given_up = False

    def add(self, order: BackupOrder) -> None:
        """Begin it, when its turn comes."""
        if not self._given_up:
            self._orders.append(order)

    @property
    def pause(self) -> float | None:
        """How long the writer may wait before it calls `step`; None if there is no backup."""
        if not self._orders:
            return None
        return 0.0 if self._backup is None or self._backup.ready else LOOK_S

    def step(self) -> bool:
        """Go on with the first of them. Whether anything was done."""
        if not self._orders:
            return False
        order = self._orders[0]
        before = self._backup.progress if self._backup is not None else -1
        try:
            backup = self._backup = self._backup or self._begin(order)
            if not order.wanted():
                self._abort(StoreError("nobody waits for the backup any more"))
            copied = backup.step()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the asker's
            if self._backup is None or self._backup.over:
                self._fail(error)
            else:
                self._abort(error)
            return True
        if copied is not None:
            self._finish(["backup", [*copied, time.monotonic() - self._began]])
            return True
        if self._aborted is not None and time.monotonic() >= self._aborted[1]:
            self._stuck = backup
            self._fail(self._aborted[0])
            return True
        return backup.progress != before

    def give_way(self, error: StoreFull | StoreUnavailable) -> None:
        """A commit met `error`: give up the backup under way, if there is one, and go on with giving it up. Begins
        none."""
        if self._backup is not None:
            self._abort(type(error)(f"the backup was given up, for the store's commits lack what it takes: {error}"))
            self.step()

    def give_up(self) -> None:
        """Nobody is to be answered any more. Does not wait."""
        self._given_up = True
        self._orders.clear()
        if self._backup is not None:
            self._backup.abort()

    def stop(self) -> None:
        """Wait a while for what was given up to be removed: a disk that is none of the store's must not keep the
        process from its end."""
        self.give_up()
        if self._backup is not None:
            self._backup.join(END_S)

    def _abort(self, why: Exception) -> None:
        if self._backup is not None and self._aborted is None:
            self._aborted = why, time.monotonic() + END_S
            self._backup.abort(why)

    def _begin(self, order: BackupOrder) -> Backup:
        if self._stuck is not None and not self._stuck.over:
            raise StoreUnavailable(
                "the backup before this one was given up, but its disk has not let it end: mend that, or ask later"
            )
        self._stuck = None
        # Only a worker that is asked for one loads it.
        from ..store.backup.online import begin_backup

        self._began = time.monotonic()
        return begin_backup(self._store, order.directory)

    def _fail(self, error: Exception) -> None:
        self._finish(["error", describe(error, allowed=self._allowed, epoch=self._epoch)])

    def _finish(self, fields: list[object]) -> None:
        self._backup = self._aborted = None
        self._orders.popleft().answer(fields)


def backup_directory(fields: Fields) -> str:
    """BACKUP: fields = [the directory's path, as bytes]. Raises `FrameError`."""
    match fields:
        case [bytes(path)] if os.path.isabs(path) and b"\0" not in path:
            return os.fsdecode(path)
    raise FrameError(f"a BACKUP is not [an absolute path as bytes], but {shape(fields)}")
