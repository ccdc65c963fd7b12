"""What commits make of a store: an account of every commit, kept apart from all that is judged by it.

The model takes what was submitted and what was acknowledged, in order, and can say what the store holds at any number
in between. It keeps each record once, and each un-acknowledged commit. A value is whatever stands for one: its bytes,
or what they can be made from again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from typing import Generic, NamedTuple, TypeVar

from ...key import Key, Seq

V = TypeVar("V")


class _Commit(NamedTuple, Generic[V]):
    seq: Seq
    puts: dict[Key, V]
    removes: frozenset[Key]


class Model(Generic[V]):
    """The records that a store must hold."""

    def __init__(self) -> None:
        self.submitted = Seq(0)
        self.acked = Seq(0)
        self.commits = 0
        self._acked_records: dict[Key, V] = {}
        self._unacked: deque[_Commit[V]] = deque()
        self._changed_in: dict[Key, Seq] = {}
        self._acked_in: dict[Key, Seq] = {}

    def commit(self, seq: Seq, puts: Mapping[Key, V], removes: Collection[Key]) -> None:
        """`seq` was submitted. Numbers rise."""
        assert seq > self.submitted, f"commit {seq} after {self.submitted}"
        self.submitted = seq
        self.commits += 1
        commit = _Commit(seq, dict(puts), frozenset(removes))
        self._unacked.append(commit)
        _note(self._changed_in, commit)

    def ack(self, seq: Seq) -> None:
        """All up to `seq` is acknowledged."""
        self.acked = max(self.acked, seq)
        while self._unacked and self._unacked[0].seq <= self.acked:
            commit = self._unacked.popleft()
            _apply(self._acked_records, commit)
            _note(self._acked_in, commit)

    def settle(self, seq: Seq) -> None:
        """All up to `seq` is durable, and what was submitted after it never will be: its host is dead."""
        self.ack(seq)
        self._unacked.clear()
        self.submitted = self.acked
        self._changed_in = dict(self._acked_in)

    def forget_removed(self) -> None:
        """Forget when each record that is gone was removed: a long run removes millions."""
        self._acked_in = {key: self._acked_in[key] for key in self._acked_records}
        self._changed_in = dict(self._acked_in)

    def changed_in(self, key: Key) -> Seq:
        """The newest commit that put or removed `key`; 0 if none did."""
        return self._changed_in.get(key, Seq(0))

    def at(self, seq: Seq) -> dict[Key, V]:
        """What the store holds once all up to `seq`, and nothing later, is applied. Never less than what is
        acknowledged."""
        records = dict(self._acked_records)
        for commit in self._unacked:
            if commit.seq <= seq:
                _apply(records, commit)
        return records

    def namespaces(self) -> list[tuple[str, str]]:
        """The namespaces that were ever written."""
        return sorted({key[:2] for key in self._changed_in})


def _apply(records: dict[Key, V], commit: _Commit[V]) -> None:
    for key in commit.removes:
        records.pop(key, None)
    records.update(commit.puts)


def _note(changed_in: dict[Key, Seq], commit: _Commit[V]) -> None:
    for key in (*commit.puts, *commit.removes):
        changed_in[key] = commit.seq
