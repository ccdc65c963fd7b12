"""SQLite's and the snapshot files' way to the disk, made slow and failing as a `Plan` says.

`FaultyVFS` stands between SQLite and its own VFS. It overrides `xSync` (delay, EIO, kill points: costs nothing beside a
sync) and `xWrite` (ENOSPC, counters). `faulty_fsync` does the same for what the store syncs itself.

A write that gets stuck in the kernel under it (a frozen file system) holds the GIL, which SQLite's own VFS does not: a
worker under a fault plan then sends no heartbeats.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

import apsw

from .plan import Plan

NAME: Final = "bgsuper-faults"
BASE: Final = "unix-excl"


class FaultyVFS(apsw.VFS):
    """A VFS named `name`, registered as long as this object lives. Hand `name` to the store."""

    def __init__(self, plan: Plan, name: str = NAME, base: str = BASE) -> None:
        super().__init__(name, base)
        self._plan = plan
        self._base = base

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        """A file of the base VFS whose syncs and writes obey the plan."""
        return _FaultyFile(self._plan, self._base, name, flags)


class _FaultyFile(apsw.VFSFile):
    def __init__(self, plan: Plan, base: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__(base, name, flags)
        self._plan = plan

    def xSync(self, flags: int) -> None:
        try:
            self._plan.before_sync()
        except OSError as error:
            raise sqlite_error(apsw.SQLITE_IOERR_FSYNC, error) from error
        super().xSync(flags)
        self._plan.synced()

    def xWrite(self, data: bytes, offset: int) -> None:
        try:
            self._plan.before_write(len(data))
        except OSError as error:
            raise sqlite_error(apsw.SQLITE_FULL, error) from error
        super().xWrite(data, offset)


def faulty_fsync(plan: Plan, fsync: Callable[[int], None] = os.fsync) -> Callable[[int], None]:
    """`fsync`, obeying `plan`; raises `OSError` as it says."""

    def sync(fd: int) -> None:
        plan.before_sync()
        fsync(fd)
        plan.snapshot_synced()

    return sync


def install(path: str) -> tuple[str, Callable[[int], None]]:
    """Obey the plan at `path` for the rest of this process: the `vfs` and the `fsync` to hand to the store.

    Raises `ConfigError`.
    """
    plan = Plan.open(path)
    _installed.append(FaultyVFS(plan))
    return NAME, faulty_fsync(plan)


#: apsw unregisters a VFS that nobody refers to.
_installed: list[FaultyVFS] = []


def sqlite_error(code: int, error: OSError) -> Exception:
    """What a VFS raises so that SQLite sees the (extended) result `code`: no other exception carries one."""
    exception = apsw.exception_for(code)
    exception.args = (f"{error.strerror} (injected)",)
    return exception
