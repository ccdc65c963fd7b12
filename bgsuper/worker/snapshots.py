"""The snapshot lane: writes large values on a thread of its own, so that no commit waits behind 20 MiB."""

from __future__ import annotations

import time
from queue import SimpleQueue
from threading import Thread

from ..ipc.messages import Message
from ..key import Key, Seq
from ..store.api import Store
from .inbox import Inbox, SnapshotDone


class SnapshotLane:
    """Takes SNAPSHOT messages, writes and syncs their files, and reports each to the inbox."""

    def __init__(self, store: Store, inbox: Inbox) -> None:
        self._store, self._inbox = store, inbox
        self._queue: SimpleQueue[tuple[Message, Key, float] | None] = SimpleQueue()
        self._thread: Thread | None = None

    @property
    def native_id(self) -> int:
        """What the kernel calls its thread, for whoever looks at its state; 0 while there is none."""
        return (self._thread.native_id or 0) if self._thread is not None else 0

    def write(self, message: Message, key: Key, pause: float = 0.0) -> None:
        """Queue one; `pause` seconds pass first (a retry on a full disk)."""
        if self._thread is None:
            # Started by the first snapshot: a host that only commits keeps a smaller worker.
            self._thread = Thread(target=self._run, name="snapshots", daemon=True)
            self._thread.start()
        self._queue.put((message, key, pause))

    def stop(self) -> None:
        """Wait for the lane to end; call it when nothing is under way any more."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            message, key, pause = job
            time.sleep(pause)
            try:
                outcome = self._store.write_snapshot(key, Seq(message.seq), message.payload)
            except Exception as error:  # noqa: BLE001 - the writer tells critical from not
                self._inbox.put(SnapshotDone(message, error))
            else:
                self._inbox.put(SnapshotDone(message, outcome))
