"""One processor from its start to its end, as a sequence of rests.

`steps()` does all the work and yields whenever there is nothing to do, saying for how long at most; a face only rests
until then or until it is woken, and asks for the next step:

    for seconds in lifetime.steps():
        rest(seconds)

Rules:
1. The loop ends by `request_stop()`, by the store's failure, or by an exception inside a turn.
2. Only the first is followed by final writes. Each is durable before the next is submitted, and the deadline bounds
   them all: `ShutdownIncomplete` if it passes.
3. Errors leave `steps()` as they are. `same_again` makes one object for each caller of join() and stop().
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from ..errors import ShutdownIncomplete
from .clock import Clock, SleepRule
from .interfaces import Durability, Node
from .side_writes import is_durable
from .timers import Timers
from .turns import Turns

#: Where the seed's lines go unless the host names a logger.
LOGGER = logging.getLogger("bgsuper.processor")


class Lifetime:
    """See the module's rules. `wake` ends the face's rest early; it is called on any thread and never blocks."""

    def __init__(
        self,
        node: Node,
        durability: Durability,
        wake: Callable[[], None],
        *,
        timers: Timers,
        clock: Clock,
        asleep: SleepRule,
        logger: logging.Logger | None,
    ) -> None:
        self.turns = Turns(
            node, durability, timers=timers, clock=clock, asleep=asleep, logger=LOGGER if logger is None else logger
        )
        self._durability = durability
        self._manager = node.channel_manager
        self._clock = clock
        self._wake = wake
        self._deadline: float | None = None

    def request_stop(self, timeout: float) -> None:
        """End the loop soon, and the final writes within `timeout` seconds. Thread-safe; the first call counts."""
        self.set_deadline(timeout)
        self._wake()

    def set_deadline(self, timeout: float) -> None:
        """`request_stop`, taking no lock: the loop sees it at the end of its rest."""
        if self._deadline is None:
            self._deadline = self._clock.monotonic() + timeout

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested."""
        return self._deadline is not None

    def steps(self) -> Iterator[float]:
        """Do all of it; yield the longest rest, in seconds, whenever there is nothing to do until woken."""
        with ExitStack() as subscriptions:
            subscriptions.callback(self._durability.subscribe(self._wake))
            subscriptions.callback(self._manager.on_persistable_update(self._wake))
            try:
                self.turns.begin()
                while True:
                    self.turns.turn()
                    yield 0.0 if self.stopping else self.turns.rest_s()
                    if self._deadline is not None:
                        yield from self._finish(self._deadline)
                        return
            except GeneratorExit:
                raise
            except BaseException as error:
                self.turns.fail(error)
                raise

    def _finish(self, deadline: float) -> Iterator[float]:
        for write in self.turns.final_writes():
            while not self._durability.writable:
                self._raise_failure()
                yield self._remaining(deadline)
            seq = write()
            while seq is not None and not is_durable(self._durability, seq):
                yield self._remaining(deadline)
            while self.turns.release():
                yield 0.0

    def _raise_failure(self) -> None:
        failure = self._durability.failure()
        if failure is not None:
            raise failure

    def _remaining(self, deadline: float) -> float:
        remaining = deadline - self._clock.monotonic()
        if remaining > 0:
            return remaining
        health = self._durability.health()
        raise ShutdownIncomplete(
            f"the final writes are not durable in time: {health.submitted} was submitted, {health.durable} is durable "
            f"({health.evidence}); stop the supervisor to learn what became of them",
            unacked=health.submitted - health.durable,
        )


def same_again(error: BaseException) -> BaseException:
    """An exception like `error`, for one caller of its own: a shared one would collect the tracebacks of all.

    Where its class cannot be copied it is `error` itself.
    """
    try:
        twin = copy.copy(error)
    except Exception:  # noqa: BLE001 - a class with an __init__ of its own may raise anything
        return error
    if type(twin) is not type(error) or twin.args != error.args:
        return error
    twin.__cause__, twin.__context__ = error.__cause__, error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    return twin.with_traceback(error.__traceback__)
