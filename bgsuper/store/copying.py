"""From one store into a new one, value by value, and the proof that both hold the same.

Rules:
1. A copy is the same node's truth: it keeps the store's id and its newest numbers, and its next epoch is greater than
   any that the source has seen. Only the seal is the copy's own.
2. What was copied is proved, never assumed: both stores are read again, side by side, in the order of their keys.
3. Memory is bounded by a batch, or by one value: neither stores nor listings need fit.
4. A key is checked before it is handed on: for a store of files it is a path.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from itertools import zip_longest
from typing import Final, NamedTuple

from ..errors import StoreInconsistent
from ..key import Key, check_key
from .api import CopyTarget, Entry, StoreView, Value
from .identity import Identity

#: A batch of records is written once it has so many bytes, or so many records.
BATCH_BYTES: Final = 4 * 1024 * 1024
BATCH_RECORDS: Final = 1000

_BUG: Final = "; check the disk, and report this as a bug of bgsuper's if that is sound"

#: Told of each value that is done: its key, and how many bytes it has.
Advance = Callable[[Key, int], None]


class Counts(NamedTuple):
    """How much was read or written."""

    records: int = 0
    snapshots: int = 0
    bytes: int = 0  #: of all values

    @property
    def values(self) -> int:
        """Records and snapshots."""
        return self.records + self.snapshots

    def plus(self, value: Value) -> Counts:
        """These, and one more."""
        record = value.seq is None
        return Counts(self.records + record, self.snapshots + (not record), self.bytes + len(value.content))


class Importer:
    """Puts values into `target`, which is open, new, and nobody else's: snapshots one by one, records in batches."""

    def __init__(self, target: CopyTarget) -> None:
        self._target = target
        self._batch: dict[Key, bytes] = {}
        self._batch_bytes = 0
        self.counts = Counts()

    def put(self, value: Value) -> None:
        """Write `value`, now or with later ones. Raises what the target raises."""
        key = check_key(value.key)
        if value.seq is None:
            self._batch[key] = value.content
            self._batch_bytes += len(value.content)
            if self._batch_bytes >= BATCH_BYTES or len(self._batch) >= BATCH_RECORDS:
                self._write()
        else:
            self._target.adopt_snapshot(self._target.write_snapshot(key, value.seq, value.content))
        self.counts = self.counts.plus(value)

    def is_waiting(self, key: Key) -> bool:
        """Whether a value of `key` waits for its batch."""
        return key in self._batch

    def finish(self, identity: Identity | None) -> None:
        """Write what waits, and make the target go on as `identity`; None leaves it the new store that it is."""
        self._write()
        if identity is not None:
            self._target.import_identity(identity)

    def _write(self) -> None:
        if self._batch:
            self._target.import_records(list(self._batch.items()))
            self._batch = {}
            self._batch_bytes = 0


def copy_values(source: StoreView, target: CopyTarget, advance: Advance) -> Counts:
    """Copy all of `source`, and who it is, into `target`, which is open and new.

    Raises `StoreCorrupt` and `StoreTampered` at the first value that is not whole, and what the target raises.
    """
    identity = source.identity
    importer = Importer(target)
    for entry in source.entries():
        content = source.read(entry.key)
        importer.put(Value(entry.key, entry.seq, content))
        advance(entry.key, len(content))
    importer.finish(identity)
    return importer.counts


def prove_equal(source: StoreView, copy: StoreView, advance: Advance) -> None:
    """Raise `StoreInconsistent` unless `copy` has exactly the keys and values of `source`, and is the same store at
    the same numbers. One value is in memory at a time."""
    check_same_store(source.identity, copy.identity)
    for there, here in zip_longest(source.entries(), copy.entries()):
        key = _same_key(there, here)
        length, digest = _digest(source.read(key))
        if (length, digest) != _digest(copy.read(key)):
            raise StoreInconsistent(f"the copy's value of {key} is not the source's{_BUG}")
        advance(key, length)


def check_same_store(source: Identity, copy: Identity) -> None:
    """Raise `StoreInconsistent` unless `copy` goes on as `source` did."""
    wrong = [
        name for name in ("store_id", "last_commit", "last_snapshot") if getattr(source, name) != getattr(copy, name)
    ]
    if copy.epoch < source.epoch:
        wrong.append("epoch")
    if wrong:
        raise StoreInconsistent(f"the copy did not keep the source's {' and '.join(wrong)}{_BUG}")


def _same_key(there: Entry | None, here: Entry | None) -> Key:
    """The key of both, or raise."""
    if there is None or (here is not None and here.key < there.key):
        assert here is not None
        raise StoreInconsistent(f"the copy has {here.key}, which the source has not{_BUG}")
    if here is None or here.key != there.key:
        raise StoreInconsistent(f"the copy lacks {there.key}{_BUG}")
    # A backend that keeps no lanes gives no number.
    if None not in (there.seq, here.seq) and there.seq != here.seq:
        raise StoreInconsistent(f"the copy has snapshot {here.seq} of {there.key}, the source {there.seq}{_BUG}")
    return there.key


def _digest(content: bytes) -> tuple[int, bytes]:
    return len(content), blake2b(content).digest()
