"""Stores with one planted bug each: for every case of the conformance suite at least one that it must catch."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Sequence
from hashlib import blake2b

from bgsuper.errors import NotFound, StoreCorrupt, StoreError, StoreInconsistent, StoreLocked
from bgsuper.key import Key, Seq
from bgsuper.store.api import Batch, Opened, SnapshotFile
from bgsuper.store.identity import Identity

from .pickled import Content, PickledStore

#: Long enough for a kill to strike in the middle of it.
A_WHILE_S = 0.01


# -- records ----------------------------------------------------------------------------------------------------------


class AbsentIsEmpty(PickledStore):
    def read(self, key: Key) -> bytes:
        return self.now.records.get(key, b"")


class StripsValues(PickledStore):
    def change(self, content: Content, batch: Batch) -> None:
        super().change(content, batch)
        content.records.update((key, value.strip()) for key, value in batch.puts if key not in batch.removes)


class FirstPutStays(PickledStore):
    def change(self, content: Content, batch: Batch) -> None:
        before = dict(content.records)
        super().change(content, batch)
        content.records.update((key, value) for key, value in before.items() if key not in batch.removes)


class ForgetsRemoves(PickledStore):
    def change(self, content: Content, batch: Batch) -> None:
        content.records.update((key, value) for key, value in batch.puts if key not in batch.removes)


class RefusesToRemoveTheAbsent(PickledStore):
    def change(self, content: Content, batch: Batch) -> None:
        content.records.update(batch.puts)
        for key in batch.removes:
            del content.records[key]


class RemovesFirst(PickledStore):
    def change(self, content: Content, batch: Batch) -> None:
        super().change(content, batch)
        content.records.update(batch.puts)


class EmptyIsAbsent(PickledStore):
    def read(self, key: Key) -> bytes:
        value = super().read(key)
        if not value:
            raise NotFound(f"no {key}")
        return value

    def scan(self, primary: str, secondary: str, after: str, limit: int) -> list[tuple[Key, bytes]]:
        self.now.records = {key: value for key, value in self.now.records.items() if value}
        return super().scan(primary, secondary, after, limit)


class CutsLargeValues(PickledStore):
    def change(self, content: Content, batch: Batch) -> None:
        super().change(content, batch)
        content.records.update((key, value[: 4 << 20]) for key, value in batch.puts if key not in batch.removes)


class _Renames(PickledStore):
    """Keeps records under other keys than those it was given."""

    def renamed(self, key: Key) -> Key:
        raise NotImplementedError

    def change(self, content: Content, batch: Batch) -> None:
        content.records.update((self.renamed(key), value) for key, value in batch.puts)
        for key in batch.removes:
            content.records.pop(self.renamed(key), None)

    def read(self, key: Key) -> bytes:
        return super().read(self.renamed(key))


class CutsLongNames(_Renames):
    def renamed(self, key: Key) -> Key:
        return key._replace(name=key.name[:100])


class FoldsCase(_Renames):
    def renamed(self, key: Key) -> Key:
        return key._replace(name=key.name.lower())


class OneNamespace(_Renames):
    def renamed(self, key: Key) -> Key:
        return key._replace(secondary="")


# -- scans ------------------------------------------------------------------------------------------------------------


class _Scans(PickledStore):
    """Has all records of a namespace at hand, in their order."""

    def all(self, primary: str, secondary: str) -> list[tuple[Key, bytes]]:
        return sorted(record for record in self.now.records.items() if record[0][:2] == (primary, secondary))


class ScansInTheOrderOfPuts(_Scans):
    def scan(self, primary: str, secondary: str, after: str, limit: int) -> list[tuple[Key, bytes]]:
        records = [record for record in self.now.records.items() if record[0][:2] == (primary, secondary)]
        names = [key.name for key, _ in records]
        return records[names.index(after) + 1 :] if after else records


class IgnoresCaseInScans(_Scans):
    def scan(self, primary: str, secondary: str, after: str, limit: int) -> list[tuple[Key, bytes]]:
        records = sorted(self.all(primary, secondary), key=lambda record: record[0].name.lower())
        return [record for record in records if record[0].name.lower() > after.lower()]


class BeginsAgainAfterAnAbsentName(_Scans):
    def scan(self, primary: str, secondary: str, after: str, limit: int) -> list[tuple[Key, bytes]]:
        present = Key(primary, secondary, after or "-") in self.now.records
        return super().scan(primary, secondary, after if present else "", limit)


class NoPageForALargeValue(_Scans):
    def scan(self, primary: str, secondary: str, after: str, limit: int) -> list[tuple[Key, bytes]]:
        page = super().scan(primary, secondary, after, limit)
        return page if sum(len(value) for _, value in page) <= limit else []


class PagesWithoutEnd(_Scans):
    def room(self, key: Key, value: bytes) -> int:
        return 0


class EmptyValuesCostNothing(_Scans):
    def room(self, key: Key, value: bytes) -> int:
        return len(value)


class ScansNoSnapshots(_Scans):
    def adopt_snapshot(self, snapshot: SnapshotFile) -> None:
        super().adopt_snapshot(snapshot)
        self.hidden = {*getattr(self, "hidden", ()), snapshot.key}

    def scan(self, primary: str, secondary: str, after: str, limit: int) -> list[tuple[Key, bytes]]:
        page = super().scan(primary, secondary, after, limit)
        return [record for record in page if record[0] not in getattr(self, "hidden", ())]


# -- commits ----------------------------------------------------------------------------------------------------------


class AppliesTheLastCommitFirst(PickledStore):
    def apply(self, group: Sequence[Batch]) -> None:
        content = self.now.copy()
        for batch in group:
            self.check_number(content, batch)
            content.last_commit = batch.seq
        for batch in reversed(group):
            self.change(content, batch)
        self.save(content)


class CutsLargeGroups(PickledStore):
    def apply(self, group: Sequence[Batch]) -> None:
        super().apply(group[:1000])


class TakesAnyNumber(PickledStore):
    def check_number(self, content: Content, batch: Batch) -> None:
        pass


class KeepsTheBeginningOfABadGroup(PickledStore):
    def apply(self, group: Sequence[Batch]) -> None:
        for batch in group:
            super().apply([batch])


class TakesNoGaps(PickledStore):
    def check_number(self, content: Content, batch: Batch) -> None:
        if batch.seq not in (content.last_commit + 1, 3):
            raise StoreInconsistent(f"commit {batch.seq} came after {content.last_commit}")


class SaysNothingOfBatches(PickledStore):
    atomic = "mostly"


# -- snapshots --------------------------------------------------------------------------------------------------------


class AdoptsAtOnce(PickledStore):
    def write_snapshot(self, key: Key, seq: Seq, content: bytes) -> SnapshotFile:
        self.now.records[key] = content
        return super().write_snapshot(key, seq, content)


class DropsEmptySnapshots(PickledStore):
    def adopt_snapshot(self, snapshot: SnapshotFile) -> None:
        if snapshot.length:
            super().adopt_snapshot(snapshot)


class DiscardsTheValue(PickledStore):
    def discard_snapshot(self, snapshot: SnapshotFile) -> None:
        super().discard_snapshot(snapshot)
        self.now.records.pop(snapshot.key, None)


class FirstSnapshotStays(PickledStore):
    def adopt_snapshot(self, snapshot: SnapshotFile) -> None:
        before = self.now.records.get(snapshot.key)
        super().adopt_snapshot(snapshot)
        if before is not None:
            self.now.records[snapshot.key] = before


class RemovesByNumberAndLate(PickledStore):
    """A discarded file goes when the store idles, even if it was written again meanwhile."""

    def snapshot_name(self, key: Key, seq: Seq) -> str:
        return f"snapshot-{seq}"

    def discard_snapshot(self, snapshot: SnapshotFile) -> None:
        self.unneeded = self.directory / snapshot.file

    @property
    def has_idle_work(self) -> bool:
        return getattr(self, "unneeded", None) is not None

    def idle(self) -> None:
        self.unneeded.unlink(missing_ok=True)
        self.unneeded = None  # type: ignore[assignment]


class SnapshotsHideCommits(PickledStore):
    def change(self, content: Content, batch: Batch) -> None:
        hidden = {key: content.records[key] for key in getattr(self, "snapshots", ()) if key in content.records}
        super().change(content, batch)
        content.records.update(hidden)

    def adopt_snapshot(self, snapshot: SnapshotFile) -> None:
        super().adopt_snapshot(snapshot)
        self.snapshots = {*getattr(self, "snapshots", ()), snapshot.key}


class BelongsToOneThread(PickledStore):
    """As a connection of sqlite3's does."""

    def write_snapshot(self, key: Key, seq: Seq, content: bytes) -> SnapshotFile:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("this object can only be used in the thread that made it")
        return super().write_snapshot(key, seq, content)


class SharesItsTemporaryFile(PickledStore):
    """Between the two lanes."""

    def write_snapshot(self, key: Key, seq: Seq, content: bytes) -> SnapshotFile:
        temporary, name = self.file.with_suffix(".tmp"), self.snapshot_name(key, seq)
        self.write_file(temporary, content)
        time.sleep(A_WHILE_S)
        temporary.rename(self.directory / name)
        return SnapshotFile(key, seq, name, len(content), b"")


# -- opening ----------------------------------------------------------------------------------------------------------


class BeginsAtOne(PickledStore):
    def load(self) -> Content:
        content = super().load()
        content.last_commit = content.last_commit or 1
        return content


class NeverRests(PickledStore):
    @property
    def has_idle_work(self) -> bool:
        return True


class StaysOpen(PickledStore):
    def close(self) -> None:
        content = self.content
        super().close()
        self.content = content


class ClosedIsEmpty(PickledStore):
    def read(self, key: Key) -> bytes:
        if self.content is None:
            raise NotFound(f"no {key}")
        return super().read(key)


class FailsToCloseTwice(PickledStore):
    def close(self) -> None:
        if self.lock >= 0 and self.content is None:
            raise StoreError("not open")
        os.close(self.lock)
        self.content = None


class KeepsSnapshotsInMemory(PickledStore):
    def adopt_snapshot(self, snapshot: SnapshotFile) -> None:
        self.now.records[snapshot.key] = (self.directory / snapshot.file).read_bytes()
        self.now.last_snapshot = max(self.now.last_snapshot, snapshot.seq)


class AdoptsLeftovers(PickledStore):
    """What was written and never adopted becomes the value at the next open."""

    def write_snapshot(self, key: Key, seq: Seq, content: bytes) -> SnapshotFile:
        self.write_file(self.directory / "leftover", pickle.dumps((key, content)))
        return super().write_snapshot(key, seq, content)

    def load(self) -> Content:
        content = super().load()
        if (self.directory / "leftover").exists():
            key, value = pickle.loads((self.directory / "leftover").read_bytes())
            content.records[key] = value
        return content


class ForgetsTheNumbersOfSnapshots(PickledStore):
    def claims(self, content: Content) -> Opened:
        return super().claims(content)._replace(last_seq=Seq(content.last_commit))


class ForgetsCommitsWithoutRecords(PickledStore):
    def apply(self, group: Sequence[Batch]) -> None:
        group = [batch for batch in group if batch.puts or batch.removes]
        if group:
            super().apply(group)


class ReusesAnEpoch(PickledStore):
    def next_epoch(self, content: Content) -> int:
        return 1


class TimesItsEpochs(PickledStore):
    def next_epoch(self, content: Content) -> int:
        return time.monotonic_ns()


class AnotherEachTime(PickledStore):
    def claims(self, content: Content) -> Opened:
        return super().claims(content)._replace(store_id=os.urandom(16))


class HasNoLock(PickledStore):
    def take_lock(self) -> None:
        pass


class LocksByPidFile(PickledStore):
    """Which outlives its owner."""

    def take_lock(self) -> None:
        try:
            os.close(os.open(self.directory / "pid", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            raise StoreLocked("another process has it") from None
        self.mine = True

    def close(self) -> None:
        super().close()
        if getattr(self, "mine", False):
            (self.directory / "pid").unlink(missing_ok=True)


# -- copies -----------------------------------------------------------------------------------------------------------


class CopiesWell(PickledStore):
    def import_records(self, records: Sequence[tuple[Key, bytes]]) -> None:
        content = self.now.copy()
        content.records.update(records)
        self.save(content)

    def import_identity(self, identity: Identity) -> None:
        store_id, epoch, last_commit, last_snapshot, _ = identity
        self.save(Content(self.now.records, epoch, last_commit, last_snapshot, store_id))


class NumbersItsImports(CopiesWell):
    def import_records(self, records: Sequence[tuple[Key, bytes]]) -> None:
        super().import_records(records)
        self.now.last_commit += 1


class KeepsItsOwnId(CopiesWell):
    def import_identity(self, identity: Identity) -> None:
        super().import_identity(identity._replace(store_id=self.now.store_id))


class KeepsItsOwnNumbers(CopiesWell):
    def import_identity(self, identity: Identity) -> None:
        pass


# -- failures ---------------------------------------------------------------------------------------------------------


class DamagedIsEmpty(PickledStore):
    def load(self) -> Content:
        try:
            return super().load()
        except StoreCorrupt:
            return Content()


class HasNoChecksums(PickledStore):
    def load(self) -> Content:
        try:
            content: Content = pickle.loads(self.file.read_bytes()[64:])
        except FileNotFoundError:
            return Content()
        return content


class UnreadableIsAbsent(PickledStore):
    """Each value is read from the disk when it is asked for, and what goes wrong there means that there is none."""

    def read(self, key: Key) -> bytes:
        try:
            self.file.read_bytes()
        except OSError:
            raise NotFound(f"no {key}") from None
        return super().read(key)


class ShowsWhatItCouldNotWrite(PickledStore):
    def apply(self, group: Sequence[Batch]) -> None:
        self.content = self.now.copy()
        for batch in group:
            self.check_number(self.content, batch)
            self.change(self.content, batch)
            self.content.last_commit = batch.seq
        self.save(self.content)


class FailsAsPythonDoes(PickledStore):
    """With an OSError of its own."""

    def save(self, content: Content) -> None:
        try:
            super().save(content)
        except StoreError as error:
            raise OSError(5, "no") from error


# -- crashes ----------------------------------------------------------------------------------------------------------


class AcknowledgesBeforeItWrites(PickledStore):
    """Buffers in memory, and writes every fifth group."""

    def save(self, content: Content) -> None:
        self.waiting = getattr(self, "waiting", 0) + 1
        if self.content is None or self.waiting >= 5:
            self.waiting = 0
            super().save(content)
        self.content = content

    def close(self) -> None:
        if self.content is not None:
            super().save(self.content)
        super().close()


class TearsBatches(PickledStore):
    """Writes half of each batch, then all of it."""

    def apply(self, group: Sequence[Batch]) -> None:
        half = self.now.copy()
        for batch in group:
            half.records.update(batch.puts[::2])
        before = self.now
        self.save(half)
        time.sleep(A_WHILE_S)
        self.content = before
        super().apply(group)


class TearsBatchesAndSaysSo(TearsBatches):
    atomic = False


class LosesRecordsAndIsNotAtomic(PickledStore):
    atomic = False

    def change(self, content: Content, batch: Batch) -> None:
        super().change(content, batch)
        content.records.pop(batch.puts[0][0], None)


class NumbersBeforeRecords(PickledStore):
    """Writes the newest number first."""

    def apply(self, group: Sequence[Batch]) -> None:
        before, ahead = self.now, self.now.copy()
        ahead.last_commit = group[-1].seq
        if ahead.last_commit <= before.last_commit:
            raise StoreInconsistent("no")
        self.save(ahead)
        time.sleep(A_WHILE_S)
        self.content = before
        super().apply(group)


class WritesInPlace(PickledStore):
    """Over what was there before."""

    def save(self, content: Content) -> None:
        packed = pickle.dumps(content)
        with self.file.open("wb") as file:
            file.write(blake2b(packed).digest())
            file.flush()
            time.sleep(A_WHILE_S)
            file.write(packed)
        self.content = content


class EmptiesItselfWhileOpening(PickledStore):
    """Starts anew, and puts back what was there."""

    def load(self) -> Content:
        content = super().load()
        self.file.unlink(missing_ok=True)
        time.sleep(A_WHILE_S)
        return content


class WritesSnapshotsInPlace(PickledStore):
    """A snapshot's file is written again, over the one before."""

    def adopt_snapshot(self, snapshot: SnapshotFile) -> None:
        value = (self.directory / snapshot.file).read_bytes()
        half = self.now.copy()
        half.records[snapshot.key] = value[: len(value) // 2]
        self.save(half)
        time.sleep(A_WHILE_S)
        super().adopt_snapshot(snapshot)


#: For each case, by its name, the bugs that it must catch.
PLANTED: dict[str, tuple[type[PickledStore], ...]] = {
    "an_absent_key_is_not_found": (AbsentIsEmpty,),
    "what_was_put_is_read": (StripsValues,),
    "a_later_put_replaces": (FirstPutStays,),
    "a_removed_key_is_absent": (ForgetsRemoves,),
    "removing_an_absent_key_is_nothing": (RefusesToRemoveTheAbsent,),
    "removes_come_after_puts": (RemovesFirst,),
    "an_empty_value_is_a_value": (EmptyIsAbsent,),
    "a_large_value_is_whole": (CutsLargeValues,),
    "names_may_have_120_characters": (CutsLongNames,),
    "every_character_counts": (FoldsCase,),
    "namespaces_are_separate": (OneNamespace,),
    "a_scan_is_in_the_order_of_names": (ScansInTheOrderOfPuts, IgnoresCaseInScans),
    "a_scan_begins_after_a_name": (BeginsAgainAfterAnAbsentName,),
    "a_page_has_at_least_one_record": (NoPageForALargeValue,),
    "a_page_ends_at_its_limit": (PagesWithoutEnd,),
    "empty_values_take_room_in_a_page": (EmptyValuesCostNothing,),
    "a_scan_lists_snapshots": (ScansNoSnapshots,),
    "a_group_is_applied_in_order": (AppliesTheLastCommitFirst,),
    "a_large_group_is_applied": (CutsLargeGroups,),
    "numbers_must_rise": (TakesAnyNumber, KeepsTheBeginningOfABadGroup),
    "numbers_may_leave_gaps": (TakesNoGaps,),
    "it_says_whether_batches_are_atomic": (SaysNothingOfBatches,),
    "a_snapshot_is_the_value_once_adopted": (AdoptsAtOnce,),
    "snapshots_have_any_size": (DropsEmptySnapshots,),
    "a_discarded_snapshot_changes_nothing": (DiscardsTheValue,),
    "a_newer_snapshot_replaces": (FirstSnapshotStays,),
    "a_snapshot_may_be_written_again": (RemovesByNumberAndLate,),
    "a_commit_replaces_a_snapshot": (SnapshotsHideCommits,),
    "snapshots_are_written_beside_commits": (BelongsToOneThread, SharesItsTemporaryFile),
    "a_new_store_is_empty": (BeginsAtOne,),
    "chores_end": (NeverRests,),
    "a_closed_store_refuses": (StaysOpen, ClosedIsEmpty, FailsToCloseTwice),
    "everything_is_there_again": (KeepsSnapshotsInMemory, AdoptsLeftovers),
    "numbers_are_remembered": (ForgetsTheNumbersOfSnapshots, ForgetsCommitsWithoutRecords),
    "the_epoch_rises_by_one": (ReusesAnEpoch, TimesItsEpochs),
    "the_store_id_stays": (AnotherEachTime,),
    "a_second_writer_is_locked_out": (HasNoLock, LocksByPidFile),
    "records_are_imported_under_no_number": (NumbersItsImports,),
    "a_copy_goes_on_as_the_original": (KeepsItsOwnId, KeepsItsOwnNumbers),
    "damage_is_not_absence": (DamagedIsEmpty, HasNoChecksums),
    "a_failed_read_is_not_absence": (UnreadableIsAbsent,),
    "a_group_that_fails_leaves_nothing": (ShowsWhatItCouldNotWrite, FailsAsPythonDoes),
    "what_was_reported_survives_a_kill": (
        *(AcknowledgesBeforeItWrites, TearsBatches, NumbersBeforeRecords, WritesInPlace),
        *(ReusesAnEpoch, LocksByPidFile),
    ),
    "a_kill_spares_the_snapshot_before": (WritesSnapshotsInPlace, AcknowledgesBeforeItWrites),
    "a_kill_while_opening_changes_nothing": (EmptiesItselfWhileOpening, ReusesAnEpoch),
}
