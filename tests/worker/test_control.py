"""The control socket: who may ask, what hostile callers get, and that it is never in the worker's way."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgsuper.errors import FrameError
from bgsuper.ipc.frames import FrameReader, Kind
from bgsuper.ipc.messages import Assembler, Message, encode_message
from bgsuper.ipc.remote import Allowed, RemoteException
from bgsuper.store.url import parse
from bgsuper.worker import control as module
from bgsuper.worker.control import MOST_CALLERS, MOST_QUESTION_BYTES, Control, address, serving, socket_path
from bgsuper.worker.inbox import BackupOrder, Inbox

pytestmark = pytest.mark.usefixtures("no_leaks")

PATIENCE_S = 30.0
NOBODY = 65534


def told() -> Mapping[str, object]:
    return {"pid": 7, "phase": "idle"}


class Client:
    """A caller."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE_S)
        with address(path) as name:
            self.socket.connect(name)
        self._frames, self._messages = FrameReader(), Assembler()

    def ask(self, kind: Kind, seq: int = 1, fields: list[object] | None = None) -> None:
        self.socket.sendall(b"".join(encode_message(kind, seq, fields or [])))

    def hear(self) -> Message | None:
        """The next answer; None if they hung up."""
        try:
            while data := self.socket.recv(65536):
                for frame in self._frames.feed(data):
                    message = self._messages.feed(frame)
                    if message is not None:
                        return message
        except ConnectionError:
            pass
        return None

    def close(self) -> None:
        self.socket.close()


class Bench:
    """A served socket, its inbox, and callers that are hung up at the end."""

    def __init__(self, path: Path, info: Callable[[], Mapping[str, object]] = told) -> None:
        self.path, self.inbox = str(path), Inbox()
        self.control = Control(self.path, self.inbox, info)
        self.clients: list[Client] = []

    def call(self) -> Client:
        self.clients.append(Client(self.path))
        return self.clients[-1]

    def order(self) -> BackupOrder:
        [order] = self.inbox.take(PATIENCE_S)
        assert isinstance(order, BackupOrder)
        return order

    def still_serves(self) -> bool:
        client = self.call()
        client.ask(Kind.INFO, 99)
        answer = client.hear()
        client.close()
        return answer == Message(Kind.REPLY, 99, ["info", dict(told())])

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.control.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "control")
    yield bench
    bench.close()
    assert os.listdir(tmp_path) == []


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def refusal(answer: Message | None) -> str:
    assert answer is not None
    word, described = answer.fields
    assert word == "error"
    error = RemoteException.decode(described, allowed=Allowed()).rebuild()
    assert isinstance(error, FrameError)
    return str(error)


# -- answers ----------------------------------------------------------------------------------------------------------


def test_info_is_answered_without_the_writer(bench: Bench) -> None:
    """Nobody takes from the inbox: a writer that hangs is what an operator asks about. Again and again on one call."""
    client = bench.call()
    for number in range(50):
        client.ask(Kind.INFO, number)
        assert client.hear() == Message(Kind.REPLY, number, ["info", dict(told())])
    assert len(bench.inbox) == 0


def test_a_backup_is_the_writers(bench: Bench) -> None:
    """It goes through the inbox; its answer goes to who asked, others are served meanwhile."""
    client = bench.call()
    client.ask(Kind.BACKUP, 3, [b"/mnt/ba\xffckup"])
    order = bench.order()
    assert os.fsencode(order.directory) == b"/mnt/ba\xffckup"
    assert order.wanted()
    assert bench.still_serves()
    order.answer(["backup", [1, 2, 3.0]])
    assert client.hear() == Message(Kind.REPLY, 3, ["backup", [1, 2, 3.0]])
    assert bench.still_serves()


def test_who_hangs_up_no_longer_wants_it(bench: Bench) -> None:
    """Ctrl-C at the command; an answer that comes all the same goes nowhere."""
    client = bench.call()
    client.ask(Kind.BACKUP, 3, [b"/backup"])
    order = bench.order()
    client.close()
    eventually(lambda: not order.wanted())
    order.answer(["backup", [1, 2, 3.0]])
    assert bench.still_serves()


def test_a_question_in_pieces(bench: Bench) -> None:
    """Byte by byte."""
    client = bench.call()
    for byte in b"".join(encode_message(Kind.INFO, 5, [])):
        client.socket.sendall(bytes([byte]))
    assert client.hear() == Message(Kind.REPLY, 5, ["info", dict(told())])


def test_a_large_answer_to_a_slow_caller(tmp_path: Path) -> None:
    """It is said as it is heard, and nobody else waits for that."""
    bench = Bench(tmp_path / "control", lambda: {"much": b"x" * 5_000_000})
    try:
        slow, other = bench.call(), bench.call()
        slow.ask(Kind.INFO)
        other.ask(Kind.INFO)
        for client in (other, slow):
            answer = client.hear()
            assert answer is not None
            assert len(answer.fields[1]["much"]) == 5_000_000
    finally:
        bench.close()


# -- hostile callers --------------------------------------------------------------------------------------------------

HOSTILE = {
    "nonsense": b"GET / HTTP/1.1\r\n\r\n",
    "another version": b"bg\x63\x0a\0\0\0\0" + bytes(8),
    "a huge frame": b"bg\x01\x0a\xff\xff\xff\xff" + bytes(8),
    "no msgpack": b"bg\x01\x0a\0\0\0\x01" + bytes(8) + b"\xc1",
    "a payload to come": b"".join(encode_message(Kind.INFO, 1, [], [bytes(100_000)])),
    "too long a question": b"".join(encode_message(Kind.INFO, 1, ["x" * MOST_QUESTION_BYTES])),
    "a host's question": b"".join(encode_message(Kind.SHUTDOWN, 0, [])),
    "a worker's answer": b"".join(encode_message(Kind.HELLO, 0, [1, 2, 3, True, None])),
    "a relative path": b"".join(encode_message(Kind.BACKUP, 1, [b"backup"])),
    "a path of text": b"".join(encode_message(Kind.BACKUP, 1, ["/backup"])),
    "a path with a NUL": b"".join(encode_message(Kind.BACKUP, 1, [b"/back\0up"])),
    "no path": b"".join(encode_message(Kind.BACKUP, 1, [])),
    "two questions at once": b"".join(encode_message(Kind.BACKUP, 1, [b"/a"])) * 2,
}


@pytest.mark.parametrize("sent", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes(bench: Bench, sent: bytes) -> None:
    """One line that says why, and the end of that conversation; the next caller is served."""
    client = bench.call()
    with suppress(ConnectionError):
        client.socket.sendall(sent)
    assert refusal(client.hear())
    assert client.hear() is None
    assert bench.still_serves()


@settings(max_examples=60)
@given(pieces=st.lists(st.binary(max_size=60), max_size=5), whole=st.booleans())
def test_any_bytes(bench_of_all: Bench, pieces: list[bytes], whole: bool) -> None:
    """Whatever comes, in whatever pieces, alone or after a good question: the thread lives."""
    client = bench_of_all.call()
    with suppress(ConnectionError):
        if whole:
            client.ask(Kind.INFO)
        for piece in pieces:
            client.socket.sendall(piece)
        client.socket.shutdown(socket.SHUT_WR)
    while client.hear() is not None:
        pass
    client.close()
    assert bench_of_all.still_serves()
    bench_of_all.clients.clear()


@pytest.fixture(scope="module")
def bench_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("control") / "control")
    yield bench
    bench.close()


def test_silent_callers_are_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who ask nothing, half a question, or do not hear the answer; never one who waits for a backup."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    bench = Bench(tmp_path / "control", lambda: {"much": b"x" * 5_000_000})
    try:
        patient = bench.call()
        patient.ask(Kind.BACKUP, 1, [b"/backup"])
        order = bench.order()
        silent, half, deaf = bench.call(), bench.call(), bench.call()
        half.socket.sendall(b"bg")
        deaf.ask(Kind.INFO)
        assert silent.hear() is None
        assert half.hear() is None
        eventually(lambda: len(bench.control._callers) == 1)
        order.answer(["backup", [1, 2, 3.0]])
        assert patient.hear() == Message(Kind.REPLY, 1, ["backup", [1, 2, 3.0]])
    finally:
        bench.close()


def test_who_does_not_hear_is_not_listened_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much he asks: what he has not heard stays one answer, and his time runs out."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.5)
    bench = Bench(tmp_path / "control", lambda: {"much": b"x" * 1_000_000})
    question = b"".join(encode_message(Kind.INFO, 1, []))
    try:
        deaf = bench.call()
        deaf.socket.sendall(question * 20)  # heard at once
        eventually(lambda: any(caller.out for caller in bench.control._callers.values()))
        [caller] = bench.control._callers.values()
        began = time.monotonic()
        deaf.socket.setblocking(False)
        while not caller.closed:
            with suppress(OSError):  # full
                deaf.socket.send(question)
            time.sleep(0.001)
            assert len(caller.out) < 1_001_000
            assert time.monotonic() < began + PATIENCE_S
    finally:
        bench.close()


def test_who_hears_slowly_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as he hears something: his time begins anew with it."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.5)
    bench = Bench(tmp_path / "control", lambda: {"much": b"x" * 2_000_000})
    try:
        slow = bench.call()
        slow.ask(Kind.INFO)
        heard = 0
        while heard < 2_000_000:
            data = slow.socket.recv(65536)
            assert data, f"hung up after {heard} bytes"
            heard += len(data)
            time.sleep(0.04)
    finally:
        bench.close()


def test_many_callers(bench: Bench) -> None:
    """So many are heard at a time, the next when one of them goes."""
    silent = [bench.call() for _ in range(MOST_CALLERS)]
    eventually(lambda: len(bench.control._callers) == MOST_CALLERS)
    late = bench.call()
    late.ask(Kind.INFO, 4)
    late.socket.settimeout(0.1)
    with pytest.raises(TimeoutError):
        late.hear()
    late.socket.settimeout(PATIENCE_S)
    silent[3].close()
    assert late.hear() == Message(Kind.REPLY, 4, ["info", dict(told())])


def test_no_descriptor_for_a_caller(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits, and is served when there is one."""
    refused = Event()

    class Short:
        def __init__(self, listener: socket.socket) -> None:
            self._listener = listener

        def accept(self) -> Any:
            if not refused.is_set():
                refused.set()
                raise OSError(24, "Too many open files")
            return self._listener.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._listener, name)

    monkeypatch.setattr(bench.control, "_listener", Short(bench.control._listener))
    assert bench.still_serves()
    assert refused.is_set()


def test_another_user(tmp_path: Path) -> None:
    """The file's mode keeps him out; and if that is changed, the kernel's word about him does."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    os.chmod(tmp_path, 0o755)
    for parent in tmp_path.parents:
        if parent != Path("/") and not parent.stat().st_mode & 0o001:
            os.chmod(parent, parent.stat().st_mode | 0o011)
    bench = Bench(tmp_path / "control")
    try:
        assert stat.S_IMODE(os.stat(bench.path).st_mode) == 0o600
        assert as_nobody(bench.path) == "PermissionError"
        os.chmod(bench.path, 0o666)
        assert as_nobody(bench.path) == "hung up"
        assert bench.still_serves()
    finally:
        bench.close()


def as_nobody(path: str) -> str:
    """What INFO gives to a process of another user's."""
    out, inn = os.pipe()
    child = os.fork()
    if child == 0:
        said = "?"
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            client = Client(path)
            with suppress(ConnectionError):
                client.ask(Kind.INFO)
            said = "hung up" if client.hear() is None else "answered"
        except BaseException as error:  # noqa: BLE001 - the child says what it was
            said = type(error).__name__
        finally:
            os.write(inn, said.encode())
            os._exit(0)
    os.close(inn)
    with os.fdopen(out) as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


# -- where it lies ----------------------------------------------------------------------------------------------------


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the store's directory, absolute; LDK passes over the name that it has in its layout."""
    monkeypatch.chdir(tmp_path)
    assert socket_path(parse("sqlite:store")) == f"{tmp_path}/store/control"
    assert socket_path(parse(f"sqlite://{tmp_path}/a%20b")) == f"{tmp_path}/a b/control"
    assert socket_path(parse("file:store")) == f"{tmp_path}/store/bgsuper.control.tmp"
    assert socket_path(parse("memory:")) is None


def test_a_path_that_fits_in_no_address(tmp_path: Path) -> None:
    """Bound and connected to through the directory's descriptor."""
    directory = tmp_path.joinpath(*["d" * 50] * 6)
    directory.mkdir(parents=True)
    bench = Bench(directory / "control")
    try:
        assert bench.still_serves()
    finally:
        bench.close()
    assert os.listdir(directory) == []


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    """We have the lock, so whoever made it is dead."""
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stale.bind(str(tmp_path / "control"))
    stale.close()
    bench = Bench(tmp_path / "control")
    try:
        assert bench.still_serves()
    finally:
        bench.close()


@pytest.mark.parametrize("there", ["a file", "a directory", "a link", "no directory"])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, there: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line in the log, no socket, and the worker goes on."""
    path = tmp_path / "store" / "control"
    if there != "no directory":
        path.parent.mkdir()
    match there:
        case "a file":
            path.write_text("mine")
        case "a directory":
            path.mkdir()
        case "a link":
            path.symlink_to("/nowhere")
    before = sorted(str(found) for found in tmp_path.rglob("*"))
    went_on = False
    with serving(str(path), Inbox(), told):
        went_on = True
    assert went_on
    assert sorted(str(found) for found in tmp_path.rglob("*")) == before
    [line] = capsys.readouterr().err.splitlines()
    assert str(path) in line


def test_no_thread_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The same, and nothing is left."""

    def start(_thread: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", start)
    with serving(str(tmp_path / "control"), Inbox(), told):
        assert os.listdir(tmp_path) == []
    assert "can't start new thread" in capsys.readouterr().err


def test_no_pipe_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The same: the socket is closed, and its name gone."""

    def pipe() -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "pipe", pipe)
    with pytest.raises(OSError, match="Too many open files") as raised:
        Control(str(tmp_path / "control"), Inbox(), told)
    # While `raised` keeps its frames: nothing was left to the collector.
    assert len(os.listdir("/proc/self/fd")) == before, raised
    with serving(str(tmp_path / "control"), Inbox(), told):
        assert os.listdir(tmp_path) == []
    assert "Too many open files" in capsys.readouterr().err


def test_a_store_that_has_none() -> None:
    """Nothing is made, nothing is said."""
    with serving(None, Inbox(), told):
        pass


def test_the_end_hangs_up_on_all(tmp_path: Path) -> None:
    """Also on who waits for a backup."""
    bench = Bench(tmp_path / "control")
    silent, waiting = bench.call(), bench.call()
    waiting.ask(Kind.BACKUP, 1, [b"/backup"])
    bench.order()
    bench.control.close()
    assert silent.hear() is None
    assert waiting.hear() is None
    for client in bench.clients:
        client.close()
    assert os.listdir(tmp_path) == []
