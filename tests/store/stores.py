"""Commits and stores in few words."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bgsuper.ipc.messages import Commit
from bgsuper.key import Key, Seq
from bgsuper.store.sqlite import SQLiteStore

DATABASE = "bgsuper.sqlite3"
MANAGER = Key("", "", "manager")
GRAPH = Key("", "", "network_graph")


def key(name: str) -> Key:
    return Key("channels", "", name)


def commit(seq: int, puts: Mapping[Key, bytes] | None = None, removes: tuple[Key, ...] = ()) -> Commit:
    return Commit(Seq(seq), Seq(seq - 1), tuple((puts or {}).items()), removes)


def new_store(directory: Path, **options: Any) -> SQLiteStore:
    options.setdefault("host_pid", os.getpid())
    return SQLiteStore(directory, **options)


@contextmanager
def opened(directory: Path, **options: Any) -> Iterator[SQLiteStore]:
    store = new_store(directory, **options)
    store.open()
    try:
        yield store
    finally:
        store.close()


def content(store: SQLiteStore, primary: str = "channels", secondary: str = "") -> dict[Key, bytes]:
    """A namespace, read page by page."""
    records: dict[Key, bytes] = {}
    after = ""
    while page := store.scan(primary, secondary, after, 1000):
        records.update(page)
        after = page[-1][0].name
    return records


def die(store: SQLiteStore) -> None:
    """What the kernel does for a killed process: descriptors are closed, nothing else happens."""
    store._release()
