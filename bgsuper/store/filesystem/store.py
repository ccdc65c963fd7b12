"""A store in LDK's directory layout: `file:///directory`.

What lies where is in `tree`, what makes a group whole in `redo`. Rules, beside those of `Store`:
1. A group is applied so: look whether anything stands in its way; write each value under a name of its own, durably;
   write the redo file, durably; give the values their names and remove what goes, durably; acknowledge. What is
   acknowledged is durable in LDK's own layout, not in a log beside it.
2. Up to the redo file a failure undoes itself: nobody ever saw the group. From there on any failure is `SyncFailed`,
   and this process does nothing more: whoever opens the store next finishes the group.
3. `open()` makes durable what it finds, finishes the group that the redo file names, and only then claims anything.
   While the store idles, and at its end, the redo file is emptied, so that a directory that was handed to LDK and came
   back is not rolled back. After a crash, open the store once before LDK does.
4. A directory that LDK wrote is taken over as it is; with anything foreign in it, it is refused, and nothing changed. A
   directory of ours stays ours: what appears in it later and is no key is passed over.
5. The layout has no index: a value's file that somebody else removes cannot be told from one that never was.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Final

from ...errors import (
    NotFound,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreInconsistent,
    StoreUnavailable,
    StoreUnwritable,
    SyncFailed,
)
from ...key import Key, Seq, check_key, check_namespace
from ..api import Batch, Opened, SnapshotFile
from ..files import drop_cached_pages, full_sync, make_directory
from ..identity import Identity, check_seal
from ..lock import LOCK_TIMEOUT_S, Holder, WriterLock
from ..mounts import refuse_remote
from . import values
from .freeing import Freeing
from .namespaces import Namespaces
from .opening import load_redo, refuse_foreign, survey
from .placing import check_on_their_way, check_places, directories_of, is_value, place, unfinished
from .redo import Adopt, Redo, Remove
from .redo_file import RedoFile
from .stamp import Stamp
from .syncing import Sync, Syncing
from .tree import Kind, Tree, is_temporary_name

#: What a record of a page costs beside its key and its value, about.
_ENTRY_BYTES: Final = 32
_CHECKSUM_BYTES: Final = 4
#: How much one step of the check reads, where a file costs as much as so many bytes: a millisecond or so.
_CHECK_BYTES: Final = 1024 * 1024
_ENTRY_COST: Final = 16 * 1024


class FilesystemStore:
    """A `CopyTarget` in `directory`.

    The options are those of `SQLiteStore`. `fsync` makes a file or a directory durable, and `syncfs`, if there is one,
    the whole file system: faults are injected there.
    """

    atomic = True

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        host_pid: int,
        distrust_cache: bool = False,
        check: bool = False,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        fsync: Sync = full_sync,
        syncfs: Sync | None = None,
        seal: bytes = b"",
    ) -> None:
        self._tree = Tree(os.path.abspath(directory))
        self._host_pid = host_pid
        self._distrust_cache = distrust_cache
        self._lock_timeout_s = lock_timeout_s
        self._fsync, self._syncfs = fsync, syncfs
        self._checking = self._check() if check else None
        self._identity = Identity.new(seal)
        self._lock: WriterLock | None = None
        self._syncing: Syncing | None = None
        self._failed: StoreError | None = None
        self._freeing = Freeing()
        #: Of temporary names: with the epoch at open they never recur.
        self._epoch, self._attempts = 0, count()
        self._namespaces = Namespaces(self._tree)
        self._redo_file = RedoFile(self._tree)
        #: Whether it names operations, all of them done.
        self._redo_is_full = False
        self._listed: tuple[str, str, list[str]] | None = None

    # -- open and close -------------------------------------------------------------------------------------------

    def open(self) -> Opened:
        """Take the lock, make or take over the directory, fence off predecessors, and say what is durable.

        Raises `StoreLocked`, `StoreForeign`, `StoreTooNew`, `StoreCorrupt`, `StoreSealed`, `StoreUnwritable`,
        `StoreFull`, `SyncFailed`.
        """
        make_directory(self._tree.root, self._fsync)
        refuse_remote(self._tree.root)
        # Before the lock file is made: it would be the first thing that we change.
        refuse_foreign(self._tree)
        self._lock = WriterLock.acquire(self._tree.lock, self._lock_timeout_s)
        try:
            return self._open_locked(self._lock)
        except BaseException:
            self._release()
            raise

    def _open_locked(self, lock: WriterLock) -> Opened:
        tree = self._tree
        before = lock.holder()
        recorded = before.epoch if before else 0
        found = survey(tree)
        if found.obstacle is not None:
            raise found.obstacle
        if self._distrust_cache:
            drop_cached_pages(item.path for item in tree.walk() if item.kind in (Kind.VALUE, Kind.LEFTOVER))
            drop_cached_pages((tree.redo,))
        redo = load_redo(tree, found, recorded=recorded)
        if before is None and lock.content and redo is None:
            raise StoreForeign(f"expected a lock file of ours at {tree.lock}, found another; use another directory")
        if redo is not None or found.values:
            check_seal(redo.identity.seal if redo else b"", self._identity.seal, tree.root)
        identity, operations = redo or Redo(self._identity)
        # All that an open reads is read before anything is written: a refusal leaves the files as they were.
        left = unfinished(tree, operations, tree.redo)
        lock.record(Holder(os.getpid(), self._host_pid, recorded), _no_sync)
        syncing = self._syncing = Syncing(tree, self._fsync, self._syncfs)
        syncing.what_is_there()
        place(tree, left, self._freeing)
        syncing.directories(directories_of(tree, operations))
        # The lock file's epoch is the greater one if an older redo file was put in place: epochs only rise.
        self._epoch = max(identity.epoch, recorded) + 1
        self._commit(Redo(identity._replace(epoch=self._epoch)))
        lock.record(Holder(os.getpid(), self._host_pid, self._epoch), self._fsync)
        for path in found.leftovers:
            self._freeing.remove(path)
        return Opened(self._epoch, identity.last_commit, identity.last_seq, identity.store_id)

    def close(self) -> None:
        """Empty the redo file, and give up the lock. Further calls do nothing."""
        try:
            if self._syncing is not None and self._failed is None and self._redo_is_full:
                self._commit(Redo(self._identity))
        except StoreError:
            # The group is durable, and in place; the next open finds it so.
            pass
        finally:
            self._release()

    def _release(self) -> None:
        syncing, self._syncing = self._syncing, None
        lock, self._lock = self._lock, None
        self._freeing.all_at_once()
        self._redo_file.close()
        if syncing is not None:
            syncing.close()
        if lock is not None:
            lock.release()

    def _open_syncing(self) -> Syncing:
        if self._failed is not None:
            raise type(self._failed)(f"{self._failed}; the store is not used any more: open it in a new process")
        if self._syncing is None:
            raise StoreError(f"the store {self._tree.root} is not open: call open() first")
        return self._syncing

    def _fail(self, error: StoreError) -> StoreError:
        """This process does nothing more; the error to be raised for it."""
        # Not one that is tried again: the group may be there.
        passing = isinstance(error, StoreFull | StoreUnavailable)
        self._failed = SyncFailed(str(error)) if passing else error
        return self._failed

    # -- writing --------------------------------------------------------------------------------------------------

    def apply(self, group: Sequence[Batch]) -> None:
        """Make `group` durable as one step; within a batch, removes come after puts.

        Raises `StoreFull`, `StoreUnavailable`, `SyncFailed`, `StoreUnwritable`, `StoreForeign`, `StoreInconsistent`
        where sequence numbers do not rise, and `ConfigError` for a key that is none, or one whose name is a namespace's
        or the other way round.
        """
        last = self._identity.last_commit
        final: dict[Key, bytes | None] = {}
        for batch in group:
            if batch.seq <= last:
                raise StoreInconsistent(f"expected a commit after {last}, got {batch.seq}; restart the worker")
            last = batch.seq
            final.update(batch.puts)
            final.update(dict.fromkeys(batch.removes))
        self._write(final, self._identity._replace(last_commit=last))

    def facts(self) -> Mapping[str, object]:
        """What an operator may want to know of the open store; from any thread, at once: of what is in memory."""
        return self._identity.facts()

    def import_records(self, records: Sequence[tuple[Key, bytes]]) -> None:
        """Put `records` under no commit's number."""
        self._write(dict(records), self._identity)

    def import_identity(self, identity: Identity) -> None:
        """Go on as `identity`, which another store had; the own seal stays."""
        self._write({}, identity._replace(seal=self._identity.seal))

    def _write(self, final: Mapping[Key, bytes | None], identity: Identity) -> None:
        self._open_syncing()
        for key in final:
            check_key(key)
        puts = {key: value for key, value in final.items() if value is not None}
        removes = [Remove(key) for key, value in final.items() if value is None and is_value(self._tree.path(key))]
        check_places(self._tree, puts)
        adopts = [
            Adopt(key, self._epoch, next(self._attempts), Stamp.of(key, Seq(0), value)) for key, value in puts.items()
        ]
        try:
            self._prepare(adopts, puts)
            self._commit(Redo(identity, (*adopts, *removes)))
        except BaseException as error:
            if self._failed is None:
                self._undo(adopts)
                if isinstance(error, SyncFailed):
                    self._fail(error)
            raise

    def _prepare(self, adopts: Sequence[Adopt], puts: Mapping[Key, bytes]) -> None:
        """Write the values under their temporary names, durably."""
        syncing, tree = self._open_syncing(), self._tree
        self._namespaces.make({key[:2] for key in puts}, syncing)
        at_once = syncing.at_once(len(adopts))
        for adopt in adopts:
            path = tree.temporary(adopt.key, adopt.temporary)
            values.write(path, puts[adopt.key], adopt.stamp, None if at_once else syncing.fsync)
        if at_once:
            syncing.file_system()
        else:
            syncing.directories(directories_of(tree, adopts))

    def _undo(self, adopts: Iterable[Adopt]) -> None:
        for adopt in adopts:
            values.remove_if_there(self._tree.temporary(adopt.key, adopt.temporary))
        # It may be space that was missing.
        self._freeing.all_at_once()

    def _commit(self, redo: Redo) -> None:
        """Make `redo` the newest group, and do what it says, durably. Until the redo file's name is replaced a failure
        leaves the old one, and may be undone; from there on the store has failed, whatever it was that was raised."""
        syncing = self._open_syncing()
        self._listed = None
        try:
            self._redo_file.refuse_replaced()
        except StoreUnwritable as error:
            raise self._fail(error) from error
        check_on_their_way(self._tree, redo.operations)
        self._redo_file.write(redo, syncing.fsync)
        try:
            self._redo_file.replace(syncing)
            self._identity, self._redo_is_full = redo.identity, False
            place(self._tree, redo.operations, self._freeing)
            syncing.directories(directories_of(self._tree, redo.operations))
            # Only now may it be emptied: until then it is all that makes the group whole.
            self._redo_is_full = bool(redo.operations)
        except StoreError as error:
            raise self._fail(error) from error
        except BaseException as error:
            self._fail(SyncFailed(f"putting a group in place at {self._tree.root} was cut short by {error!r:.200}"))
            raise

    # -- snapshots ------------------------------------------------------------------------------------------------

    def write_snapshot(self, key: Key, seq: Seq, content: bytes) -> SnapshotFile:
        """Write `content` to a new file beside its key's, durable on return. May run in another thread.

        Raises as `apply`.
        """
        syncing = self._open_syncing()
        self._freeing.all_but_slowly()
        check_places(self._tree, (check_key(key),))
        adopt = Adopt(key, self._epoch, next(self._attempts), Stamp.of(key, seq, content))
        path = self._tree.temporary(key, adopt.temporary)
        self._namespaces.make({key[:2]}, syncing)
        values.write_paced(path, content, adopt.stamp, syncing.fsync)
        try:
            syncing.directories((os.path.dirname(path),))
        except SyncFailed as error:
            # Commits have names in that directory, too.
            raise self._fail(error) from error
        digest = adopt.stamp.checksum.to_bytes(_CHECKSUM_BYTES)
        return SnapshotFile(key, seq, adopt.temporary, len(content), digest)

    def adopt_snapshot(self, snapshot: SnapshotFile) -> None:
        """Give `snapshot` its key's place, in place of a record or an older snapshot.

        Raises as `apply`; `SyncFailed` also where its file is gone: whoever starts anew writes it again.
        """
        self._open_syncing()
        adopt = _adoption(snapshot)
        check_places(self._tree, (adopt.key,))
        last = max(self._identity.last_snapshot, snapshot.seq)
        redo = Redo(self._identity._replace(last_snapshot=last), (adopt,))
        try:
            self._commit(redo)
        except SyncFailed as error:
            if self._failed is None:
                self._fail(error)
            raise

    def discard_snapshot(self, snapshot: SnapshotFile) -> None:
        """Remove the file of a snapshot that was not adopted."""
        self._freeing.remove(self._tree.temporary(snapshot.key, _adoption(snapshot).temporary))

    # -- reading --------------------------------------------------------------------------------------------------

    def read(self, key: Key) -> bytes:
        """The value of `key`. Raises `NotFound` only if it is absent, `StoreCorrupt` if it is damaged, `StoreForeign`
        if something else is at its place, `StoreUnwritable`."""
        self._open_syncing()
        try:
            return values.read(self._tree.path(check_key(key)), key).content
        finally:
            # Whatever it was: another store may lie there now.
            self._refuse_moved()

    def scan(self, primary: str, secondary: str, after: str, limit: int) -> list[tuple[Key, bytes]]:
        """A page of a namespace: in the order of names, from the first greater than `after`, at least one record, then
        as long as keys and values fit in `limit` bytes. Raises as `read`."""
        self._open_syncing()
        check_namespace(primary, secondary)
        page: list[tuple[Key, bytes]] = []
        room = limit
        for name in self._names(primary, secondary):
            if name <= after:
                continue
            key = Key(primary, secondary, name)
            path = self._tree.path(key)
            # A key costs as well: a page of a million empty values would fit in no message.
            room -= len(primary) + len(secondary) + len(name) + _ENTRY_BYTES
            if page and values.look(path, key)[0] > room:
                break
            value = values.read(path, key).content
            page.append((key, value))
            room -= len(value)
        self._refuse_moved()
        return page

    def _names(self, primary: str, secondary: str) -> list[str]:
        """The sorted names of a namespace; kept for its next page, as nobody else writes here."""
        if self._listed is None or self._listed[:2] != (primary, secondary):
            names = self._tree.names(primary, secondary)
            # Before they are kept.
            self._refuse_moved()
            self._listed = (primary, secondary, names)
        return self._listed[2]

    def _refuse_moved(self) -> None:
        """Raise `StoreUnwritable` if the directory is not where it was: nothing is there or absent by that."""
        if not self._open_syncing().is_still_there():
            raise StoreUnwritable(
                f"expected the store {self._tree.root} to be where it was opened, but it was moved or removed; "
                "start again on a store that stays"
            )

    # -- chores ---------------------------------------------------------------------------------------------------

    @property
    def has_idle_work(self) -> bool:
        """Whether the redo file names a group that is done, space is to be freed, or values are to be checked."""
        if self._syncing is None:
            return False
        return self._redo_is_full or self._freeing.has_some or self._checking is not None

    def idle(self) -> None:
        """Empty the redo file, or else free some space, or else check some values; call again while `has_idle_work`.
        Raises `StoreFull`, `SyncFailed`, `StoreCorrupt`."""
        self._open_syncing()
        if self._redo_is_full:
            try:
                self._commit(Redo(self._identity))
            except SyncFailed as error:
                raise self._fail(error) from error
        elif self._freeing.has_some:
            self._freeing.step()
        elif self._checking is not None and next(self._checking, True):
            self._checking = None

    def _check(self) -> Iterator[bool]:
        """Read and verify every value, some at a time: damage is better found at start than when it is needed."""
        looked = 0
        for item in self._tree.walk():
            if item.kind is not Kind.VALUE or item.key is None:
                continue
            try:
                looked += _ENTRY_COST + len(values.read(item.path, item.key).content)
            except NotFound:
                # Removed by a commit since its directory was listed.
                continue
            if looked >= _CHECK_BYTES:
                looked = 0
                yield False


def _adoption(snapshot: SnapshotFile) -> Adopt:
    """What gives `snapshot` its key's place. Raises `StoreError` if its file is none of ours."""
    key, seq, file, length, digest = snapshot
    if not is_temporary_name(file) or not file.startswith(f"{check_key(key).name}."):
        raise StoreError(f"expected the name of a snapshot file of {key}, got {file!r:.200}")
    epoch, _, attempt = file.split(".")[1].partition("-")
    return Adopt(key, int(epoch), int(attempt), Stamp(seq, length, int.from_bytes(digest)))


def _no_sync(_fd: int) -> None:
    """For what the next open would rewrite anyway."""
