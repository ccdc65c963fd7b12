"""The default store: one SQLite database in WAL mode, every commit synced, large values in files beside it.

What lies where is in `layout`, the schema in `database`. Rules, beside those of `Store`:
1. The writer lock comes first. Nothing is changed before we know that the directory is ours and of a version that we
   know; a database that was here and is gone is `StoreCorrupt`, never an empty store.
2. `open()` commits the epoch's bump with a full sync, in the same WAL that may hold frames of a killed predecessor.
   Only then are the last sequence numbers read: that sync has made those frames durable.
3. After a failed sync the connection is not used any more: SQLite and the kernel disagree about what is on the disk.
4. A group that raised left nothing behind that a reader of this process could see. After a crash it may be there
   whole: a host never withdraws a commit, so both are right.
5. Sequence numbers only rise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final
from zlib import crc32

from ..errors import NotFound, StoreCorrupt, StoreError, StoreForeign, StoreFull, StoreInconsistent
from ..key import Key, Seq
from . import database
from .api import Batch, Opened, SnapshotFile
from .connection import Connection, Row, check_sqlite_version
from .files import drop_cached_pages, full_sync, make_directory, sync_file
from .index_check import IndexCheck, newest_id
from .layout import Layout
from .lock import Holder, WriterLock
from .snapshots import Snapshots, is_name_of
from .wal import check_tail

#: `apply` moves the WAL into the database when it has grown to this many bytes.
CHECKPOINT_BYTES: Final = 64 * 1024 * 1024
#: Epochs and sequence numbers, far more than there will be; a damaged row may hold anything.
_NUMBERS: Final = range(1 << 62)
#: What a record of a page costs beside its key and its value, about.
_ENTRY_BYTES: Final = 32
#: How long to wait for an orphaned worker that drains what its dead host sent.
LOCK_TIMEOUT_S: Final = 10.0

_PUT: Final = (
    "INSERT INTO record(primary_namespace, secondary_namespace, name, checksum, value) VALUES(?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET checksum = excluded.checksum, value = excluded.value"
)
_WHERE_KEY: Final = " WHERE primary_namespace = ? AND secondary_namespace = ? AND name = ?"
_REMOVE: Final = "DELETE FROM record" + _WHERE_KEY
_READ: Final = "SELECT checksum, value FROM record" + _WHERE_KEY
_SCAN: Final = (
    "SELECT name, checksum, value FROM record"
    " WHERE primary_namespace = ? AND secondary_namespace = ? AND name > ? ORDER BY name"
)
_CHECK: Final = (
    "SELECT id, primary_namespace, secondary_namespace, name, checksum, value FROM record"
    " WHERE id > ? AND id <= ? ORDER BY id LIMIT 64"
)
_POINT: Final = "INSERT OR REPLACE INTO snapshot VALUES(?, ?, ?, ?, ?, ?, ?)"
_UNPOINT: Final = "DELETE FROM snapshot" + _WHERE_KEY
_META: Final = "SELECT epoch, last_commit, last_snapshot FROM meta"
_NOTE_COMMIT: Final = "UPDATE meta SET last_commit = ?"
_NOTE_SNAPSHOT: Final = "UPDATE meta SET last_snapshot = max(last_snapshot, ?)"
_BUMP: Final = "UPDATE meta SET epoch = max(epoch, ?) + 1"


class SQLiteStore:
    """A `Store` in `directory`.

    `host_pid` is the supervisor's process, for whoever finds the lock taken. `fsync` makes snapshot files and
    directories durable, `vfs` names SQLite's: faults are injected there. `distrust_cache`: a predecessor's sync
    failed, so what the page cache holds is read from the disk again. `check`: read every value once, in the background,
    and call no key absent and no namespace complete before the index was checked.
    """

    atomic = True

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        host_pid: int,
        vfs: str = "unix-excl",
        fsync: Callable[[int], None] = full_sync,
        distrust_cache: bool = False,
        check: bool = False,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
    ) -> None:
        self._layout = Layout(os.path.abspath(directory))
        self._host_pid = host_pid
        self._vfs = vfs
        self._fsync = fsync
        self._distrust_cache = distrust_cache
        self._lock_timeout_s = lock_timeout_s
        self._index_check = IndexCheck()
        self._index_check.finished = not check
        self._checking = self._check() if check else None
        self._snapshots = Snapshots(self._layout.snapshots, fsync)
        self._lock: WriterLock | None = None
        self._connection: Connection | None = None
        self._pointers: dict[Key, SnapshotFile] = {}
        self._epoch = 0
        self._last_commit = 0

    # -- open and close -------------------------------------------------------------------------------------------

    def open(self) -> Opened:
        """Take the lock, find or make the database, fence off predecessors, and say what is durable.

        Raises `StoreLocked`, `StoreForeign`, `StoreTooNew`, `StoreCorrupt`, `StoreUnwritable`, `StoreFull`,
        `SyncFailed`, `ConfigError` (SQLite too old).
        """
        check_sqlite_version()
        make_directory(self._layout.directory, self._fsync)
        # Before the lock file is made: it would be the first thing that we change.
        self._layout.refuse_foreign()
        self._lock = WriterLock.acquire(self._layout.lock, self._lock_timeout_s)
        try:
            return self._open_locked(self._lock)
        except BaseException:
            self._release()
            raise

    def _open_locked(self, lock: WriterLock) -> Opened:
        layout = self._layout
        before = lock.holder()
        recorded = before.epoch if before else 0
        exists = database.check_header(layout.database, written_before=recorded > 0 or layout.has_remains())
        if before is None and lock.content and not exists:
            raise StoreForeign(f"expected a lock file of ours at {layout.lock}, found another; use another directory")
        lock.record(Holder(os.getpid(), self._host_pid, recorded), _no_sync)
        # Before SQLite opens them: closing any descriptor of a file drops this process's POSIX locks on it. The WAL
        # always: a sync of it may have failed under a host that could tell nobody.
        drop_cached_pages((layout.database, layout.wal) if self._distrust_cache else (layout.wal,))
        if not exists:
            database.create(layout.database, self._vfs, self._fsync)
        # Nothing is added to a WAL whose end is not durable: by that `wal` tells damage from a crash.
        sync_file(layout.wal, self._fsync)
        opened = self._connect(recorded)
        self._snapshots.prepare()
        lock.record(Holder(os.getpid(), self._host_pid, opened.epoch), self._fsync)
        self._snapshots.discard_orphans({pointer.file for pointer in self._pointers.values()})
        return opened

    def _connect(self, recorded: int) -> Opened:
        path = self._layout.database
        connection = self._connection = Connection(path, self._vfs)
        database.check_schema_version(path, connection.schema_version)
        # All that an open reads is read before anything is written: a refusal leaves the files as they were.
        check_tail(self._layout.wal, connection.recovered_frames())
        for table in ("meta", "snapshot"):
            connection.check_table(table)
        self._meta(connection)
        for row in connection.rows("SELECT * FROM snapshot", (), f"opening {path}"):
            pointer = _pointer(row)
            self._pointers[pointer.key] = pointer
        # The lock file's epoch is the greater one if an older database was put in place: epochs only rise.
        connection.transact([(_BUMP, [(recorded,)])], f"opening {path}")
        self._epoch, self._last_commit, last_snapshot = self._meta(connection)
        return Opened(self._epoch, Seq(self._last_commit), Seq(max(self._last_commit, last_snapshot)))

    def _meta(self, connection: Connection) -> tuple[int, int, int]:
        """The epoch, the newest commit, the newest snapshot."""
        path = self._layout.database
        match connection.row(_META, (), f"opening {path}"):
            case None:
                raise StoreCorrupt(f"the database {path} has lost its meta row; restore it from a backup")
            case (int(epoch), int(commit), int(snapshot)) if all(
                number in _NUMBERS for number in (epoch, commit, snapshot)
            ):
                return epoch, commit, snapshot
        raise StoreCorrupt(f"the meta row of the database {path} is damaged; restore it from a backup")

    def close(self) -> None:
        """Leave one file if possible, and give up the lock. Further calls do nothing."""
        try:
            if self._connection is not None and not self._connection.sync_failed:
                self._connection.empty_wal()
        except StoreError:
            # Every commit is durable in the WAL; the next open finds it there.
            pass
        finally:
            self._release()

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        lock, self._lock = self._lock, None
        try:
            if connection is not None:
                connection.close()
        finally:
            if lock is not None:
                lock.release()

    def _open_connection(self) -> Connection:
        if self._connection is None:
            raise StoreError(f"the store {self._layout.directory} is not open: call open() first")
        return self._connection

    # -- writing --------------------------------------------------------------------------------------------------

    def apply(self, group: Sequence[Batch]) -> None:
        """Write `group` in one synced transaction; within a batch, removes come after puts.

        Raises `StoreFull`, `SyncFailed`, `StoreUnwritable`, `StoreCorrupt`, and `StoreInconsistent` where sequence
        numbers do not rise.
        """
        connection = self._open_connection()
        last = self._last_commit
        final: dict[Key, bytes | None] = {}
        for batch in group:
            if batch.seq <= last:
                raise StoreInconsistent(f"expected a commit after {last}, got {batch.seq}; restart the worker")
            last = batch.seq
            final.update(batch.puts)
            if batch.removes:
                final.update(dict.fromkeys(batch.removes))
        if connection.wal_bytes >= CHECKPOINT_BYTES:
            # Before the group, so that a failure here leaves none of it.
            connection.checkpoint()
        replaced = self._pointers.keys() & final.keys()
        statements = (
            (_PUT, [(*key, _checksum(key, value), value) for key, value in final.items() if value is not None]),
            (_REMOVE, [key for key, value in final.items() if value is None]),
            (_UNPOINT, list(replaced)),
            (_NOTE_COMMIT, [(last,)]),
        )
        try:
            connection.transact(statements, "committing")
        except StoreFull:
            while self._snapshots.has_unneeded:
                self._snapshots.remove_some()
            raise
        self._layout.check_names()
        self._last_commit = last
        for key in replaced:
            self._snapshots.discard(self._pointers.pop(key).file)

    def write_snapshot(self, key: Key, seq: Seq, content: bytes) -> SnapshotFile:
        """Write `content` to a new file, durable on return. May run in another thread."""
        return self._snapshots.write(key, seq, self._epoch, content)

    def adopt_snapshot(self, snapshot: SnapshotFile) -> None:
        """Make `snapshot` its key's value, in place of a record or an older snapshot."""
        key, seq, *rest = snapshot
        self._open_connection().transact(
            ((_POINT, [(*key, seq, *rest)]), (_REMOVE, [key]), (_NOTE_SNAPSHOT, [(seq,)])),
            f"adopting the snapshot {seq} of {key}",
        )
        self._layout.check_names()
        replaced = self._pointers.get(key)
        self._pointers[key] = snapshot
        if replaced is not None and replaced.file != snapshot.file:
            self._snapshots.discard(replaced.file)

    def discard_snapshot(self, snapshot: SnapshotFile) -> None:
        """Remove the file of a snapshot that was not adopted."""
        self._snapshots.discard(snapshot.file)

    # -- reading --------------------------------------------------------------------------------------------------

    def read(self, key: Key) -> bytes:
        """The value of `key`. Raises `NotFound` only if it is absent, `StoreCorrupt` if it is damaged."""
        row = self._open_connection().row(_READ, key, f"reading {key}")
        if row is not None:
            return _verified(key, *row)
        pointer = self._pointers.get(key)
        if pointer is None:
            self._index_check.finish(self._open_connection())
            raise NotFound(f"there is no record {key}")
        return self._snapshots.read(pointer)

    def scan(self, primary: str, secondary: str, after: str, limit: int) -> list[tuple[Key, bytes]]:
        """A page of a namespace: in the order of names, from the first greater than `after`, at least one record, then
        as long as keys and values fit in `limit` bytes. Raises `StoreCorrupt`."""
        self._index_check.finish(self._open_connection())
        page: list[tuple[Key, bytes]] = []
        room = limit
        for key, length, value in self._merged(primary, secondary, after):
            # A key costs as well: a page of a million empty values would fit in no message.
            length += len(key.primary) + len(key.secondary) + len(key.name) + _ENTRY_BYTES
            if page and length > room:
                break
            page.append((key, value if isinstance(value, bytes) else self._snapshots.read(value)))
            room -= length
        return page

    def _merged(self, primary: str, secondary: str, after: str) -> Iterator[tuple[Key, int, bytes | SnapshotFile]]:
        """Records and snapshots of a namespace in the order of their names."""
        names = sorted(k.name for k in self._pointers if k[:2] == (primary, secondary) and k.name > after)
        pending = [self._pointers[Key(primary, secondary, name)] for name in reversed(names)]
        doing = f"listing {primary}/{secondary}"
        for name, checksum, value in self._open_connection().rows(_SCAN, (primary, secondary, after), doing):
            while pending and pending[-1].key.name < name:
                pointer = pending.pop()
                yield pointer.key, pointer.length, pointer
            key = Key(primary, secondary, name)
            verified = _verified(key, checksum, value)
            yield key, len(verified), verified
        for pointer in reversed(pending):
            yield pointer.key, pointer.length, pointer

    # -- checkpoints ----------------------------------------------------------------------------------------------

    @property
    def has_idle_work(self) -> bool:
        """Whether the WAL holds pages that are not yet in the database, snapshot files are to be removed, or values are
        still to be checked."""
        if self._connection is None:
            return False
        return self._connection.wal_bytes > 0 or self._snapshots.has_unneeded or self._checking is not None

    def idle(self) -> None:
        """Move the WAL's pages into the database, or else remove some of the snapshots that nothing refers to, or else
        check some values; call again while `has_idle_work`. Raises `StoreFull`, `SyncFailed`, `StoreCorrupt`."""
        connection = self._open_connection()
        if connection.wal_bytes:
            connection.checkpoint()
        elif self._snapshots.has_unneeded:
            self._snapshots.remove_some()
        elif not self._index_check.finished:
            self._index_check.step(connection)
        elif self._checking is not None and next(self._checking, True):
            self._checking = None

    def _check(self) -> Iterator[bool]:
        """Read and verify every value, a few at a time: damage is better found at start than when it is needed."""
        doing = "checking the records"
        # Only what was there at the start: what is written meanwhile would keep it busy for ever.
        last, end = 0, newest_id(self._open_connection())
        while rows := list(self._open_connection().rows(_CHECK, (last, end), doing)):
            for identifier, *key, checksum, value in rows:
                _verified(Key(*key), checksum, value)
                last = identifier
            yield False
        for pointer in list(self._pointers.values()):
            if self._pointers.get(pointer.key) == pointer:
                self._snapshots.read(pointer)
                yield False


def _checksum(key: Key, value: bytes) -> int:
    return crc32(value, crc32(key[2].encode()))


def _verified(key: Key, checksum: object, value: object) -> bytes:
    """`value`, if it is what `checksum` is of: in a damaged row each of the three may be of any type."""
    if not isinstance(key.name, str) or not isinstance(value, bytes) or _checksum(key, value) != checksum:
        name = "/".join(str(part) for part in key if part)
        raise StoreCorrupt(
            f"the record {name:.400} does not match its checksum; restore a backup or salvage the database"
        )
    return value


def _pointer(row: Row) -> SnapshotFile:
    match row:
        case (str(primary), str(secondary), str(name), int(seq), str(file), int(length), bytes(sum_)):
            pointer = SnapshotFile(Key(primary, secondary, name), Seq(seq), file, length, sum_)
            # The file's name tells key and seq once more.
            if is_name_of(file, pointer.key, pointer.seq):
                return pointer
    raise StoreCorrupt(f"a row of the snapshot table is damaged ({row[:4]!r:.200}); restore a backup")


def _no_sync(_fd: int) -> None:
    """For what the next open would rewrite anyway."""
