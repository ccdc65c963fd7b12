"""How the channel manager becomes durable: by records, or whole.

    records  one atomic commit of what changed; any number may be under way
    whole    one critical snapshot (the seed's way), one under way at a time: what changes meanwhile goes into the next,
             so that a large manager is not serialised again for each message

Rule: whoever takes outputs takes them before the changes, never the other way round. Node objects may be changed by
other threads, and an output taken after the changes may have a cause that is not among them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol

from ..errors import ConfigError
from ..key import MANAGER, Key, Seq
from .interfaces import Durability, Output, RecordChanges, Writeable


class Written(NamedTuple):
    """What was submitted, and under which number."""

    seq: Seq
    records: tuple[Key, ...]


class ManagerWrites(Protocol):
    """One of the two ways."""

    @property
    def atomic(self) -> bool:
        """Whether each commit holds all of what its turn changed, and nothing else."""

    def ready(self) -> bool:
        """Whether changes may be taken now. If not they stay with the manager and merge into the next write."""

    def write_changes(self) -> Written | None:
        """Submit what changed since the last call; None if nothing did."""

    def write_finally(self) -> Written | None:
        """Submit what has to be durable before the processor ends."""

    def causes(self, output: Output) -> Collection[Key]:
        """The records that `output` waits for."""


class RecordWrites:
    """A manager that knows which of its records changed."""

    atomic = True

    def __init__(self, manager: RecordChanges, durability: Durability) -> None:
        self._manager = manager
        self._durability = durability

    def ready(self) -> bool:
        return True

    def write_changes(self) -> Written | None:
        puts, removes = self._manager.take_changes()
        if not puts and not removes:
            return None
        return Written(self._durability.commit(puts, removes), (*puts, *removes))

    def write_finally(self) -> Written | None:
        return self.write_changes()

    def causes(self, output: Output) -> Collection[Key]:
        return output.records


class WholeWrites:
    """A manager that is one value."""

    atomic = False

    def __init__(self, manager: Writeable, durability: Durability) -> None:
        self._manager = manager
        self._durability = durability
        self._under_way = Seq(0)

    def ready(self) -> bool:
        return self._durability.durable_seq >= self._under_way

    def write_changes(self) -> Written | None:
        return self._write() if self._manager.get_and_clear_needs_persistence() else None

    def write_finally(self) -> Written:
        # Always, as in the seed: there may be changes for which nobody raised the flag.
        return self._write()

    def causes(self, output: Output) -> Collection[Key]:
        return (MANAGER,)

    def _write(self) -> Written:
        self._under_way = self._durability.snapshot(MANAGER, (self._manager.write(),), critical=True)
        return Written(self._under_way, (MANAGER,))


def manager_writes(manager: object, durability: Durability) -> ManagerWrites:
    """The way that fits both: by records, else whole. Raises `ConfigError` if the manager can neither.

    A manager that can do both is persisted whole by a user's persister, which has no atomic batches.
    """
    if isinstance(manager, Writeable) and not (isinstance(manager, RecordChanges) and durability.health().atomic):
        return WholeWrites(manager, durability)
    if isinstance(manager, RecordChanges):
        return RecordWrites(manager, durability)
    raise ConfigError(
        "expected a channel manager with take_changes(), or with get_and_clear_needs_persistence() and write(); "
        f"{type(manager).__qualname__} has neither, so it cannot be persisted"
    )
