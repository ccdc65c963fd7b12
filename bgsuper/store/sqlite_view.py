"""A SQLite store that no writer has open, looked into without changing a byte of it.

Rules:
1. The writer lock is shared while the view lives, if there is a lock file; a backup has none.
2. What `SQLiteStore.open` refuses for good (foreign, too new, another seal), the view refuses as it is made, with the
   same errors; unless the schema says that only the header is wrong. Damage it keeps for whoever asks: `identity`,
   `entries` and `read` raise it, `examine` goes on; where the identity cannot tell whether the store is sealed, and no
   key was given, what looks sealed is damage.
3. `entries` and `read` ask SQLite, which sees the store as its writer would (`untouched`). `examine` asks nobody: it
   reads the trees itself (`examination`), since SQLite stops at damage, and drops what a damaged WAL still holds.
4. Nothing is called absent, and no listing complete, before the index was checked (`index_check`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from heapq import merge
from typing import Final

import apsw

from ..errors import NotFound, StoreCorrupt, StoreError, StoreForeign, StoreTooNew, StoreUnwritable, SyncFailed
from ..key import Key
from . import database, rows
from .api import Damage, Entry, SnapshotFile, Value
from .connection import Connection
from .examination import Examination
from .failures import from_os_error
from .files import full_sync
from .identity import Identity, check_seal
from .index_check import IndexCheck
from .layout import Layout
from .lock import WriterLock
from .pages import Pages
from .sealed_form import without_sealed
from .snapshots import Snapshots
from .untouched import open_untouched
from .wal import check_tail

_ENTRIES: Final = (
    "SELECT primary_namespace, secondary_namespace, name, length(value) FROM record"
    " ORDER BY primary_namespace, secondary_namespace, name"
)
_COUNTED: Final = {
    "page bytes": "PRAGMA page_size",
    "unused pages": "PRAGMA freelist_count",
    "records": "SELECT count(*) FROM record",
}


class SQLiteView:
    """A `StoreView` of the store in `directory`; `seal` is the fingerprint of the key in hand, empty for none."""

    def __init__(self, directory: str | os.PathLike[str], *, seal: bytes = b"") -> None:
        """Raises `StoreLocked` while a writer lives, `StoreForeign` (also where there is nothing), `StoreTooNew`,
        `StoreSealed`, `StoreUnwritable`, and `StoreCorrupt` where no database is left at all."""
        self._layout = Layout(os.path.abspath(directory))
        self._snapshots = Snapshots(self._layout.snapshots, full_sync)
        self._pointers: dict[Key, SnapshotFile] = {}
        self._index_check = IndexCheck()
        self._connection: Connection | None = None
        self._damage: str | None = None
        self._recovered = 0
        self._may_be_sealed = False
        self._lock = self._keep_writers_out()
        try:
            self._refuse_others(seal)
        except BaseException:
            self.close()
            raise

    def _keep_writers_out(self) -> WriterLock | None:
        directory = self._layout.directory
        if not os.path.isdir(directory):
            if os.path.lexists(directory):
                raise StoreUnwritable(f"expected a directory at {directory}, found something else")
            raise StoreForeign(f"expected a store at {directory}, found nothing: look at the path")
        return WriterLock.acquire_existing(self._layout.lock)

    def _refuse_others(self, seal: bytes) -> None:
        path = self._layout.database
        database.refuse_journal(path)
        try:
            self._open(path)
        except (StoreCorrupt, StoreForeign, StoreTooNew, SyncFailed) as error:
            if not os.path.isfile(path) or not self._is_damage(error):
                raise
            self._damage = str(error)
        try:
            identity = self.identity
        except StoreCorrupt:
            self._may_be_sealed = not seal
            return
        check_seal(identity.seal, seal, path)

    def _open(self, path: str) -> None:
        """See what `SQLiteStore.open` would see."""
        holder = self._lock.holder() if self._lock is not None else None
        traces = (holder is not None and holder.epoch > 0) or self._layout.has_remains()
        if not database.check_header_to_read(path, written_before=traces):
            raise StoreForeign(f"expected a store at {self._layout.directory}, found none: look at the path")
        self._connection = connection = open_untouched(path)
        database.check_schema_version(path, connection.schema_version)
        self._recovered = connection.recovered_frames()
        check_tail(self._layout.wal, self._recovered)
        for table in ("meta", "snapshot"):
            connection.check_table(table)
        self._identity = rows.read_identity(connection, path)
        self._pointers = rows.read_pointers(connection, path)

    def _is_damage(self, error: StoreError) -> bool:
        """One flipped byte makes our header a foreign one, or a later one, but not our tables."""
        if not isinstance(error, (StoreForeign, StoreTooNew)):
            return True
        with self._examination() as examination:
            # A later version has other tables, beside ours or in their place.
            return examination.is_ours_alone if isinstance(error, StoreTooNew) else examination.is_ours

    @contextmanager
    def _examination(self) -> Iterator[Examination]:
        path = self._layout.database
        try:
            pages = Pages(path, self._recovered)
        except OSError as error:
            raise from_os_error(error, f"reading {path}") from error
        with pages:
            yield Examination(pages)

    @property
    def identity(self) -> Identity:
        """Which store it is, and how far it has come. Raises `StoreCorrupt`."""
        if self._damage is None:
            return self._identity
        # What SQLite sees may be an old state.
        with self._examination() as examination:
            return examination.identity(self._layout.database)

    def facts(self) -> Mapping[str, object]:
        """Paths, versions, sizes in bytes; the damage that stops it, or how much of what there is."""
        layout = self._layout
        files = self._snapshots.sizes()
        referred = {pointer.file for pointer in self._pointers.values()}
        facts: dict[str, object] = {
            "directory": layout.directory,
            "database": layout.database,
            "schema version": database.SCHEMA_VERSION,
            "SQLite version": apsw.sqlite_lib_version(),
            "database bytes": _size(layout.database),
            "WAL bytes": _size(layout.wal),
            "snapshot files": len(files),
            "snapshot bytes": sum(files.values()),
        }
        if self._damage is not None or self._connection is None:
            return facts | {"damage": self._damage}
        orphans = [size for name, size in files.items() if name not in referred]
        for fact, query in _COUNTED.items():
            try:
                row = self._connection.row(query, (), f"counting the {fact}")
            except StoreError as error:
                return facts | {"damage": str(error)}
            facts[fact] = row[0] if row is not None else None
        return facts | {
            "snapshots": len(self._pointers),
            "orphan files": len(orphans),
            "orphan bytes": sum(orphans),
        }

    def entries(self) -> Iterator[Entry]:
        """Every value in the order of the keys. Raises `StoreCorrupt`."""
        connection = self._whole()
        self._index_check.finish(connection)
        snapshots = (Entry(key, pointer.length, pointer.seq) for key, pointer in sorted(self._pointers.items()))
        last: Key | None = None
        for entry in merge(self._record_entries(connection), snapshots, key=lambda entry: entry.key):
            if last is not None and entry.key <= last:
                raise StoreCorrupt(f"there are two values {last}, or they are out of order; restore a backup")
            last = entry.key
            yield entry

    def _record_entries(self, connection: Connection) -> Iterator[Entry]:
        for row in connection.rows(_ENTRIES, (), "listing the records"):
            match row:
                case (str(primary), str(secondary), str(name), int(length)):
                    yield Entry(Key(primary, secondary, name), length, None)
                case _:
                    raise StoreCorrupt(f"a record is damaged ({row!r:.400}); restore a backup or salvage the database")

    def read(self, key: Key) -> bytes:
        """The value of `key`, verified. Raises `NotFound` only if it is absent, `StoreCorrupt` if it is damaged."""
        connection = self._whole()
        value = rows.read_record(connection, key)
        if value is not None:
            return value
        if key in self._pointers:
            return self._snapshots.read(self._pointers[key])
        self._index_check.finish(connection)
        raise NotFound(f"there is no record {key}")

    def examine(self) -> Iterator[Value | Damage]:
        """Every value that is whole, and what is not: records first, then snapshots."""
        if self._damage is not None:
            yield Damage(None, self._damage)
        with self._examination() as examination:
            values = examination.values(self._snapshots)
            yield from without_sealed(values) if self._may_be_sealed else values
        # What it looks at beside: free space within pages, the order of rows, what the index says of each.
        if self._connection is not None:
            yield from _integrity(self._connection)

    def close(self) -> None:
        """Let writers in again. Further calls do nothing."""
        connection, self._connection = self._connection, None
        lock, self._lock = self._lock, None
        if connection is not None:
            connection.close()
        if lock is not None:
            lock.release()

    def _whole(self) -> Connection:
        if self._damage is not None:
            raise StoreCorrupt(self._damage)
        if self._connection is None:
            raise StoreError(f"the view of {self._layout.directory} is closed: make another")
        return self._connection


def _integrity(connection: Connection) -> Iterator[Damage]:
    try:
        for (finding,) in connection.rows("PRAGMA integrity_check", (), "checking the database"):
            if finding != "ok":
                yield Damage(None, f"SQLite says: {finding:.400}")
    except StoreError as error:
        yield Damage(None, str(error))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise from_os_error(error, f"looking at {path}") from error
