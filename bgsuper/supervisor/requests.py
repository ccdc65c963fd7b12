"""Reads and backups: questions to the worker, asked again of its successor. Sans-IO.

A read is harmless to repeat, so a worker's death is not its end. It sees every commit submitted before it, because it
goes out behind them (`due`), and the worker answers in order. A backup does so too, and is begun anew by a successor;
but it may take hours, and depends on a disk that is none of the store's. So:

1. It delays nothing: what was asked later is answered meanwhile.
2. That it waits is no sign of a worker that hangs (`pending`).
3. It is not begun beside anything that might be what kills workers, and not again after it was `BACKUP_DEATHS` times
   in the hands of a worker that died: it must get nobody accused, nor use up the restarts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from ..errors import FrameError, WorkerError
from ..ipc.frames import Kind
from ..ipc.messages import Message, encode_message, records, shape
from ..ipc.remote import Allowed, RemoteException
from ..key import Key, Seq

Found = list[tuple[Key, bytes]]

_REQUESTS: Final = (Kind.READ, Kind.SCAN, Kind.CURRENT, Kind.BACKUP)
#: They wait for another disk than the store's.
_ELSEWHERE: Final = (Kind.BACKUP, Kind.CURRENT)

#: How many workers may die over one backup before that is its answer.
BACKUP_DEATHS: Final = 3


class BackupReport(NamedTuple):
    """A backup that is complete."""

    last_commit: Seq  #: the newest commit in it
    size: int  #: bytes
    seconds: float  #: that it took


class Request:
    """One question and, once it came, its answer."""

    __slots__ = ("after", "answer", "deaths", "fields", "kind", "number")

    def __init__(self, number: int, kind: Kind, fields: list[object], after: Seq) -> None:
        self.number, self.kind, self.fields, self.after = number, kind, fields, after
        self.answer: Found | BackupReport | RemoteException | WorkerError | None = None
        self.deaths = 0  #: of workers that had it


class Requests:
    """All questions that are open."""

    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed
        self._number = 0
        self._open: dict[int, Request] = {}
        self._queued: deque[Request] = deque()
        self._backups: deque[Request] = deque()  #: queued, too
        self._asked: dict[int, Kind] = {}  #: of this worker, and not answered

    def ask(self, kind: Kind, fields: list[object], after: Seq) -> Request:
        """Queue a question that shall see all commits up to `after`."""
        assert kind in _REQUESTS
        self._number += 1
        request = Request(self._number, kind, fields, after)
        self._open[request.number] = request
        self._queue_of(request).append(request)
        return request

    def _queue_of(self, request: Request) -> deque[Request]:
        return self._backups if request.kind is Kind.BACKUP else self._queued

    def withdraw(self, request: Request) -> None:
        """Nobody waits for the answer any more; if it comes, it is dropped."""
        self._open.pop(request.number, None)
        queue = self._queue_of(request)
        if request in queue:
            queue.remove(request)

    @property
    def pending(self) -> bool:
        """Whether somebody waits for an answer that the store alone can give."""
        return any(request.kind not in _ELSEWHERE for request in self._open.values())

    @property
    def in_hand(self) -> bool:
        """Whether the worker has anything, not answered yet, that it may die of: a backup, but no wait for the mark."""
        return any(kind is not Kind.CURRENT for kind in self._asked.values())

    @property
    def being_read(self) -> bool:
        """Whether it has a question that it will answer before it does anything else."""
        return any(kind not in _ELSEWHERE for kind in self._asked.values())

    def replay(self) -> None:
        """A new worker: ask everything again."""
        self._queued.clear()
        self._backups.clear()
        for request in tuple(self._open.values()):
            if request.kind is Kind.BACKUP and request.number in self._asked:
                request.deaths += 1
            if request.deaths < BACKUP_DEATHS:
                self._queue_of(request).append(request)
            else:
                del self._open[request.number]
                request.answer = WorkerError(
                    f"{request.deaths} workers died while they made this backup; health_log() says of what"
                )
        self._asked.clear()

    def replied(self, message: Message) -> None:
        """REPLY: fields = ["records", index] with the values as payload, ["backup", [last commit, bytes, seconds]], or
        ["error", described]."""
        match message.fields:
            case ["records", list() as index]:
                answer: Found | BackupReport | RemoteException = list(records(index, message.payload))
            case ["backup", [int() as last_commit, int() as size, float() as seconds]]:
                answer = BackupReport(Seq(last_commit), size, seconds)
            case ["error", list() as described]:
                answer = RemoteException.decode(described, allowed=self._allowed)
            case _:
                raise FrameError(f"a REPLY is neither records, nor a backup, nor an error, but {shape(message.fields)}")
        if message.seq not in self._asked:
            raise FrameError(f"a REPLY names question {message.seq}, which was not asked of this worker")
        del self._asked[message.seq]
        request = self._open.pop(message.seq, None)
        if request is None:
            return
        if isinstance(answer, list if request.kind is Kind.BACKUP else BackupReport):
            raise FrameError(f"a REPLY to question {message.seq}, a {request.kind.name}, is of another kind")
        request.answer = answer

    def due(self, next_commit: Seq | None) -> bool:
        """Whether the first question may go out, if `next_commit` is the oldest commit that has not."""
        return _is_due(self._queued, next_commit)

    def take(self) -> Iterator[bytes]:
        return self._send(self._queued)

    def backup_due(self, next_commit: Seq | None) -> bool:
        """As `due`, for the first backup."""
        return _is_due(self._backups, next_commit)

    def take_backup(self) -> Iterator[bytes]:
        return self._send(self._backups)

    def _send(self, queue: deque[Request]) -> Iterator[bytes]:
        request = queue.popleft()
        self._asked[request.number] = request.kind
        return encode_message(request.kind, request.number, request.fields)


def _is_due(queue: deque[Request], next_commit: Seq | None) -> bool:
    return bool(queue) and (next_commit is None or next_commit > queue[0].after)
