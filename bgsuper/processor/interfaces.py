"""What the processor needs from others: Protocols of the node objects, in LDK's names, and of what makes state durable.

The processor imports no node object and no supervisor: whoever has these methods will do. What a node object *may*
have besides is a Protocol of its own below; the processor looks for it once, at the start.

Threads: in the thread face all calls come from the processor's one thread, while the host calls the same objects from
its own threads, so they lock themselves, as LDK's do. In the asyncio face everything happens on the loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

from ..health import Health, Transition
from ..key import Key, Seq

#: The level of LDK's `log_trace!`, below `logging.DEBUG`.
TRACE: Final = 5
logging.addLevelName(TRACE, "TRACE")

#: Whatever the node calls an event; the processor only carries it.
Event: TypeAlias = Any
#: LDK's `EventHandler::handle_event`. It may be given the same event again, also after a restart, so it is idempotent.
#: `ReplayEvent` asks for that; what else it raises ends the processor.
EventHandler: TypeAlias = Callable[[Event], None]
#: Ends the subscription that returned it. Safe to call twice.
Unsubscribe: TypeAlias = Callable[[], None]


# -- the node objects --------------------------------------------------------------------------------------------------


class EventsProvider(Protocol):
    """LDK's `EventsProvider`."""

    def process_pending_events(self, handler: EventHandler, /) -> None:
        """Give each pending event to `handler`, in order. Never blocks for long.

        An event is handled once `handler` returned. Where it raises, the events before are handled, the exception
        leaves this method, and the next call begins with that event; so nothing of the provider's is half done.
        """


@runtime_checkable
class NotifiesOfUpdates(Protocol):
    """A chain monitor or an onion messenger whose events wake the processor (LDK #2090, `get_update_future`). Without
    this they wait for the end of the loop's rest."""

    def on_update(self, callback: Callable[[], None], /) -> Unsubscribe:
        """Have `callback` called, on any thread, whenever there is a new event. It returns at once and never raises."""


class ChainMonitor(EventsProvider, Protocol):
    """LDK's `ChainMonitor`: watches the chain for the channels."""


@runtime_checkable
class RebroadcastsClaims(Protocol):
    """A chain monitor that broadcasts its transactions until they are confirmed."""

    def rebroadcast_pending_claims(self) -> None:
        """Broadcast all that is not confirmed again, its fees bumped. Called at start and each `Timers.rebroadcast`."""


@runtime_checkable
class ArchivesMonitors(Protocol):
    """A chain monitor that sets aside the monitors with nothing left to watch."""

    def archive_fully_resolved_channel_monitors(self) -> None:
        """Called after `Timers.first_archive` and then each `Timers.archive`."""


class OnionMessenger(EventsProvider, Protocol):
    """LDK's `OnionMessenger`."""

    def timer_tick_occurred(self) -> None:
        """Called each `Timers.onion_messenger`."""


class OutputSweeper(Protocol):
    """LDK's `OutputSweeper`: spends what closed channels left to the host's wallet."""

    def regenerate_and_broadcast_spend_if_necessary(self) -> None:
        """Called each `Timers.sweeper`; at most one transaction per block height is its own business. What it raises is
        logged, and the next call tries again, so it changes nothing when it raises."""


class ChannelManager(EventsProvider, Protocol):
    """LDK's `ChannelManager`. It is also `Writeable` (persisted whole) or `RecordChanges` (by what changed)."""

    def timer_tick_occurred(self) -> None:
        """Called at start and then each `Timers.freshness`."""

    def on_persistable_update(self, callback: Callable[[], None], /) -> Unsubscribe:
        """Have `callback` called, on any thread, whenever there is something new to persist or to send, or an event to
        handle. It returns at once and never raises."""


@runtime_checkable
class Writeable(Protocol):
    """A manager that is persisted whole, as the seed does. That voids "one commit is atomic": health says so."""

    def get_and_clear_needs_persistence(self) -> bool:
        """Whether anything changed since the last call. The flag is cleared *before* `write()` is called, so that an
        update during a write makes the manager dirty again."""

    def write(self) -> bytes:
        """A consistent snapshot of all of it."""


#: The records that changed, (puts, removes): what one commit carries. A key is in one of both.
Changes: TypeAlias = tuple[Mapping[Key, bytes], Collection[Key]]


@runtime_checkable
class RecordChanges(Protocol):
    """A manager that is persisted by records: manager, channels and monitors alike, from this one source, so that no
    commit holds half of what a turn changed."""

    def take_changes(self) -> Changes:
        """All that changed since the last call, in one atomic step; both empty if nothing did."""


class Output(Protocol):
    """Something computed from records that must not leave before they are durable."""

    @property
    def connection(self) -> Hashable:
        """The session with a peer that it belongs to (a new session is another value); None for broadcasts, events and
        answers."""

    @property
    def records(self) -> Collection[Key]:
        """The records it was computed from, changed or not."""


@runtime_checkable
class Outbox(Protocol):
    """A manager whose outputs go through the gate. What is never gated (design, the gate, 4 and 5a: pings, justice
    transactions, and so on) is not for the outbox."""

    def take_outputs(self) -> Iterable[Output]:
        """The outputs since the last call, in order. Taken *before* the changes of the same turn: an output taken is
        one whose cause is in that turn's changes or in earlier ones."""

    def take_disconnected(self) -> Iterable[Hashable]:
        """The connections that ended since the last call; what is held for them is dropped."""

    def release(self, output: Any, /) -> None:
        """All that `output` was computed from is durable: let it leave. It only queues, and never calls back into the
        processor; an output to a connection that has ended meanwhile is ignored."""


@runtime_checkable
class Admission(Protocol):
    """A manager that can refuse new HTLCs and channels while commits stay un-acknowledged (over 20 s)."""

    def pause_admission(self) -> None: ...
    def resume_admission(self) -> None: ...


class PeerManager(Protocol):
    """LDK's `PeerManager`."""

    def process_events(self) -> None:
        """Move what the message handlers have for the peers towards the sockets. Never blocks for long."""

    def timer_tick_occurred(self) -> None:
        """Ping, and drop who did not answer the last one. Called each `Timers.ping`."""

    def disconnect_all_peers(self) -> None: ...


@runtime_checkable
class BackPressure(Protocol):
    """A peer manager that can stop reading its sockets while the store is behind."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


@runtime_checkable
class DisconnectsOne(Protocol):
    """A peer manager that can end one connection, named as in `Output.connection`."""

    def disconnect(self, connection: Any, /) -> None: ...


class NetworkGraph(Protocol):
    """LDK's `NetworkGraph`."""

    def remove_stale_channels_and_tracking(self, now: int, /) -> None:
        """Prune what is older than two weeks at `now`, in seconds since the Unix epoch."""

    def pieces(self) -> Iterable[bytes]:
        """A consistent snapshot of all of it as it is now, in pieces, which may be made one by one as they are asked
        for, whatever changes meanwhile."""


@runtime_checkable
class RecordGraph(Protocol):
    """A network graph that is also persisted by what changed."""

    def take_changes(self, limit: int, /) -> Changes:
        """Some of what changed since it was last taken, at most about `limit` records; both empty if nothing did."""


@runtime_checkable
class PrunesInSteps(Protocol):
    """A network graph so large that pruning it at once would be noticed."""

    def pruning(self, now: int, /) -> Iterator[None]:
        """`remove_stale_channels_and_tracking`, done in steps, each of them short."""


class GossipSync(Protocol):
    """LDK's `GossipSync`: P2P unless it is `RapidGossipSync`."""

    @property
    def network_graph(self) -> NetworkGraph: ...

    def handle_event(self, event: Event, /) -> None:
        """Learn from a payment's failure. Called before the user's handler sees the event."""


@runtime_checkable
class RapidGossipSync(Protocol):
    """A gossip sync that fetches snapshots from a server (LDK's `RapidGossipSync`). Its graph is not pruned before the
    first one is complete, since that may bring the channels' newest updates, and then at once."""

    def is_initial_sync_complete(self) -> bool: ...


class ScoreUpdate(Protocol):
    """What a scorer learns from (LDK's `ScoreUpdate`). `path` is the event's; `now` is in seconds since the Unix
    epoch."""

    def payment_path_failed(self, path: Any, short_channel_id: int, now: float, /) -> None: ...
    def payment_path_successful(self, path: Any, now: float, /) -> None: ...
    def probe_failed(self, path: Any, short_channel_id: int, now: float, /) -> None: ...
    def probe_successful(self, path: Any, now: float, /) -> None: ...

    def time_passed(self, now: float, /) -> None:
        """What was learnt is less certain by now. Called at start and before each timed write."""


class Scorer(ScoreUpdate, Protocol):
    """LDK's `WriteableScore`."""

    def write(self) -> bytes:
        """A consistent snapshot of all of it, in LDK's serialization."""


@runtime_checkable
class LargeScorer(Protocol):
    """A scorer so large that fading or writing it at once would be noticed."""

    def time_passing(self, now: float, /) -> Iterator[None]:
        """`time_passed`, done in steps, each of them short."""

    def pieces(self) -> Iterable[bytes]:
        """What `write()` would return now, in pieces, which may be made one by one as they are asked for."""


@dataclass(frozen=True, slots=True)
class Node:
    """The node objects that one processor drives."""

    event_handler: EventHandler
    chain_monitor: ChainMonitor
    channel_manager: ChannelManager
    gossip_sync: GossipSync | None
    peer_manager: PeerManager
    scorer: Scorer | None = None
    onion_messenger: OnionMessenger | None = None
    sweeper: OutputSweeper | None = None

    @property
    def events_providers(self) -> tuple[EventsProvider, ...]:
        """In the order in which they are asked: LDK #1436, #2723."""
        messenger = () if self.onion_messenger is None else (self.onion_messenger,)
        return (self.channel_manager, self.chain_monitor, *messenger)


# -- durability --------------------------------------------------------------------------------------------------------


@runtime_checkable
class Durability(Protocol):
    """What the processor needs of a `Supervisor`. Thread-safe. Errors come out as fresh objects each time."""

    def start(self, timeout: float = 30.0) -> Seq:
        """Open the store; the last durable sequence number."""

    def commit(self, puts: Mapping[Key, bytes], removes: Collection[Key] = ()) -> Seq:
        """Submit an atomic batch. Never blocks, and never raises `Backlogged` while `writable`; raises the worker's
        error once that failed for good."""

    def snapshot(self, key: Key, pieces: Iterable[bytes], *, critical: bool = False) -> Seq:
        """Submit a whole value, latest wins. Raises as `commit` does."""

    @property
    def writable(self) -> bool:
        """Whether less than the soft limit is un-acknowledged."""

    @property
    def durable_seq(self) -> Seq:
        """All commits and critical snapshots up to this number are durable. Never goes back."""

    def failure(self) -> BaseException | None:
        """The error that ended the worker for good, None while there is hope."""

    def wait(self, seq: Seq, timeout: float | None = None) -> None:
        """Return once `seq` is durable. Raises `TimeoutError`, the failure, or the error of that snapshot (those two
        with the worker's traceback as their cause). With a timeout of 0 it never blocks."""

    def subscribe(self, callback: Callable[[], None]) -> Unsubscribe:
        """Have `callback` called, on another thread, after acks, failures (also of snapshots) and when it becomes
        writable. It returns at once and never raises."""

    def health(self) -> Health:
        """One look at the worker. Never blocks."""

    def health_log(self) -> tuple[Transition, ...]:
        """The worker's changes of state, oldest first; a bounded number of them."""

    def stop(self, timeout: float = 30.0) -> None:
        """Drain and end the worker, also one that failed. Raises `ShutdownIncomplete`."""
