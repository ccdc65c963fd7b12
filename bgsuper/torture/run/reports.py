"""What a host tells its overseer, and the other way round.

Host to overseer, on the host's standard output: msgpack lists, one after the other, `[name, field, ...]`.

    begin [seq]              the step of this number is about to be submitted
    received [seq, key]      the worker's end of the pipe has all of it; `key` of a critical snapshot, None of a commit
    acked [seq, pid, at]     all up to `seq` is acknowledged, under worker `pid`
    snapshot [key, seq]      that snapshot, or a newer value of its key, is acknowledged
    launched [pid]           there is a new worker process
    worker [state, pid, epoch, cause]
                             what the supervisor says of its worker; `epoch` when it said HELLO, else 0
    opened [durable]         start() returned that number
    found [[key, value] ...] records that the store has; an empty row is the end
    beat [sync_s]            the slowest 1 % of syncs took at least so long
    failed [error]           the host ends because of `error`, in one line
    stopped []               the host ends as it was asked to

`at` is `time.monotonic()`, which all processes of a machine share. A key travels as its three parts.

Overseer to host, on the host's standard input, a word a line: ``go`` (what you read was judged: begin), ``die POINT``
(see `Point`), ``stop``. The end of the input means that the overseer is dead: stop.

Rule: a report is written whole, or is the last and torn by the host's death; what was written before a death arrives.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import StrEnum
from threading import Lock
from typing import Any, Final, NamedTuple

import msgpack


class Point(StrEnum):
    """Where a host kills itself when it is told to, the next time that it comes by."""

    BEGUN = "begun"  #: told the overseer what it is about to submit, submitted nothing
    SUBMITTED = "submitted"  #: a commit is numbered and queued
    SENT = "sent"  #: bytes went down the pipe, perhaps half of a message
    ACKED = "acked"  #: an acknowledgement came, and nobody outside has heard of it


class Report(NamedTuple):
    """One report; its fields are what the table above says for its name."""

    name: str
    fields: list[Any]


class Reporter:
    """The host's side. From any thread; blocks while the overseer does not read, and ends the process, as it stands, if
    it never will: nobody judges any more, and the worker finishes as an orphan."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._writing = Lock()

    def __call__(self, name: str, *fields: object) -> None:
        packed: bytes = msgpack.packb([name, *fields])
        with self._writing:
            rest = memoryview(packed)
            try:
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            except BrokenPipeError:
                os._exit(1)


class Reports:
    """The overseer's side: bytes in, reports out."""

    #: A report holds a page of records, or one large value.
    _MOST_BYTES: Final = 64 * 1024 * 1024

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(max_buffer_size=self._MOST_BYTES)

    def feed(self, data: bytes) -> Iterator[Report]:
        """The reports that `data` completes."""
        self._unpacker.feed(data)
        for name, *fields in self._unpacker:
            yield Report(name, fields)
