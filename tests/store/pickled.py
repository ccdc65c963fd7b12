"""A store as a user might write one, with nothing but the standard library: everything in one pickled file, replaced
whole by each commit. Small, slow, and right; `broken` plants its bugs in it."""

from __future__ import annotations

import fcntl
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count
from pathlib import Path

from bgsuper.errors import NotFound, StoreCorrupt, StoreError, StoreInconsistent, StoreLocked
from bgsuper.key import Key, Seq
from bgsuper.store.api import Batch, Opened, SnapshotFile


@dataclass
class Content:
    """What the file holds."""

    records: dict[Key, bytes] = field(default_factory=dict)
    epoch: int = 0
    last_commit: int = 0
    last_snapshot: int = 0
    store_id: bytes = field(default_factory=lambda: os.urandom(16))

    def copy(self) -> Content:
        return Content(dict(self.records), self.epoch, self.last_commit, self.last_snapshot, self.store_id)


class PickledStore:
    """A `Store` in `directory`; nothing can be copied into it."""

    atomic: object = True

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)
        self.file = self.directory / "content"
        self.content: Content | None = None
        self.lock = -1
        self.attempts = count()

    @property
    def has_idle_work(self) -> bool:
        return False

    def idle(self) -> None:
        pass

    # -- open and close -----------------------------------------------------------------------------------------------

    def open(self) -> Opened:
        self.directory.mkdir(exist_ok=True)
        self.take_lock()
        content = self.load()
        content.epoch = self.next_epoch(content)
        self.save(content)
        for leftover in self.directory.glob("snapshot-*"):
            leftover.unlink()
        return self.claims(content)

    def take_lock(self) -> None:
        lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise StoreLocked(f"another process has {self.directory}") from None
        self.lock = lock

    def next_epoch(self, content: Content) -> int:
        return content.epoch + 1

    def claims(self, content: Content) -> Opened:
        last_seq = max(content.last_commit, content.last_snapshot)
        return Opened(content.epoch, Seq(content.last_commit), Seq(last_seq), content.store_id)

    def close(self) -> None:
        self.content = None
        if self.lock >= 0:
            os.close(self.lock)
        self.lock = -1

    # -- the file -----------------------------------------------------------------------------------------------------

    def load(self) -> Content:
        try:
            raw = self.file.read_bytes()
        except FileNotFoundError:
            return Content()
        except OSError as error:
            raise StoreError(f"{self.file} cannot be read: {error}") from error
        if blake2b(raw[64:]).digest() != raw[:64]:
            raise StoreCorrupt(f"{self.file} is damaged")
        content: Content = pickle.loads(raw[64:])
        return content

    def save(self, content: Content) -> None:
        """Make `content` what the file holds, durable on return."""
        packed = pickle.dumps(content)
        temporary = self.file.with_suffix(".tmp")
        try:
            self.write_file(temporary, blake2b(packed).digest() + packed)
            temporary.rename(self.file)
            directory = os.open(self.directory, os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)
        except OSError as error:
            raise StoreError(f"{self.file} cannot be written: {error}") from error
        self.content = content

    def write_file(self, path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    @property
    def now(self) -> Content:
        if self.content is None:
            raise StoreError("not open")
        return self.content

    # -- Store --------------------------------------------------------------------------------------------------------

    def apply(self, group: Sequence[Batch]) -> None:
        content = self.now.copy()
        for batch in group:
            self.check_number(content, batch)
            self.change(content, batch)
            content.last_commit = batch.seq
        self.save(content)

    def check_number(self, content: Content, batch: Batch) -> None:
        if batch.seq <= content.last_commit:
            raise StoreInconsistent(f"commit {batch.seq} came after {content.last_commit}")

    def change(self, content: Content, batch: Batch) -> None:
        content.records.update(batch.puts)
        for key in batch.removes:
            content.records.pop(key, None)

    def write_snapshot(self, key: Key, seq: Seq, content: bytes) -> SnapshotFile:
        name = self.snapshot_name(key, seq)
        self.write_file(self.directory / name, content)
        return SnapshotFile(key, seq, name, len(content), b"")

    def snapshot_name(self, key: Key, seq: Seq) -> str:
        return f"snapshot-{seq}-{next(self.attempts)}"

    def adopt_snapshot(self, snapshot: SnapshotFile) -> None:
        content = self.now.copy()
        content.records[snapshot.key] = (self.directory / snapshot.file).read_bytes()
        content.last_snapshot = max(content.last_snapshot, snapshot.seq)
        self.save(content)
        (self.directory / snapshot.file).unlink()

    def discard_snapshot(self, snapshot: SnapshotFile) -> None:
        (self.directory / snapshot.file).unlink()

    def read(self, key: Key) -> bytes:
        try:
            return self.now.records[key]
        except KeyError:
            raise NotFound(f"no {key}") from None

    def scan(self, primary: str, secondary: str, after: str, limit: int) -> list[tuple[Key, bytes]]:
        page: list[tuple[Key, bytes]] = []
        for key in sorted(key for key in self.now.records if key[:2] == (primary, secondary) and key.name > after):
            value = self.read(key)
            limit -= self.room(key, value)
            if page and limit < 0:
                break
            page.append((key, value))
        return page

    def room(self, key: Key, value: bytes) -> int:
        return sum(map(len, key)) + len(value) + 32
