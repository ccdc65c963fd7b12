"""The worker's end of the pipe: what arrived is handed over, whatever ends it; the heartbeat waits for nobody."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from threading import Event, Thread

import pytest

from bgsuper.errors import FrameError
from bgsuper.ipc.frames import FrameReader, Kind
from bgsuper.ipc.messages import Assembler, Commit, Message, encode_commits, encode_message
from bgsuper.key import MANAGER, Seq
from bgsuper.worker import link as module
from bgsuper.worker.inbox import Closed, Commits, Inbox, Item
from bgsuper.worker.link import Link

pytestmark = pytest.mark.usefixtures("no_leaks")


class Pipe:
    """A link, and the host's end of it."""

    def __init__(self) -> None:
        self.host, self.worker = socket.socketpair()
        self.link = Link(self.worker)
        self.inbox = Inbox()
        self.thread: Thread | None = None

    def start(self, host_pid: int | None = None) -> None:
        self.thread = self.link.start(self.inbox, host_pid or os.getppid(), lambda: ["idle", 1, 2])

    def submit(self, *numbers: int) -> None:
        for number in numbers:
            self.host.sendall(b"".join(encode_message(Kind.READ, number, [])))

    def received(self) -> list[Item]:
        """All that the reader hands over, to the end."""
        assert self.thread is not None
        self.thread.join(30)
        assert not self.thread.is_alive()
        return self.inbox.take(0)

    def close(self) -> None:
        self.host.close()
        if self.thread is not None:
            self.thread.join(30)
        self.worker.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def numbers(items: list[Item]) -> list[int]:
    return [item.seq for item in items if isinstance(item, Message)]


def test_the_hosts_end_is_an_end_after_what_it_sent(pipe: Pipe) -> None:
    """End of file: everything before it, then `Closed` without an error."""
    pipe.start()
    pipe.submit(*range(90))
    pipe.host.close()
    items = pipe.received()
    assert numbers(items) == list(range(90))
    assert items[-1] == Closed(None)
    assert pipe.inbox.closed_at is not None


def test_a_signal_drains_what_arrived(pipe: Pipe) -> None:
    """SIGTERM calls `hang_up`: what is in the buffer is not dropped."""
    pipe.submit(*range(90))
    pipe.link.hang_up()
    pipe.link.hang_up()
    pipe.start()
    assert numbers(pipe.received()) == list(range(90))
    with pytest.raises(BrokenPipeError):
        pipe.submit(91)


def test_half_a_frame_at_the_end_is_dropped(pipe: Pipe) -> None:
    """A host that died while it sent: what is not whole was never submitted to us."""
    pipe.start()
    pipe.submit(1)
    pipe.host.sendall(b"".join(encode_message(Kind.READ, 2, ["x" * 100]))[:60])
    pipe.host.close()
    items = pipe.received()
    assert (numbers(items), items[-1]) == ([1], Closed(None))


def test_nonsense_ends_it_with_its_error(pipe: Pipe) -> None:
    """After what came before."""
    pipe.start()
    pipe.submit(1)
    [first] = pipe.inbox.take()
    pipe.host.sendall(b"nonsense" * 4)
    [last] = pipe.received()
    assert numbers([first]) == [1]
    assert isinstance(last, Closed)
    assert isinstance(last.error, FrameError)


def test_commits_arrive_decoded(pipe: Pipe) -> None:
    """By the reader, so that the writer finds them ready; what they cost in bytes comes with them."""
    row = [Commit(Seq(seq), Seq(seq - 1), ((MANAGER, b"v%d" % seq),), ()) for seq in (1, 2)]
    pipe.start()
    pipe.host.sendall(b"".join(encode_commits(row)))
    pipe.host.close()
    assert pipe.received() == [Commits(row, 4), Closed(None)]


def test_a_lying_commit_ends_it_with_its_error(pipe: Pipe) -> None:
    """As any other nonsense."""
    pipe.start()
    pipe.host.sendall(b"".join(encode_message(Kind.COMMIT, 1, ["x"])))
    [last] = pipe.received()
    assert isinstance(last, Closed)
    assert isinstance(last.error, FrameError)


def test_a_host_that_is_not_our_parent_is_gone(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked copy of it may hold the pipe open for ever."""
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    pipe.start(host_pid=1 if os.getppid() != 1 else 2)
    assert pipe.received() == [Closed(None)]


@pytest.mark.parametrize("streams", [False, True], ids=["while nothing comes", "while the host streams"])
def test_a_heartbeat_goes_out(pipe: Pipe, monkeypatch: pytest.MonkeyPatch, streams: bool) -> None:
    """PROGRESS, over the pipe: never before HELLO, and however busy the reader is."""
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    frames, messages = FrameReader(), Assembler()
    heard: list[Message] = []
    pipe.start()
    time.sleep(0.05)  # several heartbeats were due
    pipe.link.greet([1, 0, 0, True])
    over = Event()

    def stream() -> None:
        number = 0
        while not over.is_set():
            number += 1
            pipe.submit(number)

    thread = Thread(target=stream)
    if streams:
        thread.start()
    while len(heard) < 3:
        for frame in frames.feed(pipe.host.recv(4096)):
            message = messages.feed(frame)
            assert message is not None
            heard.append(message)
    over.set()
    if streams:
        thread.join()
    assert [message.kind for message in heard[:2]] == [Kind.HELLO, Kind.PROGRESS]
    assert heard[1].fields == ["idle", 1, 2]


@pytest.mark.parametrize("busy", ["the host does not read", "the writer is sending"])
def test_a_heartbeat_waits_for_nobody(pipe: Pipe, monkeypatch: pytest.MonkeyPatch, busy: str) -> None:
    """It is skipped; the reader goes on reading."""
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    pipe.link.greet([1, 0, 0, True])
    if busy == "the writer is sending":
        pipe.link._sending.acquire()
    else:
        pipe.worker.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                pipe.worker.send(bytes(1 << 16))
        pipe.worker.setblocking(True)
    pipe.start()
    time.sleep(0.1)  # several heartbeats are due
    pipe.submit(1, 2, 3)
    pipe.host.shutdown(socket.SHUT_WR)
    assert numbers(pipe.received()) == [1, 2, 3]


def test_a_host_that_is_gone_is_no_error_to_send_to(pipe: Pipe) -> None:
    """What it submitted is still to be made durable."""
    pipe.host.close()
    pipe.link.send(Kind.ACK, 1, [0.1, 1])
    pipe.link.send(Kind.REPLY, 1, ["records", []], [bytes(300_000)])


def test_no_config_is_an_error(pipe: Pipe) -> None:
    """A host that died between launch and CONFIG."""
    pipe.host.close()
    with pytest.raises(FrameError, match="CONFIG"):
        pipe.link.receive_first()


def test_config_may_come_in_pieces(pipe: Pipe) -> None:
    """Frame by frame, byte by byte."""
    data = b"".join(encode_message(Kind.CONFIG, 0, ["x" * 5000]))

    def dribble() -> None:
        for start in range(0, len(data), 700):
            pipe.host.sendall(data[start : start + 700])

    thread = Thread(target=dribble)
    thread.start()
    assert pipe.link.receive_first().fields == ["x" * 5000]
    thread.join()
