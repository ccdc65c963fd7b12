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
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from enum import Enum, auto
from typing import NamedTuple

from ..errors import ShutdownIncomplete
from ..key import Seq
from .clock import Clock, SleepRule
from .interfaces import Durability, Node, NotifiesOfUpdates
from .side_writes import is_durable
from .timers import Timers
from .turns import Turns

#: Where the seed's lines go unless the host names a logger.
LOGGER = logging.getLogger("bgsuper.processor")


class _Stage(Enum):
    BUSY = auto()  #: in the node objects, the handler, or a submission
    RESTING = auto()  #: between two turns
    WAITING = auto()  #: for a final write to be taken, or to be durable
    ENDED = auto()


class _Final(NamedTuple):
    """A final write."""

    name: str
    seq: Seq | None  #: None: not submitted yet, or there was nothing to submit


class _Look(NamedTuple):
    """Where it is, for other threads: replaced as a whole, so that they never see half of a change."""

    stage: _Stage
    since: float
    final: _Final | None


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
        self._node = node
        self._clock = clock
        self._wake = wake
        self._deadline: float | None = None
        self._final: _Final | None = None  # the one under way
        self._enter(_Stage.RESTING)

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

    def still_running(self, timeout: float) -> ShutdownIncomplete:
        """The error for one who waited `timeout` seconds for the end, saying what holds it up. On any thread."""
        look = self._look
        seconds = self._clock.monotonic() - look.since
        if look.stage is _Stage.ENDED:
            why = "its own supervisor is still being stopped; join() tells how that ends"
        elif look.stage is _Stage.WAITING and look.final is not None:
            why = f"{self._progress(look.final)}; join() tells how that ends"
        elif look.stage is _Stage.BUSY:
            why = f"an event handler or a node object has held it up for {seconds:.1f} s; nothing is written meanwhile"
        else:
            why = f"it was woken and has not run for {seconds:.1f} s: the machine is too busy"
        return ShutdownIncomplete(
            f"the background processor still runs {timeout} s after stop(): {why}", unacked=self._unacked(look.final)
        )

    def steps(self) -> Iterator[float]:
        """Do all of it; yield the longest rest, in seconds, whenever there is nothing to do until woken."""
        try:
            self._enter(_Stage.BUSY)
            with closing(self._work()) as work:
                for seconds in work:
                    self._enter(_Stage.RESTING if self._final is None else _Stage.WAITING)
                    yield seconds
                    self._enter(_Stage.BUSY)
        finally:
            self._enter(_Stage.ENDED)

    def _enter(self, stage: _Stage) -> None:
        self._look = _Look(stage, self._clock.monotonic(), self._final)

    def _work(self) -> Generator[float, None, None]:
        with ExitStack() as subscriptions:
            subscriptions.callback(self._durability.subscribe(self._wake))
            subscriptions.callback(self._node.channel_manager.on_persistable_update(self._wake))
            for provider in self._node.events_providers:
                if isinstance(provider, NotifiesOfUpdates):
                    subscriptions.callback(provider.on_update(self._wake))
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
        for name, write in self.turns.final_writes():
            self._final = _Final(name, None)
            while not self._durability.writable:
                self._raise_failure()
                yield self._remaining(deadline, self._final)
            seq = write()
            self._final = _Final(name, seq)
            while seq is not None and not is_durable(self._durability, seq):
                yield self._remaining(deadline, self._final)
            self._final = None
            while self.turns.release():
                yield 0.0

    def _raise_failure(self) -> None:
        failure = self._durability.failure()
        if failure is not None:
            raise failure

    def _remaining(self, deadline: float, final: _Final) -> float:
        remaining = deadline - self._clock.monotonic()
        if remaining > 0:
            return remaining
        raise ShutdownIncomplete(
            f"out of time: {self._progress(final)}; the supervisor's stop() tells what became of it",
            unacked=self._unacked(final),
        )

    def _unacked(self, final: _Final | None) -> int:
        health = self._durability.health()
        # A graph or a scorer on its way is not in the difference.
        return max(health.submitted - health.durable, int(final is not None and final.seq is not None))

    def _progress(self, final: _Final) -> str:
        what = "not durable yet" if final.seq is not None else "not yet taken by the store"
        return (
            f"the final write of the {final.name} is {what}; un-acknowledged commits and snapshots: "
            f"{self._unacked(final)} ({self._durability.health().evidence})"
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
