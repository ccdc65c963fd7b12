"""The processor on the host's own event loop: LDK's `process_events_async`.

Rules:
1. No await inside a turn: what other tasks do to the node objects falls between turns.
2. To cancel it is to stop it: the final writes still happen, within `stop_timeout`, and then `CancelledError` is
   raised. A further cancellation changes nothing. It starts no tasks, so that a loop which cancels all its tasks at its
   end (``asyncio.run``) finds nothing else of ours to cancel.
3. Wakings come from other threads as one call into the loop, however many there are; a closed loop is tolerated.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from .clock import Clock, SystemClock, suspended
from .hosting import Hosted
from .interfaces import ChainMonitor, ChannelManager, Durability, EventHandler, GossipSync, Node, PeerManager, Scorer
from .lifetime import LOGGER, Lifetime
from .timers import Timers

if TYPE_CHECKING:
    from ..supervisor import PersisterRef

T = TypeVar("T")

#: Read through a name, so that tests can hand in another.
CLOCK: Clock = SystemClock()


async def process_events(
    persister: Durability | PersisterRef | str,
    event_handler: EventHandler,
    chain_monitor: ChainMonitor,
    channel_manager: ChannelManager,
    gossip_sync: GossipSync | None,
    peer_manager: PeerManager,
    logger: logging.Logger | None = None,
    *,
    scorer: Scorer | None = None,
    timers: Timers = Timers(),  # noqa: B008 - frozen
    stop: asyncio.Event,
    stop_timeout: float = 30.0,
) -> None:
    """Do all that a `BackgroundProcessor` does, with the same arguments, until `stop` is set (looked at each
    `Timers.rest`) or the task is cancelled.

    After that the last writes, and its own supervisor's stop, take at most about `stop_timeout` seconds. Raises what
    `BackgroundProcessor.start` and `join` raise; an error also takes the place of `CancelledError`.
    """
    logger = LOGGER if logger is None else logger
    hosted = Hosted(persister)
    naps = _Naps()
    if hosted.owned:
        await naps.through(naps.loop.run_in_executor(None, hosted.start))
    error: BaseException | None = None
    began_to_stop: float | None = None
    try:
        node = Node(event_handler, chain_monitor, channel_manager, gossip_sync, peer_manager, scorer)
        lifetime = Lifetime(
            node, hosted.durability, naps.wake, timers=timers, clock=CLOCK, asleep=suspended, logger=logger
        )
        for seconds in lifetime.steps():
            await naps.rest(seconds)
            if began_to_stop is None and (stop.is_set() or naps.cancelled is not None):
                began_to_stop = naps.loop.time()
                lifetime.request_stop(hosted.final_writes_s(stop_timeout))
    except BaseException as raised:  # noqa: BLE001 - raised below, once the supervisor is stopped
        error = raised
    if hosted.owned:
        remaining = stop_timeout if began_to_stop is None else began_to_stop + stop_timeout - naps.loop.time()
        error = await naps.through(naps.loop.run_in_executor(None, partial(hosted.stop, remaining, error, logger)))
    if error is None:
        error = naps.cancelled
    if error is not None:
        raise error


class _Naps:
    """Waiting that a cancellation shortens and does not break."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.cancelled: asyncio.CancelledError | None = None
        self._woken = asyncio.Event()
        self._waking = False

    def wake(self) -> None:
        """End the rest. On any thread."""
        if self._waking:
            return
        self._waking = True
        try:
            self.loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:
            # The loop is closed: nobody rests there any more.
            return

    async def rest(self, seconds: float) -> None:
        """Wait until woken, cancelled, or `seconds` have passed. Other tasks run at least once, since what wakes it is
        always another step of the loop."""
        alarm = self.loop.call_later(seconds, self._woken.set)
        try:
            await self._woken.wait()
        except asyncio.CancelledError as cancelled:
            self.cancelled = cancelled
        finally:
            alarm.cancel()
            self._waking = False
            self._woken.clear()

    async def through(self, future: asyncio.Future[T]) -> T:
        """The result of `future`, whatever cancellations come meanwhile."""
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as cancelled:
                self.cancelled = cancelled
        return future.result()
