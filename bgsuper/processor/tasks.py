"""The processor on the host's own event loop: LDK's `process_events_async`.

Rules:
1. No await inside a turn: what other tasks do to the node objects falls between turns.
2. To cancel it is to stop it: the final writes still happen, within `stop_timeout`, and then `CancelledError` is
   raised. A further cancellation changes nothing, wherever it comes (LDK #4598). It starts no tasks, so that a loop
   which cancels all its tasks at its end (``asyncio.run``) finds nothing else of ours to cancel.
3. What blocks, its own supervisor's start and stop, runs on a thread of its own: the loop's default executor may be
   full of the host's work.
4. A coroutine that is closed, since its loop was closed under it, may not wait: its supervisor is stopped on that
   thread, with what was submitted, and a `ResourceWarning` says that the final writes are missing.
5. Wakings come from other threads as one call into the loop, however many there are; a closed loop is tolerated.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from .clock import Clock, SystemClock, suspended
from .hosting import UNASKED_STOP_S, Hosted
from .interfaces import (
    ChainMonitor,
    ChannelManager,
    Durability,
    EventHandler,
    GossipSync,
    Node,
    OnionMessenger,
    OutputSweeper,
    PeerManager,
    Scorer,
)
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
    onion_messenger: OnionMessenger | None = None,
    sweeper: OutputSweeper | None = None,
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
    node = Node(
        event_handler, chain_monitor, channel_manager, gossip_sync, peer_manager, scorer, onion_messenger, sweeper
    )
    naps = _Naps()
    aside = ThreadPoolExecutor(1, "bgsuper-aside")
    error: BaseException | None = None
    began_to_stop: float | None = None
    try:
        if hosted.owned:
            await naps.through(naps.loop.run_in_executor(aside, hosted.start))
        try:
            lifetime = Lifetime(
                node, hosted.durability, naps.wake, timers=timers, clock=CLOCK, asleep=suspended, logger=logger
            )
            for seconds in lifetime.steps():
                await naps.rest(seconds)
                if began_to_stop is None and (stop.is_set() or naps.cancelled is not None):
                    began_to_stop = naps.loop.time()
                    lifetime.request_stop(hosted.final_writes_s(stop_timeout))
        except GeneratorExit:
            raise
        except BaseException as raised:  # noqa: BLE001 - raised below, once the supervisor is stopped
            error = raised
        if hosted.owned:
            remaining = stop_timeout if began_to_stop is None else began_to_stop + stop_timeout - naps.loop.time()
            error = await naps.through(naps.loop.run_in_executor(aside, hosted.stop, remaining, error, logger))
    except GeneratorExit:
        if hosted.owned:
            # One thread: after the start, if that is still under way. None is to be had once the interpreter exits, but
            # then the supervisor's own hook has stopped it.
            with suppress(RuntimeError):
                aside.submit(_stop_unasked, hosted, logger)
        warnings.warn(
            "process_events() was closed before its end, without its final writes: set its stop event, or cancel its "
            "task, and wait for that",
            ResourceWarning,
            stacklevel=2,
        )
        raise
    finally:
        aside.shutdown(wait=False)
    if error is None:
        error = naps.cancelled
    if error is not None:
        raise error


def _stop_unasked(hosted: Hosted, logger: logging.Logger) -> None:
    error = hosted.stop(UNASKED_STOP_S, None, logger)
    if error is not None:
        logger.error("Stopping the supervisor failed, and nobody waits for it: %s: %s", type(error).__name__, error)


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
