"""The graph and the scorer: whole values that no output waits for.

Rules:
1. A failed write is logged, once, and comes out only if it was the final one: the next write may succeed, and a node
   without its newest graph is still a node.
2. Nothing is submitted while the store is behind; what is owed is written when it has caught up.
3. One write is under way at a time: what changes meanwhile goes into the next, so that a large scorer is not serialised
   again for each payment. LDK saves after each update that changed it, and waits for that.
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
        self.name = name
        self._pieces = pieces
        self._durability = durability
        self._logger = logger
        self._owed = False
        self._under_way: Seq | None = None

    def owe(self) -> None:
        """The value is due to be written."""
        self._owed = True

    def settle(self) -> None:
        """Write what is owed if the store takes it, and log the failure of what was written before."""
        if self._under_way is not None:
            try:
                if is_durable(self._durability, self._under_way):
                    self._under_way = None
            except Exception as failure:  # noqa: BLE001 - any error of the worker's
                self._under_way = None
                self._logger.error(
                    "Error: Failed to persist %s, check your disk and permissions %s", self.name, failure
                )
        if self._owed and self._under_way is None and self._durability.writable:
            self.write()

    def write(self) -> Seq:
        """Write the value as it is now."""
        self._owed = False
        self._logger.log(TRACE, "Persisting %s", self.name)
        self._under_way = self._durability.snapshot(self._key, self._pieces())
        return self._under_way


def is_durable(durability: Durability, seq: Seq) -> bool:
    """Whether `seq` is durable by now. Raises its error, or the store's failure. Never blocks."""
    try:
        durability.wait(seq, 0)
    except TimeoutError as error:
        if error.__cause__ is not None:
            # Not ours: a persister's own, which carries the traceback of the worker.
            raise
        return False
    return True
