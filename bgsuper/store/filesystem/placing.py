"""Putting a group's files in place: what is looked at before anything is written, and what is done once the redo file
says so, by whoever wrote it or by whoever opens the store after a crash.

Rule: what could fail for a reason that lies in the tree is found before the redo file is written. After it only the
disk itself can fail.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence

from ...errors import ConfigError, NotFound, StoreCorrupt, SyncFailed
from ...key import Key
from ..failures import from_os_error
from . import values
from .freeing import Freeing
from .redo import Adopt, Operation
from .stamp import Stamp
from .tree import Tree, in_the_way


def check_places(tree: Tree, keys: Iterable[Key]) -> None:
    """Raise unless a value could be put at each of `keys`, all of them together.

    Raises `ConfigError` where a value stands at a namespace's place or the other way round, `StoreForeign` where
    something else is in the way.
    """
    paths: dict[str, Key] = {}
    directories: dict[str, Key] = {}
    for key in keys:
        paths[tree.path(key)] = key
        if key.primary:
            directories[tree.directory(key.primary, "")] = key
        if key.secondary:
            directories[tree.directory(key.primary, key.secondary)] = key
    for path, key in directories.items():
        mode = _mode(path)
        if path in paths or (mode is not None and stat.S_ISREG(mode)):
            raise _one_name_for_two(tree, path, key)
        if mode is not None and not stat.S_ISDIR(mode):
            raise in_the_way(path)
    for path, key in paths.items():
        mode = _mode(path)
        if mode is not None and stat.S_ISDIR(mode):
            raise _one_name_for_two(tree, path, key)
        if mode is not None and not stat.S_ISREG(mode):
            raise in_the_way(path)


def _one_name_for_two(tree: Tree, path: str, key: Key) -> ConfigError:
    name = os.path.relpath(path, tree.root)
    return ConfigError(
        f"expected a key {name} or a namespace {name}, not both, but that is what putting {key} takes: both would be "
        f"{path}; give one of them another name, or use a sqlite: store, which has no such conflict"
    )


def check_on_their_way(tree: Tree, operations: Iterable[Operation]) -> None:
    """Raise `SyncFailed` unless each value that `operations` put in place is there under its temporary name.

    Cleaners of `*.tmp` exist. Once the redo file names a value that is gone, no open could ever finish the group.
    """
    for operation in operations:
        if not isinstance(operation, Adopt):
            continue
        path = tree.temporary(operation.key, operation.temporary)
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            status = None
        except OSError as error:
            raise from_os_error(error, f"looking at {path}") from error
        if status is None or not stat.S_ISREG(status.st_mode) or status.st_size != operation.stamp.length:
            raise SyncFailed(
                f"expected {path} as this process wrote it, to put {operation.key} in place, but it was removed or "
                f"changed; see that nothing else cleans up in {tree.root}"
            )


def _mode(path: str) -> int | None:
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        # A file at its namespace's place is found as such.
        return None
    except OSError as error:
        raise from_os_error(error, f"looking at {path}") from error


def is_value(path: str) -> bool:
    """Whether there is anything but a directory at `path`: what a remove has to remove."""
    mode = _mode(path)
    return mode is not None and not stat.S_ISDIR(mode)


def directories_of(tree: Tree, operations: Iterable[Operation]) -> list[str]:
    """The directories in which `operations` change names, each once, in a fixed order."""
    return sorted({tree.directory(operation.key.primary, operation.key.secondary) for operation in operations})


def unfinished(tree: Tree, operations: Sequence[Operation], redo: str) -> list[Operation]:
    """What is still to be done of `operations`, which stand in the file `redo`. Changes nothing.

    Raises `StoreCorrupt` if a value is neither under its temporary name nor in its place.
    """
    left: list[Operation] = []
    for operation in operations:
        path = tree.path(operation.key)
        if not isinstance(operation, Adopt):
            if is_value(path):
                left.append(operation)
            continue
        temporary = tree.temporary(operation.key, operation.temporary)
        if _has(temporary, operation):
            left.append(operation)
        # Under its temporary name it could only be damaged: no other file ever had that name.
        elif os.path.lexists(temporary) or not _has(path, operation):
            raise StoreCorrupt(
                f"{path} is not what the newest group in {redo} made it: it is damaged, or another program wrote to it "
                "before this store was opened again after a crash; restore a backup, or salvage the store"
            )
    return left


def _has(path: str, operation: Adopt) -> bool:
    """Whether the file `path` is there and holds what `operation` puts in place."""
    try:
        found = values.read(path, operation.key)
    except NotFound:
        return False
    return Stamp.of(operation.key, operation.stamp.seq, found.content) == operation.stamp


def place(tree: Tree, operations: Iterable[Operation], freeing: Freeing) -> None:
    """Do `operations`. Whether they are durable is the caller's affair. Raises `StoreError`s."""
    for operation in operations:
        path = tree.path(operation.key)
        replaced = freeing.hold(path)
        try:
            if isinstance(operation, Adopt):
                os.rename(tree.temporary(operation.key, operation.temporary), path)
            else:
                os.unlink(path)
        except OSError as error:
            raise from_os_error(error, f"putting {operation.key} in place at {path}") from error
        finally:
            if replaced is not None:
                freeing.free(replaced)
