"""Why snapshots that are not critical could not be written: for who asks by key, and for who waits by number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from ..key import Key, Seq

#: How many failed writes are remembered for whoever still waits for their numbers.
KEPT: Final = 256

#: Makes a fresh exception object: one that is shared gathers everybody's tracebacks.
Recipe = Callable[[], BaseException]


class SnapshotFailures:
    """Not thread-safe: the shell's lock guards it."""

    def __init__(self) -> None:
        self._newest: dict[Key, Recipe] = {}
        self._by_number: deque[tuple[frozenset[Seq], Recipe]] = deque(maxlen=KEPT)

    def add(self, key: Key, settled: Iterable[Seq], error: Recipe) -> None:
        """The snapshot of `key` could not be written; its number and those it stood for are `settled`."""
        self._newest[key] = error
        self._by_number.append((frozenset(settled), error))

    def forget(self, key: Key) -> None:
        """A newer one of that key is durable."""
        self._newest.pop(key, None)

    def of(self, key: Key) -> Recipe | None:
        return self._newest.get(key)

    def at(self, seq: Seq) -> Recipe | None:
        """Why the snapshot with that number, or the newer one that took its place, could not be written, if so."""
        return next((error for settled, error in self._by_number if seq in settled), None)
