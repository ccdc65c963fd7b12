"""What the store must hold: the demo's own account of every commit, kept apart from all that is judged by it.

The model takes what was submitted and what was acknowledged, in order, and can say what the store holds at any number
in between. It keeps each record once, and each un-acknowledged commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from typing import NamedTuple

from ...key import Key, Seq


class _Commit(NamedTuple):
    seq: Seq
    puts: dict[Key, bytes]
    removes: frozenset[Key]


class Model:
    """The records that a store must hold."""

    def __init__(self) -> None:
        self.submitted = Seq(0)
        self.acked = Seq(0)
        self.commits = 0
        self._acked_records: dict[Key, bytes] = {}
        self._unacked: deque[_Commit] = deque()
        self._changed_in: dict[Key, Seq] = {}

    def commit(self, seq: Seq, puts: Mapping[Key, bytes], removes: Collection[Key]) -> None:
        """`seq` was submitted. Numbers rise."""
        assert seq > self.submitted, f"commit {seq} after {self.submitted}"
        self.submitted = seq
        self.commits += 1
        self._unacked.append(_Commit(seq, dict(puts), frozenset(removes)))
        for key in (*puts, *removes):
            self._changed_in[key] = seq

    def ack(self, seq: Seq) -> None:
        """All up to `seq` is acknowledged."""
        self.acked = max(self.acked, seq)
        while self._unacked and self._unacked[0].seq <= self.acked:
            _apply(self._acked_records, self._unacked.popleft())

    def changed_in(self, key: Key) -> Seq:
        """The newest commit that put or removed `key`; 0 if none did."""
        return self._changed_in.get(key, Seq(0))

    def at(self, seq: Seq) -> dict[Key, bytes]:
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


def _apply(records: dict[Key, bytes], commit: _Commit) -> None:
    for key in commit.removes:
        records.pop(key, None)
    records.update(commit.puts)
