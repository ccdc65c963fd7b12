"""A launcher whose workers' pipes tell what went through them: what the worker has received when its host dies.

What `send` has taken is in the worker's end of the pipe, and nothing that happens to the host takes it away again. The
report follows it, so a host that dies between the two has sent more than its overseer knows, never less.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...ipc.frames import FrameReader, Kind
from ...ipc.messages import Assembler, Message
from ...supervisor.launch import Child, launch

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: Hears of each message that went through, and of each piece of one (None).
Heard = Callable[[Message | None], None]


def tapped(launched: Callable[[int], None], heard: Heard) -> Callable[[], Child]:
    """A `Launcher` that tells `launched` the pids of its workers, and `heard` what they receive."""

    def launch_tapped() -> Child:
        child = launch()
        launched(child.pid)
        child.socket = _Tapped(child.socket.detach(), heard)
        return child

    return launch_tapped


class _Tapped(socket.socket):
    def __init__(self, fd: int, heard: Heard) -> None:
        super().__init__(fileno=fd)
        self.setblocking(False)
        self._frames, self._messages = FrameReader(), Assembler()
        self._heard = heard

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        sent = super().send(data, flags)
        self._heard(None)
        for frame in self._frames.feed(memoryview(data)[:sent]):
            message = self._messages.feed(frame)
            if message is not None and message.kind in (Kind.COMMIT, Kind.SNAPSHOT):
                self._heard(message)
        return sent
