"""The worker's end of the pipe: a reader thread that always drains it, and whole frames out.

Rules:
1. The reader never waits for the disk: it only decodes what came and moves it into the inbox.
2. End of file, SIGTERM and the host's death are one thing: what arrived is still handed over, then `Closed`. A copy of
   the host's end in a forked child of the host can suppress end of file, so the parent's pid is looked at as well.
3. The heartbeat (PROGRESS) goes over the pipe, never over the disk, and is skipped rather than waited for.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Iterable
from threading import Lock, Thread

from ..errors import FrameError
from ..ipc.frames import RECEIVE_BYTES, FrameReader, Kind
from ..ipc.messages import Assembler, Message, encode_message
from .inbox import Closed, Inbox, arrived

#: Seconds between two PROGRESS frames and two looks at the parent's pid.
HEARTBEAT_S = 1.0


class Link:
    """Sends from any thread; receives on its own thread once `start` is called."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sending = Lock()
        self._greeted = False
        self._frames = FrameReader()
        self._messages = Assembler()

    # -- to the host --------------------------------------------------------------------------------------------------

    def send(self, kind: Kind, seq: int, fields: list[object], payload: Iterable[bytes] = ()) -> None:
        """Send one message. A host that is gone is no error here: what it submitted is still to be made durable."""
        try:
            with self._sending:
                for piece in encode_message(kind, seq, fields, tuple(payload)):
                    self._socket.sendall(piece)
        except OSError:
            pass  # the reader sees the same end of the pipe, and ends the worker in good order

    def greet(self, fields: list[object]) -> None:
        """HELLO: before it, nothing else may be said."""
        self.send(Kind.HELLO, 0, fields)
        self._greeted = True

    def _heartbeat(self, progress: Callable[[], list[object]]) -> None:
        # Only if it fits at once: the reader must not wait for a host that does not read.
        if not self._greeted or not self._sending.acquire(blocking=False):
            return
        try:
            poll = select.poll()  # not select(): the descriptor has the host's number for it, and hosts have many
            poll.register(self._socket, select.POLLOUT)
            if poll.poll(0):
                self._socket.sendall(b"".join(encode_message(Kind.PROGRESS, 0, progress())))
        except OSError:
            pass  # as in send()
        finally:
            self._sending.release()

    # -- from the host ------------------------------------------------------------------------------------------------

    def receive_first(self) -> Message:
        """Block for the first message; `FrameError` if the pipe ends before it."""
        while True:
            data = self._socket.recv(4096)
            if not data:
                raise FrameError("the host closed the pipe before it sent CONFIG")
            for frame in self._frames.feed(data):
                # The host sends nothing else before HELLO, so no frame can follow this one.
                message = self._messages.feed(frame)
                if message is not None:
                    return message

    def hang_up(self) -> None:
        """Take no more from the host; what already arrived is still read. Safe in a signal handler."""
        try:
            self._socket.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # the host hung up first

    def start(
        self,
        inbox: Inbox,
        host_pid: int,
        progress: Callable[[], list[object]],
        afterwards: Callable[[], None] = lambda: None,
    ) -> Thread:
        """Start the reader. `afterwards` is called on its thread when nothing more will come."""

        def read() -> None:
            self._read(inbox, host_pid, progress)
            afterwards()

        thread = Thread(target=read, name="reader", daemon=True)
        thread.start()
        return thread

    def _read(self, inbox: Inbox, host_pid: int, progress: Callable[[], list[object]]) -> None:
        error: Exception | None = None
        try:
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            beat_at = time.monotonic() + HEARTBEAT_S
            while True:
                came = poll.poll(max(0.0, beat_at - time.monotonic()) * 1000)
                # However busy the pipe: a host that streams must see that nothing gets done.
                if time.monotonic() >= beat_at:
                    beat_at = time.monotonic() + HEARTBEAT_S
                    if os.getppid() != host_pid:
                        self.hang_up()
                    self._heartbeat(progress)
                if not came:
                    continue
                data = self._socket.recv(RECEIVE_BYTES)
                if not data:
                    break
                for frame in self._frames.feed(data):
                    message = self._messages.feed(frame)
                    if message is not None:
                        inbox.put(arrived(message))
        except ConnectionError:
            pass  # the host died with bytes of ours unread: an end of file like any other
        except Exception as caught:  # noqa: BLE001 - whatever it is, the writer reports it
            error = caught
        inbox.put(Closed(error))
