"""A supervisor as the processor sees it, with the model looking on: whatever is submitted is also written down."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from ...health import Health, Transition
from ...key import Key, Seq
from ...supervisor import Supervisor
from ...torture.run.model import Model


class Witness:
    """A `processor.interfaces.Durability`. Used on the event loop alone, as the model is."""

    def __init__(self, supervisor: Supervisor, model: Model[bytes]) -> None:
        self.supervisor, self.model = supervisor, model
        self.snapshots = 0
        self._snapshot = Seq(0)

    def note_acked(self) -> None:
        """Tell the model what is acknowledged by now."""
        self.model.ack(self.supervisor.durable_seq)

    def all_durable(self, records: Iterable[Key]) -> bool:
        """Whether the newest change of each of `records` is acknowledged."""
        self.note_acked()
        return all(self.model.changed_in(key) <= self.model.acked for key in records)

    @property
    def snapshot_under_way(self) -> bool:
        """Whether the newest snapshot is neither durable nor given up."""
        try:
            self.supervisor.wait(self._snapshot, 0)
        except TimeoutError:
            return True
        except Exception:  # noqa: BLE001 - whatever it failed with: it is over
            return False
        return False

    # -- Durability ---------------------------------------------------------------------------------------------------

    def start(self, timeout: float = 30.0) -> Seq:
        return self.supervisor.start(timeout)

    def commit(self, puts: Mapping[Key, bytes], removes: Collection[Key] = ()) -> Seq:
        seq = self.supervisor.commit(puts, removes)
        self.model.commit(seq, puts, removes)
        return seq

    def snapshot(self, key: Key, pieces: Iterable[bytes], *, critical: bool = False) -> Seq:
        self._snapshot = self.supervisor.snapshot(key, pieces, critical=critical)
        self.snapshots += 1
        return self._snapshot

    @property
    def writable(self) -> bool:
        return self.supervisor.writable

    @property
    def durable_seq(self) -> Seq:
        return self.supervisor.durable_seq

    def failure(self) -> BaseException | None:
        return self.supervisor.failure()

    def snapshot_failure(self, key: Key) -> BaseException | None:
        return self.supervisor.snapshot_failure(key)

    def wait(self, seq: Seq, timeout: float | None = None) -> None:
        self.supervisor.wait(seq, timeout)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        return self.supervisor.subscribe(callback)

    def health(self) -> Health:
        return self.supervisor.health()

    def health_log(self) -> tuple[Transition, ...]:
        return self.supervisor.health_log()

    def stop(self, timeout: float = 30.0) -> None:
        self.supervisor.stop(timeout)
