"""Host and worker as the overseer sees them: processes that it starts, hears, stops and kills.

The host is the overseer's own child. The worker is not, and may outlive its host: it is known by pid and start time
(psutil), so that no other process is ever hit that was given its pid.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from typing import IO, Final

import psutil

from .host import Orders
from .reports import Point, Report, Reports

_READ_BYTES: Final = 1024 * 1024
_POLL_S: Final = 0.005


class HostProcess:
    """A running host. Its reports end when it is dead."""

    def __init__(self, orders: Orders, log: IO[bytes]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bgsuper.torture.run.host", orders.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            # Ctrl-C is the overseer's to handle.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._reports = Reports()
        self.number = orders.number
        self.ended = False  #: it is dead, and all that it said was heard

    @property
    def pid(self) -> int:
        return self._process.pid

    def hear(self, timeout: float) -> list[Report]:
        """What it reports, waiting at most `timeout` seconds for something."""
        poll = select.poll()
        poll.register(self._output, select.POLLIN)
        if self.ended or not poll.poll(timeout * 1000):
            return []
        data = os.read(self._output, _READ_BYTES)
        self.ended = not data
        return list(self._reports.feed(data))

    def go(self) -> None:
        self._say("go")

    def die_at(self, point: Point) -> None:
        self._say(f"die {point}")

    def stop(self) -> None:
        self._say("stop")

    def signal(self, number: signal.Signals) -> None:
        """Send it; nothing if the host is dead."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    def close(self) -> int:
        """Kill it if it lives, and let go of it; its exit status as of `subprocess`."""
        self.signal(signal.SIGKILL)
        status = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self.ended = True
        return status

    def _say(self, line: str) -> None:
        try:
            os.write(self._input, line.encode() + b"\n")
        except BrokenPipeError:
            pass  # it is dead; its reports end


class WorkerProcess:
    """A worker, living or dead."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._process: psutil.Process | None = psutil.Process(pid)
        except psutil.NoSuchProcess:
            self._process = None

    @property
    def alive(self) -> bool:
        """Whether it still runs, or may: stopped is alive, a zombie is not."""
        try:
            return (
                self._process is not None
                and self._process.is_running()
                and self._process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
            )
        except psutil.NoSuchProcess:
            return False

    def signal(self, number: signal.Signals) -> None:
        """Send it; nothing if the worker is dead."""
        try:
            if self._process is not None:
                self._process.send_signal(number)
        except psutil.NoSuchProcess:
            self._process = None

    def end(self) -> None:
        """Kill it, and wait until it is dead."""
        self.signal(signal.SIGKILL)
        while self.alive:
            time.sleep(_POLL_S)
