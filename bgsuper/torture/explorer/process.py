"""A worker process without threads: the real `Writer`, run ahead of what it does (`effects`), on a store of its own.

Its reader thread, its snapshot lane and its sleeps are replaced by steps that the world lets happen; frames, messages
and the writer's whole loop are the real ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Final, cast

from ...errors import FrameError
from ...ipc.frames import FrameReader, Kind
from ...ipc.messages import Assembler, Message, encode_message
from ...ipc.remote import Allowed, describe
from ...key import Key, Seq
from ...store.api import Opened, Store
from ...worker import writer as writer_module
from ...worker.__main__ import verdict
from ...worker.inbox import Closed, Inbox, Item, SnapshotDone, arrived
from ...worker.link import Link
from ...worker.snapshots import SnapshotLane
from ...worker.writer import Writer
from .disk import Disk
from .effects import AwaitSpace, Deliver, Exit, Say, Script
from .store import ModelStore, Outcomes

ALLOWED: Final = Allowed()


class Paused(BaseException):
    """The writer has served what it was given and would now wait for more."""


class SteppedInbox:
    """An `Inbox` that hands out what waits once, and then pauses its writer."""

    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self.closed_at: float | None = None
        self.turn = False

    def put(self, item: Item) -> None:
        self.items.append(item)
        if isinstance(item, Closed):
            self.closed_at = 0.0

    def take(self, timeout: float | None = None) -> list[Item]:
        if not self.turn:
            raise Paused
        self.turn = False
        items = list(self.items)
        self.items.clear()
        return items

    def __len__(self) -> int:
        return len(self.items)


class SteppedLink:
    """A `Link` whose words become effects."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def send(self, kind: Kind, seq: int, fields: list[object], payload: Iterable[bytes] = ()) -> None:
        frames = b"".join(encode_message(kind, seq, fields, tuple(payload)))
        self._script.append(Say(kind, seq, frames, tuple(fields) if kind is Kind.HELLO else ()))


class SteppedLane:
    """The snapshot lane without its thread: jobs wait until the world starts one."""

    native_id = 0

    def __init__(self) -> None:
        self.jobs: deque[tuple[Message, Key, float]] = deque()

    def write(self, message: Message, key: Key, pause: float = 0.0) -> None:
        self.jobs.append((message, key, pause))

    def stop(self) -> None:
        assert not self.jobs, "the writer ended with a snapshot under way"


class Worker:
    """One life of a worker process."""

    def __init__(self, disk: Disk) -> None:
        self.script: Script = deque()
        self.lane_script: Script = deque()
        self.model = ModelStore(disk, self.script, self.lane_script)
        self.store: Store = self.model
        self.link = SteppedLink(self.script)
        self.inbox = SteppedInbox()
        self.lane = SteppedLane()
        self.opened: Opened | None = None
        self.writer: Writer | None = None
        self.epoch = 0
        self.has_store = False  #: it holds the lock
        self.doomed = False  #: SIGKILL is pending
        self.frames, self.messages = FrameReader(), Assembler()
        self.outbox: deque[Say] = deque()  #: said, and not heard yet

    def expect(self, outcomes: Outcomes) -> None:
        """How its next calls of the store turn out."""
        self.model.outcomes = outcomes

    # -- its life -----------------------------------------------------------------------------------------------------

    def boot(self, outcomes: Outcomes) -> None:
        """What `worker.__main__` does up to HELLO."""
        self.has_store = True
        self.expect(outcomes)
        with self._ends_by_its_errors():
            opened = self.opened = self.store.open()
            self.epoch = opened.epoch
            self.writer = make_writer(self.store, opened, self.link, self.inbox, self.lane)
            claims: list[object] = [opened.epoch, opened.last_commit, opened.last_seq, self.store.atomic, None]
            self.link.send(Kind.HELLO, 0, claims)

    def serve(self, outcomes: Outcomes) -> None:
        """One pass of the writer's loop over all that waits."""
        assert self.writer is not None
        self.expect(outcomes)
        self.inbox.turn = True
        with self._ends_by_its_errors(), virtual_time(lambda _: self.space_comes_back()):
            try:
                self.writer.run()
            except Paused:
                return
            self.store.close()
            self.script.append(Exit(0))

    def space_comes_back(self) -> None:
        """The writer sleeps: it goes on when there is space."""
        self.script.append(AwaitSpace())

    def start_job(self, outcomes: Outcomes) -> None:
        """The snapshot lane takes its next job."""
        message, key, _ = self.lane.jobs.popleft()
        self.expect(outcomes)
        try:
            written = self.store.write_snapshot(key, Seq(message.seq), message.payload)
        except Exception as error:  # noqa: BLE001 - as the lane itself
            self.lane_script.append(Deliver(SnapshotDone(message, error.with_traceback(None))))
        else:
            self.lane_script.append(Deliver(SnapshotDone(message, written)))

    def receive(self, data: bytes) -> None:
        """What the reader thread does with bytes from the pipe."""
        try:
            for frame in self.frames.feed(data):
                message = self.messages.feed(frame)
                if message is not None:
                    self.inbox.put(arrived(message))
        except FrameError as error:
            self.inbox.put(Closed(error))

    @contextmanager
    def _ends_by_its_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - as `worker.__main__`
            fields: list[object] = [verdict(error, False), describe(error, allowed=ALLOWED)]
            self.link.send(Kind.ERROR, 0, fields)
            self.script.append(Exit(1))


def make_writer(store: Store, opened: Opened, link: SteppedLink, inbox: SteppedInbox, lane: SteppedLane) -> Writer:
    """The real writer, on steps in the place of threads."""
    writer = Writer(store, opened, cast(Link, link), cast(Inbox, inbox), ALLOWED)
    writer._lane = cast(SnapshotLane, lane)
    return writer


@contextmanager
def virtual_time(sleep: Callable[[float], None]) -> Iterator[None]:
    """The writer's clock stands still, and its sleeps become `sleep`: a schedule must not depend on real time."""
    names = vars(writer_module)
    real = names["time"]
    names["time"] = SimpleNamespace(monotonic=lambda: 0.0, sleep=sleep)
    try:
        yield
    finally:
        names["time"] = real
