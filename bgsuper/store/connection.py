"""The one SQLite connection: synced transactions, checkpoints on request, and what a failure of it means.

Rules:
1. WAL, synchronous=FULL: a transaction that returned is durable. Checkpoints run when the caller says so, never inside
   a commit of SQLite's choosing (its automatic ones push p99 to 12-21 ms), and never on close.
2. Exclusive from the first access: the WAL's index lives in this process's memory, and nobody else can look in.
3. A transaction that raised was rolled back. After an I/O error nothing more is done on this connection: SQLite, the
   kernel and the disk may disagree about what is there, and a repeated sync would lie (fsyncgate).
4. SQLite releases before 3.51.3 can corrupt a database in WAL mode ("WAL-reset") and are refused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Final

import apsw

from ..errors import ConfigError, StoreCorrupt, StoreError, StoreUnwritable, SyncFailed
from .sqlite_failures import from_sqlite_error

FIXED_SQLITE: Final = (3, 51, 3)
#: Of a database that is made; one that is there keeps its own. Measured by benchmarks/pages.py at 1, 2, 4, 8, 16 KiB:
#: bytes of disk blocks written for each byte of a commit of 1 KiB 14, 12, 16, 27, 48; bytes stored for each byte of
#: such records 1.2, 2.1, 1.4, 1.2, 1.2; a group of 64 takes 1.6, 1.4, 1.7, 3.0, 4.8 ms, a lone commit 0.24-0.29 ms up
#: to 8 KiB. Less than the kernel's page saves a quarter of the writes at best, since blocks of 4 KiB are written all
#: the same, and wastes half of the space where records are just too large for two a page; more multiplies writes and
#: time.
PAGE_BYTES: Final = 4096
_FRAME_HEADER: Final = 24
#: How long opening waits for whoever reads the database, and goes.
BUSY_TIMEOUT_MS: Final = 5000

#: Of whatever columns the statement names.
Row = tuple[Any, ...]


def check_sqlite_version(version: str = apsw.sqlite_lib_version()) -> None:
    """Raise `ConfigError` if SQLite `version`, such as "3.54.1", has the WAL-reset bug."""
    if tuple(map(int, version.split(".")[:3])) < FIXED_SQLITE:
        raise ConfigError(
            f"expected SQLite 3.51.3 or later (others corrupt WAL databases), got {version}: upgrade apsw"
        )


class Connection:
    """An open database; the file must exist, and may be empty. Used by one thread."""

    def __init__(self, path: str, vfs: str, connect: Callable[[str, str], apsw.Connection] | None = None) -> None:
        """`connect` opens it in another way than for writing.

        Raises `StoreLocked`, `StoreCorrupt`, `StoreUnwritable`, `SyncFailed`.
        """
        self._path = path
        self._wal_pages = 0
        self._sync_failed = False
        try:
            self._sqlite = (connect or _connect)(path, vfs)
            try:
                # After _connect: switching automatic checkpoints off takes the hook's place.
                self._sqlite.set_wal_hook(self._note_wal)
                self._frame_bytes = self._pragma("page_size") + _FRAME_HEADER
                self.schema_version = self._pragma("user_version")
            except BaseException:
                # Nobody else has it, and it would keep its lock on the file.
                self._sqlite.close(True)
                raise
        except apsw.Error as error:
            raise from_sqlite_error(error, f"opening {path}") from error

    def transact(self, statements: Iterable[tuple[str, Sequence[Row]]], doing: str) -> None:
        """Run each statement once for each of its rows, in one synced transaction.

        Raises `StoreFull`, `SyncFailed`, `StoreUnwritable`, `StoreCorrupt`; then nothing of it is there.
        """
        sqlite = self._usable()
        try:
            sqlite.execute("BEGIN IMMEDIATE")
            for statement, rows in statements:
                if rows:
                    sqlite.executemany(statement, rows)
            sqlite.execute("COMMIT")
        except BaseException as error:
            failure = self._failure(error, doing) if isinstance(error, apsw.Error) else error
            self._roll_back()
            raise failure from error

    def rows(self, query: str, bindings: Row, doing: str) -> Iterator[Row]:
        """What `query` gives, read while iterating. Raises `StoreCorrupt`, `SyncFailed`."""
        try:
            yield from self._usable().execute(query, bindings)
        except apsw.Error as error:
            raise self._failure(error, doing) from error
        except UnicodeDecodeError as error:
            # Not its text: that has the damaged bytes.
            raise StoreCorrupt(f"{doing} failed: a text in {self._path} is damaged; restore a backup") from error

    def row(self, query: str, bindings: Row, doing: str) -> Row | None:
        """The first row of `query`, or None."""
        return next(self.rows(query, bindings, doing), None)

    @property
    def wal_bytes(self) -> int:
        """How much of the WAL is not yet in the database."""
        return self._wal_pages * self._frame_bytes

    def recovered_frames(self) -> int:
        """How many frames of the WAL SQLite takes for good. Raises `StoreCorrupt`, `SyncFailed`."""
        try:
            return max(0, self._usable().wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0])
        except apsw.Error as error:
            raise self._failure(error, f"opening {self._path}") from error

    def copy(self, target: apsw.Connection, pages: int) -> Generator[None, None, None]:
        """Copy the database into `target`, so many pages a draw. What is committed between two draws goes along; with
        the last, `target` holds what this does. No I/O error may come from `target`: it would be taken for ours.

        Raises `StoreCorrupt`, `SyncFailed`.
        """
        try:
            with target.backup("main", self._usable(), "main") as copying:
                while True:
                    self._usable()
                    copying.step(pages)
                    if copying.done:
                        return
                    yield
        except apsw.Error as error:
            raise self._failure(error, f"copying {self._path}") from error

    def check_table(self, table: str) -> None:
        """Raise `StoreCorrupt` unless `table` and its indexes are sound and agree; reads all of it."""
        doing = f"checking the table {table}"
        for (finding,) in self.rows(f"PRAGMA integrity_check({table})", (), doing):
            if finding != "ok":
                raise StoreCorrupt(f"{doing} of {self._path}: {finding:.200}; restore a backup or salvage the database")

    @property
    def sync_failed(self) -> bool:
        """Whether an I/O error has made this connection useless (rule 3)."""
        return self._sync_failed

    def checkpoint(self) -> None:
        """Move the WAL into the database; up to two syncs. Raises `StoreFull`, `SyncFailed`."""
        self._checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)

    def empty_wal(self) -> None:
        """`checkpoint`, then cut the WAL to nothing: one file holds all."""
        self._checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def close(self) -> None:
        """Close without a checkpoint; what was committed stays durable in the WAL."""
        self._sqlite.close(True)

    def _checkpoint(self, mode: int) -> None:
        try:
            self._usable().wal_checkpoint(mode=mode)
        except apsw.Error as error:
            raise self._failure(error, f"checkpointing {self._path}") from error
        # There are no other readers, so all of it was moved, and the next commit starts the WAL anew.
        self._wal_pages = 0

    def _usable(self) -> apsw.Connection:
        if self._sync_failed:
            raise SyncFailed(f"an earlier I/O error left {self._path} in doubt; open it in a new process")
        return self._sqlite

    def _note_wal(self, _sqlite: apsw.Connection, _database: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _roll_back(self) -> None:
        # SQLite ends the transaction itself on some errors.
        if self._sqlite.in_transaction:
            try:
                self._sqlite.execute("ROLLBACK")
            except apsw.Error:
                self._sync_failed = True

    def _failure(self, error: apsw.Error, doing: str) -> StoreError:
        failure = from_sqlite_error(error, doing, system_errno=self._sqlite.system_errno)
        self._sync_failed = self._sync_failed or isinstance(failure, SyncFailed)
        return failure

    def _pragma(self, name: str) -> int:
        value = self._sqlite.pragma(name)
        assert isinstance(value, int)
        return value


def _connect(path: str, vfs: str) -> apsw.Connection:
    sqlite = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW, vfs=vfs)
    try:
        # After a failed sync, or over a later version's WAL, nothing may be moved into the database.
        sqlite.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        sqlite.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        sqlite.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        # A backup that reads the file just now; we hold the writer lock, so it is nobody who could write.
        sqlite.set_busy_timeout(BUSY_TIMEOUT_MS)
        _expect(sqlite, "locking_mode", "EXCLUSIVE", "exclusive")
        sqlite.pragma("mmap_size", 0)
        sqlite.pragma("cell_size_check", True)
        if sys.platform == "darwin":
            sqlite.pragma("fullfsync", True)
            sqlite.pragma("checkpoint_fullfsync", True)
        # Before WAL mode, which writes the first page of a new one.
        sqlite.pragma("page_size", PAGE_BYTES)
        _expect(sqlite, "journal_mode", "WAL", "wal")
        sqlite.pragma("synchronous", "FULL")
        sqlite.wal_autocheckpoint(0)
    except BaseException:
        sqlite.close(True)
        raise
    return sqlite


def _expect(sqlite: apsw.Connection, pragma: str, value: str, answer: str) -> None:
    got = sqlite.pragma(pragma, value)
    if got != answer:
        raise StoreUnwritable(
            f"expected SQLite to set {pragma} = {answer} on {sqlite.filename}, it answered {got!r:.80}; "
            "use a local file system"
        )
