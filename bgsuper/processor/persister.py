"""LDK's `Persister`: a host's own way to persist, run in the worker process.

Named by a `PersisterRef("package.module:Class", config)`; the worker imports the class and calls it with the config as
keyword arguments. It takes whole values only, so the manager is persisted whole (see `interfaces.Writeable`).
"""

from __future__ import annotations

from typing import Protocol


class Persister(Protocol):
    """Writes whole values, on the worker's main thread, one at a time.

    To return means that the value is durable, file and directory. What `persist_manager` raises ends the processor and
    comes out of `join()` and `stop()`; what the others raise is logged, and comes out if it was the final write.
    """

    def persist_manager(self, data: bytes) -> None:
        """`data` is what the channel manager's `write()` returned."""

    def persist_graph(self, data: bytes) -> None:
        """`data` is the network graph in LDK's serialization."""

    def persist_scorer(self, data: bytes) -> None:
        """`data` is the scorer in LDK's serialization."""
