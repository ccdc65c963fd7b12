"""Events, on their way from the providers to the handler.

Rules:
1. In each turn one pass per provider: the manager's, then the monitor's, then the onion messenger's.
2. Before the user's handler sees an event, the graph and the scorer learn from it (LDK's decorated handler): once,
   however often the event is replayed.
3. `ReplayEvent` ends that pass, and no other provider's. The provider is asked again after `Timers.replay` and not
   before, whatever wakes the loop meanwhile. LDK (#2995) wakes itself at once, so a handler that goes on failing keeps
   its loop busy; here it costs a call now and then.
4. What else leaves a pass ends the processor.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from contextlib import suppress

from ..errors import ReplayEvent
from .clock import Clock
from .interfaces import Event, EventHandler, EventsProvider


class Delivery:
    """The passes of all `providers`, in order; `learn` is what comes before `handler`, `replay_s` is in seconds."""

    def __init__(
        self,
        providers: Iterable[EventsProvider],
        learn: Callable[[Event], None],
        handler: EventHandler,
        replay_s: float,
        clock: Clock,
        logger: logging.Logger,
    ) -> None:
        self._clock = clock
        self._passes = [_Pass(provider, learn, handler, replay_s, clock, logger) for provider in providers]

    def deliver(self) -> None:
        """One pass of each provider that is not waiting for its replay."""
        for each in self._passes:
            if each.replay_at is None or self._clock.monotonic() >= each.replay_at:
                each.run()

    def due_in(self, now: float) -> float:
        """Seconds until the next replay, infinite if none is asked for."""
        replays = (each.replay_at for each in self._passes if each.replay_at is not None)
        return max(0.0, min(replays, default=math.inf) - now)


class _Pass:
    """One provider's."""

    def __init__(
        self,
        provider: EventsProvider,
        learn: Callable[[Event], None],
        handler: EventHandler,
        replay_s: float,
        clock: Clock,
        logger: logging.Logger,
    ) -> None:
        self._provider = provider
        self._learn = learn
        self._handler = handler
        self._replay_s = replay_s
        self._clock = clock
        self._logger = logger
        #: Events that were learnt from and will be given again: at most one for each queue of the provider.
        self._to_come_again: list[Event] = []
        self.replay_at: float | None = None  # None: nobody asked for one

    def run(self) -> None:
        self.replay_at = None
        with suppress(ReplayEvent):
            self._provider.process_pending_events(self._handle)
        if self.replay_at is None:
            self._to_come_again.clear()

    def _handle(self, event: Event) -> None:
        if event in self._to_come_again:
            self._to_come_again.remove(event)
        else:
            self._learn(event)
        try:
            self._handler(event)
        except ReplayEvent as wish:
            # The event is not logged: it may carry a preimage.
            self._logger.debug("The event handler asks for a replay: %s", wish)
            self._to_come_again.append(event)
            self.replay_at = self._clock.monotonic() + self._replay_s
            raise
