"""The model store: a log on a `Disk`, and snapshot files; the rules of `store.api.Store` in their simplest form.

What it does to the disk goes as effects into the script of whichever thread calls (`effects`); what it knows is its own
memory, as a process's is. Failures are those that the explorer chose: `Outcomes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...errors import NotFound, StoreCorrupt, StoreFull, SyncFailed
from ...key import Key, Seq
from ...store.api import Batch, Opened, SnapshotFile
from .disk import Content, Disk, Entry, Write
from .effects import (
    Append,
    Effect,
    FailedSync,
    FailedSyncFile,
    RemoveFile,
    Script,
    Sync,
    SyncDirectory,
    SyncFile,
    WriteFile,
)


@dataclass
class Outcomes:
    """How the store's next calls turn out."""

    failed_sync: str | None = None  #: the next sync fails, and this reached the platter
    no_space: bool = False  #: the next thing written finds no space
    failed_read: bool = False  #: the next read fails
    dies_at: int | None = None  #: at that disk operation the process dies (real stores only)
    fails_at: int | None = None  #: that sync fails (real stores only)


class ModelStore:
    """A `Store`. `script` is where effects of the writer go, `files` those of the snapshot lane."""

    atomic = True
    has_idle_work = False

    def __init__(self, disk: Disk, script: Script, files: Script) -> None:
        self._disk = disk
        self._script, self._files = script, files
        self.outcomes = Outcomes()
        self.content = Content()
        self._salt = 0

    def open(self) -> Opened:
        """Read the log from the platter, raise the epoch with a sync, and only then claim what was read.

        The cache is distrusted always: who learned of a failed sync may have died with that knowledge.
        """
        self._disk.drop_cache()
        self._disk.opened += 1
        self._salt = self._disk.opened
        self.content = content = self._disk.readable()
        self._commit(content.epoch + 1, content.last_commit, content.last_snapshot, ())
        referred = {value.file for value in content.values.values()}
        for name in self._disk.files:
            if name not in referred:
                self._do(RemoveFile(name))
        return Opened(content.epoch, Seq(content.last_commit), Seq(max(content.last_commit, content.last_snapshot)))

    def apply(self, group: Sequence[Batch]) -> None:
        """One entry, one sync."""
        self._need_space()
        writes = []
        for batch in group:
            writes += [Write(key, batch.seq, value) for key, value in batch.puts]
            writes += [Write(key, batch.seq, None) for key in batch.removes]
        content = self.content
        replaced = self._files_of(write.key for write in writes)
        self._commit(content.epoch, group[-1].seq, content.last_snapshot, tuple(writes))
        for name in replaced:
            self._do(RemoveFile(name))

    def write_snapshot(self, key: Key, seq: Seq, content: bytes) -> SnapshotFile:
        """A file, its sync, its directory's sync."""
        self._need_space()
        name = f"{key.name}-{seq}-{self.content.epoch}"
        self._files.append(WriteFile(name, content))
        if self.outcomes.failed_sync is not None:
            self.outcomes.failed_sync = None
            self._files += FailedSyncFile(name), RemoveFile(name)
            raise SyncFailed("the explorer failed the sync of a snapshot's file")
        self._files += SyncFile(name), SyncDirectory()
        return SnapshotFile(key, seq, name, len(content), b"")

    def adopt_snapshot(self, snapshot: SnapshotFile) -> None:
        """A pointer to the file, synced; then the file that it replaces goes."""
        self._need_space()
        key, seq, name, _, _ = snapshot
        content = self.content
        replaced = self._files_of((key,))
        newest = max(content.last_snapshot, seq)
        self._commit(content.epoch, content.last_commit, newest, (Write(key, seq, None, name),))
        for old in replaced:
            self._do(RemoveFile(old))

    def discard_snapshot(self, snapshot: SnapshotFile) -> None:
        self._do(RemoveFile(snapshot.file))

    def read(self, key: Key) -> bytes:
        """From the disk each time, so that it may fail each time."""
        if self.outcomes.failed_read:
            self.outcomes.failed_read = False
            raise SyncFailed(f"the explorer failed the read of {key}")
        found = self.content.values.get(key)
        if found is None or (found.value is None and found.file is None):
            raise NotFound(f"there is no record {key}")
        if found.value is not None:
            return found.value
        file = self._disk.files.get(found.file or "")
        if file is None or file.content is None:
            raise StoreCorrupt(f"the snapshot of {key} is missing or damaged: {found.file}")
        return file.content

    def scan(self, primary: str, secondary: str, after: str, limit: int) -> list[tuple[Key, bytes]]:
        """All of it in one page: a world has few records."""
        keys = sorted(
            key
            for key, found in self.content.values.items()
            if key[:2] == (primary, secondary)
            and key.name > after
            and (found.value is not None or found.file is not None)
        )
        return [(key, self.read(key)) for key in keys]

    def idle(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """The log is whole at any time."""

    # -- inside -------------------------------------------------------------------------------------------------------

    def _commit(self, epoch: int, last_commit: int, last_snapshot: int, writes: tuple[Write, ...]) -> None:
        content = self.content
        entry = Entry(content.checksum, self._salt, epoch, last_commit, last_snapshot, writes)
        self._do(Append(content.length, entry))
        self._sync()
        content.add(entry)

    def _sync(self) -> None:
        fates = self.outcomes.failed_sync
        if fates is not None:
            self.outcomes.failed_sync = None
            self._do(FailedSync(fates))
            raise SyncFailed("the explorer failed this sync")
        self._do(Sync())

    def _do(self, effect: Effect) -> None:
        self._script.append(effect)

    def _need_space(self) -> None:
        if self.outcomes.no_space:
            self.outcomes.no_space = False
            raise StoreFull("the explorer's disk is full")

    def _files_of(self, keys: Iterable[Key]) -> list[str]:
        found = (self.content.values.get(key) for key in keys)
        return [value.file for value in found if value is not None and value.file is not None]
