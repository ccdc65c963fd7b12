"""Stores that tests have the worker import as a user's own: one that works, and those that go wrong when told to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bgsuper import errors
from bgsuper.key import Key, Seq
from bgsuper.store.api import Batch, Opened, SnapshotFile

from ..store.pickled import PickledStore

#: What a value begins with that a `Failing` store cannot bear.
BAD = b"bad"


class DriverError(Exception):
    """What the database driver of a user may raise, with an attribute that survives the pipe."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.code = code


class Failing(PickledStore):
    """Raises `error`, by its name, at each of the first `times` values that begin with `BAD`, in all the processes that
    it lives in; or in the method `at` whatever comes."""

    def __init__(self, directory: str, error: str, times: int = 1000, at: str = "apply") -> None:
        super().__init__(directory)
        self._error, self._times, self._at = error, times, at
        self._count = Path(directory) / "count"
        if at == "__init__":
            self._fail()

    def _fail(self) -> None:
        if self._error == "DriverError":
            raise DriverError("the driver broke", 7)
        kind: type[Exception] = getattr(errors, self._error, None) or RuntimeError
        raise kind("what the store says")

    def _check(self, method: str, value: bytes = BAD) -> None:
        if method != self._at or not value.startswith(BAD):
            return
        with self._count.open("ab") as count:
            done = count.tell()
            count.write(b".")
        if done < self._times:
            self._fail()

    def open(self) -> Opened:
        self._check("open")
        return super().open()

    def apply(self, group: Sequence[Batch]) -> None:
        for batch in group:
            for _, value in batch.puts:
                self._check("apply", value)
        super().apply(group)

    def write_snapshot(self, key: Key, seq: Seq, content: bytes) -> SnapshotFile:
        self._check("write_snapshot", content)
        return super().write_snapshot(key, seq, content)

    def adopt_snapshot(self, snapshot: SnapshotFile) -> None:
        self._check("adopt_snapshot", (self.directory / snapshot.file).read_bytes())
        super().adopt_snapshot(snapshot)

    def read(self, key: Key) -> bytes:
        self._check("read", key.name.encode())
        return super().read(key)


class NotAtomic(PickledStore):
    """Which says so."""

    atomic = False


class SaysTooLittle(PickledStore):
    def open(self) -> Opened:
        super().open()
        return None  # type: ignore[return-value]


class HasNoScan:
    """Half a store."""

    atomic = True

    def apply(self, group: Sequence[Batch]) -> None:
        pass
