"""The processor on a thread of its own: LDK's `BackgroundProcessor`. The asyncio face is `process_events`, in `tasks`.

Rules:
1. It runs until `stop()`, or until the store or something in a turn fails; that error comes out of `join()` and of
   `stop()`, for each caller an exception of its own.
2. Leaving the context manager is the seed's Drop: stop, join, raise.
3. One that nobody stopped still stops: when it is garbage-collected (without waiting: a collection may happen anywhere,
   under any lock) or when the interpreter exits (waiting, bounded). Both warn with `ResourceWarning`.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import warnings
import weakref
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from ..errors import ShutdownIncomplete
from ..health import Health, Transition
from .clock import SystemClock, starved
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
from .lifetime import LOGGER, Lifetime, same_again
from .tasks import process_events
from .timers import Timers

if TYPE_CHECKING:
    from ..supervisor import PersisterRef

__all__ = ["BackgroundProcessor", "process_events"]

#: How much longer `stop()` waits for the thread than the thread may take, so that the thread's own words come out.
_GRACE_S: Final = 0.5


class BackgroundProcessor:
    """Ticks, events, pruning and persistence for the node objects, on a thread; see `start`. A context manager."""

    def __init__(self, runner: _Runner) -> None:
        self._runner = runner
        # The thread must not keep this object alive: that it is gone means that nobody will stop the thread.
        self._finalizer = weakref.finalize(self, runner.abandoned)
        self._finalizer.atexit = False  # the runner has its own hook, registered later than the supervisor's

    @classmethod
    def start(
        cls,
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
    ) -> Self:
        """Start the thread; LDK's `BackgroundProcessor::start`.

        `persister` is a started `Supervisor`, which stays the host's to stop, or the target of one that the processor
        starts and stops: a store URL or a `PersisterRef`. `event_handler` sees each event after `gossip_sync` and
        `scorer` learned from it, and may raise `ReplayEvent`. The manager is persisted by records if it has
        `take_changes()`, else whole; the graph after each prune and at the end; the scorer when an event changed it, on
        its timer and at the end.

        Raises `ConfigError` for a channel manager that cannot be persisted, and what `Supervisor.start` raises.
        """
        node = Node(
            event_handler,
            chain_monitor,
            channel_manager,
            gossip_sync,
            peer_manager,
            scorer,
            onion_messenger,
            sweeper,
        )
        return cls(_Runner.start(persister, node, timers, logger))

    def join(self, timeout: float | None = None) -> None:
        """Wait until the processor ended. Raises the error that ended it, or `TimeoutError` after `timeout` seconds."""
        if not self._runner.join(timeout):
            raise TimeoutError(f"the background processor still runs after {timeout} s: stop() it")
        self._runner.raise_error()

    def stop(self, timeout: float = 30.0) -> None:
        """End the loop, write the manager, the scorer and the graph a last time, and wait until they are durable.

        Raises the error that ended the processor, now or before; `ShutdownIncomplete` after `timeout` seconds, or a
        second more if it has to kill its own supervisor's worker. On the processor's own thread, in an event handler,
        it only asks for the stop and returns at once. Calling it again, or from several threads, is fine: the first
        call's deadline holds for the processor, and each waits for its own `timeout`.
        """
        self._runner.request_stop(timeout)
        if self._runner.is_current():
            return
        if not self._runner.join_stopped(timeout):
            raise self._runner.still_running(timeout)
        self._runner.raise_error()

    def health(self) -> Health:
        """The worker's health, and the gate's. Never blocks."""
        return self._runner.health()

    def health_log(self) -> tuple[Transition, ...]:
        """The worker's changes of state, oldest first; see `Supervisor.health_log`. Never blocks."""
        return self._runner.health_log()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"and the background processor ended with {type(failure).__name__}: {failure}")


class _Runner:
    """The thread and what it runs; knows nothing of the `BackgroundProcessor`, which may be gone before it."""

    def __init__(self, hosted: Hosted, node: Node, timers: Timers, logger: logging.Logger | None) -> None:
        self._hosted = hosted
        self._logger = LOGGER if logger is None else logger
        self._woken = threading.Event()
        self._lifetime = Lifetime(
            node,
            hosted.durability,
            self._woken.set,
            timers=timers,
            clock=SystemClock(),
            asleep=starved,
            logger=self._logger,
        )
        self._deadline: float | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="bgsuper-processor", daemon=True)

    @classmethod
    def start(
        cls,
        persister: Durability | PersisterRef | str,
        node: Node,
        timers: Timers,
        logger: logging.Logger | None,
    ) -> _Runner:
        hosted = Hosted(persister)
        hosted.start()
        try:
            runner = cls(hosted, node, timers, logger)
            # Hooks run last in, first out: this one before the supervisor's, which was registered by its start.
            atexit.register(runner.at_exit)
            try:
                runner._thread.start()
            except BaseException:
                atexit.unregister(runner.at_exit)
                raise
        except BaseException as error:
            hosted.stop(UNASKED_STOP_S, error, LOGGER)
            raise
        return runner

    # -- on the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for seconds in self._lifetime.steps():
                self._woken.wait(seconds)
                self._woken.clear()
        except BaseException as raised:  # noqa: BLE001 - it comes out of join()
            error = raised
        remaining = UNASKED_STOP_S if self._deadline is None else self._deadline - time.monotonic()
        self._error = self._hosted.stop(remaining, error, self._logger)
        atexit.unregister(self.at_exit)

    # -- on any other -------------------------------------------------------------------------------------------------

    def request_stop(self, timeout: float) -> None:
        if self._deadline is None:
            self._deadline = time.monotonic() + timeout
        self._lifetime.request_stop(self._hosted.final_writes_s(timeout))

    def join(self, timeout: float | None) -> bool:
        """Whether the thread ended within `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def join_stopped(self, timeout: float) -> bool:
        """Whether the thread ended, at the latest when a stop that is given `timeout` seconds must be over."""
        return self.join(self._hosted.stop_s(timeout) + _GRACE_S)

    def still_running(self, timeout: float) -> ShutdownIncomplete:
        """What to raise after `join_stopped` said no."""
        return self._lifetime.still_running(timeout)

    def is_current(self) -> bool:
        return threading.current_thread() is self._thread

    def raise_error(self) -> None:
        if self._error is not None:
            raise same_again(self._error)

    def health(self) -> Health:
        health = self._hosted.durability.health()
        turns = self._lifetime.turns
        return replace(health, gate=turns.gate_state, atomic=health.atomic and turns.atomic)

    def health_log(self) -> tuple[Transition, ...]:
        return self._hosted.durability.health_log()

    def abandoned(self) -> None:
        """The `BackgroundProcessor` was garbage-collected."""
        if self._thread.is_alive() and not self._lifetime.stopping:
            # Nobody is woken: a collection may run inside the very lock that waking takes. The loop looks by itself.
            if self._deadline is None:
                self._deadline = time.monotonic() + UNASKED_STOP_S
            self._lifetime.set_deadline(self._hosted.final_writes_s(UNASKED_STOP_S))
            _warn("was garbage-collected while it ran")

    def at_exit(self) -> None:
        """The interpreter exits and the thread still runs."""
        stopping = self._lifetime.stopping
        self.request_stop(UNASKED_STOP_S)
        self.join_stopped(UNASKED_STOP_S)
        if not stopping:
            _warn("still ran when the interpreter exited")


def _warn(how: str) -> None:
    warnings.warn(
        f"a BackgroundProcessor {how}: call stop(), or use it as a context manager, to see its errors",
        ResourceWarning,
        stacklevel=3,
    )
