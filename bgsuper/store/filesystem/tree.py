"""What lies where in a store's directory: LDK's layout, version 1 (rust-lightning, `lightning-persister`).

    directory/                            0700
      key                                 a value of the empty namespace: `manager`, `network_graph`, `scorer`
      primary/key                         `monitors/...`
      primary/secondary/key               `monitor_updates/.../1`
      bgsuper.lock.tmp                    who writes here, and the last epoch
      bgsuper.redo.tmp                    which store this is, how far it has come, and its newest group: see `redo`
      .../key.{epoch}-{attempt}.tmp       a value that is on its way; no two ever share a name

Rules:
1. What is ours ends in `.tmp`: LDK's `list` skips that, and fails at any other name that is no key. Its migration does
   so since v0.2.5; for an older one, close the store and move our two files away meanwhile.
2. What has a key's name and is neither a file nor a directory (a symbolic link, a pipe) may hide a value: it is an
   error, never skipped. All else that does not belong here is `FOREIGN`: no listing shows it, `facts()` names it.
3. Only names are looked at, and nothing is changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from enum import Enum
from typing import Final, NamedTuple

from ...errors import StoreForeign, StoreInconsistent
from ...key import Key
from ..failures import from_os_error

LOCK: Final = "bgsuper.lock.tmp"
REDO: Final = "bgsuper.redo.tmp"
#: The redo file that is being written, and then takes the other's place.
NEW_REDO: Final = "bgsuper.redo.new.tmp"

_NAME = re.compile(r"[A-Za-z0-9_-]{1,120}")
_TEMPORARY = re.compile(r"[A-Za-z0-9_-]{1,120}\.[0-9]{1,20}-[0-9]{1,20}\.tmp")
#: LDK's and ours: skipped by its listing, as by ours.
_ARTIFACT = re.compile(r".+\.(tmp|trash)", re.DOTALL)
#: Made by mkfs at the root of a file system.
_MOUNT_POINT: Final = "lost+found"
_DEPTH: Final = 2


class Kind(Enum):
    """What a name in the tree stands for."""

    VALUE = "a value"
    NAMESPACE = "a directory of values"
    LEFTOVER = "a temporary file of ours"
    ARTIFACT = "a temporary file of LDK's, or of whoever else follows its rule"
    IN_THE_WAY = "something at a key's place that is neither a file nor a directory"
    FOREIGN = "nothing that belongs here"


class Item(NamedTuple):
    """One name in the tree. `key` is that of a value, or of what is in its way."""

    kind: Kind
    path: str
    key: Key | None = None


class Tree:
    """The paths of the store in the directory `root`, which is absolute."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.lock = os.path.join(root, LOCK)
        self.redo = os.path.join(root, REDO)
        self.new_redo = os.path.join(root, NEW_REDO)

    def directory(self, primary: str, secondary: str) -> str:
        """Where the values of a namespace are."""
        return os.path.join(self.root, *(part for part in (primary, secondary) if part))

    def path(self, key: Key) -> str:
        """Where the value of `key` is."""
        return os.path.join(self.directory(key.primary, key.secondary), key.name)

    def temporary(self, key: Key, name: str) -> str:
        """Where a value of `key` is that is on its way, under a `temporary_name`."""
        return os.path.join(self.directory(key.primary, key.secondary), name)

    def names(self, primary: str, secondary: str) -> list[str]:
        """The sorted names of a namespace's values; none if there is no such namespace.

        Raises `StoreForeign`, `StoreUnwritable`.
        """
        names = []
        for item in _items(self.directory(primary, secondary), (primary, secondary)):
            if item.kind is Kind.IN_THE_WAY:
                raise in_the_way(item.path)
            if item.kind is Kind.VALUE and item.key is not None:
                names.append(item.key.name)
        return sorted(names)

    def walk(self) -> Iterator[Item]:
        """All names there are: a directory's files in the order of their names, then the directories within it."""
        pending: list[tuple[str, tuple[str, ...]]] = [(self.root, ())]
        while pending:
            path, parts = pending.pop()
            items = sorted(_items(path, (*parts, "", "")[:_DEPTH], len(parts)), key=lambda item: item.path)
            yield from (item for item in items if item.kind is not Kind.NAMESPACE)
            namespaces = [item for item in items if item.kind is Kind.NAMESPACE]
            yield from namespaces
            pending += [(item.path, (*parts, os.path.basename(item.path))) for item in reversed(namespaces)]


def temporary_name(key: Key, epoch: int, attempt: int) -> str:
    """What a value of `key` is called until it takes its place."""
    return f"{key.name}.{epoch}-{attempt}.tmp"


def is_temporary_name(name: str) -> bool:
    """Whether `name` is one that `temporary_name` gives."""
    return _TEMPORARY.fullmatch(name) is not None


def in_the_way(path: str) -> StoreForeign:
    """The error for what is in a value's way."""
    return StoreForeign(
        f"expected a plain file at {path}, found something else (a symbolic link?); put the file itself there, "
        "or move that away"
    )


def no_namespace(path: str) -> StoreInconsistent:
    """A value has the name of a namespace on the way to `path`. As in LDK that is not nothing: a node that takes it for
    nothing starts anew over what it had."""
    return StoreInconsistent(f"expected a directory on the way to {path}, found a value: look why, and move it away")


def _items(path: str, namespace: tuple[str, ...], depth: int = 0) -> Iterator[Item]:
    primary, secondary = namespace
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                yield _item(entry, Key(primary, secondary, entry.name), depth)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise no_namespace(path) from None
    except OSError as error:
        raise from_os_error(error, f"listing {path}") from error


def _item(entry: os.DirEntry[str], key: Key, depth: int) -> Item:
    name, path = entry.name, entry.path
    if _NAME.fullmatch(name):
        if entry.is_file(follow_symlinks=False):
            return Item(Kind.VALUE, path, key)
        if not entry.is_dir(follow_symlinks=False):
            return Item(Kind.IN_THE_WAY, path, key)
        return Item(Kind.NAMESPACE if depth < _DEPTH else Kind.FOREIGN, path)
    if is_temporary_name(name) and entry.is_file(follow_symlinks=False):
        return Item(Kind.LEFTOVER, path)
    # A file system's own, at its root; LDK passes over it as well.
    if _ARTIFACT.fullmatch(name) or (name == _MOUNT_POINT and depth == 0):
        return Item(Kind.ARTIFACT, path)
    return Item(Kind.FOREIGN, path)
