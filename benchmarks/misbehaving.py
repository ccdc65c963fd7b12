"""A persister that goes wrong as it is told to: what a user's own may do to its worker. Imported by workers."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Final

from bgsuper.faults.disk_sleep import sleep_uninterruptibly

#: Longer than anybody looks.
LONG_S: Final = 600


class Misbehaving:
    """Does `fault`, the name of a method, whenever it is to persist the manager. `amount` is the method's to read."""

    def __init__(self, fault: str, amount: int = 0) -> None:
        self._fault: Callable[[], None] = getattr(self, fault)
        self._amount = amount
        self._memory = b""

    def persist_manager(self, data: bytes) -> None:
        self._fault()

    def persist_graph(self, data: bytes) -> None:
        """Well-behaved."""

    def persist_scorer(self, data: bytes) -> None:
        """Well-behaved."""

    def deadlock(self) -> None:
        """Waits for itself."""
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()

    def spin(self) -> None:
        """Pure Python without end; other threads get their turns."""
        while True:
            pass

    def hog(self) -> None:
        """C code that never lets go of the GIL: no other thread runs, so there is no heartbeat either."""
        sum(range(10**15))

    def crash(self) -> None:
        """Reads where nothing is."""
        ctypes.string_at(0)

    def swell(self) -> None:
        """Takes `amount` bytes of memory, and uses them."""
        self._memory = b"\1" * self._amount

    def sleep(self) -> None:
        """Uninterruptible."""
        sleep_uninterruptibly(LONG_S)
