"""What a store must do: LDK's KVStore contract, plus atomic batches, fencing, and snapshots.

Rules for whoever implements `Store`:
1. One writer. `open()` takes the writer lock first and holds it until `close()`; a second one gets `StoreLocked`.
2. `open()` makes everything that it can read back durable *before* it reads the last sequence number: a predecessor
   killed between write and sync leaves a commit in the page cache, readable but not durable. It raises the epoch by
   exactly one, durably.
3. `apply()` is one atomic, durable step: when it returns, all of the group is synced; when it raises, none is there.
4. A value that cannot be read is an error of its own; only a key that is absent is `NotFound`.
5. A snapshot is written by `write_snapshot()` (any thread, touches nothing but its own new file) and becomes the
   key's value by `adopt_snapshot()`, atomically, in the order of the commit lane.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from ..key import Key, Seq
from .identity import Identity


class Batch(Protocol):
    """A commit as a store sees it; `ipc.messages.Commit` has this shape."""

    @property
    def seq(self) -> Seq: ...
    @property
    def puts(self) -> tuple[tuple[Key, bytes], ...]: ...
    @property
    def removes(self) -> tuple[Key, ...]: ...


class Opened(NamedTuple):
    """What a store claims once it is open, all of it durable."""

    epoch: int  #: this writer's fencing number, greater than every earlier one
    last_commit: Seq  #: the newest commit
    last_seq: Seq  #: the newest commit or snapshot
    store_id: bytes = b""  #: of this store, its copies and its backups; empty where nothing is kept


class Entry(NamedTuple):
    """What a listing says of one value."""

    key: Key
    length: int  #: bytes of the value, as it is stored
    seq: Seq | None  #: of a snapshot; None for a record


class Value(NamedTuple):
    """One value, found whole."""

    key: Key
    seq: Seq | None  #: of a snapshot; None for a record
    content: bytes


class Damage(NamedTuple):
    """Something that is not whole: what it is (`key` if that can be told), and what is wrong with it."""

    key: Key | None
    text: str


class SnapshotFile(NamedTuple):
    """A snapshot's durable bytes, not yet the key's value."""

    key: Key
    seq: Seq
    file: str  #: name within the store's snapshot directory
    length: int
    digest: bytes  #: of the content, by a function of the backend's own


class Store(Protocol):
    """One open store. All methods but `write_snapshot` are called by one thread. All raise `StoreError`s."""

    @property
    def atomic(self) -> bool:
        """Whether `apply` is all-or-nothing; health says so."""

    def open(self) -> Opened: ...

    def apply(self, group: Sequence[Batch]) -> None:
        """Write `group` in order, in one synced transaction (group commit)."""

    def write_snapshot(self, key: Key, seq: Seq, content: bytes) -> SnapshotFile:
        """Write `content` to a new file, durable on return."""

    def adopt_snapshot(self, snapshot: SnapshotFile) -> None:
        """Make `snapshot` the key's value, durable on return; the file that it replaces is removed afterwards."""

    def discard_snapshot(self, snapshot: SnapshotFile) -> None:
        """A newer value took its place before it was adopted: remove its file."""

    def read(self, key: Key) -> bytes:
        """The key's value; `NotFound` only if it is absent."""

    def scan(self, primary: str, secondary: str, after: str, limit: int) -> list[tuple[Key, bytes]]:
        """Records of a namespace in the order of their names, from the first name greater than `after`; at least one
        if there is one, then as long as keys and values fit in `limit` bytes, some 32 a record included."""

    def idle(self) -> None:
        """Nothing came for a while: do what would delay a commit (checkpoints)."""

    @property
    def has_idle_work(self) -> bool:
        """Whether `idle()` would do anything."""

    def close(self) -> None: ...


@runtime_checkable
class Described(Protocol):
    """A store that can tell of itself while it is open: from any thread, at once, of what is in memory."""

    def facts(self) -> Mapping[str, object]:
        """What an operator may want to know, by plain names."""


class CopyTarget(Store, Protocol):
    """A store that another one can be copied into; snapshots go the way they always go."""

    def import_records(self, records: Sequence[tuple[Key, bytes]]) -> None:
        """Put `records` under no commit's number, durable on return: for a copy that nobody has used yet."""

    def import_identity(self, identity: Identity) -> None:
        """The last step of a copy: go on as `identity`, durable on return; the own seal stays."""


class StoreView(Protocol):
    """A store that no writer has open, looked into without changing a byte of it. Raises `StoreError`s.

    Whoever makes one takes the writer lock if there is a lock file, and gets `StoreLocked` while a writer lives.
    """

    @property
    def identity(self) -> Identity:
        """Raises `StoreCorrupt` if that is damaged."""

    def facts(self) -> Mapping[str, object]:
        """What an operator may want to know of the backend: paths, sizes in bytes, versions; by plain names."""

    def entries(self) -> Iterator[Entry]:
        """Every value in the order of the keys, all namespaces; stops with `StoreCorrupt` at damage."""

    def read(self, key: Key) -> bytes:
        """The key's value, verified; `NotFound` only if it is absent."""

    def examine(self) -> Iterator[Value | Damage]:
        """Read everything, values and structure alike, and go on after damage: each value that is whole once, and what
        is not. The order is the backend's."""

    def close(self) -> None: ...
