"""Workers where there are no pidfds. They are signalled and reaped by pid, which is theirs until they are reaped."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from threading import Thread
from typing import Any, Final

from .child import UNKNOWN, Exit
from .launched import LaunchedChild

#: `select`, of which a type checker on Linux knows no kqueue.
_kernel: Final[Any] = select


class _ChildByPid(LaunchedChild):
    def _signal(self, number: signal.Signals) -> None:
        # Once it is dead, we or another part of the host may have reaped it, and its pid be anybody's.
        if _is_readable(self.fileno()):
            return
        try:
            os.kill(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # it died this very moment

    def _take_status(self) -> Exit | None:
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return UNKNOWN
        return Exit.of(status) if pid else None

    def _wait(self) -> None:
        os.waitpid(self.pid, 0)


class KqueueChild(_ChildByPid):
    """A worker on macOS or a BSD, by kqueue's NOTE_EXIT. Raises `OSError` if there is no kqueue to be had."""

    def __init__(self, process: subprocess.Popen[bytes], ours: socket.socket) -> None:
        self._kqueue = _kernel.kqueue()
        try:
            self._watch(process.pid)
        except BaseException:
            self._kqueue.close()
            raise
        super().__init__(process, ours)

    def _watch(self, pid: int) -> None:
        add = _kernel.KQ_EV_ADD | _kernel.KQ_EV_ONESHOT
        exits = _kernel.kevent(pid, _kernel.KQ_FILTER_PROC, add, _kernel.KQ_NOTE_EXIT)
        try:
            self._kqueue.control([exits], 0)
        except ProcessLookupError:
            # A zombie already, which kqueue does not know any more: a timer makes it readable.
            self._kqueue.control([_kernel.kevent(pid, _kernel.KQ_FILTER_TIMER, add, 0, 1)], 0)

    def fileno(self) -> int:
        return int(self._kqueue.fileno())

    def _close_watch(self) -> None:
        if os.getpid() == self._host:  # no forked copy inherits it
            self._kqueue.close()


class WaitingChild(_ChildByPid):
    """A worker where the kernel, or who guards it, grants neither: a thread waits, and says so on a socket pair.

    Raises `OSError` or `RuntimeError` if there are no descriptors or no thread to be had.
    """

    def __init__(self, process: subprocess.Popen[bytes], ours: socket.socket) -> None:
        self._dead, self._tell = socket.socketpair()
        try:
            Thread(target=self._watch, args=[process.pid], name=f"bgsuper-wait-{process.pid}", daemon=True).start()
        except BaseException:
            self._dead.close()
            self._tell.close()
            raise
        super().__init__(process, ours)

    def _watch(self, pid: int) -> None:
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # its status, and its pid, are left for later
        except ChildProcessError:
            pass  # another part of the host reaped it: dead all the same
        with self._tell:
            try:
                # Heard though a forked copy of the host holds it open too, and no SIGPIPE if nobody listens any more.
                self._tell.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it was abandoned, and closed meanwhile

    def fileno(self) -> int:
        return self._dead.fileno()

    def _close_watch(self) -> None:
        self._dead.close()
        if os.getpid() != self._host:
            self._tell.close()  # the thread that would is not in this copy


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return any(event & (select.POLLIN | select.POLLHUP) for _, event in poll.poll(0))
