"""A host that loses its power: a real `Supervisor` and worker which nothing replaces once it is gone."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Final

from ...errors import BgsuperError
from ...supervisor import Supervisor
from ...supervisor.children import Child
from ...supervisor.launch import Launcher, launch
from .recovery import url_of

#: What a worker without a disk gets to end by itself before it is killed.
_LAST_WORDS_S: Final = 0.01
_POLL_S: Final = 0.001


class Host:
    """One host process's part, on the store in `directory`; `launcher` starts its workers, and the plan at `faults`, if
    there is one, is what befalls their writes and syncs."""

    def __init__(self, directory: Path, launcher: Launcher = launch, faults: Path | None = None) -> None:
        self._launcher = launcher
        self._powered = True
        self.supervisor = Supervisor(url_of(directory, faults), launcher=self._launch)

    def _launch(self) -> Child:
        if not self._powered:
            raise OSError("there is no power")
        return self._launcher()

    def lose_power(self) -> None:
        """No worker is started any more. Before the disk goes: what happens afterwards must not count."""
        self._powered = False

    def die(self, seconds: float) -> None:
        """Wait so long for the worker to die as it is planned, then kill it; none takes its place."""
        pid = self.supervisor.health().pid
        deadline = time.monotonic() + seconds
        while pid is not None and pid == self.supervisor.health().pid and self.supervisor.failure() is None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(_POLL_S)

    def end(self) -> None:
        """Be gone, and the worker with it; at once, whatever waits."""
        self.lose_power()
        try:
            self.supervisor.stop(_LAST_WORDS_S)
        except (BgsuperError, OSError):
            pass  # that is what it must say
