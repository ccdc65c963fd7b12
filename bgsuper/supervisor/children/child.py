"""What a launched worker is to its supervisor, and how it ended."""

from __future__ import annotations

import os
import signal
import socket
from typing import Final, NamedTuple, Protocol


class Exit(NamedTuple):
    """How a worker ended: by `code` or by `signal`. Both None where another part of the host took its status away and
    the kernel does not say."""

    code: int | None
    signal: int | None

    @classmethod
    def of(cls, status: int) -> Exit:
        """From a status as of wait(2)."""
        if os.WIFSIGNALED(status):
            return cls(None, os.WTERMSIG(status))
        return cls(os.WEXITSTATUS(status), None)

    def __str__(self) -> str:
        if self.signal is not None:
            try:
                return f"signal {signal.Signals(self.signal).name}"
            except ValueError:
                return f"signal {self.signal}"
        if self.code is not None:
            return f"exit status {self.code}"
        return "status unknown: another part of the host reaped it"


UNKNOWN: Final = Exit(None, None)

#: The flags to send with on a child's socket: a host that has SIGPIPE at its default must not die with its worker.
SEND_FLAGS: Final[int] = getattr(socket, "MSG_NOSIGNAL", 0)


class Child(Protocol):
    """A launched worker. `fileno()` is readable once it is dead. One thread uses it."""

    pid: int
    socket: socket.socket  #: the host's end of the pipe, non-blocking; send with `SEND_FLAGS`
    stderr: int  #: the read end of its standard error, non-blocking

    def fileno(self) -> int: ...

    def kill(self) -> None:
        """SIGKILL; nothing if it is dead already."""

    def dump(self) -> None:
        """SIGUSR2, at which a worker writes all its threads' stacks to its standard error; nothing if it is dead."""

    def reap(self) -> Exit:
        """After death: take the exit status away."""

    def close(self) -> None:
        """Close every descriptor that belongs to it. One that is not dead yet is reaped when it is."""
