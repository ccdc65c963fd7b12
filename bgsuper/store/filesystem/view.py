"""What lies in a directory that no writer has open, without changing a byte of it.

Rules:
1. A group that is recorded in the redo file but not yet in place is shown as if it were: that is what the next open
   makes of it. A redo file that is damaged is damage of its own: `identity`, `entries` and `read` raise it, `examine`
   shows the values as they lie.
2. A directory that LDK wrote is shown as well; it has an identity as of a store that is just being made.
3. Without a key, what looks sealed is no value where no redo file says that the store is not sealed.
4. What stands in a value's way is damage; what merely does not belong here is named by `facts()`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from heapq import merge
from operator import attrgetter
from typing import NamedTuple

from ...errors import NotFound, StoreCorrupt, StoreError, StoreForeign, StoreUnwritable
from ...key import Key, Seq, check_key
from ..api import Damage, Entry, Value
from ..failures import too_large
from ..identity import Identity, check_seal
from ..lock import WriterLock
from ..mounts import file_system_type
from ..sealed_form import refuse_sealed
from . import values
from .opening import load_redo, refuse_foreign, survey
from .placing import is_value
from .redo import Adopt, Redo
from .stamp import Stamp
from .tree import Kind, Tree, in_the_way

#: How many foreign names `facts()` lists.
_NAMED = 100


class _Place(NamedTuple):
    """Where a value is to be found. `expected` is what the redo file says of it, if it does."""

    key: Key
    path: str
    expected: Stamp | None = None
    obstacle: bool = False  #: something that is no file


class FilesystemView:
    """A `StoreView` of `directory`; `seal` is the fingerprint of the key in hand, empty for none."""

    def __init__(self, directory: str | os.PathLike[str], *, seal: bytes = b"") -> None:
        """Raises `StoreLocked` while a writer lives, `StoreForeign` (also where there is nothing), `StoreTooNew`,
        `StoreSealed`, `StoreUnwritable`."""
        tree = self._tree = Tree(os.path.abspath(directory))
        self._damage: StoreCorrupt | None = None
        self._redo: Redo | None = None
        self._may_be_sealed = False
        self._left = 0  #: how much the next open has to put in place
        self._pending: dict[Key, _Place | None] = {}
        if not os.path.isdir(tree.root):
            if os.path.lexists(tree.root):
                raise StoreUnwritable(f"expected a directory at {tree.root}, found something else")
            raise StoreForeign(f"expected a store at {tree.root}, found nothing: look at the path")
        self._lock = WriterLock.acquire_existing(tree.lock)
        try:
            self._read_redo(seal)
        except BaseException:
            self.close()
            raise

    def _read_redo(self, seal: bytes) -> None:
        tree = self._tree
        if self._lock is None:
            refuse_foreign(tree)
        holder = self._lock.holder() if self._lock is not None else None
        found = survey(tree)
        try:
            self._redo = load_redo(tree, found, recorded=holder.epoch if holder else 0)
        except StoreCorrupt as error:
            self._damage = error
            self._may_be_sealed = not seal
            return
        if self._redo is None and not found.values:
            raise StoreForeign(f"expected a store at {tree.root}, found nothing: look at the path")
        check_seal(self._redo.identity.seal if self._redo else b"", seal, tree.root)
        self._may_be_sealed = self._redo is None
        self._identity = self._redo.identity if self._redo else Identity.new(b"")
        for operation in self._redo.operations if self._redo else ():
            key = operation.key
            if isinstance(operation, Adopt):
                temporary = tree.temporary(key, operation.temporary)
                waits = os.path.lexists(temporary)
                self._pending[key] = _Place(key, temporary if waits else tree.path(key), operation.stamp)
            else:
                waits = is_value(tree.path(key))
                self._pending[key] = None
            self._left += waits

    @property
    def identity(self) -> Identity:
        """Which store this is, and how far it has come. Raises `StoreCorrupt`."""
        self._refuse_damage()
        return self._identity

    def facts(self) -> Mapping[str, object]:
        """The directory, its file system, how many values and bytes there are, how many of them nothing verifies, what
        is not yet in place or left over, and the names that do not belong there."""
        count = length = unverified = leftovers = 0
        foreign: list[str] = []
        for item in self._tree.walk():
            if item.kind is Kind.VALUE and item.key is not None:
                try:
                    size, stamp = values.look(item.path, item.key)
                except StoreError:
                    continue
                count, length, unverified = count + 1, length + size, unverified + (stamp is None)
            elif item.kind is Kind.LEFTOVER:
                leftovers += 1
            elif item.kind is Kind.FOREIGN:
                foreign.append(os.path.relpath(item.path, self._tree.root))
        return {
            "directory": self._tree.root,
            "layout": "LDK's, version 1",
            "file system": file_system_type(self._tree.root) or "unknown",
            "written by": "bgsuper" if self._redo or self._damage else "LDK, or nobody",
            "values": count,
            "bytes": length,
            "unverified": unverified,
            "temporary files": leftovers,
            "to be put in place": self._left,
            "foreign names": foreign[:_NAMED],
        }

    def entries(self) -> Iterator[Entry]:
        """Every value in the order of the keys. Stops with `StoreCorrupt` or `StoreForeign` at damage."""
        self._refuse_damage()
        for place in self._places():
            if place.obstacle:
                raise in_the_way(place.path)
            length, stamp = values.look(place.path, place.key)
            yield Entry(place.key, length, _snapshot_seq(stamp or place.expected))

    def read(self, key: Key) -> bytes:
        """The value of `key`, verified. Raises `NotFound` only if it is absent, `StoreCorrupt`, `StoreForeign`, and
        `StoreSealed` where nothing but the value says so."""
        self._refuse_damage()
        place = self._pending.get(check_key(key), _Place(key, self._tree.path(key)))
        if place is None:
            raise NotFound(f"there is no record {key}")
        return self._read(place).content

    def examine(self) -> Iterator[Value | Damage]:
        """Read everything, and go on after damage."""
        if self._damage is not None:
            yield Damage(None, str(self._damage))
        for place in self._places():
            try:
                if place.obstacle:
                    raise in_the_way(place.path)
                yield self._read(place)
            except StoreError as error:
                yield Damage(place.key, str(error))
            except MemoryError:
                yield Damage(place.key, str(too_large(place.key)))

    def close(self) -> None:
        """Give up the lock; further calls do nothing."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def _refuse_damage(self) -> None:
        if self._damage is not None:
            raise self._damage

    def _read(self, place: _Place) -> Value:
        try:
            found = values.read(place.path, place.key)
        except NotFound:
            if place.expected is None:
                raise
            raise _lost(place, self._tree.redo) from None
        if place.expected is not None and Stamp.of(place.key, place.expected.seq, found.content) != place.expected:
            raise _lost(place, self._tree.redo)
        if self._may_be_sealed:
            refuse_sealed(place.key, found.content)
        return Value(place.key, _snapshot_seq(found.stamp or place.expected), found.content)

    def _places(self) -> Iterator[_Place]:
        """Where each value is, in the order of the keys."""
        pending = sorted(place for place in self._pending.values() if place is not None)
        return merge(self._in_place(), pending, key=attrgetter("key"))

    def _in_place(self) -> Iterator[_Place]:
        for item in self._tree.walk():
            if item.key is not None and item.key not in self._pending:
                yield _Place(item.key, item.path, obstacle=item.kind is Kind.IN_THE_WAY)


def _snapshot_seq(stamp: Stamp | None) -> Seq | None:
    return stamp.seq if stamp is not None and stamp.seq > 0 else None


def _lost(place: _Place, redo: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"the record {place.key} is not what the newest group in {redo} made it: {place.path} is damaged, or another "
        "program wrote to it after a crash; restore a backup, or salvage the store"
    )
