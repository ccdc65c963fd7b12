"""Stores to copy from and to look into that are nothing but dicts: whole, or with what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from bgsuper.errors import NotFound, StoreCorrupt
from bgsuper.key import Key, Seq
from bgsuper.store.api import Damage, Entry, SnapshotFile, Value
from bgsuper.store.identity import Identity
from bgsuper.store.memory import MemoryStore

IDENTITY = Identity(b"sixteen bytes id", epoch=7, last_commit=Seq(41), last_snapshot=Seq(43))


class DictView:
    """A `StoreView`. Damaged keys are listed, and not read; `ends_with` ends an examination at its end."""

    def __init__(
        self,
        values: Mapping[Key, tuple[Seq | None, bytes]],
        identity: Identity | None = IDENTITY,
        damaged: Sequence[Key] = (),
        ends_with: Exception | None = None,
        also: Sequence[Value | Damage] = (),
    ) -> None:
        self.values = dict(values)
        self._identity = identity
        self._damaged = frozenset(damaged)
        self._ends_with = ends_with
        self._also = also

    @property
    def identity(self) -> Identity:
        if self._identity is None:
            raise StoreCorrupt("the identity is damaged")
        return self._identity

    def facts(self) -> Mapping[str, object]:
        return {"kind": "dict"}

    def entries(self) -> Iterator[Entry]:
        for key in sorted(self.values):
            seq, content = self.values[key]
            yield Entry(key, len(content), seq)

    def read(self, key: Key) -> bytes:
        if key in self._damaged:
            raise StoreCorrupt(f"{key} is damaged")
        if key not in self.values:
            raise NotFound(f"there is no record {key}")
        return self.values[key][1]

    def examine(self) -> Iterator[Value | Damage]:
        for key, (seq, content) in self.values.items():
            yield Damage(key, "damaged") if key in self._damaged else Value(key, seq, content)
        yield from self._also
        if self._ends_with is not None:
            raise self._ends_with

    def close(self) -> None:
        """Nothing is held."""


class Target(MemoryStore):
    """A `CopyTarget` that remembers what was done to it, and shows values as `spoil` makes them."""

    def __init__(self, spoil: Callable[[bytes], bytes] = bytes) -> None:
        super().__init__()
        self.batches: list[list[tuple[Key, bytes]]] = []
        self.held: dict[Key, tuple[Seq | None, bytes]] = {}
        self.identity: Identity | None = None
        self._spoil = spoil
        self.open()

    def import_records(self, records: Sequence[tuple[Key, bytes]]) -> None:
        super().import_records(records)
        self.batches.append(list(records))
        self.held.update({key: (None, content) for key, content in records})

    def import_identity(self, identity: Identity) -> None:
        super().import_identity(identity)
        self.identity = identity

    def adopt_snapshot(self, snapshot: SnapshotFile) -> None:
        super().adopt_snapshot(snapshot)
        self.held[snapshot.key] = (snapshot.seq, self.read(snapshot.key))

    def view(self) -> DictView:
        """What it holds."""
        values = {key: (seq, self._spoil(content)) for key, (seq, content) in self.held.items()}
        return DictView(values, self.identity or Identity(bytes(16)))
