"""The check of the check: a worker with a planted fault, under which the same run must find violations.

``python -P -m bgsuper.torture.power.planted FAULT FD`` is the worker; `launcher` starts it. The faults are put between
the store and the disk, by the arguments that `SQLiteStore` takes for that; no code of the store's or the worker's knows
of them.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NamedTuple

import apsw

from ...store.files import full_sync
from ...store.sqlite import SQLiteStore
from ...supervisor.children import Child, best_child
from ...supervisor.launch import PACKAGE_ROOT, Launcher
from ...worker import __main__ as worker

_BASE: Final = "unix-excl"
_UNSYNCED: Final = "bgsuper-unsynced"
_UNSYNCED_START: Final = "bgsuper-unsynced-start"


class _VFS(apsw.VFS):
    """Its files are made by `file`."""

    def __init__(self, name: str, file: type[apsw.VFSFile]) -> None:
        super().__init__(name, _BASE)
        self._file = file

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return self._file(_BASE, name, flags)


class _Unsynced(apsw.VFSFile):
    def xSync(self, flags: int) -> None:
        """Nothing."""


class _UnsyncedStart(apsw.VFSFile):
    """The first sync of a WAL in each process does nothing: that of the epoch's bump, before HELLO."""

    def __init__(self, base: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__(base, name, flags)
        self._lies = bool(flags[0] & apsw.SQLITE_OPEN_WAL)

    def xSync(self, flags: int) -> None:
        if self._lies:
            self._lies = False
        else:
            super().xSync(flags)


def _no_sync(fd: int) -> None:
    """Nothing."""


def _no_directory_sync(fd: int) -> None:
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        full_sync(fd)


def _no_wal_sync(fd: int) -> None:
    if not os.readlink(f"/proc/self/fd/{fd}").endswith("-wal"):
        full_sync(fd)


class Fault(NamedTuple):
    vfs: str
    fsync: Callable[[int], None]


FAULTS: Final[Mapping[str, Fault]] = {
    "no-sync": Fault(_UNSYNCED, _no_sync),
    "no-commit-sync": Fault(_UNSYNCED, full_sync),
    "no-snapshot-sync": Fault(_BASE, _no_sync),
    "no-directory-sync": Fault(_BASE, _no_directory_sync),
    "no-sync-before-hello": Fault(_UNSYNCED_START, _no_wal_sync),
}


def launcher(fault: str) -> Launcher:
    """What starts workers with `fault`, one of `FAULTS`."""

    def launch() -> Child:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, PACKAGE_ROOT, fault, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        return best_child()(process, ours)

    return launch


_BOOT: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from bgsuper.torture.power.planted import main; sys.exit(main(*sys.argv[2:]))"
)


def main(fault: str, descriptor: str) -> int:
    """Be that worker."""
    registered = [_VFS(_UNSYNCED, _Unsynced), _VFS(_UNSYNCED_START, _UnsyncedStart)]
    # The name by which the worker makes its store.
    vars(worker)["SQLiteStore"] = partial(SQLiteStore, vfs=FAULTS[fault].vfs, fsync=FAULTS[fault].fsync)
    try:
        return worker.main([descriptor])
    finally:
        for vfs in registered:
            vfs.unregister()
