"""Whose supervisor it is. Given a running `Supervisor`, the host owns it, and the processor only waits for its own
final writes; given a target (a store URL or a `PersisterRef`), the processor makes, starts and stops one of its own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ..errors import ShutdownIncomplete
from .interfaces import Durability

if TYPE_CHECKING:
    from ..supervisor import PersisterRef

#: How much of a stop's time the final writes may take if the processor must stop its supervisor afterwards.
FINAL_WRITES_SHARE: Final = 0.75
#: What a supervisor gets to stop in any case, in seconds: enough to kill a worker.
LEAST_STOP_S: Final = 1.0
#: What a stop may take, in seconds, if nobody says: for a processor that was left un-stopped.
UNASKED_STOP_S: Final = 10.0


class Hosted:
    """A supervisor, and whether it is ours to start and stop."""

    def __init__(self, persister: Durability | PersisterRef | str) -> None:
        if isinstance(persister, Durability):
            self.durability: Durability = persister
            self.owned = False
        else:
            # Here, so that a host which brings another Durability needs no supervisor.
            from ..supervisor import Supervisor

            self.durability = Supervisor(persister)
            self.owned = True

    def start(self) -> None:
        """Start it if it is ours. Raises what `Supervisor.start` raises."""
        if self.owned:
            self.durability.start()

    def final_writes_s(self, timeout: float) -> float:
        """How many of a stop's `timeout` seconds the final writes may take."""
        return timeout * FINAL_WRITES_SHARE if self.owned else timeout

    def stop_s(self, timeout: float) -> float:
        """How long a stop that is given `timeout` seconds may take in all."""
        return max(timeout, self.final_writes_s(timeout) + LEAST_STOP_S) if self.owned else timeout

    def stop(self, timeout: float, error: BaseException | None, logger: logging.Logger) -> BaseException | None:
        """Stop it if it is ours, after the processor ended with `error`; what the processor's owner must hear of."""
        if not self.owned:
            return error
        try:
            self.durability.stop(max(timeout, LEAST_STOP_S))
        except Exception as stop_error:  # noqa: BLE001 - it goes to whoever joins
            if error is None or isinstance(error, ShutdownIncomplete):
                # The supervisor knows better what became of the writes.
                return stop_error
            if type(stop_error) is type(error) and stop_error.args == error.args:
                return error
            logger.warning("Stopping the supervisor failed as well: %s: %s", type(stop_error).__name__, stop_error)
            return error
        if isinstance(error, ShutdownIncomplete):
            return ShutdownIncomplete(f"{error}: all that was submitted is durable now, and nothing else")
        return error
