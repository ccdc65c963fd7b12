"""The inbox: what the reader, the snapshot lane and the control socket hand to the writer, in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Condition
from typing import NamedTuple

from ..ipc.frames import Kind
from ..ipc.messages import Commit, Message, decode_commits
from ..store.api import SnapshotFile


class Commits(NamedTuple):
    """The commits of one COMMIT: at least one, each of them following the one before."""

    row: list[Commit]
    size: int  #: bytes of their values


class SnapshotDone(NamedTuple):
    """The snapshot lane's word: the file is durable, or writing it failed."""

    message: Message
    outcome: SnapshotFile | Exception


class Closed(NamedTuple):
    """Nothing more will come from the host. `error` is set if its bytes made no sense."""

    error: Exception | None


class BackupOrder(NamedTuple):
    """A backup that somebody asked for, the host or a command."""

    directory: str  #: absolute
    answer: Callable[[list[object]], None]  #: takes the fields of a REPLY; never waits for long
    wanted: Callable[[], bool] = lambda: True  #: whether anybody still waits for the answer


Item = Commits | Message | SnapshotDone | Closed | BackupOrder


def arrived(message: Message) -> Item:
    """What the writer is to be given for `message`. Raises `FrameError`.

    Commits are decoded by whoever received them: that costs nothing while the writer waits for a sync.
    """
    if message.kind is Kind.COMMIT:
        return Commits(decode_commits(message), len(message.payload))
    return message


class Inbox:
    """A queue that is taken whole, so that a group commit is whatever came during the one before."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._condition = Condition()
        #: When `Closed` came, by `time.monotonic`: a writer that is busy with a full disk must know at once.
        self.closed_at: float | None = None

    def put(self, item: Item) -> None:
        with self._condition:
            self._items.append(item)
            if isinstance(item, Closed):
                self.closed_at = time.monotonic()
            self._condition.notify()

    def take(self, timeout: float | None = None) -> list[Item]:
        """Everything that waits, oldest first; blocks until there is something. Empty only after `timeout` seconds."""
        with self._condition:
            if not self._items:
                self._condition.wait(timeout)
            items = list(self._items)
            self._items.clear()
            return items

    def __len__(self) -> int:
        return len(self._items)
