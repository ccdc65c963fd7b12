"""What the processor does because time has passed: one job for each timer of the table in `timers`.

Rules:
1. A node object that has no such job is never asked for it; whether it has is looked at once, at the start.
2. After a sleep of the machine all peers are disconnected, before any job, and the next ping is a whole period later.
3. The graph of a rapid gossip sync is pruned as soon as the first sync is complete, then each period; not before
   (LDK #1433, #1517).
4. A graph that can be pruned in steps is, and a scorer that can fade in steps does: one in each turn.
5. A sweeper that fails is logged and tried again; what any other job raises ends the processor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from .clock import Clock
from .interfaces import (
    TRACE,
    ArchivesMonitors,
    GossipSync,
    LargeScorer,
    Node,
    OutputSweeper,
    PrunesInSteps,
    RapidGossipSync,
    RebroadcastsClaims,
    Scorer,
)
from .side_writes import SideWrites
from .timers import Schedule, Timer, Timers

_END: Final = object()


class _Job(NamedTuple):
    line: str  #: what LDK logs
    call: Callable[[], None]


class Periodic:
    """The jobs of one node. `graph` and `scorer` are their writes, None where there is no such object."""

    def __init__(
        self,
        node: Node,
        timers: Timers,
        clock: Clock,
        *,
        graph: SideWrites | None,
        scorer: SideWrites | None,
        logger: logging.Logger,
    ) -> None:
        self._clock = clock
        self._logger = logger
        self._disconnect_all_peers = node.peer_manager.disconnect_all_peers
        tick = node.channel_manager.timer_tick_occurred
        self._at_start = [_Job("Calling ChannelManager's timer_tick_occurred on startup", tick)]
        self._jobs = {
            Timer.FRESHNESS: _Job("Calling ChannelManager's timer_tick_occurred", tick),
            Timer.PING: _Job("Calling PeerManager's timer_tick_occurred", node.peer_manager.timer_tick_occurred),
        }
        self._until_synced: RapidGossipSync | None = None
        #: What is done in steps, one a turn, each with what is to be written afterwards.
        self._under_way: list[tuple[Iterator[None], SideWrites]] = []
        if isinstance(node.chain_monitor, RebroadcastsClaims):
            rebroadcast = node.chain_monitor.rebroadcast_pending_claims
            self._at_start.append(_Job("Rebroadcasting monitor's pending claims on startup", rebroadcast))
            self._jobs[Timer.REBROADCAST] = _Job("Rebroadcasting monitor's pending claims", rebroadcast)
        if isinstance(node.chain_monitor, ArchivesMonitors):
            archive = node.chain_monitor.archive_fully_resolved_channel_monitors
            self._jobs[Timer.ARCHIVE] = _Job("Archiving stale ChannelMonitors.", archive)
        if node.gossip_sync is not None and graph is not None:
            self._add_pruning(node.gossip_sync, graph)
        if node.scorer is not None and scorer is not None:
            self._add_decay(node.scorer, scorer)
        if node.onion_messenger is not None:
            tick = node.onion_messenger.timer_tick_occurred
            self._jobs[Timer.ONION_MESSENGER] = _Job("Calling OnionMessageHandler's timer_tick_occurred", tick)
        if node.sweeper is not None:
            self._add_sweeper(node.sweeper)
        chosen = [timer for timer in self._jobs if timer is not Timer.PRUNE or self._until_synced is None]
        self._schedule = Schedule(timers, chosen, clock.monotonic())

    def begin(self) -> None:
        """Before the first turn."""
        for job in self._at_start:
            self._do(job)

    def wake_up(self) -> None:
        """The machine slept."""
        self._do(_Job("100ms sleep took more than a second, disconnecting peers.", self._disconnect_all_peers))
        self._schedule.restart(Timer.PING, self._clock.monotonic())

    def fire(self) -> None:
        """Do what is due."""
        now = self._clock.monotonic()
        if self._until_synced is not None and self._until_synced.is_initial_sync_complete():
            self._until_synced = None
            self._do(self._jobs[Timer.PRUNE])
            self._schedule.restart(Timer.PRUNE, now)
        for timer in self._schedule.fire(now):
            self._do(self._jobs[timer])
        for job in tuple(self._under_way):
            steps, writes = job
            if next(steps, _END) is _END:
                self._under_way.remove(job)
                writes.owe()

    def due_in(self, now: float) -> float:
        """Seconds until the next job, 0 if one is due or half done."""
        return 0.0 if self._under_way else self._schedule.due_in(now)

    # -- the jobs -----------------------------------------------------------------------------------------------------

    def _do(self, job: _Job) -> None:
        self._logger.log(TRACE, job.line)
        job.call()

    def _begin(self, steps: Iterator[None], writes: SideWrites) -> None:
        """Do `steps`, one a turn, unless the last ones of that object are not done yet."""
        if all(under_way is not writes for _, under_way in self._under_way):
            self._under_way.append((steps, writes))

    def _add_pruning(self, gossip_sync: GossipSync, writes: SideWrites) -> None:
        graph = gossip_sync.network_graph

        def prune() -> None:
            now = int(self._clock.time())
            if isinstance(graph, PrunesInSteps):
                self._begin(graph.pruning(now), writes)
            else:
                graph.remove_stale_channels_and_tracking(now)
                writes.owe()

        self._jobs[Timer.PRUNE] = _Job("Pruning network graph of stale entries", prune)
        if isinstance(gossip_sync, RapidGossipSync):
            self._until_synced = gossip_sync

    def _add_decay(self, scorer: Scorer, writes: SideWrites) -> None:
        def decay() -> None:
            scorer.time_passed(self._clock.time())

        def decay_and_write() -> None:
            if isinstance(scorer, LargeScorer):
                self._begin(scorer.time_passing(self._clock.time()), writes)
            else:
                decay()
                writes.owe()

        self._at_start.append(_Job("Calling time_passed on scorer at startup", decay))
        self._jobs[Timer.SCORER] = _Job("Calling time_passed and persisting scorer", decay_and_write)

    def _add_sweeper(self, sweeper: OutputSweeper) -> None:
        def sweep() -> None:
            try:
                sweeper.regenerate_and_broadcast_spend_if_necessary()
            except Exception as failure:  # noqa: BLE001 - it tries again
                self._logger.warning("The sweeper failed, and will try again: %s: %s", type(failure).__name__, failure)

        self._jobs[Timer.SWEEPER] = _Job("Regenerating sweeper spends if necessary", sweep)
