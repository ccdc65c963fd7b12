"""A store whose values are sealed before the backend sees them.

Rules:
1. The backend keeps its own promises (order, atomicity, durability, checksums) of the sealed bytes, and this layer adds
   none and takes none away: every lock, number and file is the backend's.
2. Sealing is done before the backend begins its transaction, so that it never lengthens one; a value that a later
   commit of the same group replaces is not sealed at all.
3. The backend was given the key's fingerprint and refuses to open with another (`identity.check_seal`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from ...key import Key, Seq
from ..api import Batch, CopyTarget, Described, Opened, SnapshotFile
from ..identity import Identity
from .sealer import Sealer

if TYPE_CHECKING:
    from ..backup.online import Backup

#: What a record of a page costs beside its key and its value, about.
_ENTRY_BYTES: Final = 32


class SealedBatch(NamedTuple):
    """A `Batch` as the backend gets it."""

    seq: Seq
    puts: tuple[tuple[Key, bytes], ...]
    removes: tuple[Key, ...]


class SealedStore:
    """A `CopyTarget` around `store`, which was made with `sealer.fingerprint`."""

    def __init__(self, store: CopyTarget, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    @property
    def atomic(self) -> bool:
        """The backend's."""
        return self._store.atomic

    def open(self) -> Opened:
        """Open the backend. Raises `StoreSealed` where it is sealed with another key or not at all."""
        return self._store.open()

    def close(self) -> None:
        """Close the backend."""
        self._store.close()

    # -- writing --------------------------------------------------------------------------------------------------

    def apply(self, group: Sequence[Batch]) -> None:
        """Seal what `group` leaves behind, and have it written."""
        self._store.apply(self._sealed(group))

    def _sealed(self, group: Sequence[Batch]) -> list[SealedBatch]:
        seal = self._sealer.seal
        sealed: list[SealedBatch] = []
        settled: set[Key] = set()  #: what batches after this one put or remove
        for batch in reversed(group):
            settled.update(batch.removes)
            latest = {key: value for key, value in batch.puts if key not in settled}
            settled.update(latest)
            puts = tuple((key, seal(key, value)) for key, value in latest.items())
            sealed.append(SealedBatch(batch.seq, puts, batch.removes))
        sealed.reverse()
        return sealed

    def import_records(self, records: Sequence[tuple[Key, bytes]]) -> None:
        """Seal `records`, and put them under no commit's number."""
        self._store.import_records([(key, self._sealer.seal(key, value)) for key, value in records])

    def import_identity(self, identity: Identity) -> None:
        """Go on as `identity`; the own seal stays."""
        self._store.import_identity(identity)

    def write_snapshot(self, key: Key, seq: Seq, content: bytes) -> SnapshotFile:
        """Seal `content`, and write it to a new file. May run in another thread."""
        return self._store.write_snapshot(key, seq, self._sealer.seal(key, content))

    def adopt_snapshot(self, snapshot: SnapshotFile) -> None:
        """Make `snapshot` its key's value."""
        self._store.adopt_snapshot(snapshot)

    def discard_snapshot(self, snapshot: SnapshotFile) -> None:
        """Remove the file of a snapshot that was not adopted."""
        self._store.discard_snapshot(snapshot)

    # -- reading --------------------------------------------------------------------------------------------------

    def read(self, key: Key) -> bytes:
        """The value of `key`, opened. Raises `StoreTampered`, and what the backend raises."""
        return self._sealer.open(key, self._store.read(key))

    def scan(self, primary: str, secondary: str, after: str, limit: int) -> list[tuple[Key, bytes]]:
        """A page of a namespace, opened; `limit` counts what comes out. Raises `StoreTampered`, and what the backend
        raises."""
        page: list[tuple[Key, bytes]] = []
        room = limit
        # The backend's pages are too short where sealing made values longer, and too long where they were compressed.
        while (not page or room > _ENTRY_BYTES) and (rows := self._store.scan(primary, secondary, after, room)):
            for key, sealed in rows:
                cost = self._sealer.length(key, sealed) + sum(map(len, key)) + _ENTRY_BYTES
                if page and cost > room:
                    return page
                page.append((key, self._sealer.open(key, sealed)))
                room -= cost
                after = key.name
        return page

    # -- chores ---------------------------------------------------------------------------------------------------

    @property
    def has_idle_work(self) -> bool:
        """The backend's."""
        return self._store.has_idle_work

    def idle(self) -> None:
        """Do the backend's chores."""
        self._store.idle()

    def facts(self) -> Mapping[str, object]:
        """The backend's, if it tells any."""
        return self._store.facts() if isinstance(self._store, Described) else {}

    def begin_backup(self, directory: str) -> Backup:
        """Begin the backend's backup: a copy of the sealed values, with the same key. Raises `ConfigError` if the
        backend has no such thing, and what that raises."""
        from ..backup.online import begin_backup

        return begin_backup(self._store, directory)
