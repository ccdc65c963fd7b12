"""The control socket: how a command of the operator's reaches the worker that has the store.

    INFO                    -> REPLY ["info", {name: value, ...}]       answered at once, even if the writer hangs
    BACKUP [path as bytes]  -> REPLY ["backup", [last commit, bytes, seconds]] or ["error", described]

Rules:
1. It lies in the store's directory, and is there while the worker has the store's lock. One that a killed worker left
   is replaced; anything else of that name is left alone.
2. It is a convenience: if it cannot be made, the worker says so in its log and goes on.
3. Only its owner and root may ask: the file's mode says so, and where the kernel tells who calls, it is asked, too.
4. One thread, bounded: so many callers, so many bytes a question, so long for each. Hostile bytes end a conversation,
   after one line that says why. Nobody waits for a slow caller but he himself, and he is asked nothing more until he
   has heard the answer.
5. Who hangs up no longer wants what he asked for.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Final

from ..errors import FrameError
from ..ipc.frames import FrameReader, Kind
from ..ipc.messages import Assembler, Message, encode_message
from ..ipc.remote import Allowed, describe
from ..store.api import Described, Store
from ..store.layout import Layout
from ..store.url import StoreURL
from .backups import backup_directory
from .inbox import BackupOrder, Inbox

#: How many callers are heard at a time; others wait in the kernel's queue.
MOST_CALLERS: Final = 8
#: Longer than any path.
MOST_QUESTION_BYTES: Final = 64 * 1024
#: How long a caller may take to ask, or to hear the answer.
PATIENCE_S: Final = 10.0
#: A socket's address holds 108 bytes on Linux, 104 elsewhere, a NUL among them.
MOST_PATH_BYTES: Final = 100
#: How long the worker's end waits for the thread's.
END_S: Final = 1.0

Info = Callable[[], Mapping[str, object]]


def socket_path(url: StoreURL) -> str | None:
    """Where the socket of the store that `url` names lies, if its scheme has one."""
    match url.scheme:
        case "sqlite":
            return Layout(os.path.abspath(url.path)).control
        case "file":
            # LDK's listing passes over files of that ending, and refuses others.
            return os.path.join(os.path.abspath(url.path), "bgsuper.control.tmp")
    return None


@contextmanager
def address(path: str) -> Iterator[str]:
    """A name of the socket at `path` that fits in an address; good until the end of the block. Raises `OSError`."""
    if len(os.fsencode(path)) <= MOST_PATH_BYTES:
        yield path
        return
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Linux's. Elsewhere there is no such path, and so no socket.
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


@contextmanager
def serving(path: str | None, inbox: Inbox, info: Info) -> Iterator[None]:
    """Serve the control socket at `path` during the block, if it can be made; None: there is to be none."""
    control = None
    if path is not None:
        try:
            control = Control(path, inbox, info)
        except (OSError, RuntimeError) as error:
            print(f"no command can reach this worker: its control socket {path} failed: {error}", file=sys.stderr)
    try:
        yield
    finally:
        if control is not None:
            control.close()


def account(store: Store, progress: Callable[[], list[object]], host_pid: int) -> Info:
    """What INFO tells: of the worker, from now on, and of its store."""
    began = time.monotonic()

    def info() -> Mapping[str, object]:
        phase, done, waiting, _ = progress()
        return {
            "pid": os.getpid(),
            "host": host_pid,
            "uptime_s": round(time.monotonic() - began, 3),
            "phase": phase,
            "done": done,
            "waiting": waiting,
            **(store.facts() if isinstance(store, Described) else {}),
        }

    return info


class Control:
    """The socket at `path`, served until `close`. Raises `OSError`, and `RuntimeError` if no thread is to be had."""

    def __init__(self, path: str, inbox: Inbox, info: Info) -> None:
        self._path, self._inbox, self._info = path, inbox, info
        self._callers: dict[int, Caller] = {}
        self._answers: deque[tuple[Caller, list[object]]] = deque()
        self._closing = False
        self._listener = _listen(path)
        try:
            self._wake_out, self._wake_in = os.pipe()
        except OSError:
            self._listener.close()
            with suppress(OSError):
                os.unlink(path)
            raise
        for fd in (self._wake_out, self._wake_in):
            os.set_blocking(fd, False)
        self._thread = Thread(target=self._run, name="control", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._release()
            raise

    def close(self) -> None:
        """Hang up, and remove the socket."""
        self._closing = True
        self._wake()
        self._thread.join(END_S)
        self._release()

    def _release(self) -> None:
        with suppress(OSError):
            os.unlink(self._path)
        for caller in self._callers.values():
            caller.close()
        self._listener.close()
        os.close(self._wake_in)
        os.close(self._wake_out)

    def _wake(self) -> None:
        # Full: it is awake. Whatever else a pipe may say, no store is left unclosed for it.
        with suppress(OSError):
            os.write(self._wake_in, b"\0")

    # -- its thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing:
            for fd in self._poll():
                if fd == self._wake_out:
                    with suppress(BlockingIOError):
                        os.read(fd, 4096)
                elif fd == self._listener.fileno():
                    self._accept()
                else:
                    self._serve(self._callers[fd])
            while self._answers:
                caller, fields = self._answers.popleft()
                caller.answer(fields)
            now = time.monotonic()
            for fd, caller in list(self._callers.items()):
                if caller.closed or caller.is_late(now):
                    caller.close()
                    del self._callers[fd]

    def _poll(self) -> list[int]:
        poll = select.poll()
        poll.register(self._wake_out, select.POLLIN)
        if len(self._callers) < MOST_CALLERS:
            poll.register(self._listener, select.POLLIN)
        for fd, caller in self._callers.items():
            poll.register(fd, select.POLLOUT if caller.out else select.POLLIN)
        deadlines = [caller.deadline for caller in self._callers.values() if caller.deadline is not None]
        timeout = max(0.0, min(deadlines) - time.monotonic()) * 1000 + 1 if deadlines else None
        return [fd for fd, _ in poll.poll(timeout)]

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            time.sleep(0.1)  # no descriptors: whoever calls waits
            return
        if may_ask(sock):
            self._callers[sock.fileno()] = Caller(sock)
        else:
            sock.close()

    def _serve(self, caller: Caller) -> None:
        if caller.out:
            caller.flush()
            return
        try:
            for question in caller.hear():
                self._ask(caller, question)
        except FrameError as error:
            caller.answer(["error", describe(error, allowed=Allowed())])
            caller.hang_up()

    def _ask(self, caller: Caller, question: Message) -> None:
        caller.begin(question)
        match question.kind:
            case Kind.INFO:
                caller.answer(["info", dict(self._info())])
            case Kind.BACKUP:

                def answer(fields: list[object]) -> None:
                    self._answers.append((caller, fields))
                    self._wake()

                self._inbox.put(BackupOrder(backup_directory(question.fields), answer, lambda: not caller.closed))
            case _:
                raise FrameError(f"a command asks for INFO or BACKUP, not for {question.kind.name}")


class Caller:
    """One connection: a question, its answer, the next question."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._frames, self._messages = FrameReader(), Assembler()
        self._heard = 0  #: bytes of the question that is not complete
        self._asked: int | None = None  #: the number of the question that waits for its answer
        self._last = False  #: hang up when all is said
        self.out = b""
        self.closed = False
        self.deadline: float | None = time.monotonic() + PATIENCE_S  #: None: it waits for us

    def hear(self) -> list[Message]:
        """The questions that came. Raises `FrameError`."""
        try:
            data = self._socket.recv(4096)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.close()
            return []
        if self._last:
            return []
        self._heard += len(data)
        found = [message for frame in self._frames.feed(data) if (message := self._messages.feed(frame)) is not None]
        if self._heard > MOST_QUESTION_BYTES:
            raise FrameError(f"expected a question of at most {MOST_QUESTION_BYTES} bytes")
        return found

    def begin(self, question: Message) -> None:
        """`question` waits for its answer from now on. Raises `FrameError`."""
        if self._asked is not None or self.out:
            raise FrameError("expected one question at a time: the answer to the one before is not heard yet")
        self._asked, self._heard, self.deadline = question.seq, 0, None

    def answer(self, fields: list[object]) -> None:
        """Say it, as far as the caller hears it now; `flush` goes on."""
        if self.closed:
            return
        self.out += b"".join(encode_message(Kind.REPLY, self._asked or 0, fields))
        self._asked, self.deadline = None, time.monotonic() + PATIENCE_S
        self.flush()

    def flush(self) -> None:
        """Say more of it."""
        try:
            while self.out:
                self.out = self.out[self._socket.send(self.out) :]
                self.deadline = time.monotonic() + PATIENCE_S
        except BlockingIOError:
            return
        except OSError:
            self.close()
        if self._last:
            self.close()

    def hang_up(self) -> None:
        """Hear nothing more, and go when all is said."""
        self._last = True
        self.flush()

    def is_late(self, now: float) -> bool:
        """Whether it took too long to ask, or to hear."""
        return self.deadline is not None and now >= self.deadline

    def close(self) -> None:
        """Hang up. Further calls do nothing."""
        self.closed = True
        self._socket.close()


def may_ask(sock: socket.socket) -> bool:
    """Whether the kernel says that the peer is of our own user, or root; where it does not tell, the file's mode must
    do."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return uid in (0, os.geteuid())


def _listen(path: str) -> socket.socket:
    with suppress(FileNotFoundError):
        # We have the store's lock: whoever made it is dead.
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address(path) as name:
            listener.bind(name)
        os.chmod(path, 0o600)
        # Until now nobody could connect, whatever the umask.
        listener.listen(MOST_CALLERS)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
