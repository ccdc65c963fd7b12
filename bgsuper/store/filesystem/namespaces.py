"""The directories of namespaces: made when their first value comes, 0700, durable before anything in them counts."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..failures import from_os_error
from .syncing import Syncing
from .tree import Tree


class Namespaces:
    """Remembers which directories are there and durable, so that a commit makes and syncs only new ones."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._durable: set[str] = set()

    def make(self, namespaces: Iterable[tuple[str, ...]], syncing: Syncing) -> None:
        """Make what is missing for `namespaces`, pairs of primary and secondary. May run in two threads at once.

        Raises `StoreFull`, `StoreUnwritable`, `SyncFailed`.
        """
        new = {
            directory
            for primary, secondary in namespaces
            for directory in (self._tree.directory(primary, ""), self._tree.directory(primary, secondary))
            if directory != self._tree.root and directory not in self._durable
        }
        for directory in sorted(new):
            try:
                os.mkdir(directory, 0o700)
                os.chmod(directory, 0o700)
            except FileExistsError:
                # By a predecessor, or by the other thread just now: its name may not be durable yet.
                pass
            except OSError as error:
                raise from_os_error(error, f"creating the directory {directory}") from error
        syncing.directories(sorted({os.path.dirname(directory) for directory in new}))
        self._durable |= new
