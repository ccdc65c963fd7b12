"""Coroutines that wait for the supervisor: woken in one call per loop, however many acknowledgements came.

asyncio is imported by whoever waits, so that a threaded host does not load it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import count
from typing import TYPE_CHECKING

from ..key import Seq
from .core import Core

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    Waiter = tuple[AbstractEventLoop, Future[None]]


class Waiters:
    """Who waits for which number, and who for room. All but `resolve` under the shell's lock."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._order = count()
        self._durable: list[tuple[Seq, int, Waiter]] = []
        self._drain: list[Waiter] = []
        self._forgotten: set[Future[None]] = set()

    def add_durable(self, seq: Seq, waiter: Waiter) -> None:
        heapq.heappush(self._durable, (seq, next(self._order), waiter))

    @property
    def draining(self) -> bool:
        """Whether anybody waits for room."""
        return bool(self._drain)

    def add_drain(self, waiter: Waiter) -> None:
        self._drain.append(waiter)

    def forget(self, future: Future[None]) -> None:
        """It was cancelled, or its loop closed: whoever waits in short steps through a long stall must not pile up, and
        thousands who give up at once must not hold up the loop. So they are swept when they are the half of all."""
        self._forgotten.add(future)
        if 2 * len(self._forgotten) > len(self._durable) + len(self._drain):
            self._durable = [entry for entry in self._durable if entry[2][1] not in self._forgotten]
            heapq.heapify(self._durable)
            self._drain = [waiter for waiter in self._drain if waiter[1] not in self._forgotten]
            self._forgotten.clear()

    def due(self) -> list[Waiter]:
        """Take out those whose time has come: all of them once the supervisor has ended or failed."""
        core = self._core
        over = core.ended or core.failed
        due: list[Waiter] = []
        if self._durable:
            durable = core.backlog.durable
            snapshots = []
            while self._durable and (over or self._durable[0][0] <= durable):
                entry = heapq.heappop(self._durable)
                if over or core.backlog.is_durable(entry[0]):
                    due.append(entry[2])
                else:
                    snapshots.append(entry)  # a snapshot that is not critical, still on its way
            for entry in snapshots:
                heapq.heappush(self._durable, entry)
        if self._drain and (over or core.backlog.writable):
            due += self._drain
            self._drain = []
        return due

    @staticmethod
    def resolve(due: Iterable[Waiter]) -> None:
        """Wake them, each loop once. A loop that is closed has nobody left to wake."""
        loops: dict[AbstractEventLoop, list[Future[None]]] = {}
        for loop, future in due:
            loops.setdefault(loop, []).append(future)
        for loop, futures in loops.items():
            try:
                loop.call_soon_threadsafe(_set, futures)
            except RuntimeError:
                pass  # the loop was closed under us


def _set(futures: list[Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
