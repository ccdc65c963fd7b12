"""A store and a link in memory, for the writer: what is durable, what only looks so, and deaths in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bgsuper.errors import NotFound
from bgsuper.ipc.frames import Kind
from bgsuper.ipc.messages import Message, encode_message
from bgsuper.key import Key, Seq
from bgsuper.store.api import Batch, Opened, SnapshotFile


class Killed(BaseException):
    """SIGKILL, where a real worker would just be gone."""


@dataclass
class Content:
    """What a disk holds. `stamps` says which number each key was last written or removed by."""

    values: dict[Key, bytes] = field(default_factory=dict)
    stamps: dict[Key, int] = field(default_factory=dict)
    last_commit: int = 0
    last_seq: int = 0

    def copy(self) -> Content:
        return Content(dict(self.values), dict(self.stamps), self.last_commit, self.last_seq)


@dataclass
class Disk:
    """Outlives the workers. `cache` is what can be read, `durable` what would survive a power cut."""

    cache: Content = field(default_factory=Content)
    durable: Content = field(default_factory=Content)
    epoch: int = 0

    def sync(self) -> None:
        self.durable = self.cache.copy()


class ModelStore:
    """A `Store` on a `Disk`. `before_sync` and `after_sync` may raise: `Killed`, or what a disk raises."""

    atomic = True
    has_idle_work = False

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.before_sync: Callable[[], None] = _nothing
        self.after_sync: Callable[[], None] = _nothing
        self.before_snapshot: Callable[[], None] = _nothing
        self.groups: list[list[int]] = []
        self.files: dict[str, bytes] = {}
        self.idled = 0

    def open(self) -> Opened:
        self.disk.epoch += 1
        self.disk.sync()
        durable = self.disk.durable
        return Opened(self.disk.epoch, Seq(durable.last_commit), Seq(max(durable.last_commit, durable.last_seq)))

    def apply(self, group: Sequence[Batch]) -> None:
        cache = self.disk.cache
        before = cache.copy()
        self.groups.append([batch.seq for batch in group])
        for batch in group:
            assert batch.seq > cache.last_commit, "a commit came twice, or out of order"
            for key, value in batch.puts:
                cache.values[key], cache.stamps[key] = value, batch.seq
            for key in batch.removes:
                cache.values.pop(key, None)
                cache.stamps[key] = batch.seq
            cache.last_commit = batch.seq
        self._sync(before)

    def write_snapshot(self, key: Key, seq: Seq, content: bytes) -> SnapshotFile:
        self.before_snapshot()
        name = f"{key}-{seq}"
        self.files[name] = content
        return SnapshotFile(key, seq, name, len(content), b"")

    def adopt_snapshot(self, snapshot: SnapshotFile) -> None:
        before = self.disk.cache.copy()
        cache = self.disk.cache
        cache.values[snapshot.key] = self.files[snapshot.file]
        cache.stamps[snapshot.key] = snapshot.seq
        cache.last_seq = max(cache.last_seq, snapshot.seq)
        self._sync(before)

    def discard_snapshot(self, snapshot: SnapshotFile) -> None:
        del self.files[snapshot.file]

    def read(self, key: Key) -> bytes:
        try:
            return self.disk.cache.values[key]
        except KeyError:
            raise NotFound(f"there is no record {key}") from None

    def scan(self, primary: str, secondary: str, after: str, limit: int) -> list[tuple[Key, bytes]]:
        return sorted(
            (key, value)
            for key, value in self.disk.cache.values.items()
            if key[:2] == (primary, secondary) and key.name > after
        )

    def idle(self) -> None:
        self.idled += 1

    def close(self) -> None:
        pass

    def _sync(self, before: Content) -> None:
        try:
            self.before_sync()
        except Exception:
            self.disk.cache = before  # an error is rolled back; a death is not
            raise
        self.disk.sync()
        self.after_sync()


class ModelLink:
    """Keeps what a writer sends."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, kind: Kind, seq: int, fields: list[object], payload: Sequence[bytes] = ()) -> None:
        list(encode_message(kind, seq, fields, payload))  # it can be
        self.sent.append(Message(kind, seq, fields, b"".join(payload)))

    def take(self) -> list[Message]:
        sent, self.sent = self.sent, []
        return sent


class ModelLane:
    """The snapshot lane without a thread: `finish` does what it would do next."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self.jobs: list[tuple[Message, Key, float]] = []

    def write(self, message: Message, key: Key, pause: float = 0.0) -> None:
        self.jobs.append((message, key, pause))

    def stop(self) -> None:
        assert not self.jobs, "stopped with a snapshot under way"


def _nothing() -> None:
    pass
