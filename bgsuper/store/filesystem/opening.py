"""Whose a directory is.

Rules:
1. Nothing is written into a directory before all of it was looked at and found to be ours, LDK's, or empty.
2. Whatever says that a store of ours was here (an epoch in the lock file, a stamp on a value, a value on its way) makes
   a missing redo file a loss: a node that starts at nothing over a store that has come far loses its channels.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ...errors import StoreCorrupt, StoreError, StoreForeign, StoreUnwritable
from ..failures import from_os_error
from .redo import Redo
from .redo_file import read_redo
from .stamp import read_stamp
from .tree import LOCK, Kind, Tree, in_the_way


class Survey(NamedTuple):
    """What was found in a directory."""

    values: bool  #: whether there is any
    leftovers: list[str]  #: paths of temporary files of ours
    obstacle: StoreError | None = None  #: why no store can be here, or none that is whole


def refuse_foreign(tree: Tree) -> None:
    """Raise `StoreForeign` if the directory has no redo file of ours and something that LDK would not put there."""
    if os.path.lexists(tree.redo):
        return
    for item in tree.walk():
        if item.kind is Kind.FOREIGN:
            raise StoreForeign(
                f"expected {tree.root} to be empty, a store of bgsuper's or LDK's, found {item.path!r:.300}; "
                "use another directory, or move that away"
            )
        if item.kind is Kind.IN_THE_WAY:
            raise in_the_way(item.path)


def survey(tree: Tree) -> Survey:
    """Look at all names. Raises `StoreUnwritable`."""
    has_values = False
    leftovers: list[str] = []
    obstacle: StoreError | None = None
    try:
        device = os.stat(tree.root).st_dev
        for item in tree.walk():
            if item.kind is Kind.VALUE:
                has_values = True
            elif item.kind is Kind.LEFTOVER:
                leftovers.append(item.path)
            elif item.kind is Kind.IN_THE_WAY:
                obstacle = in_the_way(item.path)
            elif item.kind is Kind.NAMESPACE and os.stat(item.path).st_dev != device:
                obstacle = StoreForeign(
                    f"expected the store {tree.root} to be on one file system, but {item.path} is another's mount "
                    "point; mount that one at the store's own directory"
                )
        if os.path.lexists(tree.new_redo):
            leftovers.append(tree.new_redo)
    except OSError as error:
        raise from_os_error(error, f"looking through {tree.root}") from error
    return Survey(has_values, leftovers, obstacle or _case_blindness(tree))


def _case_blindness(tree: Tree) -> StoreError | None:
    """A file system that takes two keys for one would lose a value. The lock file must be there."""
    if not os.path.lexists(os.path.join(tree.root, LOCK.upper())):
        return None
    return StoreUnwritable(
        f"expected a file system that tells upper from lower case at {tree.root}, as keys do; "
        "use a sqlite: store, or a case-sensitive volume"
    )


def load_redo(tree: Tree, found: Survey, *, recorded: int) -> Redo | None:
    """What the redo file says; None if there never was one. `recorded` is the epoch in the lock file.

    Raises `StoreCorrupt`, `StoreForeign`, `StoreTooNew`, `StoreUnwritable`.
    """
    redo = read_redo(tree)
    if redo is None:
        trace = _trace(tree, found, recorded)
        if trace is not None:
            raise StoreCorrupt(
                f"{tree.redo}, which says how far the store had come, is missing, but {trace}; "
                "restore it from a backup, or salvage the store"
            )
    return redo


def _trace(tree: Tree, found: Survey, recorded: int) -> str | None:
    """What says that a store of ours was here, in words."""
    if recorded > 0:
        return f"the lock file beside it knows of epoch {recorded}"
    if any(path != tree.new_redo for path in found.leftovers):
        return f"{found.leftovers[0]} was on its way"
    for item in tree.walk():
        if item.kind is Kind.VALUE and _is_stamped(item.path):
            return f"{item.path} is a value that bgsuper wrote"
    return None


def _is_stamped(path: str) -> bool:
    """Also by a stamp that is damaged."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return read_stamp(fd, path) is not None
        finally:
            os.close(fd)
    except StoreError:
        return True
    except OSError as error:
        raise from_os_error(error, f"reading {path}") from error
