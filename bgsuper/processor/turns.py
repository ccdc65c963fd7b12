"""The processor's core: what one turn of the loop does. Sans-IO: it never waits, and its clocks are handed in.

    begin                                   the startup tick
    turn      1. look back                  did the store fail; what became durable leaves through the gate
              2. timers that are due        see `periodic`
              3. events                     see `events`; then the peers (LDK #1436)
              4. persist                    outputs, then changes: one commit, tags, gate
    (rest)                                  the face waits, at most `rest_s()`, or until it is woken
    final writes                            manager, scorer, graph, one durable before the next

Rules:
1. Nothing in a turn waits for the store, so events go on while writes are under way.
2. While the store is not `writable` no changes and no outputs are taken: they stay with their objects and merge into
   the next commit, and the peers are not read. So `Backlogged` is never raised after a mutation.
3. Whatever a node object, a handler (but for `ReplayEvent`) or the store raises in a turn ends the processor, since
   half a change must never be committed: no final writes; the gate is shut, what it held is discarded, the peers are
   disconnected.
4. Un-acknowledged age (the gate, rule 10): over 20 s no new HTLCs and channels, over 45 s the peers with held messages
   are disconnected.

`lifetime` strings the turns together; two faces drive that, `background` on a thread and `tasks` on asyncio.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

from ..gate import Gate, Stall
from ..key import NETWORK_GRAPH, SCORER, Seq
from .clock import Clock, RestWatch, SleepRule
from .events import Delivery
from .graph_records import GraphRecords
from .interfaces import (
    TRACE,
    Admission,
    BackPressure,
    DisconnectsOne,
    Durability,
    Event,
    LargeScorer,
    Node,
    Outbox,
    Output,
    RecordGraph,
)
from .manager_writes import Written, manager_writes
from .periodic import Periodic
from .scoring import update_scorer
from .side_writes import SideWrites
from .timers import Timers

#: How many outputs one `release()` hands on: a long stall may end with thousands of them, and a turn stays short.
RELEASES: Final = 64


class Turns:
    """The turns of one processor, from start to end. Not thread-safe; `gate_state` and `atomic` may be read anywhere.

    `durability` is started; `asleep` is the face's rule for what counts as a sleep of the machine. Raises `ConfigError`
    for a channel manager that cannot be persisted.
    """

    def __init__(
        self,
        node: Node,
        durability: Durability,
        *,
        timers: Timers,
        clock: Clock,
        asleep: SleepRule,
        logger: logging.Logger,
    ) -> None:
        self._node = node
        self._durability = durability
        self._timers = timers
        self._clock = clock
        self._asleep = asleep
        self._logger = logger
        self._gate: Gate[Output] = Gate(durability.durable_seq)
        self._leaving: deque[Output] = deque()  # out of the gate, not yet handed on
        self._manager = manager_writes(node.channel_manager, durability)
        self._outbox = node.channel_manager if isinstance(node.channel_manager, Outbox) else None
        self._admission = node.channel_manager if isinstance(node.channel_manager, Admission) else None
        self._reader = node.peer_manager if isinstance(node.peer_manager, BackPressure) else None
        self._hang_up = node.peer_manager.disconnect if isinstance(node.peer_manager, DisconnectsOne) else None
        self._graph = self._scorer = None
        self._graph_records: GraphRecords | None = None
        if node.gossip_sync is not None:
            graph = node.gossip_sync.network_graph
            self._graph = SideWrites(NETWORK_GRAPH, "network graph", graph.pieces, durability, logger)
            if isinstance(graph, RecordGraph) and durability.health().atomic:
                self._graph_records = GraphRecords(graph, durability)
        if node.scorer is not None:
            scorer = node.scorer
            pieces = scorer.pieces if isinstance(scorer, LargeScorer) else lambda: (scorer.write(),)
            self._scorer = SideWrites(SCORER, "scorer", pieces, durability, logger)
        self._periodic = Periodic(node, timers, clock, graph=self._graph, scorer=self._scorer, logger=logger)
        self._events = Delivery(node.events_providers, self._learn, node.event_handler, timers.replay, clock, logger)
        self._rests = RestWatch(clock)
        self._persisting: Seq | None = None  # the newest write of the manager, until it is durable
        self._reading = True
        self._admitting = True

    # -- the loop -----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Before the first turn."""
        self._periodic.begin()

    def turn(self) -> None:
        """One turn. Raises the store's failure, fresh, and whatever a node object raises: then call `fail()`."""
        rest = self._rests.end()
        self._look_back()
        if self._asleep(rest, self._timers.asleep):
            self._periodic.wake_up()
        self._periodic.fire()
        self._events.deliver()
        self._node.peer_manager.process_events()
        self._persist()
        self._rests.begin()

    def rest_s(self) -> float:
        """The longest that the face may now wait to be woken, in seconds."""
        if self._leaving or (self._graph_records is not None and self._graph_records.more):
            return 0.0
        if any(writes is not None and writes.copying for writes in (self._graph, self._scorer)):
            return 0.0
        now = self._clock.monotonic()
        return min(self._timers.rest, self._periodic.due_in(now), self._events.due_in(now))

    # -- the end ------------------------------------------------------------------------------------------------------

    def final_writes(self) -> list[tuple[str, Callable[[], Seq | None]]]:
        """What to submit before the end, each with its name, in order: wait until the store is writable, call one, wait
        until the number that it returns is durable (None: nothing to wait for), call `release()` until nothing is left,
        go on. An error ends it."""
        self._trace("Terminating background processor.")
        side: list[tuple[str, Callable[[], Seq | None]]] = [
            (writes.name, writes.write) for writes in (self._scorer, self._graph) if writes is not None
        ]
        if self._graph_records is not None:
            side.append(("network graph's records", self._graph_records.write_finally))
        return [("channel manager", self._write_manager_finally), *side]

    def release(self) -> bool:
        """Let leave what became durable, a bounded number at a time; whether there is more to leave."""
        leaving = self._leaving
        leaving.extend(self._gate.acked(self._durability.durable_seq))
        if self._outbox is not None:
            for _ in range(min(len(leaving), RELEASES)):
                self._outbox.release(leaving.popleft())
        return bool(leaving)

    def fail(self, cause: BaseException) -> None:
        """`cause` ended the processor: nothing that is held leaves any more, the peers are disconnected, and new HTLCs
        and channels are refused."""
        self._gate.shut(cause)
        self._leaving.clear()
        self._logger.error("The background processor ended: %s: %s", type(cause).__name__, cause)
        try:
            if self._admission is not None:
                self._admission.pause_admission()
            self._node.peer_manager.disconnect_all_peers()
        except Exception:
            # The cause must come out, not this.
            self._logger.exception("Disconnecting the peers failed")

    # -- what health reports ------------------------------------------------------------------------------------------

    @property
    def gate_state(self) -> Literal["open", "holding", "shut"]:
        """Of the gate."""
        return "holding" if self._leaving else self._gate.state

    @property
    def atomic(self) -> bool:
        """False if the manager is persisted whole."""
        return self._manager.atomic

    # -- the parts of a turn ------------------------------------------------------------------------------------------

    def _look_back(self) -> None:
        self._raise_failure()
        self.release()
        if self._persisting is not None and self._durability.durable_seq >= self._persisting:
            self._persisting = None
            self._trace("Done persisting ChannelManager.")
        self._heed(self._gate.stall(self._clock.monotonic()))

    def _raise_failure(self) -> None:
        failure = self._durability.failure()
        if failure is not None:
            raise failure

    def _heed(self, stall: Stall) -> None:
        if self._admission is not None and self._admitting != (stall is Stall.NONE):
            self._admitting = not self._admitting
            if self._admitting:
                self._admission.resume_admission()
            else:
                self._admission.pause_admission()
        if stall is Stall.DISCONNECT and self._hang_up is not None:
            for connection in self._gate.connections():
                self._gate.drop(connection)
                self._hang_up(connection)

    def _learn(self, event: Event) -> None:
        if self._node.gossip_sync is not None:
            self._node.gossip_sync.handle_event(event)
        if self._node.scorer is None or self._scorer is None:
            return
        if update_scorer(self._node.scorer, event, self._clock.time()):
            self._trace("Persisting scorer after update")
            self._scorer.owe()

    def _persist(self) -> None:
        writable = self._durability.writable
        self._read_peers(writable)
        if writable and self._manager.ready():
            # Outputs first; see manager_writes.
            outputs = self._take_outputs()
            self._note(self._manager.write_changes())
            self._hold(outputs)
        if self._graph_records is not None:
            self._graph_records.settle()
        for writes in (self._graph, self._scorer):
            if writes is not None:
                writes.settle()
        self._drop_disconnected()
        self.release()

    def _read_peers(self, reading: bool) -> None:
        if self._reader is None or reading == self._reading:
            return
        self._reading = reading
        if reading:
            self._reader.resume_reading()
        else:
            self._reader.pause_reading()

    def _write_manager_finally(self) -> Seq | None:
        self._raise_failure()
        outputs = self._take_outputs()
        written = self._manager.write_finally()
        self._note(written)
        self._hold(outputs)
        self._drop_disconnected()
        # Without changes what was submitted before still has to become durable.
        return written.seq if written is not None else self._persisting

    def _take_outputs(self) -> list[Output]:
        return list(self._outbox.take_outputs()) if self._outbox is not None else []

    def _note(self, written: Written | None) -> None:
        if written is None:
            return
        self._trace("Persisting ChannelManager...")
        self._persisting = written.seq
        self._gate.committed(written.records, written.seq, now=self._clock.monotonic())

    def _hold(self, outputs: list[Output]) -> None:
        now = self._clock.monotonic()
        for output in outputs:
            after = self._gate.tag(self._manager.causes(output))
            self._gate.hold(output, after=after, connection=output.connection, now=now)

    def _drop_disconnected(self) -> None:
        if self._outbox is not None:
            for connection in self._outbox.take_disconnected():
                self._gate.drop(connection)

    def _trace(self, message: str) -> None:
        self._logger.log(TRACE, message)
