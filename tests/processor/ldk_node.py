"""What rust-lightning's tests of the processor make first (`create_nodes`), and both faces to start it with."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bgsuper.processor.background import BackgroundProcessor, process_events
from bgsuper.processor.interfaces import TRACE
from bgsuper.processor.timers import Timers
from bgsuper.supervisor import PersisterRef

from .stand_ins import Calls, Gossip, Manager, Messenger, Peers, Scores, Sweeper, WholeMonitor

#: LDK's timers under cfg(test), but shorter.
SHORT = Timers(
    freshness=0.05,
    ping=0.05,
    first_prune=0.05,
    first_scorer=0.05,
    scorer=0.05,
    rebroadcast=0.05,
    first_archive=0.05,
    archive=0.05,
    onion_messenger=0.05,
    sweeper=0.05,
    rest=0.02,
)


def persister(directory: Path, **errors: list[object]) -> PersisterRef:
    return PersisterRef("tests.processor.persisters:FailingPersister", {"directory": str(directory), **errors})


class AsyncioProcessor:
    """`process_events` with the face of a `BackgroundProcessor`: on a loop in a thread of its own."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(arguments, options))
        self._thread.start()
        assert self._started.wait(20)

    def _run(self, arguments: Any, options: Any) -> None:
        async def main() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            self._started.set()
            await process_events(*arguments, **options, stop=self._stop)

        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - it comes out of join()
            self._error = error

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self.join(40)

    def join(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError
        if self._error is not None:
            raise self._error


#: Starts a processor, on a thread or on asyncio.
Face = Callable[..., Any]
FACES: list[Face] = [BackgroundProcessor.start, AsyncioProcessor]


class Node:
    """The objects, and a logger that counts its lines."""

    def __init__(self) -> None:
        self.calls = calls = Calls()
        self.manager, self.monitor, self.peers = Manager(calls), WholeMonitor(calls), Peers(calls)
        self.gossip: Gossip | None = Gossip(calls)
        self.scorer: Scores | None = None
        self.onion_messenger, self.sweeper = Messenger(calls), Sweeper(calls)
        self.handler: Callable[[object], None] = lambda event: None
        self.logger = logging.Logger("ldk", TRACE)
        self.lines: Counter[str] = Counter()
        self._changed = threading.Condition()
        handler = logging.Handler()
        handler.emit = self._emit  # type: ignore[method-assign]
        self.logger.addHandler(handler)

    def _emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self.lines[record.getMessage()] += 1
            self._changed.notify_all()

    def wait_for_line(self, line: str, times: int = 1) -> None:
        """Until it came `times` times in all."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.lines[line] >= times, 20), self.lines

    def push(self, event: object) -> None:
        """An event of the manager's, on the test's thread."""
        self.manager.events.append(event)
        self.manager.change()

    def start(self, persister: PersisterRef, face: Face = BackgroundProcessor.start, timers: Timers = SHORT) -> Any:
        return face(
            persister,
            lambda event: self.handler(event),
            self.monitor,
            self.manager,
            self.gossip,
            self.peers,
            self.logger,
            scorer=self.scorer,
            onion_messenger=self.onion_messenger,
            sweeper=self.sweeper,
            timers=timers,
        )
