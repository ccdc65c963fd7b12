"""Frames: how bytes on the pipe become whole pieces again.

    magic "bg" | version u8 | kind u8 | length u32 | seq u64 | body[length]        (big-endian, 16-byte header)

Rules:
1. Frame first, decode afterwards: a body that cannot be understood never desynchronises the stream.
2. Total: any bytes give frames or `FrameError`, in memory bounded by one frame. After an error the reader is dead.
3. A frame may be cut at any byte; what is whole comes out at once.
4. Large payloads never sit in one frame: they travel as CHUNK frames of raw bytes (see `messages`).
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from ..errors import FrameError

MAGIC: Final = b"bg"
VERSION: Final = 1
HEADER: Final = struct.Struct(">2sBBIQ")
#: A body larger than this is never sent, and refused from the header alone.
MAX_BODY: Final = 16 * 1024 * 1024
#: How much of a payload one CHUNK frame carries.
CHUNK_BYTES: Final = 256 * 1024
#: How much either side reads at once. A larger buffer would come from mmap and go back to it with every read.
RECEIVE_BYTES: Final = 64 * 1024


class Kind(IntEnum):
    """What a frame is. Below 16: host to worker. From 16: worker to host. CHUNK goes both ways."""

    CONFIG = 1  #: seq 0; the first frame: what to open
    COMMIT = 2  #: seq of the commit
    SNAPSHOT = 3  #: seq of the snapshot
    READ = 4  #: seq is the request's id; one key
    SCAN = 5  #: seq is the request's id; one page of a namespace
    SHUTDOWN = 6  #: drain and exit
    BACKUP = 7  #: seq is the request's id; begin a backup, and say when it is complete
    CHUNK = 8  #: seq names the message whose payload this continues
    CURRENT = 9  #: seq is the request's id; the store was proved current
    INFO = 10  #: seq is the request's id; a command's question, over the control socket only
    HELLO = 16  #: the worker is up; what it may claim
    ACK = 17  #: all commits up to seq are durable
    SNAPSHOT_ACK = 18  #: the snapshot with that seq is durable
    SNAPSHOT_FAILED = 19  #: a snapshot that is not critical was not written; the error
    ERROR = 20  #: the worker ends, and why
    REPLY = 21  #: seq is the request's id
    PROGRESS = 22  #: each second: phase and counter, from the worker's side thread
    RETRYING = 23  #: a write failed in a way that may pass; the error


class Frame(NamedTuple):
    kind: Kind
    seq: int
    body: bytes


_KINDS: Final = {int(kind): kind for kind in Kind}


def header(kind: Kind, seq: int, length: int) -> bytes:
    """The 16 bytes before a body of `length` bytes; `FrameError` if no frame may be that long."""
    if length > MAX_BODY:
        raise FrameError(
            f"a {kind.name} frame of {length} bytes exceeds the cap of {MAX_BODY}: send its bulk as payload"
        )
    return HEADER.pack(MAGIC, VERSION, kind, length, seq)


def encode(kind: Kind, seq: int, body: bytes = b"") -> bytes:
    """One whole frame."""
    return header(kind, seq, len(body)) + body


class FrameReader:
    """Turns a byte stream into frames; holds at most one incomplete frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._dead: str | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """Take bytes as they came; return the frames they complete. Raises `FrameError`."""
        if self._dead is not None:
            raise FrameError(self._dead)
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        start, end = 0, len(buffer)
        while end - start >= HEADER.size:
            magic, version, kind, length, seq = HEADER.unpack_from(buffer, start)
            self._check(magic, version, kind, length)
            stop = start + HEADER.size + length
            if stop > end:
                break
            frames.append(Frame(_KINDS[kind], seq, bytes(memoryview(buffer)[start + HEADER.size : stop])))
            start = stop
        if start:
            del buffer[:start]
        return frames

    def close(self) -> None:
        """The stream ended; raises `FrameError` if it ended inside a frame."""
        if self._buffer:
            raise FrameError(f"the stream ended {len(self._buffer)} bytes into a frame")

    def _check(self, magic: bytes, version: int, kind: int, length: int) -> None:
        if magic != MAGIC:
            self._fail(f"expected a frame's magic {MAGIC!r}, got {magic!r}")
        if version != VERSION:
            self._fail(f"expected protocol version {VERSION}, got {version}: host and worker are of different bgsupers")
        if kind not in _KINDS:
            self._fail(f"expected a known kind of frame, got {kind}")
        if length > MAX_BODY:
            self._fail(f"a {_KINDS[kind].name} frame announces {length} bytes, the cap is {MAX_BODY}")

    def _fail(self, why: str) -> None:
        self._dead = why
        self._buffer = bytearray()
        raise FrameError(why)
