"""A disk that knows the difference between what can be read and what would survive.

It holds one log of entries (as SQLite's WAL does: each entry a transaction, chained to the one before it by a running
checksum) and the snapshot files beside it. The page cache is what a reader sees; the platter is what is there after a
power cut. Between them lies what was not synced.

Rules, those that POSIX grants and no more:
1. What was not synced may at a power cut be kept, dropped or torn, each entry and each file for itself: a later entry
   may be there and an earlier one not.
2. A sync that succeeds puts all dirty entries on the platter. One that fails marks them clean all the same (fsyncgate):
   they can still be read, no later sync writes them, and what reached the platter is anybody's guess.
3. Dropping the cache lets go of clean pages only; what is dirty stays.
4. A name is durable as of its directory's sync, a file's content as of its own.
5. The log is whole up to the first entry that is absent, torn, or does not follow the one before it. What lies behind
   is not there, though its bytes may be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ...key import Key

#: What may become of something un-synced: it is on the platter whole, not at all, or in part.
KEPT: Final = "k"
DROPPED: Final = "d"
TORN: Final = "t"
FATES: Final = KEPT + DROPPED + TORN


class Write(NamedTuple):
    """One key's change within an entry. A value is bytes, the name of a snapshot file, or None: removed."""

    key: Key
    stamp: int  #: the number of the commit or snapshot that it comes from
    value: bytes | None
    file: str | None = None


class Entry(NamedTuple):
    """One transaction in the log: there as a whole or not at all."""

    follows: int  #: the checksum of the entry before it; 0 for the first
    salt: int  #: no two processes write the same entry, or bytes that one of them left behind might fit the other's
    epoch: int
    last_commit: int
    last_snapshot: int
    writes: tuple[Write, ...]

    @property
    def checksum(self) -> int:
        return hash(self) or 1


class Torn(NamedTuple):
    """What a power cut left of an entry: some sectors of it, with which its checksum does not agree."""

    entry: Entry


class Slot(NamedTuple):
    """One place in the log: what is read there, what is on the platter, and whether a sync would write it."""

    cache: Entry | Torn | None
    platter: Entry | Torn | None
    dirty: bool


class File(NamedTuple):
    """A snapshot file. `content` is None where a power cut left the name without its bytes."""

    content: bytes | None
    dirty: bool  #: a sync of it would write its content
    on_platter: bool  #: its content would survive
    named: bool  #: its name would survive


class Value(NamedTuple):
    stamp: int
    value: bytes | None
    file: str | None


@dataclass
class Content:
    """What a reader of the log makes of it."""

    values: dict[Key, Value] = field(default_factory=dict)
    epoch: int = 0
    last_commit: int = 0
    last_snapshot: int = 0
    length: int = 0  #: how many slots are whole
    checksum: int = 0  #: of the last of them

    def add(self, entry: Entry) -> None:
        for key, stamp, value, file in entry.writes:
            self.values[key] = Value(stamp, value, file)
        self.epoch, self.last_commit, self.last_snapshot = entry.epoch, entry.last_commit, entry.last_snapshot
        self.length += 1
        self.checksum = entry.checksum


class Disk:
    """Outlives all processes. `full` says whether space is out."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self.files: dict[str, File] = {}
        self.full = False
        self.opened = 0  #: how many processes opened it
        self._certain: Content | None = None  #: kept until something changes

    # -- what a process does ------------------------------------------------------------------------------------------

    def write(self, at: int, entry: Entry) -> None:
        """Put `entry` into slot `at`, over what a cut or a dead writer may have left there."""
        if at < len(self.slots):
            self.slots[at] = Slot(entry, self.slots[at].platter, True)
        else:
            self.slots.append(Slot(entry, None, True))

    def sync(self) -> None:
        """A sync of the log that succeeds."""
        self._certain = None
        self.slots = [
            Slot(cache, cache, False) if dirty else slot for slot in self.slots for cache, _, dirty in (slot,)
        ]

    def sync_fails(self, fates: str) -> None:
        """A sync of the log that fails; `fates` says what reached the platter, one letter for each dirty slot."""
        self._certain = None
        letters = iter(fates)
        self.slots = [_landed(slot, next(letters, DROPPED)) if slot.dirty else slot for slot in self.slots]

    def drop_cache(self) -> None:
        """What is clean is read from the platter again."""
        self.slots = [slot if slot.dirty else slot._replace(cache=slot.platter) for slot in self.slots]

    def write_file(self, name: str, content: bytes) -> None:
        self.files[name] = File(content, dirty=True, on_platter=False, named=False)

    def sync_file(self, name: str) -> None:
        file = self.files[name]
        self.files[name] = file._replace(dirty=False, on_platter=file.on_platter or file.dirty)

    def sync_file_fails(self, name: str) -> None:
        self.files[name] = self.files[name]._replace(dirty=False)

    def sync_directory(self) -> None:
        for name, file in self.files.items():
            self.files[name] = file._replace(named=True)

    def remove_file(self, name: str) -> None:
        # That the name may come back after a power cut makes it an orphan, which opening the store removes.
        self.files.pop(name, None)

    # -- what is there ------------------------------------------------------------------------------------------------

    def readable(self) -> Content:
        """What a process that opens the log now would find."""
        return fold([slot.cache for slot in self.slots])

    def certain(self) -> Content:
        """What is there after a power cut, whatever becomes of that which was not synced. Not to be changed."""
        if self._certain is None:
            self._certain = fold([slot.platter for slot in self.slots])
        return self._certain

    def is_certain(self, file: str) -> bool:
        """Whether the snapshot file would survive a power cut, whole."""
        found = self.files.get(file)
        return found is not None and found.content is not None and found.on_platter and found.named

    # -- the power ----------------------------------------------------------------------------------------------------

    def unsynced(self) -> int:
        """How many things a power cut must decide about: dirty slots, then files that something refers to."""
        return sum(slot.dirty for slot in self.slots) + len(self._doubtful())

    def _doubtful(self) -> list[str]:
        referred = {
            write.file
            for slot in self.slots
            for side in (slot.cache, slot.platter)
            if isinstance(side, Entry)
            for write in side.writes
        }
        # Whatever becomes of a file that nothing refers to, opening the store removes it.
        return [name for name in self.files if name in referred and not self.is_certain(name)]

    def cut(self, fates: str) -> None:
        """The power fails; `fates` has one letter for each thing that `unsynced` counts."""
        self._certain = None
        letters = iter(fates)
        slots = [_landed(slot, next(letters, DROPPED)) if slot.dirty else slot for slot in self.slots]
        doubtful = self._doubtful()
        self.slots = [Slot(slot.platter, slot.platter, False) for slot in slots]
        for name, file in list(self.files.items()):
            if self.is_certain(name):
                continue
            fate = next(letters, DROPPED) if name in doubtful else DROPPED
            if fate == DROPPED:
                del self.files[name]
            else:
                whole = file.on_platter or (fate == KEPT and file.dirty)
                self.files[name] = File(file.content if whole else None, dirty=False, on_platter=True, named=True)

    def copy(self) -> Disk:
        """Another disk with the same on it."""
        disk = Disk()
        disk.slots, disk.files = list(self.slots), dict(self.files)
        disk.full, disk.opened = self.full, self.opened
        return disk


def fold(log: list[Entry | Torn | None]) -> Content:
    """What whole entries, each following the one before, add up to (rule 5)."""
    content = Content()
    for entry in log:
        if not isinstance(entry, Entry) or entry.follows != content.checksum:
            break
        content.add(entry)
    return content


def _landed(slot: Slot, fate: str) -> Slot:
    """The dirty `slot` once its fate is known; it can still be read, and no sync will write it again."""
    if fate == DROPPED or not isinstance(slot.cache, Entry):
        return slot._replace(dirty=False)
    return slot._replace(platter=slot.cache if fate == KEPT else Torn(slot.cache), dirty=False)
