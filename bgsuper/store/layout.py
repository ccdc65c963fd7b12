"""What lies in a store's directory, and whether the directory is ours to write in.

    directory/                 0700
      bgsuper.sqlite3[-wal]    records, pointers to snapshots, the epoch and the last sequence numbers
      lock                     who writes here, and the last epoch
      control                  a socket of the running worker's, for the operator's commands
      snapshots/               one immutable file a snapshot

Rule: only names are looked at, nothing is changed.
"""

from __future__ import annotations

import os
from typing import Final

from ..errors import StoreForeign, StoreUnwritable
from .database import is_creation_leftover
from .failures import from_os_error
from .snapshots import is_name

#: The name of the control socket, of which whoever copies the directory copies nothing.
CONTROL: Final = "control"
#: Made by mkfs at the root of a file system.
_MOUNT_POINT: Final = "lost+found"


class Layout:
    """The paths of the store in `directory`, which is absolute."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.database = os.path.join(directory, "bgsuper.sqlite3")
        self.wal = self.database + "-wal"
        self.lock = os.path.join(directory, "lock")
        self.control = os.path.join(directory, CONTROL)
        self.snapshots = os.path.join(directory, "snapshots")

    def refuse_foreign(self) -> None:
        """Raise `StoreForeign` if the directory has content, but neither our database nor its remains."""
        names = set(_names(self.directory))
        if os.path.basename(self.database) in names:
            return
        ours = (self.lock, self.control, self.wal, self.snapshots)
        names -= {os.path.basename(path) for path in ours} | {_MOUNT_POINT}
        foreign = [name for name in names if not is_creation_leftover(self.database, name)]
        if foreign:
            raise StoreForeign(
                f"expected {self.directory} to be empty or a store of bgsuper's, found {min(foreign)!r:.80}; "
                "use another directory"
            )

    def check_names(self) -> None:
        """Raise `StoreUnwritable` unless the database and its WAL have their names: what is synced into a file that was
        removed, nobody can ever read."""
        for path in (self.database, self.wal):
            if not os.path.lexists(path):
                raise StoreUnwritable(
                    f"expected the store's file {path} to be where it was made, but it was removed while the store was "
                    "open; nothing since is acknowledged: start again on a store that stays"
                )

    def has_remains(self) -> bool:
        """Whether there is a WAL or a snapshot: what only a database that was complete leaves behind."""
        return os.path.lexists(self.wal) or any(map(is_name, _names(self.snapshots)))


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise from_os_error(error, f"listing {directory}") from error
