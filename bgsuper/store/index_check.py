"""Whether every record can be found by its key.

SQLite's pages carry no checksums. A bit that flips in a record's value is found by the record's own; one that flips in
the index makes a record that is there look absent, and a node that finds no manager or no channels starts anew over
them (ldk-node #1026). So whoever opens a store asks the index for every row before it calls a key absent or a
namespace complete. The other way round, what the index has and the table has not, SQLite notices itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..errors import StoreCorrupt
from .connection import Connection

_NEWEST: Final = "SELECT coalesce(max(id), 0) FROM record"
# The rows come from the table, the keys from the index.
_ROWS: Final = (
    "SELECT max(id), min(found) FROM (SELECT id, EXISTS(SELECT 1 FROM record AS other INDEXED BY record_key"
    " WHERE other.primary_namespace = row.primary_namespace AND other.secondary_namespace = row.secondary_namespace"
    " AND other.name = row.name AND other.id = row.id) AS found"
    " FROM record AS row NOT INDEXED WHERE id > ? AND id <= ? ORDER BY id LIMIT 500)"
)
_DOING: Final = "checking the index"


def newest_id(connection: Connection) -> int:
    """The greatest id of a record: whoever goes through what is there now ends at it. Raises `StoreCorrupt`."""
    row = connection.row(_NEWEST, (), "looking for the newest record")
    return row[0] if row is not None and isinstance(row[0], int) else 0


class IndexCheck:
    """One pass over the table as it was at the start of the pass, in steps of about a millisecond."""

    def __init__(self) -> None:
        self.finished = False
        self._steps: Iterator[None] | None = None

    def step(self, connection: Connection) -> None:
        """Check some more rows. Raises `StoreCorrupt`, and does so again."""
        if self._steps is None:
            self._steps = _pass(connection)
        try:
            next(self._steps)
        except StopIteration:
            self.finished = True
        except BaseException:
            self._steps = None
            raise

    def finish(self, connection: Connection) -> None:
        """Check all that is left. Raises `StoreCorrupt`, and does so again."""
        while not self.finished:
            self.step(connection)


def _pass(connection: Connection) -> Iterator[None]:
    last, end = 0, newest_id(connection)
    while (step := connection.row(_ROWS, (last, end), _DOING)) and step[0] is not None:
        last, found = step
        if not found:
            raise StoreCorrupt(f"{_DOING}: a record is not in it; restore a backup or salvage the database")
        yield
