"""Backups that were asked for: one after the other, a step at a time, beside the commits.

Rules:
1. A step takes about a millisecond, and comes between two groups of commits, or when nothing else waits.
2. What goes wrong with a backup is told to whoever asked for it, and to nobody else: it costs no worker and no retries.
   (If the store's own connection broke, its next commit says so.)
3. The host's end is the end of all backups, and no answer is given: a successor is asked again, a command sees that the
   worker is gone.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from ..errors import FrameError
from ..ipc.messages import Fields, shape
from ..ipc.remote import Allowed, describe
from ..store.api import Store
from .inbox import BackupOrder

if TYPE_CHECKING:
    from ..store.backup.online import Backup

#: How soon a backup that waits for its disk is looked at again.
LOOK_S: Final = 0.01
#: How long the end of the worker waits for what there is of a backup to be removed.
END_S: Final = 2.0


class Backups:
    """On the writer's thread, as the store."""

    def __init__(self, store: Store, allowed: Allowed, epoch: int) -> None:
        self._store, self._allowed, self._epoch = store, allowed, epoch
        self._orders: deque[BackupOrder] = deque()
        self._backup: Backup | None = None  #: of the first order
        self._began = 0.0
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
                backup.abort()
            copied = backup.step()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the asker's
            self._finish(["error", describe(error, allowed=self._allowed, epoch=self._epoch)])
            return True
        if copied is not None:
            self._finish(["backup", [*copied, time.monotonic() - self._began]])
            return True
        return backup.progress != before

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

    def _begin(self, order: BackupOrder) -> Backup:
        # Only a worker that is asked for one loads it.
        from ..store.backup.online import begin_backup

        self._began = time.monotonic()
        return begin_backup(self._store, order.directory)

    def _finish(self, fields: list[object]) -> None:
        self._backup = None
        self._orders.popleft().answer(fields)


def backup_directory(fields: Fields) -> str:
    """BACKUP: fields = [the directory's path, as bytes]. Raises `FrameError`."""
    match fields:
        case [bytes(path)] if os.path.isabs(path) and b"\0" not in path:
            return os.fsdecode(path)
    raise FrameError(f"a BACKUP is not [an absolute path as bytes], but {shape(fields)}")
