"""The heartbeat of a worker whose host never stops talking."""

from __future__ import annotations

import os
import select
import socket
from itertools import count
from types import SimpleNamespace

import pytest

from bgsuper.ipc.frames import FrameReader, Kind
from bgsuper.ipc.messages import encode_message
from bgsuper.worker import link as module
from bgsuper.worker.inbox import Inbox
from bgsuper.worker.link import Link

pytestmark = pytest.mark.usefixtures("no_leaks")

#: So many times the reader looks for something to read, and finds it.
LOOKS = 60


def test_a_busy_stream_starves_no_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a host that submits all the time could not see that its writer is stuck."""
    host, worker = socket.socketpair()
    left = iter(range(LOOKS))

    class Streaming:
        """A poll that always finds something to read, until the host has said all."""

        def __init__(self) -> None:
            self._poll, self._reads = select.poll(), False

        def register(self, sock: socket.socket, events: int) -> None:
            self._poll.register(sock, events)
            self._reads = events == select.POLLIN

        def poll(self, timeout: float) -> list[tuple[int, int]]:
            if self._reads and next(left, None) is not None:
                host.sendall(b"".join(encode_message(Kind.READ, 1, [])))
            elif self._reads:
                host.shutdown(socket.SHUT_WR)
            return self._poll.poll(timeout)

    # Each look at the clock is half a heartbeat later than the one before.
    ticks = count(0.0, module.HEARTBEAT_S / 2)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    fake = SimpleNamespace(poll=Streaming, POLLIN=select.POLLIN, POLLOUT=select.POLLOUT)
    monkeypatch.setattr(module, "select", fake)
    with host, worker:
        link = Link(worker)
        link.greet([])
        link.start(Inbox(), os.getppid(), lambda: ["transaction", 1, 2, 0]).join(30)
        frames = FrameReader().feed(host.recv(1 << 20))
    assert [frame.kind for frame in frames].count(Kind.PROGRESS) >= LOOKS // 4
