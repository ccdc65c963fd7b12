"""What reads bytes that come over the pipe or lie in the store, each with good inputs to start from.

Rule: a value, or the one error that its docstring names; nothing else, in bounded time and memory. What comes from a
worker never makes the host's core raise: it counts as a broken worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random
from typing import Any, Final, NamedTuple

import msgpack

from ...errors import BgsuperError, ConfigError, FrameError, StoreFull, StoreLocked
from ...health import WorkerState
from ...ipc.config import WorkerConfig
from ...ipc.frames import Frame, FrameReader, Kind, encode
from ...ipc.messages import INLINE_BYTES, Assembler, Commit, Message, encode_commits, encode_message, records
from ...ipc.remote import Allowed, RemoteException, describe
from ...key import MANAGER, NETWORK_GRAPH, Key, Seq, check_key
from ...store.lock import parse_holder
from ...store.snapshots import is_name, is_name_of
from ...store.url import parse as parse_url
from ...supervisor.core import Core
from ...supervisor.policy import Limits, RestartPolicy
from ...worker.inbox import arrived
from ...worker.writer import snapshot_key
from .gossip_parsers import gossip_parsers
from .mutator import mutate, mutate_value


class Parser(NamedTuple):
    """One reader of foreign bytes."""

    make: Callable[[Random], bytes]  #: an input
    parse: Callable[[bytes], None]
    refuses: tuple[type[BgsuperError], ...]  #: the only errors that it may raise


ALLOWED: Final = Allowed()
_KEYS: Final = (MANAGER, NETWORK_GRAPH, Key("channels", "", "c1"), Key("monitors", "updates", "m-2_x"))
_PATIENCE_S: Final = 30.0


def _described(error: Exception) -> list[object]:
    try:
        raise error
    except Exception as raised:  # noqa: BLE001 - it shall have a traceback
        return describe(raised, allowed=ALLOWED, seq=7, epoch=2)


def _errors() -> list[list[object]]:
    group = ExceptionGroup("two", [OSError(5, "Input/output error"), StoreLocked("held", pid=7, epoch=3)])
    return [
        _described(error) for error in (StoreFull("no space"), StoreLocked("held", pid=1), group, ValueError("x", 1))
    ]


def _commit(seq: int, prev: int, value: bytes) -> Commit:
    return Commit(Seq(seq), Seq(prev), tuple((key, value) for key in _KEYS), _KEYS[2:])


_CONFIG: Final = WorkerConfig("sqlite:a", None, {"a": [1, "b"]}, ["/x"], ["m:E"], 77, False, True, 15.0)


def _from_host() -> list[bytes]:
    messages = [
        encode_message(Kind.CONFIG, 0, _CONFIG.to_fields()),
        encode_commits([_commit(1, 0, b"v" * 20)]),
        encode_commits([_commit(2, 1, b""), _commit(5, 2, b"x" * 50), Commit(Seq(9), Seq(5), (), ())]),
        encode_message(Kind.SNAPSHOT, 3, [*NETWORK_GRAPH, False], [b"graph" * 9]),
        encode_message(Kind.SNAPSHOT, 4, [*MANAGER, True], [b"m" * (INLINE_BYTES + 1)]),
        encode_message(Kind.READ, 1, list(MANAGER)),
        encode_message(Kind.SCAN, 2, ["channels", "", "c0"]),
        encode_message(Kind.SHUTDOWN, 0, []),
    ]
    return [b"".join(pieces) for pieces in messages]


def _from_worker() -> list[bytes]:
    index = [[*key, 3] for key in _KEYS]
    messages = [
        encode_message(Kind.HELLO, 0, [2, 5, 7, True, [9, 5]]),
        encode_message(Kind.ACK, 6, [0.001, 1]),
        encode_message(Kind.SNAPSHOT_ACK, 8, []),
        encode_message(Kind.REPLY, 1, ["records", index], [b"abc" * len(index)]),
        encode_message(Kind.REPLY, 2, ["records", []]),
        encode_message(Kind.PROGRESS, 0, ["idle", 12, 0, 4242]),
    ]
    for error in _errors():
        messages += [
            encode_message(Kind.SNAPSHOT_FAILED, 8, error),
            encode_message(Kind.RETRYING, 0, error),
            encode_message(Kind.REPLY, 1, ["error", error]),
            encode_message(Kind.ERROR, 0, ["sync", error]),
        ]
    return [b"".join(pieces) for pieces in messages]


# -- inputs -----------------------------------------------------------------------------------------------------------


def _stream(seeds: Sequence[bytes], random: Random) -> bytes:
    """Some messages in a row, mutated."""
    return mutate(random, b"".join(random.choices(seeds, k=1 + random.getrandbits(1))), seeds)


def _framed(seeds: Sequence[bytes], random: Random) -> bytes:
    """Whole frames whose bodies are wrong: mutated bytes, or well-formed values that do not fit."""
    [first, *rest] = FrameReader().feed(random.choice(seeds))
    seq = first.seq if random.getrandbits(2) else random.choice((0, 1, 6, 8, 2**64 - 1))
    kind = first.kind if random.getrandbits(3) else random.choice(list(Kind))
    if random.getrandbits(1):
        body = mutate(random, first.body, seeds)
    else:
        body = msgpack.packb(mutate_value(random, msgpack.unpackb(first.body)))
    return encode(kind, seq, body) + b"".join(encode(*frame) for frame in rest)


def _texts(seeds: Sequence[bytes], random: Random) -> bytes:
    return mutate(random, random.choice(seeds), seeds)


# -- parsers ----------------------------------------------------------------------------------------------------------


def _messages(content: bytes) -> Iterator[Message]:
    """What a reader makes of `content`, cut in two somewhere."""
    frames, messages = FrameReader(), Assembler()
    middle = len(content) // 3
    for piece in (content[:middle], content[middle:]):
        for frame in frames.feed(piece):
            message = messages.feed(frame)
            if message is not None:
                yield message
    frames.close()


def _frames(content: bytes) -> None:
    reader = FrameReader()
    for frame in reader.feed(content):
        assert isinstance(frame, Frame)
    reader.close()


def _worker(content: bytes) -> None:
    """A worker: CONFIG first, then whatever the inbox and the writer take apart."""
    for message in _messages(content):
        if message.kind is Kind.CONFIG:
            WorkerConfig.from_message(message)
        elif message.kind is Kind.SNAPSHOT:
            snapshot_key(message)
        else:
            arrived(message)


def _reply(content: bytes) -> None:
    """The parts of a worker's answers that are taken apart one by one."""
    for message in _messages(content):
        match message.fields:
            case ["records", list() as index]:
                for key, value in records(index, message.payload):
                    assert type(check_key(key)) is Key
                    assert type(value) is bytes
            case ["error" | "sync", described]:
                _rebuilt(described)
            case fields:
                _rebuilt(fields)


def _rebuilt(described: object) -> None:
    error = RemoteException.decode(described, allowed=ALLOWED).rebuild()
    assert isinstance(error, Exception)
    assert isinstance(str(error), str)


def _host(content: bytes) -> None:
    """The host's core, in the middle of its work: it takes any message, and ends in a state that it knows."""
    core = Core(RestartPolicy(), Limits(), Random(0), ALLOWED)
    core.start(0.0, _PATIENCE_S)
    core.launched(4242)
    core.received(Message(Kind.HELLO, 0, [1, 5, 5, True, None]), 1.0)
    core.commit({MANAGER: b"v"}, (), 2.0)
    core.commit({MANAGER: b"w"}, (), 2.0)
    core.snapshot(NETWORK_GRAPH, (b"g",), False, 2.0)
    core.ask(Kind.READ, list(MANAGER))
    while core.has_output:
        for _ in core.take():
            pass
    durable = core.backlog.durable
    try:
        for message in _messages(content):
            core.received(message, 3.0)
    except FrameError as error:
        core.broken(error, 3.0)
    assert isinstance(core.state, WorkerState)
    assert durable <= core.backlog.durable <= core.backlog.submitted
    core.failure()
    core.handle_timer(4.0)


def _text(parse: Callable[[str], object], content: bytes) -> None:
    parse(content.decode("utf-8", "surrogateescape"))


def _file_name(text: str) -> None:
    if is_name_of(text, NETWORK_GRAPH, Seq(5)):
        assert is_name(text)
    if is_name(text):
        assert not {"/", "."} & set(text)
        assert len(text) < 120


def _key(text: str) -> None:
    parts: list[Any] = text.split("/")
    check_key(Key(*parts) if len(parts) == 3 else tuple(parts))  # type: ignore[arg-type]


def parsers() -> dict[str, Parser]:
    """All of them, by name."""
    host, worker = _from_host(), _from_worker()
    urls = [
        b"sqlite:///var/lib/node",
        b"sqlite:data?faults=%2Ftmp%2Fplan",
        b"sqlite:///a%20b",
        "sqlite:\u00e9/x".encode(),
    ]
    holders = [b'{"pid": 12, "host": 7, "epoch": 3}\n', b'{"pid": 1, "host": 2, "epoch": 9223372036854775807}']
    names = [b"94dad23f7e80674008cb36f7ea5f3bdb-5-1-0", b"0" * 32 + b"-18446744073709551615-1-99"]
    keys = [
        b"//manager",
        b"channels//c1",
        b"monitors/updates/m-2_x",
        b"a" * 120 + b"/" + b"b" * 120 + b"/" + b"c" * 120,
    ]
    frame_error = (FrameError,)
    return {
        "frames": Parser(partial(_stream, host + worker), _frames, frame_error),
        "worker, stream": Parser(partial(_stream, host), _worker, frame_error),
        "worker, bodies": Parser(partial(_framed, host), _worker, frame_error),
        "replies and errors": Parser(partial(_framed, worker), _reply, frame_error),
        "host, stream": Parser(partial(_stream, worker), _host, ()),
        "host, bodies": Parser(partial(_framed, worker), _host, ()),
        "store URL": Parser(partial(_texts, urls), partial(_text, parse_url), (ConfigError,)),
        "lock file": Parser(partial(_texts, holders), lambda content: void(parse_holder(content)), ()),
        "snapshot file names": Parser(partial(_texts, names), partial(_text, _file_name), ()),
        "keys": Parser(partial(_texts, keys), partial(_text, _key), (ConfigError,)),
        **{name: Parser(*reader) for name, reader in gossip_parsers()},
    }


def void(_: object) -> None:
    """A parser's answer that says nothing."""
