"""What a process has decided to do, in order, and has not done yet: its next disk operations and words.

The real code of the worker calls its store and its pipe, and those calls return at once. So it is run ahead against
the outcomes that the explorer chose for it, and what it did is kept as effects, which the world then lets happen one
by one: a crash may come between any two of them, and then the rest never happens. That is exact as long as nobody else
can change what the process saw meanwhile, which holds: it alone has the lock, and it took its input in one go.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from ...ipc.frames import Kind
from ...worker.inbox import SnapshotDone
from .disk import Entry


class Append(NamedTuple):
    """Write an entry into the log: into the cache, that is."""

    at: int
    entry: Entry


class Sync(NamedTuple):
    """Sync the log."""


class FailedSync(NamedTuple):
    """Sync the log in vain; the letters say what reached the platter (`Disk.sync_fails`)."""

    fates: str


class WriteFile(NamedTuple):
    name: str
    content: bytes


class SyncFile(NamedTuple):
    name: str


class FailedSyncFile(NamedTuple):
    name: str


class SyncDirectory(NamedTuple):
    pass


class RemoveFile(NamedTuple):
    name: str


class Deliver(NamedTuple):
    """The snapshot lane tells the writer."""

    item: SnapshotDone


class Say(NamedTuple):
    """One message to the host, as the frames that it travels in."""

    kind: Kind
    seq: int
    frames: bytes
    fields: tuple[object, ...]


class AwaitSpace(NamedTuple):
    """The writer sleeps until the disk has space again."""


class Exit(NamedTuple):
    """The process ends by itself."""

    code: int


Effect = (
    Append
    | Sync
    | FailedSync
    | WriteFile
    | SyncFile
    | FailedSyncFile
    | SyncDirectory
    | RemoveFile
    | Deliver
    | Say
    | AwaitSpace
    | Exit
)
Script = deque[Effect]
