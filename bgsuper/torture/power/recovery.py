"""What the real code makes of a store after a power cut: opened and read whole, by the store itself or by a host."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import quote

from ...errors import NotFound
from ...key import Key
from ...store.sqlite import SQLiteStore
from ...supervisor import Supervisor
from .model import Found, Model
from .workload import NAMESPACES, WHOLE

_PAGE_BYTES = 4 * 1024 * 1024


def url_of(directory: Path, faults: Path | None = None) -> str:
    """The URL of the store in `directory`, with the faults of the plan at `faults` if there is one."""
    plan = f"?faults={quote(str(faults), safe='/')}" if faults is not None else ""
    return f"sqlite://{quote(str(directory))}{plan}"


def read_store(store: SQLiteStore) -> Found:
    """Open `store` and read all of it. Raises what it raises; it stays open."""
    opened = store.open()

    def scan(primary: str) -> Iterable[tuple[Key, bytes]]:
        after = ""
        while page := store.scan(primary, "", after, _PAGE_BYTES):
            yield from page
            after = page[-1][0].name

    return Found(opened.last_commit, opened.last_seq, _all(scan, store.read))


def read_host(supervisor: Supervisor, model: Model) -> Found:
    """Start `supervisor` and read all of its store. Raises what `start` and reading raise.

    A host is told the newest number only, and that all commits up to it are there: `model` knows the newest of them.
    """
    newest = supervisor.start()
    return Found(model.newest_commit(newest), newest, _all(supervisor.scan, supervisor.read))


def _all(scan: Callable[[str], Iterable[tuple[Key, bytes]]], read: Callable[[Key], bytes]) -> dict[Key, bytes]:
    records = {key: value for primary in NAMESPACES for key, value in scan(primary)}
    for key in WHOLE:
        try:
            records[key] = read(key)
        except NotFound:
            continue
    return records


def new_store(directory: Path) -> SQLiteStore:
    """The store in `directory`, not yet open, in this process."""
    return SQLiteStore(directory, host_pid=os.getpid())
