"""The ways to make state durable that are compared: ours, the seed's, the honest rival, and the bare minimum.

bgsuper   a worker process (this package)
thread    threads in the host: group commit into the same SQLite, and tmp + fsync + replace + directory fsync for a
          whole manager, latest-wins. The rival that a good engineer would write without us
loop      in the event loop itself, a file a key: tmp + fsync + rename + directory fsync, the seed's way

All obey the same fault plan, by the same sleep before the same syncs.
"""

from __future__ import annotations

import asyncio
import heapq
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Condition, Thread
from typing import Final, Protocol

import apsw

from bgsuper import Key, Limits, Seq, Supervisor
from bgsuper.faults.vfs import install
from bgsuper.key import MANAGER

#: As the store's own.
CHECKPOINT_BYTES: Final = 64 * 1024 * 1024
IDLE_S: Final = 0.05

Pieces = Sequence[bytes]
Fsync = Callable[[int], None]


class Approach(Protocol):
    """One way, opened on a directory. Its calls come from the loop."""

    def commit(self, name: str, value: bytes) -> int:
        """Submit one record; its number."""

    async def durable(self, seq: int) -> None:
        """Wait until that commit is durable."""

    def persist_manager(self, pieces: Pieces) -> None:
        """Submit a whole manager, latest-wins."""

    def close(self) -> None: ...


class Bgsuper:
    """A worker process. Without a plan no fault layer is loaded."""

    def __init__(self, directory: Path, plan: Path | None = None) -> None:
        # Nobody drains here: an offered load, not a polite one.
        limits = Limits(soft_bytes=1 << 30, hard_bytes=1 << 31)
        self.supervisor = Supervisor(f"sqlite://{directory}" + (f"?faults={plan}" if plan else ""), limits=limits)
        self.supervisor.start()

    def commit(self, name: str, value: bytes) -> int:
        return self.supervisor.commit({Key("channels", "", name): value})

    async def durable(self, seq: int) -> None:
        await self.supervisor.durable(Seq(seq))

    def persist_manager(self, pieces: Pieces) -> None:
        self.supervisor.snapshot(MANAGER, pieces, critical=True)

    def close(self) -> None:
        self.supervisor.stop()


class BareSQLite:
    """A table of records in SQLite with the store's own pragmas and checkpoints, and nothing around it."""

    def __init__(self, path: Path, vfs: str = "unix-excl") -> None:
        sqlite = self._sqlite = apsw.Connection(str(path), vfs=vfs)
        sqlite.pragma("locking_mode", "EXCLUSIVE")
        sqlite.pragma("journal_mode", "WAL")
        sqlite.pragma("synchronous", "FULL")
        sqlite.wal_autocheckpoint(0)
        sqlite.execute(
            "CREATE TABLE IF NOT EXISTS record(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, value BLOB NOT NULL)"
            " STRICT"
        )
        self._page_bytes = sqlite.pragma("page_size")
        self._wal_pages = 0
        sqlite.set_wal_hook(self._note_wal)

    def _note_wal(self, _sqlite: apsw.Connection, _database: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def write(self, records: Sequence[tuple[str, bytes]]) -> None:
        """One synced transaction."""
        if self._wal_pages * self._page_bytes >= CHECKPOINT_BYTES:
            self.checkpoint()
        self._sqlite.execute("BEGIN IMMEDIATE")
        self._sqlite.executemany(
            "INSERT INTO record(name, value) VALUES(?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", records
        )
        self._sqlite.execute("COMMIT")

    def checkpoint(self) -> None:
        """Move the WAL into the database."""
        self._sqlite.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        self._wal_pages = 0

    @property
    def has_wal(self) -> bool:
        return self._wal_pages > 0

    def close(self) -> None:
        self._sqlite.close(True)


class ThreadGroupCommit:
    """One thread that commits whatever came during the transaction before, and one that writes managers."""

    def __init__(self, directory: Path, plan: Path | None = None) -> None:
        vfs, self._fsync = install(str(plan)) if plan else ("unix-excl", os.fsync)
        self._loop = asyncio.get_running_loop()
        self._directory = directory
        self._changed = Condition()
        self._records: list[tuple[str, bytes]] = []
        self._manager: Pieces | None = None
        self._closing = False
        self.submitted = self._durable = 0
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        sqlite = BareSQLite(directory / "database", vfs)
        self._threads = [
            Thread(target=self._write_commits, args=(sqlite,), daemon=True),
            Thread(target=self._write_managers, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def commit(self, name: str, value: bytes) -> int:
        with self._changed:
            self._records.append((name, value))
            self.submitted += 1
            self._changed.notify_all()
            return self.submitted

    async def durable(self, seq: int) -> None:
        if seq > self._durable:
            future = self._loop.create_future()
            heapq.heappush(self._waiters, (seq, id(future), future))
            await future

    def persist_manager(self, pieces: Pieces) -> None:
        with self._changed:
            self._manager = pieces
            self._changed.notify_all()

    def _write_commits(self, sqlite: BareSQLite) -> None:
        written = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._records or self._closing, IDLE_S if sqlite.has_wal else None)
                group, self._records = self._records, []
            if group:
                sqlite.write(group)
                written += len(group)
                self._loop.call_soon_threadsafe(self._release, written)
            elif self._closing:
                return sqlite.close()
            else:
                sqlite.checkpoint()

    def _release(self, seq: int) -> None:
        self._durable = seq
        while self._waiters and self._waiters[0][0] <= seq:
            future = heapq.heappop(self._waiters)[2]
            if not future.done():
                future.set_result(None)

    def _write_managers(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._manager is not None or self._closing)
                pieces, self._manager = self._manager, None
            if pieces is None:
                return
            replace_file(self._directory, "manager", pieces, self._fsync)

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()


class InTheLoop:
    """The seed's way: the loop itself writes, and goes on when it is durable."""

    def __init__(self, directory: Path, plan: Path | None = None) -> None:
        self._fsync: Fsync = install(str(plan))[1] if plan else os.fsync
        self._directory = directory
        self._submitted = 0

    def commit(self, name: str, value: bytes) -> int:
        replace_file(self._directory, name, (value,), self._fsync)
        self._submitted += 1
        return self._submitted

    async def durable(self, seq: int) -> None:
        """It was when `commit` returned."""

    def persist_manager(self, pieces: Pieces) -> None:
        replace_file(self._directory, "manager", pieces, self._fsync)

    def close(self) -> None:
        """Nothing is open."""


def replace_file(directory: Path, name: str, pieces: Pieces, fsync: Fsync) -> None:
    """Make `pieces` the content of the file `name`, durable on return, whole at any instant."""
    temporary = directory / f"{name}.tmp"
    with open(temporary, "wb", buffering=0) as file:
        for piece in pieces:
            file.write(piece)
        fsync(file.fileno())
    os.replace(temporary, directory / name)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fsync(fd)
    finally:
        os.close(fd)


APPROACHES: Final[dict[str, Callable[[Path, Path | None], Approach]]] = {
    "bgsuper": Bgsuper,
    "thread": ThreadGroupCommit,
    "loop": InTheLoop,
}
