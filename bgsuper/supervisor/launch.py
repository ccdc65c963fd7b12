"""Launching the worker, and the only truth about its death: a pidfd.

Rules (reference: CPython's and others' bugs that they avoid):
1. Exec a fresh interpreter, never fork: a fork copies locks that nobody will release.
2. Tiny arguments; everything else goes over the pipe.
3. Signals go through the pidfd, so that they can never hit a process that merely got the same pid.
4. The exit status may be unknown: a host that ignores SIGCHLD, or reaps everybody's children, takes it. Death is
   still seen.
5. A session of its own: Ctrl-C in the terminal reaches the host, and the host tells the worker.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final, Protocol

#: Where this bgsuper is, so that the worker is the same one.
PACKAGE_ROOT: Final = str(Path(__file__).parents[2])

#: ``python -m bgsuper.worker``, of this very bgsuper. Its root is on the path only while it is found: the host may have
#: it from anywhere, and nothing else that lies there may take a standard module's place.
BOOT: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); import bgsuper; del sys.path[0]; "
    "from bgsuper.worker.__main__ import main; sys.exit(main(sys.argv[2:]))"
)


class Child(Protocol):
    """A launched worker. `fileno()` is readable once it is dead."""

    pid: int
    socket: socket.socket  #: the host's end of the pipe, non-blocking
    stderr: int  #: the read end of its standard error, non-blocking

    def fileno(self) -> int: ...

    def kill(self) -> None:
        """SIGKILL; nothing if it is dead already."""

    def reap(self) -> str:
        """After death: take the exit status away, and say it in words."""

    def close(self) -> None:
        """Close every descriptor that belongs to it."""


class Launcher(Protocol):
    def __call__(self) -> Child:
        """Start a worker; `OSError` if that is impossible (no interpreter, no memory, no descriptors)."""


class PidfdChild:
    """A worker on Linux."""

    def __init__(self, process: subprocess.Popen[bytes], pidfd: int, ours: socket.socket) -> None:
        assert process.stderr is not None
        self._process, self._pidfd = process, pidfd
        self.pid = process.pid
        self.socket = ours
        self.stderr = process.stderr.fileno()

    def fileno(self) -> int:
        return self._pidfd

    def kill(self) -> None:
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass  # dead and reaped by another

    def reap(self) -> str:
        try:
            result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            result = None
        if result is None:
            self._process.returncode = 0  # whatever it was: another took it, and Popen must not look for it
            return "status unknown: another part of the host reaped it"
        if result.si_code == os.CLD_EXITED:
            self._process.returncode = result.si_status
            return f"exit status {result.si_status}"
        self._process.returncode = -result.si_status
        try:
            return f"signal {signal.Signals(result.si_status).name}"
        except ValueError:
            return f"signal {result.si_status}"

    def close(self) -> None:
        self.socket.close()
        os.close(self._pidfd)
        if self._process.returncode is None:
            # Abandoned alive: it must not be waited for, ever.
            self._process.returncode = 0
        assert self._process.stderr is not None
        self._process.stderr.close()


def launch() -> PidfdChild:
    """Start ``python -m bgsuper.worker`` with one end of a socket pair."""
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        process = subprocess.Popen(
            # -P: a queue.py in the working directory must not become the worker's.
            [sys.executable, "-P", "-c", BOOT, PACKAGE_ROOT, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    assert process.stderr is not None
    os.set_blocking(process.stderr.fileno(), False)
    try:
        return PidfdChild(process, os.pidfd_open(process.pid), ours)
    except OSError as error:
        # It cannot be watched, so it must not live. It has not been reaped, unless SIGCHLD is ignored and it is dead.
        ours.close()
        process.kill()
        process.wait()
        process.stderr.close()
        raise OSError(f"the worker was launched, but it cannot be watched: {error}") from error
