"""A worker on Linux: its pidfd is it, whoever else gets its pid (Linux 5.4)."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
from typing import Final, Self

from .child import UNKNOWN, Exit
from .launched import STATUS_S, LaunchedChild

# linux/pidfd.h. A kernel or an architecture to which this means nothing refuses it.
_GET_INFO: Final = 0xC040FF0B
_INFO_EXIT: Final = 1 << 3
_INFO: Final = struct.Struct("=Q52xi")  #: mask, ..., exit_code


class PidfdChild(LaunchedChild):
    """A worker whose pidfd is `pidfd`."""

    def __init__(self, process: subprocess.Popen[bytes], pidfd: int, ours: socket.socket) -> None:
        super().__init__(process, ours)
        self._pidfd = pidfd

    @classmethod
    def open(cls, process: subprocess.Popen[bytes], ours: socket.socket) -> Self:
        """Raises `OSError` if its pidfd cannot be had."""
        return cls(process, os.pidfd_open(process.pid), ours)

    def fileno(self) -> int:
        return self._pidfd

    def _signal(self, number: signal.Signals) -> None:
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            pass  # dead and reaped by another

    def _take_status(self) -> Exit | None:
        try:
            result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return status_of_reaped(self._pidfd)
        if result is None:
            return None
        if result.si_code == os.CLD_EXITED:
            return Exit(result.si_status, None)
        return Exit(None, result.si_status)

    def _wait(self) -> None:
        os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)

    def _close_watch(self) -> None:
        os.close(self._pidfd)


def status_of_reaped(pidfd: int) -> Exit:
    """How a process ended that somebody else has reaped, or the kernel because SIGCHLD is ignored.

    Linux 6.15 keeps it for who holds a pidfd (pidfs, PIDFD_INFO_EXIT); before, it is gone for good.
    """
    info = bytearray(_INFO.size)
    hung_up = select.poll()
    hung_up.register(pidfd, 0)
    try:
        for timeout_s in (STATUS_S, 0.0):
            _INFO.pack_into(info, 0, _INFO_EXIT, 0)
            fcntl.ioctl(pidfd, _GET_INFO, info)
            mask, status = _INFO.unpack(info)
            if mask & _INFO_EXIT:
                return Exit.of(status)
            # It is being reaped this very moment; the kernel tells once it is through.
            hung_up.poll(timeout_s * 1000)
    except OSError:
        pass  # ENOTTY, EINVAL, ESRCH: an older kernel
    return UNKNOWN
