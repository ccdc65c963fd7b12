"""A store in the worker's memory, for tests: `memory:`.

What it promises, in its own words, and what it does not:
1. It keeps nothing once its process ends, or once it is closed. An acknowledgement means "the worker has it", and is
   worth as much as the worker's life. `Opened.store_id` is empty: there is no store to come back to.
2. The death of a worker loses it all. The successor finds an empty store at epoch 1 and says so, the host sees that
   this contradicts what was before, and fails with `StoreInconsistent`: it never goes on as if nothing had happened.
3. While it lives it is a store like any other: `apply` is all or nothing (`atomic`), numbers only rise, pages are
   bounded. Nothing is shared: two of them are two stores, so there is no lock that could be taken.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final

from ..errors import NotFound, StoreError, StoreInconsistent
from ..key import Key, Seq
from .api import Batch, Opened, SnapshotFile
from .identity import Identity

#: What a record of a page costs beside its key and its value, about.
_ENTRY_BYTES: Final = 32


class MemoryStore:
    """A `CopyTarget` that holds everything in dicts. `seal` is kept in its identity; the other options are for stores
    on disks, and mean nothing here."""

    atomic = True
    has_idle_work = False

    def __init__(
        self,
        *,
        host_pid: int = 0,
        distrust_cache: bool = False,
        check: bool = False,
        lock_timeout_s: float = 0.0,
        fsync: Callable[[int], None] | None = None,
        seal: bytes = b"",
    ) -> None:
        self._seal = seal
        self._identity: Identity | None = None  #: None while it is not open
        self._records: dict[Key, bytes] = {}
        self._written: dict[str, bytes] = {}  #: snapshots that are not adopted yet
        self._attempts = count()

    def open(self) -> Opened:
        """Begin with nothing, at epoch 1. Raises `StoreError` if it is open already."""
        if self._identity is not None:
            raise StoreError("this store in memory is open already: make another one")
        self._identity = Identity.new(self._seal)._replace(epoch=1)
        return Opened(self._identity.epoch, self._identity.last_commit, self._identity.last_seq)

    def close(self) -> None:
        """Forget everything. Further calls do nothing."""
        self._identity = None
        self._records.clear()
        self._written.clear()

    # -- writing --------------------------------------------------------------------------------------------------

    def apply(self, group: Sequence[Batch]) -> None:
        """Put and remove what `group` says, all or nothing; within a batch, removes come after puts.

        Raises `StoreInconsistent` where sequence numbers do not rise.
        """
        identity = self._open_identity()
        last = identity.last_commit
        final: dict[Key, bytes | None] = {}
        for batch in group:
            if batch.seq <= last:
                raise StoreInconsistent(f"expected a commit after {last}, got {batch.seq}; restart the worker")
            last = batch.seq
            final.update(batch.puts)
            final.update(dict.fromkeys(batch.removes))
        for key, value in final.items():
            if value is None:
                self._records.pop(key, None)
            else:
                self._records[key] = value
        self._identity = identity._replace(last_commit=last)

    def import_records(self, records: Sequence[tuple[Key, bytes]]) -> None:
        """Put `records` under no commit's number."""
        self._open_identity()
        self._records.update(records)

    def import_identity(self, identity: Identity) -> None:
        """Go on as `identity`, which another store had; the own seal stays."""
        self._open_identity()
        self._identity = identity._replace(seal=self._seal)

    def write_snapshot(self, key: Key, seq: Seq, content: bytes) -> SnapshotFile:
        """Hold `content` until it is adopted or discarded. May run in another thread."""
        self._open_identity()
        file = f"{seq}-{next(self._attempts)}"
        self._written[file] = content
        return SnapshotFile(key, seq, file, len(content), b"")

    def adopt_snapshot(self, snapshot: SnapshotFile) -> None:
        """Make `snapshot` its key's value. Raises `StoreError` for one that was never written here."""
        identity = self._open_identity()
        try:
            self._records[snapshot.key] = self._written.pop(snapshot.file)
        except KeyError:
            raise StoreError(f"expected a snapshot that this store wrote, got {snapshot.file!r:.200}") from None
        self._identity = identity._replace(last_snapshot=max(identity.last_snapshot, snapshot.seq))

    def discard_snapshot(self, snapshot: SnapshotFile) -> None:
        """Let go of a snapshot that was not adopted."""
        self._written.pop(snapshot.file, None)

    # -- reading --------------------------------------------------------------------------------------------------

    def read(self, key: Key) -> bytes:
        """The value of `key`. Raises `NotFound` if it is absent."""
        self._open_identity()
        try:
            return self._records[key]
        except KeyError:
            raise NotFound(f"there is no record {key}") from None

    def scan(self, primary: str, secondary: str, after: str, limit: int) -> list[tuple[Key, bytes]]:
        """A page of a namespace, as `Store.scan` has it."""
        self._open_identity()
        names = sorted(key.name for key in self._records if key[:2] == (primary, secondary))
        page: list[tuple[Key, bytes]] = []
        room = limit
        for name in names[bisect_right(names, after) :]:
            key = Key(primary, secondary, name)
            value = self._records[key]
            room -= sum(map(len, key)) + len(value) + _ENTRY_BYTES
            if page and room < 0:
                break
            page.append((key, value))
        return page

    def idle(self) -> None:
        """Nothing to do."""

    def _open_identity(self) -> Identity:
        if self._identity is None:
            raise StoreError("the store in memory is not open: call open() first")
        return self._identity
