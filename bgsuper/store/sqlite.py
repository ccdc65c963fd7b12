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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError, NotFound, StoreError, StoreForeign, StoreFull, StoreInconsistent, StoreUnavailable
from ..key import Key, Seq
from . import database, rows
from .api import Batch, Opened, SnapshotFile
from .connection import Connection, check_sqlite_version
from .files import drop_cached_pages, full_sync, make_directory, sync_file
from .identity import Identity, check_seal
from .index_check import IndexCheck, newest_id
from .layout import Layout
from .lock import LOCK_TIMEOUT_S, Holder, WriterLock
from .mounts import refuse_remote
from .snapshots import Snapshots
from .wal import check_tail

if TYPE_CHECKING:
    from .backup.online import Backup

#: `apply` moves the WAL into the database when it has grown to this many bytes; mostly, `idle` was sooner. Measured by
#: benchmarks/checkpoints.py at 1, 4, 16, 64 MiB and never, groups of 64 commits of 1 KiB to 20 MiB of records: p99 of
#: all groups 10, 27, 53, 3.2, 5.1 ms; one group in 4, 16, 67 and 333 meets a checkpoint, and takes 9, 25, 55, 66 ms
#: (p50); groups a second 270, 278, 343, 511, 422. A checkpoint moves a page once however often it was written, so rare
#: ones write less. A dead writer's WAL of that size opens in 4, 7, 17 and 71 ms, one of 254 MiB in 261.
CHECKPOINT_BYTES: Final = 64 * 1024 * 1024
#: What a record of a page costs beside its key and its value, about.
_ENTRY_BYTES: Final = 32

#: SQLite's own limit of a row, less what else there is in it. (A commit may carry less: `ipc.messages.MAX_PAYLOAD`.)
MAX_RECORD_BYTES: Final = 999_990_000

_PUT: Final = (
    "INSERT INTO record(primary_namespace, secondary_namespace, name, checksum, value) VALUES(?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET checksum = excluded.checksum, value = excluded.value"
)
_REMOVE: Final = "DELETE FROM record" + rows.WHERE_KEY
_SCAN: Final = (
    "SELECT name, checksum, value FROM record"
    " WHERE primary_namespace = ? AND secondary_namespace = ? AND name > ? ORDER BY name"
)
_CHECK: Final = (
    "SELECT id, primary_namespace, secondary_namespace, name, checksum, value FROM record"
    " WHERE id > ? AND id <= ? ORDER BY id LIMIT 64"
)
_POINT: Final = "INSERT OR REPLACE INTO snapshot VALUES(?, ?, ?, ?, ?, ?, ?)"
_UNPOINT: Final = "DELETE FROM snapshot" + rows.WHERE_KEY
_NOTE: Final = "UPDATE meta SET identity = ?"


class SQLiteStore:
    """A `Store` in `directory`.

    `host_pid` is the supervisor's process, for whoever finds the lock taken. `fsync` makes snapshot files and
    directories durable, `vfs` names SQLite's: faults are injected there. `distrust_cache`: a predecessor's sync
    failed, so what the page cache holds is read from the disk again. `check`: read every value once, in the background,
    and call no key absent and no namespace complete before the index was checked. `seal` is the fingerprint of the key
    that its values come sealed with, if they do.
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
        seal: bytes = b"",
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
        self._backup: Backup | None = None
        self._identity = Identity.new(seal)

    # -- open and close -------------------------------------------------------------------------------------------

    def open(self) -> Opened:
        """Take the lock, find or make the database, fence off predecessors, and say what is durable.

        Raises `StoreLocked`, `StoreUnavailable` (somebody looks into it), `StoreForeign`, `StoreTooNew`,
        `StoreCorrupt`, `StoreSealed`, `StoreUnwritable`, `StoreFull`, `SyncFailed`, `ConfigError` (SQLite too old).
        """
        check_sqlite_version()
        make_directory(self._layout.directory, self._fsync)
        refuse_remote(self._layout.directory)
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
            database.create(layout.database, self._identity, self._vfs, self._fsync)
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
        identity = rows.read_identity(connection, path)
        check_seal(identity.seal, self._identity.seal, path)
        self._pointers = rows.read_pointers(connection, path)
        # The lock file's epoch is the greater one if an older database was put in place: epochs only rise.
        identity = identity._replace(epoch=max(identity.epoch, recorded) + 1)
        connection.transact([(_NOTE, [(identity.pack(),)])], f"opening {path}")
        self._identity = identity = rows.read_identity(connection, path)
        return Opened(identity.epoch, identity.last_commit, identity.last_seq, identity.store_id)

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
        if self._backup is not None:
            self._backup.abort()
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
        last = self._identity.last_commit
        final: dict[Key, bytes | None] = {}
        for batch in group:
            if batch.seq <= last:
                raise StoreInconsistent(f"expected a commit after {last}, got {batch.seq}; restart the worker")
            last = batch.seq
            final.update(batch.puts)
            if batch.removes:
                final.update(dict.fromkeys(batch.removes))
        self._write(final, self._identity._replace(last_commit=last))

    def import_records(self, records: Sequence[tuple[Key, bytes]]) -> None:
        """Put `records` under no commit's number. Raises `ConfigError` for one that SQLite cannot hold."""
        for key, value in records:
            if len(value) > MAX_RECORD_BYTES:
                raise ConfigError(
                    f"the record {key} has {len(value)} bytes, SQLite takes {MAX_RECORD_BYTES}: copy into a file: store"
                )
        self._write(dict(records), self._identity)

    def import_identity(self, identity: Identity) -> None:
        """Go on as `identity`, which another store had; the own seal stays."""
        self._write({}, identity._replace(seal=self._identity.seal))

    def _write(self, final: Mapping[Key, bytes | None], identity: Identity) -> None:
        connection = self._open_connection()
        if connection.wal_bytes >= CHECKPOINT_BYTES:
            # Before the group, so that a failure here leaves none of it.
            connection.checkpoint()
        replaced = self._pointers.keys() & final.keys()
        statements = (
            (_PUT, [(*key, rows.checksum(key, value), value) for key, value in final.items() if value is not None]),
            (_REMOVE, [key for key, value in final.items() if value is None]),
            (_UNPOINT, list(replaced)),
            (_NOTE, [(identity.pack(),)]),
        )
        try:
            connection.transact(statements, "committing")
        except StoreFull:
            while self._snapshots.has_unneeded:
                self._snapshots.remove_some()
            raise
        self._layout.check_names()
        self._identity = identity
        for key in replaced:
            self._snapshots.discard(self._pointers.pop(key).file)

    def write_snapshot(self, key: Key, seq: Seq, content: bytes) -> SnapshotFile:
        """Write `content` to a new file, durable on return. May run in another thread."""
        return self._snapshots.write(key, seq, self._identity.epoch, content)

    def adopt_snapshot(self, snapshot: SnapshotFile) -> None:
        """Make `snapshot` its key's value, in place of a record or an older snapshot."""
        key, seq, *rest = snapshot
        identity = self._identity._replace(last_snapshot=max(self._identity.last_snapshot, seq))
        self._open_connection().transact(
            ((_POINT, [(*key, seq, *rest)]), (_REMOVE, [key]), (_NOTE, [(identity.pack(),)])),
            f"adopting the snapshot {seq} of {key}",
        )
        self._layout.check_names()
        self._identity = identity
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
        value = rows.read_record(self._open_connection(), key)
        if value is not None:
            return value
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
            verified = rows.verified(key, checksum, value)
            yield key, len(verified), verified
        for pointer in reversed(pending):
            yield pointer.key, pointer.length, pointer

    def facts(self) -> Mapping[str, object]:
        """What an operator may want to know of the open store; from any thread, at once: of what is in memory."""
        connection = self._connection
        return {
            **self._identity.facts(),
            "wal_bytes": connection.wal_bytes if connection is not None else 0,
            "snapshots": len(self._pointers),
        }

    def begin_backup(self, directory: str) -> Backup:
        """Begin to copy the store to `directory`, an absolute path, as it will be when that is done; see `backup`.

        Raises `ConfigError`, `StoreUnavailable`.
        """
        from .backup.online import Backup, Moment

        connection = self._open_connection()
        if self._backup is not None and not self._backup.over:
            raise StoreUnavailable(f"a backup of {self._layout.directory} is under way: begin when it is over")
        self._backup = Backup(
            connection,
            self._snapshots,
            lambda: Moment(self._identity, tuple(self._pointers.values())),
            self._layout,
            Holder(os.getpid(), self._host_pid, 0),
            directory,
            self._fsync,
        )
        return self._backup

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
        while page := list(self._open_connection().rows(_CHECK, (last, end), doing)):
            for identifier, *key, checksum, value in page:
                rows.verified(Key(*key), checksum, value)
                last = identifier
            yield False
        for pointer in list(self._pointers.values()):
            if self._pointers.get(pointer.key) == pointer:
                self._snapshots.read(pointer)
                yield False


def _no_sync(_fd: int) -> None:
    """For what the next open would rewrite anyway."""
