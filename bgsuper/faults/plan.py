"""A fault plan: what shall go wrong with the disk, changeable while the worker runs, and what has happened so far.

A plan is a file of 4 KiB that host and worker map into memory: the host sets a field, the worker's next sync or write
obeys. It holds a magic number and then one 64-bit integer in the machine's byte order for each of the fields below.

Rules: commands are set by the host and counted down by the worker; counters are written by the worker alone, one
worker at a time. "The n-th next": 1 is the very next one, 0 is never, and it happens once.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import threading
import time
from typing import Final, Self

from ..errors import ConfigError

SIZE: Final = 4096

_MAGIC: Final = b"bgsFlts1"

# Where each field is, in units of 8 bytes; 0 is the magic number.
_SYNC_DELAY, _FAIL_SYNCS, _FAIL_SYNC_AT, _FULL, _FULL_AT, _KILL_SYNC, _KILL_SYNCED, _KILL_WRITE = range(1, 9)
_SYNCS, _SNAPSHOT_SYNCS, _WRITES, _BYTES_WRITTEN, _REFUSED = range(16, 21)


class _Counter:
    """A field of the plan that only the worker changes."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __get__(self, plan: Plan, _owner: object = None) -> int:
        return plan._fields[self.index]


class _Command(_Counter):
    """A field that the host sets."""

    def __set__(self, plan: Plan, value: int) -> None:
        if not 0 <= value < 2**63:
            raise ConfigError(f"expected a number from 0 to 2^63-1, got {value}")
        plan._fields[self.index] = value


class Plan:
    """An open fault plan. A context manager; `close` unmaps it, the file stays."""

    __slots__ = ("_counting", "_fields", "_mapping")

    sync_delay_ns = _Command(_SYNC_DELAY)  #: how much longer each sync takes; also one that fails or kills
    fail_syncs = _Command(_FAIL_SYNCS)  #: how many of the next syncs fail with EIO, without having synced
    fail_sync_at = _Command(_FAIL_SYNC_AT)  #: the n-th next sync fails so
    full = _Command(_FULL)  #: while it is not 0, every write of SQLite fails with ENOSPC
    full_at_write = _Command(_FULL_AT)  #: the n-th next write finds the disk full: sets `full`
    kill_before_sync = _Command(_KILL_SYNC)  #: SIGKILL in place of the n-th next sync
    kill_after_sync = _Command(_KILL_SYNCED)  #: SIGKILL right after the n-th next sync
    kill_before_write = _Command(_KILL_WRITE)  #: SIGKILL in place of the n-th next write

    syncs = _Counter(_SYNCS)  #: syncs of SQLite's files that succeeded
    snapshot_syncs = _Counter(
        _SNAPSHOT_SYNCS
    )  #: syncs that the store itself made: snapshot files, directories, the lock file
    writes = _Counter(_WRITES)  #: writes to SQLite's files
    bytes_written = _Counter(_BYTES_WRITTEN)  #: bytes of those writes
    refused = _Counter(_REFUSED)  #: syncs and writes that failed because this plan said so

    def __init__(self, mapping: mmap.mmap) -> None:
        self._mapping = mapping
        self._fields = memoryview(mapping).cast("q")
        # The commit lane and the snapshot lane count in two threads.
        self._counting = threading.Lock()

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> Self:
        """A new plan, without faults, at `path`, in place of what is there. Raises `OSError`."""
        temporary = f"{os.fspath(path)}.{os.getpid()}.tmp"
        with open(temporary, "xb") as file:
            file.write(_MAGIC + bytes(SIZE - 8))
        os.rename(temporary, path)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """The plan at `path`. Raises `ConfigError` if there is none."""
        try:
            with open(path, "r+b") as file:
                if file.read(8) != _MAGIC:
                    raise ConfigError(f"expected a fault plan at {os.fspath(path)}: make one with Plan.create")
                return cls(mmap.mmap(file.fileno(), SIZE))
        except (OSError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"expected a fault plan at {os.fspath(path)}: {error}") from error

    def close(self) -> None:
        """Unmap the plan; further calls do nothing."""
        self._fields.release()
        self._mapping.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def sync_delay_s(self) -> float:
        """`sync_delay_ns` in seconds."""
        return self.sync_delay_ns / 1e9

    @sync_delay_s.setter
    def sync_delay_s(self, seconds: float) -> None:
        self.sync_delay_ns = round(seconds * 1e9)

    # -- the worker's side: called around each sync and before each write ------------------------------------------

    def before_sync(self) -> None:
        """Wait, die or raise `OSError` (EIO), as planned for this sync."""
        if self.sync_delay_ns:
            time.sleep(self.sync_delay_ns / 1e9)
        if self._reached(_KILL_SYNC):
            _die()
        if self._reached(_FAIL_SYNC_AT) or self._take_one(_FAIL_SYNCS):
            self._count(_REFUSED)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def synced(self) -> None:
        """Count a sync of SQLite's that succeeded; die if so planned."""
        self._count(_SYNCS)
        if self._reached(_KILL_SYNCED):
            _die()

    def snapshot_synced(self) -> None:
        """Count a sync of the store's own that succeeded; die if so planned."""
        self._count(_SNAPSHOT_SYNCS)
        if self._reached(_KILL_SYNCED):
            _die()

    def before_write(self, size: int) -> None:
        """Count a write of `size` bytes, die, or raise `OSError` (ENOSPC), as planned."""
        fields = self._fields
        if fields[_KILL_WRITE] and self._reached(_KILL_WRITE):
            _die()
        if fields[_FULL_AT] and self._reached(_FULL_AT):
            fields[_FULL] = 1
        if fields[_FULL]:
            self._count(_REFUSED)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        # SQLite writes from one thread.
        fields[_WRITES] += 1
        fields[_BYTES_WRITTEN] += size

    def _count(self, index: int) -> None:
        with self._counting:
            self._fields[index] += 1

    def _take_one(self, index: int) -> bool:
        """Count a command down; whether there was anything to count."""
        if not self._fields[index]:
            return False
        with self._counting:
            self._fields[index] -= 1
        return True

    def _reached(self, index: int) -> bool:
        """Count a command down; whether that made it zero."""
        return self._take_one(index) and self._fields[index] == 0


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
