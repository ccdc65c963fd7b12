"""The check of the check: a worker with a planted fault, under which the same run must find violations.

``python -P -m bgsuper.torture.power.planted FAULT FD`` is the worker; `launcher` starts it. The faults are put between
the store and the disk, by the `Disk` that `make_store` takes for that; no code of the store's or the worker's knows
of them.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from typing import Final

import apsw

from ...store.api import CopyTarget
from ...store.files import full_sync
from ...store.schemes import Disk, Opening, make_store
from ...store.url import StoreURL
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


FAULTS: Final[Mapping[str, Disk]] = {
    "no-sync": Disk(_UNSYNCED, _no_sync),
    "no-commit-sync": Disk(_UNSYNCED, full_sync),
    "no-snapshot-sync": Disk(_BASE, _no_sync),
    "no-directory-sync": Disk(_BASE, _no_directory_sync),
    "no-sync-before-hello": Disk(_UNSYNCED_START, _no_wal_sync),
}


def _make_store(faulty: Disk, url: StoreURL, opening: Opening, disk: Disk | None = None) -> CopyTarget:
    """`make_store` over the `faulty` disk, unless the URL has faults of its own."""
    return make_store(url, opening, disk or faulty)


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
    vars(worker)["make_store"] = partial(_make_store, FAULTS[fault])
    try:
        return worker.main([descriptor])
    finally:
        for vfs in registered:
            vfs.unregister()
