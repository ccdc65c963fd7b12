"""Messages: one msgpack body each, with a payload of raw bytes that may be large.

A small payload travels inside the body; a large one follows in CHUNK frames of the same seq, so that other messages
can pass between them and no 20 MiB value is ever copied through msgpack.

    body = [fields, payload: bin]      or      [fields, payload length: int]   then CHUNKs until it is complete

Rules: decoding is total (any bytes give messages or `FrameError`), memory is bounded by `MAX_PAYLOAD` and
`MAX_PARTIAL`. What the fields of each kind mean stands in `Commit`, `records` and beside the code that handles them.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from io import BytesIO
from itertools import accumulate, pairwise, repeat
from operator import lt
from typing import Any, Final, NamedTuple, TypeVar

import msgpack

from ..errors import ConfigError, FrameError
from ..key import Key, Seq, check_key, check_keys
from .frames import CHUNK_BYTES, MAX_BODY, Frame, Kind, encode, header

#: The largest payload of one message. SQLite refuses values from 10^9 bytes.
MAX_PAYLOAD: Final = 900_000_000
#: How many payloads may be incomplete at a time in one direction.
MAX_PARTIAL: Final = 8
#: Payloads up to this size travel inside the body.
INLINE_BYTES: Final = 64 * 1024

#: msgpack's own: what stands before a list of two, and before bytes (0xC6, their length).
_PAIR: Final = b"\x92"
_BIN32: Final = struct.Struct(">BI")

#: What a decoded body may hold. msgpack gives plain values; each handler checks the shape it expects.
Fields = list[Any]

T = TypeVar("T")


class Message(NamedTuple):
    kind: Kind
    seq: int
    fields: Fields
    payload: bytes = b""


class Commit(NamedTuple):
    """An ordered, atomic batch. `prev` is the seq of the commit before it (snapshots take numbers of their own), so
    that the worker can tell a duplicate from a gap."""

    seq: Seq
    prev: Seq
    puts: tuple[tuple[Key, bytes], ...]
    removes: tuple[Key, ...]


# -- encoding ---------------------------------------------------------------------------------------------------------


def encode_message(kind: Kind, seq: int, fields: Sequence[object], payload: Sequence[bytes] = ()) -> Iterator[bytes]:
    """The whole frames of one message, in order; each is made when it is drawn."""
    length = sum(map(len, payload))
    if length <= INLINE_BYTES:
        # [fields, payload] as msgpack would pack it, without the three copies that it would make of the payload.
        head = _PAIR + msgpack.packb(fields) + _BIN32.pack(0xC6, length)
        yield b"".join([header(kind, seq, len(head) + length), head, *payload])
        return
    yield encode(kind, seq, msgpack.packb([fields, length]))
    parts: list[bytes | memoryview] = []
    room = min(CHUNK_BYTES, length)
    for piece in payload:
        rest = memoryview(piece)
        while rest:
            parts.append(rest[:room])
            room -= len(parts[-1])
            rest = rest[len(parts[-1]) :]
            if not room:
                size = sum(map(len, parts))
                yield b"".join([header(Kind.CHUNK, seq, size), *parts])
                parts, length = [], length - size
                room = min(CHUNK_BYTES, length)


def frame_count(length: int) -> int:
    """How many frames `encode_message` makes of a payload of `length` bytes."""
    return 1 if length <= INLINE_BYTES else 1 + -(-length // CHUNK_BYTES)


def encode_commits(commits: Sequence[Commit]) -> Iterator[bytes]:
    """COMMIT, for some commits in a row, because each message costs more than a small commit in it. Its seq is that of
    the newest. Its fields are columns, which one call of C checks or converts where rows take a dozen calls each:

        [prev of the first, seqs, numbers of puts, numbers of removes, primaries, secondaries, names, lengths]

    The keys are those of all puts, then those of all removes; the payload holds the values, as long as `lengths` says.
    """
    keys = [key for commit in commits for key, _ in commit.puts]
    values = [value for commit in commits for _, value in commit.puts]
    keys += [key for commit in commits for key in commit.removes]
    fields = [
        commits[0].prev,
        [commit.seq for commit in commits],
        [len(commit.puts) for commit in commits],
        [len(commit.removes) for commit in commits],
        *(zip(*keys, strict=True) if keys else ((), (), ())),
        list(map(len, values)),
    ]
    yield from encode_message(Kind.COMMIT, commits[-1].seq, fields, values)


def index_bytes(keys: Iterable[Key]) -> int:
    """An upper bound for what `keys` take in a body: what a host checks against `MAX_BODY` before it submits."""
    return sum(len(key[0]) + len(key[1]) + len(key[2]) + 24 for key in keys)


#: How much of a body the keys of one commit may fill; the rest is head-room.
MAX_INDEX: Final = MAX_BODY - 256 * 1024


def check_commit_size(puts: Collection[Key], removes: Collection[Key], payload: int) -> None:
    """Raise `ConfigError` if no message could carry a commit of these keys and `payload` bytes of values."""
    if payload > MAX_PAYLOAD:
        raise ConfigError(f"a commit of {payload} bytes exceeds {MAX_PAYLOAD}: split its records over several commits")
    count = len(puts) + len(removes)
    if count > 40_000 and index_bytes(puts) + index_bytes(removes) > MAX_INDEX:
        raise ConfigError(f"a commit of {count} keys exceeds one frame: split its records over several commits")


# -- decoding ---------------------------------------------------------------------------------------------------------


class Assembler:
    """Puts messages together again from frames; keeps what is incomplete, at most `MAX_PARTIAL` messages."""

    def __init__(self) -> None:
        self._partial: dict[int, _Partial] = {}

    def feed(self, frame: Frame) -> Message | None:
        """The message that `frame` completes, or None. Raises `FrameError`."""
        if frame.kind is Kind.CHUNK:
            return self._chunk(frame)
        fields, payload = _unpack(frame)
        if isinstance(payload, bytes):
            return Message(frame.kind, frame.seq, fields, payload)
        if not INLINE_BYTES < payload <= MAX_PAYLOAD:
            raise FrameError(f"a {frame.kind.name} announces a payload of {payload} bytes, outside the allowed range")
        if frame.seq in self._partial or len(self._partial) >= MAX_PARTIAL:
            raise FrameError(
                f"a {frame.kind.name} with seq {frame.seq} begins before the payloads under way are complete"
            )
        self._partial[frame.seq] = _Partial(frame.kind, fields, payload)
        return None

    @property
    def partial(self) -> int:
        """How many messages still lack payload."""
        return len(self._partial)

    def _chunk(self, frame: Frame) -> Message | None:
        partial = self._partial.get(frame.seq)
        if partial is None:
            raise FrameError(f"a CHUNK names seq {frame.seq}, but no message with that seq awaits payload")
        if not frame.body or len(frame.body) > partial.missing:
            raise FrameError(f"a CHUNK of {len(frame.body)} bytes came where 1 to {partial.missing} were missing")
        partial.payload.write(frame.body)
        partial.missing -= len(frame.body)
        if partial.missing:
            return None
        del self._partial[frame.seq]
        return Message(partial.kind, frame.seq, partial.fields, partial.payload.getvalue())


class _Partial:
    __slots__ = ("fields", "kind", "missing", "payload")

    def __init__(self, kind: Kind, fields: Fields, missing: int) -> None:
        self.kind, self.fields, self.missing = kind, fields, missing
        # Not a list to be joined: to join 30 MiB keeps the GIL for 22 ms, and every commit waits. A BytesIO grows in
        # place, and gives its own bytes away.
        self.payload = BytesIO()


def _unpack(frame: Frame) -> tuple[Fields, bytes | int]:
    try:
        body = msgpack.unpackb(frame.body)
    except Exception as error:  # noqa: BLE001 - msgpack raises ValueError, TypeError, MemoryError and its own
        # Not the error's text: ExtraData's holds all that was decoded, which may be nested too deep to print.
        raise FrameError(f"the body of a {frame.kind.name} frame is not msgpack: {type(error).__name__}") from None
    if not (isinstance(body, list) and len(body) == 2):
        raise FrameError(f"the body of a {frame.kind.name} frame is not [fields, payload]")
    fields, payload = body
    if not isinstance(fields, list) or not isinstance(payload, bytes | int):
        raise FrameError(f"the body of a {frame.kind.name} frame is not [fields, payload]")
    return fields, payload


def decode_commits(message: Message) -> list[Commit]:
    """The commits in a COMMIT message; `FrameError` if its fields do not fit each other or the payload."""
    match message.fields:
        case [
            prev,
            list(seqs),
            list(puts),
            list(removes),
            list(primaries),
            list(secondaries),
            list(names),
            list(lengths),
        ] if (
            seqs
            and len(seqs) == len(puts) == len(removes)
            and len(primaries) == len(secondaries) == len(names) >= len(lengths)
        ):
            pass
        case _:
            raise FrameError(f"a COMMIT with seq {message.seq} is not [prev, seqs, six columns that fit each other]")
    befores = [prev, *seqs[:-1]]
    if not _are_counts([*befores, seqs[-1], *puts, *removes, *lengths]):
        raise FrameError(f"a COMMIT with seq {message.seq} holds something else where integers from 0 on are expected")
    if seqs[-1] != message.seq or not all(map(lt, befores, seqs)):
        raise FrameError(f"the numbers of the commits in a COMMIT do not rise from {prev} to {message.seq}")
    if sum(puts) != len(lengths) or sum(removes) != len(names) - len(lengths):
        raise FrameError(
            f"a COMMIT announces {sum(puts)} puts and {sum(removes)} removes, but holds {len(names)} keys and "
            f"{len(lengths)} lengths"
        )
    ends = list(accumulate(lengths, initial=0))
    if ends[-1] != len(message.payload):
        raise FrameError(f"a COMMIT announces {ends[-1]} bytes of values, {len(message.payload)} came")
    try:
        keys = check_keys(primaries, secondaries, names)
    except ConfigError as error:
        raise FrameError(str(error)) from None
    values = [message.payload[start:stop] for start, stop in pairwise(ends)]
    put = _cut(tuple(zip(keys, values, strict=False)), puts)
    removed = _cut(keys[len(values) :], removes) if len(keys) > len(values) else repeat(())
    # In map(), _make takes half as long as a call of Commit.
    return list(map(Commit._make, zip(seqs, befores, put, removed, strict=False)))


def _are_counts(numbers: list[Any]) -> bool:
    """Whether all are integers (True and False are not) from 0 on."""
    return set(map(type, numbers)) == {int} and min(numbers) >= 0


def _cut(row: tuple[T, ...], sizes: Iterable[int]) -> list[tuple[T, ...]]:
    """Consecutive pieces of `row`."""
    return [row[start:stop] for start, stop in pairwise(accumulate(sizes, initial=0))]


def records(index: Sequence[object], payload: bytes) -> list[tuple[Key, bytes]]:
    """Cut `payload` into the values that `index`, [[primary, secondary, name, length], ...], describes."""
    found, offset = _records(index, payload, 0)
    if offset != len(payload):
        raise FrameError(f"{len(payload) - offset} bytes of payload belong to no record")
    return found


def _records(index: Sequence[object], payload: bytes, offset: int) -> tuple[list[tuple[Key, bytes]], int]:
    """The records that `index` describes from `offset` on, and where they end."""
    found = []
    for entry in index:
        key = _key(entry, 4)
        length = entry[3]  # type: ignore[index]  # _key has seen a list of four
        if type(length) is not int or not 0 <= length <= len(payload) - offset:
            raise FrameError(f"the record {key} announces {shape(length)} bytes, {len(payload) - offset} are left")
        found.append((key, payload[offset : offset + length]))
        offset += length
    return found, offset


def _key(entry: object, size: int) -> Key:
    if type(entry) is not list or len(entry) != size:
        raise FrameError(f"expected a list of {size} that starts with a key's three parts, got {shape(entry)}")
    try:
        return check_key(Key(entry[0], entry[1], entry[2]))
    except ConfigError as error:
        raise FrameError(str(error)) from None


def shape(value: object) -> str:
    """What came, without its `repr` unless it is a number: that may be huge, or nested too deep to print."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return str(value) if isinstance(value, int) else type(value).__name__
