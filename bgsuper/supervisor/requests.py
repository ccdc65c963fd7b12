"""Reads: questions to the worker, asked again of its successor. Sans-IO.

A read is harmless to repeat, so a worker's death is not its end. It sees every commit submitted before it, because it
goes out behind them (`due`), and the worker answers in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from ..errors import FrameError
from ..ipc.frames import Kind
from ..ipc.messages import Message, encode_message, records, shape
from ..ipc.remote import Allowed, RemoteException
from ..key import Key, Seq

Found = list[tuple[Key, bytes]]

_REQUESTS: Final = (Kind.READ, Kind.SCAN)


class Request:
    """One question and, once it came, its answer."""

    __slots__ = ("after", "answer", "fields", "kind", "number")

    def __init__(self, number: int, kind: Kind, fields: list[object], after: Seq) -> None:
        self.number, self.kind, self.fields, self.after = number, kind, fields, after
        self.answer: Found | RemoteException | None = None


class Requests:
    """All questions that are open."""

    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed
        self._number = 0
        self._open: dict[int, Request] = {}
        self._queued: deque[Request] = deque()
        self._asked: set[int] = set()  #: of this worker, and not answered

    def ask(self, kind: Kind, fields: list[object], after: Seq) -> Request:
        """Queue a question that shall see all commits up to `after`."""
        assert kind in _REQUESTS
        self._number += 1
        request = Request(self._number, kind, fields, after)
        self._open[request.number] = request
        self._queued.append(request)
        return request

    def withdraw(self, request: Request) -> None:
        """Nobody waits for the answer any more; if it comes, it is dropped."""
        self._open.pop(request.number, None)
        if request in self._queued:
            self._queued.remove(request)

    @property
    def pending(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._open)

    @property
    def in_hand(self) -> bool:
        """Whether the worker has a question that it has not answered."""
        return bool(self._asked)

    def replay(self) -> None:
        """A new worker: ask everything again."""
        self._queued = deque(self._open.values())
        self._asked.clear()

    def replied(self, message: Message) -> None:
        """REPLY: fields = ["records", index] with the values as payload, or ["error", described]."""
        match message.fields:
            case ["records", list() as index]:
                answer: Found | RemoteException = list(records(index, message.payload))
            case ["error", list() as described]:
                answer = RemoteException.decode(described, allowed=self._allowed)
            case _:
                raise FrameError(f"a REPLY is neither records nor an error, but {shape(message.fields)}")
        if message.seq not in self._asked:
            raise FrameError(f"a REPLY names question {message.seq}, which was not asked of this worker")
        self._asked.discard(message.seq)
        request = self._open.pop(message.seq, None)
        if request is not None:
            request.answer = answer

    def due(self, next_commit: Seq | None) -> bool:
        """Whether the first question may go out, if `next_commit` is the oldest commit that has not."""
        return bool(self._queued) and (next_commit is None or next_commit > self._queued[0].after)

    def take(self) -> Iterator[bytes]:
        request = self._queued.popleft()
        self._asked.add(request.number)
        return encode_message(request.kind, request.number, request.fields)
