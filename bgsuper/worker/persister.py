"""A user's persister as a store: LDK's `Persister` (the seed's), run in the worker.

It has no atomic batches and nothing to read back: it takes the manager, the graph and the scorer, each whole. That
voids "one commit is atomic" (DESIGN.md, rule 3), so `atomic` is False and health says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from ..errors import ConfigError, NotFound
from ..key import MANAGER, NETWORK_GRAPH, SCORER, Key, Seq
from ..store.api import Batch, Opened, SnapshotFile
from ..store.named import named

#: Which method of a persister takes which key.
METHODS = {MANAGER: "persist_manager", NETWORK_GRAPH: "persist_graph", SCORER: "persist_scorer"}


class PersisterStore:
    """Calls ``persist_manager(data)``, ``persist_graph(data)`` and ``persist_scorer(data)`` on the main thread; their
    return means durable, and whatever they raise comes out as itself."""

    atomic = False
    has_idle_work = False

    def __init__(self, path: str, config: dict[str, object]) -> None:
        self._path, self._config = path, config
        self._methods: dict[Key, Callable[[bytes], None]] = {}
        self._written: dict[Seq, bytes] = {}

    def open(self) -> Opened:
        persister = named(self._path, "a persister")(**self._config)
        for key, name in METHODS.items():
            method = getattr(persister, name, None)
            if not callable(method):
                raise ConfigError(
                    f"expected {self._path} to have persist_manager, persist_graph and persist_scorer; it has no {name}"
                )
            self._methods[key] = method
        # Nothing is fenced here, so the process is the only number there is.
        return Opened(epoch=os.getpid(), last_commit=Seq(0), last_seq=Seq(0))

    def apply(self, group: Sequence[Batch]) -> None:
        raise ConfigError(f"the persister {self._path} has no atomic batches: use snapshot(), or a store URL")

    def write_snapshot(self, key: Key, seq: Seq, content: bytes) -> SnapshotFile:
        if key not in self._methods:
            raise ConfigError(f"a persister takes {', '.join(map(str, METHODS))}, not {key}: use a store URL")
        self._written[seq] = content
        return SnapshotFile(key, seq, "", len(content), b"")

    def adopt_snapshot(self, snapshot: SnapshotFile) -> None:
        # It stays until it is taken: a persister that raises `StoreFull` is called again, as a store of ours is.
        self._methods[snapshot.key](self._written[snapshot.seq])
        del self._written[snapshot.seq]

    def discard_snapshot(self, snapshot: SnapshotFile) -> None:
        self._written.pop(snapshot.seq, None)

    def read(self, key: Key) -> bytes:
        raise NotFound(f"the persister {self._path} only writes: {key} cannot be read back through it")

    def scan(self, primary: str, secondary: str, after: str, limit: int) -> list[tuple[Key, bytes]]:
        return []

    def idle(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""
