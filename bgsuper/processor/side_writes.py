"""The graph and the scorer: whole values that no output waits for.

Rules:
1. A failed write is logged, once, and comes out only if it was the final one: the next write may succeed, and a node
   without its newest graph is still a node.
2. Nothing is submitted while the store is behind; what is owed is written when it has caught up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from ..key import Key, Seq
from .interfaces import TRACE, Durability


class SideWrites:
    """The writes of one value, called `name` in the log; `pieces` gives a consistent snapshot of it."""

    def __init__(
        self,
        key: Key,
        name: str,
        pieces: Callable[[], Iterable[bytes]],
        durability: Durability,
        logger: logging.Logger,
    ) -> None:
        self._key = key
        self._name = name
        self._pieces = pieces
        self._durability = durability
        self._logger = logger
        self._owed = False
        self._watched = False

    def owe(self) -> None:
        """The value is due to be written."""
        self._owed = True

    def settle(self, *, writable: bool) -> None:
        """Write what is owed if the store takes it, and log the failure of what was written before."""
        if self._watched:
            failure = self._durability.snapshot_failure(self._key)
            if failure is not None:
                self._watched = False
                self._logger.error(
                    "Error: Failed to persist %s, check your disk and permissions %s", self._name, failure
                )
        if self._owed and writable:
            self.write()

    def write(self) -> Seq:
        """Write the value as it is now."""
        self._owed = False
        self._logger.log(TRACE, "Persisting %s", self._name)
        seq = self._durability.snapshot(self._key, self._pieces())
        self._watched = True
        return seq
