"""The graph and the scorer: whole values that no output waits for.

Rules:
1. A failed write is logged, once, and comes out only if it was the final one: the next write may succeed, and a node
   without its newest graph is still a node.
2. Nothing is submitted while the store is behind; what is owed is written when it has caught up.
3. One write is under way at a time: what changes meanwhile goes into the next, so that a large scorer is not serialised
   again for each payment. LDK saves after each update that changed it, and waits for that.
4. A large value is copied over many turns, a piece or some in each, so that no turn grows with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ..key import Key, Seq
from .interfaces import TRACE, Durability

#: How much of a value one turn copies; the piece that reaches it is the turn's last.
COPY_BYTES: Final = 64 * 1024
#: And how many pieces, which may be small, or empty where all has changed since.
COPY_PIECES: Final = 32


class SideWrites:
    """The writes of one value, called `name` in the log; `pieces` gives a consistent snapshot of it, which may be made
    while it is iterated."""

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
        self._rest: Iterator[bytes] | None = None  # of a copy under way
        self._copied: list[bytes] = []

    @property
    def copying(self) -> bool:
        """Whether `settle` has more to copy, and should be called again soon."""
        return self._rest is not None and self._durability.writable

    def owe(self) -> None:
        """The value is due to be written."""
        self._owed = True

    def settle(self) -> None:
        """Copy and write what is owed if the store takes it, and log the failure of what was written before."""
        if self._under_way is not None:
            try:
                if is_durable(self._durability, self._under_way):
                    self._under_way = None
            except Exception as failure:  # noqa: BLE001 - any error of the worker's
                self._under_way = None
                self._logger.error(
                    "Error: Failed to persist %s, check your disk and permissions %s", self.name, failure
                )
        if self._under_way is None and self._durability.writable:
            if self._owed and self._rest is None:
                self._begin()
            if self._rest is not None and self._copy_some(self._rest):
                self._submit()

    def write(self) -> Seq:
        """Write the value as it is now, all of it in this call."""
        self._begin()
        self._copied += self._rest or ()
        return self._submit()

    def _begin(self) -> None:
        self._owed = False
        self._logger.log(TRACE, "Persisting %s", self.name)
        self._rest, self._copied = iter(self._pieces()), []

    def _copy_some(self, rest: Iterator[bytes]) -> bool:
        """Copy as much as one turn may; whether that was the last of it."""
        size = 0
        for _ in range(COPY_PIECES):
            piece = next(rest, None)
            if piece is None:
                return True
            self._copied.append(piece)
            size += len(piece)
            if size >= COPY_BYTES:
                break
        return False

    def _submit(self) -> Seq:
        copied, self._rest, self._copied = self._copied, None, []
        self._under_way = self._durability.snapshot(self._key, copied)
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
