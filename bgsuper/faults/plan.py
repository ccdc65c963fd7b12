"""A fault plan: what shall go wrong with the disk, changeable while the worker runs, and what has happened so far.

A plan is a file of 4 KiB that host and worker map into memory: the host sets a field, the worker's next sync or write
obeys. It holds 64-bit integers in the machine's byte order:

    0  magic           3  full                6  syncs            9  bytes_written
    1  sync_delay_ns   4  kill_before_sync    7  snapshot_syncs  10  refused
    2  fail_syncs      5  kill_after_sync     8  writes

Rules: the fields of the first two columns are commands: the host sets them, the worker counts them down. The others
are counters: only the worker writes them. One worker at a time.
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

_MAGIC: Final = int.from_bytes(b"bgsFault", "big")
_SYNC_DELAY, _FAIL_SYNCS, _FULL, _KILL_BEFORE, _KILL_AFTER = range(1, 6)
_SYNCS, _SNAPSHOT_SYNCS, _WRITES, _BYTES_WRITTEN, _REFUSED = range(6, 11)


def _command(index: int, doc: str) -> property:
    def get(plan: Plan) -> int:
        return plan._fields[index]

    def set_(plan: Plan, value: int) -> None:
        if not 0 <= value < 2**63:
            raise ConfigError(f"expected a count from 0 to 2^63-1, got {value}")
        plan._fields[index] = value

    return property(get, set_, doc=doc)


def _counter(index: int, doc: str) -> property:
    def get(plan: Plan) -> int:
        return plan._fields[index]

    return property(get, doc=doc)


class Plan:
    """An open fault plan. A context manager; `close` unmaps it, the file stays."""

    fail_syncs = _command(_FAIL_SYNCS, "How many of the next syncs fail with EIO, without having synced.")
    full = _command(_FULL, "While it is not 0, every write fails with ENOSPC.")
    kill_before_sync = _command(_KILL_BEFORE, "SIGKILL in place of the n-th next sync (1 is the next); 0 is never.")
    kill_after_sync = _command(_KILL_AFTER, "SIGKILL right after the n-th next sync (1 is the next); 0 is never.")
    syncs = _counter(_SYNCS, "Syncs of SQLite's files that succeeded.")
    snapshot_syncs = _counter(_SNAPSHOT_SYNCS, "Syncs of snapshot files and directories that succeeded.")
    writes = _counter(_WRITES, "Writes to SQLite's files; counted only where `full` can be set (see `vfs`).")
    bytes_written = _counter(_BYTES_WRITTEN, "Bytes of those writes.")
    refused = _counter(_REFUSED, "Syncs and writes that this plan made fail.")

    def __init__(self, mapping: mmap.mmap) -> None:
        self._mapping = mapping
        self._fields = memoryview(mapping).cast("q")
        # The commit lane and the snapshot lane count in two threads.
        self._counting = threading.Lock()

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> Self:
        """A new plan, without faults, at `path`, in place of what is there. Raises `OSError`."""
        content = bytearray(SIZE)
        memoryview(content).cast("q")[0] = _MAGIC
        temporary = f"{os.fspath(path)}.{os.getpid()}.tmp"
        with open(temporary, "xb") as file:
            file.write(content)
        os.rename(temporary, path)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """The plan at `path`. Raises `ConfigError` if there is none."""
        try:
            with open(path, "r+b") as file:
                mapping = mmap.mmap(file.fileno(), SIZE)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"expected a fault plan at {os.fspath(path)}: {error}; make one with Plan.create"
            ) from error
        plan = cls(mapping)
        if plan._fields[0] != _MAGIC:
            plan.close()
            raise ConfigError(
                f"expected a fault plan at {os.fspath(path)}, found another file; make one with Plan.create"
            )
        return plan

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
        """Seconds that each sync takes longer; also the one that fails or kills."""
        return self._fields[_SYNC_DELAY] / 1e9

    @sync_delay_s.setter
    def sync_delay_s(self, seconds: float) -> None:
        if not 0 <= seconds < 1e9:
            raise ConfigError(f"expected a delay of 0 to 10^9 seconds, got {seconds}")
        self._fields[_SYNC_DELAY] = round(seconds * 1e9)

    # -- the worker's side: called around each sync and before each write ------------------------------------------

    def before_sync(self) -> None:
        """Wait, die or raise `OSError` (EIO), as planned for this sync."""
        fields = self._fields
        if fields[_SYNC_DELAY]:
            time.sleep(fields[_SYNC_DELAY] / 1e9)
        if fields[_KILL_BEFORE]:
            self._count_down_to_death(_KILL_BEFORE)
        if fields[_FAIL_SYNCS]:
            with self._counting:
                fields[_FAIL_SYNCS] = max(0, fields[_FAIL_SYNCS] - 1)
                fields[_REFUSED] += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def after_sync(self, *, snapshot: bool) -> None:
        """Count a sync that succeeded, or die, as planned."""
        with self._counting:
            self._fields[_SNAPSHOT_SYNCS if snapshot else _SYNCS] += 1
        if self._fields[_KILL_AFTER]:
            self._count_down_to_death(_KILL_AFTER)

    def before_write(self, size: int) -> None:
        """Count a write of `size` bytes, or raise `OSError` (ENOSPC), as planned."""
        fields = self._fields
        if fields[_FULL]:
            with self._counting:
                fields[_REFUSED] += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fields[_WRITES] += 1
        fields[_BYTES_WRITTEN] += size

    def _count_down_to_death(self, field: int) -> None:
        with self._counting:
            self._fields[field] -= 1
            if self._fields[field] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
