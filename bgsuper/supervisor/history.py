"""What happened to the worker: the last changes of state, for operators, callbacks and the log."""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

from ..health import DeathCause, Transition, WorkerState

#: How many changes are remembered.
KEPT: Final = 256

#: How loudly the log speaks of entering a state.
LEVELS: Final[dict[WorkerState, int]] = {
    WorkerState.IDLE: logging.DEBUG,
    WorkerState.STARTING: logging.INFO,
    WorkerState.READY: logging.INFO,
    WorkerState.LAGGING: logging.WARNING,
    WorkerState.DISK_STALLED: logging.ERROR,
    WorkerState.DISK_FULL: logging.ERROR,
    WorkerState.RETRYING: logging.WARNING,
    WorkerState.STOPPED: logging.WARNING,
    WorkerState.HUNG: logging.ERROR,
    WorkerState.BLOATED: logging.WARNING,
    WorkerState.DYING: logging.WARNING,
    WorkerState.WEDGED: logging.CRITICAL,
    WorkerState.EXITED: logging.WARNING,
    WorkerState.STOPPING: logging.INFO,
    WorkerState.ENDED: logging.INFO,
    WorkerState.FAILED: logging.CRITICAL,
}


class History:
    """`Transition`s whose `at` is by the supervisor's own clock. Not thread-safe: the shell's lock guards it."""

    def __init__(self) -> None:
        self._kept: deque[Transition] = deque(maxlen=KEPT)
        self._untold: deque[Transition] = deque(maxlen=KEPT)

    def add(self, transition: Transition) -> None:
        self._kept.append(transition)
        self._untold.append(transition)

    def all(self) -> list[Transition]:
        return list(self._kept)

    def untold(self) -> list[Transition]:
        """Those that nobody was told of yet, oldest first; asked for once."""
        untold = list(self._untold)
        self._untold.clear()
        return untold


def level(transition: Transition) -> int:
    """A death that we asked for is nothing to warn of."""
    if transition.cause is DeathCause.ASKED:
        return logging.INFO
    return LEVELS[transition.state]
