"""Filesystem stores in few words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bgsuper.errors import NotFound
from bgsuper.key import Key
from bgsuper.store.filesystem.store import FilesystemStore
from tests.store.stores import GRAPH, MANAGER, commit, key

LOCK = "bgsuper.lock.tmp"
REDO = "bgsuper.redo.tmp"
UPDATE = Key("monitor_updates", "ab_0", "1")

__all__ = [
    "GRAPH",
    "LOCK",
    "MANAGER",
    "REDO",
    "UPDATE",
    "commit",
    "content",
    "die",
    "key",
    "new_store",
    "opened",
    "tree",
]


def new_store(directory: Path | str, **options: Any) -> FilesystemStore:
    options.setdefault("host_pid", os.getpid())
    options.setdefault("lock_timeout_s", 0)
    return FilesystemStore(directory, **options)


@contextmanager
def opened(directory: Path | str, **options: Any) -> Iterator[FilesystemStore]:
    store = new_store(directory, **options)
    store.open()
    try:
        yield store
    finally:
        store.close()


def die(store: FilesystemStore) -> None:
    """What the kernel does for a killed process: descriptors are closed, nothing else happens."""
    store._release()


def content(store: FilesystemStore, *namespaces: tuple[str, str]) -> dict[Key, bytes]:
    """Namespaces, read page by page; by default those of the keys above."""
    records: dict[Key, bytes] = {}
    for namespace in namespaces or (("", ""), ("channels", ""), ("monitor_updates", "ab_0")):
        after = ""
        while page := store.scan(*namespace, after, 1000):
            records.update(page)
            after = page[-1][0].name
    for found, value in records.items():
        assert store.read(found) == value
    return records


def is_absent(store: FilesystemStore, absent: Key) -> bool:
    try:
        store.read(absent)
    except NotFound:
        return True
    return False


def tree(directory: Path) -> dict[str, bytes | None]:
    """Every name below `directory`, with a file's content, None for anything else."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in sorted(directory.rglob("*"))
    }
