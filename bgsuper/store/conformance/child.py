"""``python -m bgsuper.store.conformance.child JOB``: what the suite's children do to a store until they are killed.

The backend comes as one line of JSON. Reports are lines of a word and numbers; each is written only when what it tells
has returned, so that a report is what an acknowledgement is to a host.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Final

from ...errors import NotFound, StoreError
from ...key import Key, Seq
from ..api import SnapshotFile, Store
from .backend import Backend, Commit, found, listed, put
from .workload import Snapshot, steps

A: Final = Key("app", "", "a")
B: Final = Key("app", "", "b")
GRAPH: Final = Key("", "", "network_graph")
MIB: Final = 1024 * 1024
#: A child that nobody kills ends after so many turns.
TURNS: Final = 200
#: How much a file may still grow once there is "no space".
ROOM_BYTES: Final = 64 * 1024


def main(job: str) -> int:
    """Do one of `JOBS`."""
    JOBS[job](Backend(**json.loads(sys.stdin.readline())))
    report("done")
    return 0


def report(word: str, *numbers: int) -> None:
    """One line, written at once. A parent that is gone ends the child: BrokenPipeError."""
    os.write(1, " ".join((word, *map(str, numbers))).encode() + b"\n")


def opened(backend: Backend) -> tuple[Store, Seq]:
    """An open store and its newest number; what it claims is reported."""
    store = backend.make()
    report("opening")
    claims = store.open()
    report("opened", claims.epoch, claims.last_commit, claims.last_seq)
    return store, claims.last_seq


# -- to be killed -----------------------------------------------------------------------------------------------------


def hold(backend: Backend) -> None:
    """Put `A`, and keep the store until somebody kills us or is gone himself."""
    store, last = opened(backend)
    put(store, last + 1, (A, b"held"))
    report("held")
    sys.stdin.read()


def work(backend: Backend) -> None:
    """`workload.steps`, each durable return reported."""
    store, last = opened(backend)
    for group, snapshot in steps(backend.seed, last):
        writing = _Writing(store, snapshot) if snapshot is not None else None
        store.apply(group)
        report("durable")
        if writing is not None and writing.finish():
            report("durable")
        if store.has_idle_work and snapshot is None:
            store.idle()


class _Writing:
    """A snapshot that another thread writes."""

    def __init__(self, store: Store, snapshot: Snapshot) -> None:
        self._store, self._snapshot = store, snapshot
        self._written: SnapshotFile | None = None
        self._thread = Thread(target=self._write, name="snapshots", daemon=True)
        self._thread.start()

    def _write(self) -> None:
        self._written = self._store.write_snapshot(self._snapshot.key, self._snapshot.seq, self._snapshot.content)

    def finish(self) -> bool:
        """Adopt or discard it; whether it was adopted."""
        self._thread.join()
        if self._written is None:
            raise RuntimeError("write_snapshot() failed in its thread")
        if self._snapshot.adopted:
            self._store.adopt_snapshot(self._written)
        else:
            self._store.discard_snapshot(self._written)
        return self._snapshot.adopted


def replace(backend: Backend) -> None:
    """One large snapshot after another, each of them filled with its number's last byte."""
    store, last = opened(backend)
    for seq in range(last + 1, last + TURNS):
        written = store.write_snapshot(GRAPH, Seq(seq), bytes([seq % 256]) * (4 * MIB))
        report("written", seq)
        store.adopt_snapshot(written)
        report("durable", seq)


def reopen(backend: Backend) -> None:
    """Open and close, again and again."""
    for _ in range(TURNS):
        store, _ = opened(backend)
        store.close()


# -- to fail ----------------------------------------------------------------------------------------------------------

#: What a child sees of a value: as it was put, an error, absent, or something else.
WHOLE, ERROR, ABSENT, OTHER = range(4)


def seen(read: Callable[[], bytes | None], expected: bytes) -> int:
    """What `read` makes of a value that is `expected`."""
    try:
        value = read()
    except NotFound:
        return ABSENT
    except StoreError:
        return ERROR
    if value is None:
        return ABSENT
    return WHOLE if value == expected else OTHER


def starve(backend: Backend) -> None:
    """Read `A` and `GRAPH` with no descriptor left for whatever the store may want to open, and then with all again.

    `GRAPH` has 1 MiB of zeros, `A` the bytes b"a".
    """
    store, _ = opened(backend)
    found(store, B)  # what is imported at the first read is not what is looked at

    def look(key: Key, value: bytes) -> None:
        report("read", seen(lambda: store.read(key), value))
        report("scan", seen(lambda: dict(store.scan(key.primary, key.secondary, "", 1 << 24)).get(key), value))

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (0, soft):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        look(A, b"a")
        look(GRAPH, bytes(MIB))
    store.close()


def overfill(backend: Backend) -> None:
    """Apply a group that no file has room for; then look at what was there before."""
    store, last = opened(backend)
    sizes = [path.stat().st_size for path in Path(backend.directory).rglob("*") if path.is_file()]
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes, default=0) + ROOM_BYTES, resource.RLIM_INFINITY))
    group = [Commit(Seq(last + n), ((A, bytes([n]) * MIB), (Key("app", "", f"new{n}"), b"new"))) for n in (1, 2, 3)]
    try:
        store.apply(group)
    except StoreError:
        report("refused")
    else:
        report("durable")
        return
    report("read", seen(lambda: store.read(A), b"a"))
    report("scan", seen(lambda: repr(listed(store, "app")).encode(), repr([(A, b"a"), (B, b"b")]).encode()))
    os._exit(0)  # nothing is closed: what is on the disk is what counts


JOBS: dict[str, Callable[[Backend], None]] = {
    job.__name__: job for job in (hold, work, replace, reopen, starve, overfill)
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
