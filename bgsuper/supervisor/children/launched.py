"""What all children share: the pipe, the standard error, and who reaps whom."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from threading import Thread
from typing import Final

from .child import UNKNOWN, Exit

log = logging.getLogger("bgsuper.supervisor")

#: How long a status may take after death: macOS tells of an exit a moment before it lets it be waited for, and a tracer
#: sees it first.
STATUS_S: Final = 0.1
_STATUS_POLL_S: Final = 0.001
#: sys/socket.h of macOS, which has no MSG_NOSIGNAL.
_SO_NOSIGPIPE: Final = 0x1022


class LaunchedChild(ABC):
    """A `Child` whose process was started by `subprocess.Popen`, which is told no more of it."""

    def __init__(self, process: subprocess.Popen[bytes], ours: socket.socket) -> None:
        assert process.stderr is not None
        # It has ended, as far as Popen knows. Else Popen would park it once it is collected, and whoever starts a
        # process next would wait for it by its mere pid, which may be another child's by then.
        process.returncode = 0
        self._stderr = process.stderr
        self._host = os.getpid()
        self._reaped = False
        self.pid = process.pid
        self.socket = ours
        self.stderr = process.stderr.fileno()
        ours.setblocking(False)
        if sys.platform == "darwin":
            ours.setsockopt(socket.SOL_SOCKET, _SO_NOSIGPIPE, 1)
        os.set_blocking(self.stderr, False)

    @abstractmethod
    def fileno(self) -> int: ...

    @abstractmethod
    def _signal(self, number: signal.Signals) -> None:
        """Send it; nothing if the worker is dead."""

    @abstractmethod
    def _take_status(self) -> Exit | None:
        """The status, which is gone then; None if it is not to be had yet. Never waits."""

    @abstractmethod
    def _wait(self) -> None:
        """Wait for its death, however long, and take the status away."""

    @abstractmethod
    def _close_watch(self) -> None:
        """Close what `fileno()` stands for; also in a forked copy of the host."""

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def dump(self) -> None:
        self._signal(signal.SIGUSR2)

    def reap(self) -> Exit:
        deadline = time.monotonic() + STATUS_S
        while (status := self._take_status()) is None and time.monotonic() < deadline:
            time.sleep(_STATUS_POLL_S)
        if status is None:
            return UNKNOWN  # close() leaves it to a thread
        self._reaped = True
        return status

    def close(self) -> None:
        self.socket.close()
        self._stderr.close()
        if os.getpid() != self._host or self._reaped or self._take_status() is not None:
            # In a forked copy of the host it is nobody's child.
            self._close_watch()
            return
        try:
            Thread(target=self._outlive, name=f"bgsuper-abandoned-{self.pid}", daemon=True).start()
        except RuntimeError as error:
            self._close_watch()
            log.warning("worker %s will stay a zombie of this process once it is dead: %s", self.pid, error)

    def _outlive(self) -> None:
        try:
            self._wait()
        except ChildProcessError:
            pass  # another part of the host was first
        self._close_watch()
