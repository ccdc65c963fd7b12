"""Small deterministic stand-ins for what the processor drives: node objects and a clock."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from bgsuper.key import Key
from bgsuper.processor.clock import SleepRule, starved
from bgsuper.processor.interfaces import EventHandler, Node
from bgsuper.processor.lifetime import Lifetime
from bgsuper.processor.timers import Timers
from bgsuper.processor.turns import Turns

from .fake_store import FakeStore


class FakeClock:
    """Time under the test's control; suspension moves boottime alone."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept = 0.0

    def monotonic(self) -> float:
        return self.now

    def boottime(self) -> float:
        return self.now + self.slept

    def time(self) -> float:
        return 1_700_000_000.0 + self.now


class Calls(list[str]):
    """What was called, in order; shared by the node objects of one test."""

    def since(self, count: int) -> list[str]:
        return list(self[count:])

    def take(self) -> list[str]:
        taken = list(self)
        self.clear()
        return taken


class Manager:
    """A channel manager persisted whole; its state is a count of changes."""

    def __init__(self, calls: Calls | None = None) -> None:
        self.calls = Calls() if calls is None else calls
        self.changes = 0
        self.dirty = False
        self.events: list[object] = []
        self.callbacks: list[Callable[[], None]] = []
        self.while_writing: Callable[[], None] | None = None
        self.raises: Exception | None = None

    def process_pending_events(self, handler: EventHandler) -> None:
        self.calls.append("manager events")
        if self.raises is not None:
            raise self.raises
        handled = False
        try:
            while self.events:
                handler(self.events[0])
                del self.events[0]
                handled = True
        finally:
            if handled:
                self.change()

    def timer_tick_occurred(self) -> None:
        self.calls.append("manager tick")

    def on_persistable_update(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def change(self) -> None:
        self.changes += 1
        self.dirty = True
        for callback in list(self.callbacks):
            callback()

    def get_and_clear_needs_persistence(self) -> bool:
        dirty, self.dirty = self.dirty, False
        return dirty

    def write(self) -> bytes:
        self.calls.append("manager write")
        written = b"manager %d" % self.changes
        if self.while_writing is not None:
            during, self.while_writing = self.while_writing, None
            during()
        return written


@dataclass(frozen=True)
class Message:
    """An output: what it is, to whom, and from which records."""

    text: str
    connection: Hashable = None
    records: tuple[Key, ...] = ()


class RecordManager:
    """A channel manager persisted by records, with an outbox and admission; it locks itself, as LDK's does."""

    def __init__(self, calls: Calls | None = None) -> None:
        self.calls = Calls() if calls is None else calls
        self.lock = threading.RLock()
        self.puts: dict[Key, bytes] = {}
        self.removes: set[Key] = set()
        self.outputs: list[Message] = []
        self.disconnected: list[Hashable] = []
        self.released: list[str] = []
        self.admitting = True
        self.between: Callable[[], None] | None = None
        self.callbacks: list[Callable[[], None]] = []

    def process_pending_events(self, handler: EventHandler) -> None:
        self.calls.append("manager events")

    def timer_tick_occurred(self) -> None:
        self.calls.append("manager tick")

    def on_persistable_update(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def put(self, key: Key, value: bytes, *outputs: Message) -> None:
        with self.lock:
            self.puts[key] = value
            self.outputs += outputs
        for callback in list(self.callbacks):
            callback()

    def take_changes(self) -> tuple[dict[Key, bytes], set[Key]]:
        with self.lock:
            puts, self.puts = self.puts, {}
            removes, self.removes = self.removes, set()
            return puts, removes

    def take_outputs(self) -> list[Message]:
        with self.lock:
            outputs, self.outputs = self.outputs, []
        if self.between is not None:
            during, self.between = self.between, None
            during()
        return outputs

    def take_disconnected(self) -> list[Hashable]:
        disconnected, self.disconnected = self.disconnected, []
        return disconnected

    def release(self, output: Message) -> None:
        self.released.append(output.text)

    def pause_admission(self) -> None:
        self.admitting = False

    def resume_admission(self) -> None:
        self.admitting = True


class Monitor:
    """A chain monitor, or with another name an onion messenger, that has nothing besides its events."""

    def __init__(self, calls: Calls, name: str = "monitor") -> None:
        self.calls = calls
        self.name = name
        self.events: list[object] = []

    def process_pending_events(self, handler: EventHandler) -> None:
        self.calls.append(f"{self.name} events")
        while self.events:
            handler(self.events[0])
            del self.events[0]


class NotifyingMonitor(Monitor):
    """Its events wake the processor."""

    def __init__(self, calls: Calls, name: str = "monitor") -> None:
        super().__init__(calls, name)
        self.callbacks: list[Callable[[], None]] = []

    def on_update(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def push(self, event: object) -> None:
        self.events.append(event)
        for callback in list(self.callbacks):
            callback()


class WholeMonitor(NotifyingMonitor):
    """One that also rebroadcasts and archives."""

    def rebroadcast_pending_claims(self) -> None:
        self.calls.append("rebroadcast")

    def archive_fully_resolved_channel_monitors(self) -> None:
        self.calls.append("archive")


class Messenger(NotifyingMonitor):
    def __init__(self, calls: Calls) -> None:
        super().__init__(calls, "onion")

    def timer_tick_occurred(self) -> None:
        self.calls.append("onion tick")


class Sweeper:
    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.raises: Exception | None = None

    def regenerate_and_broadcast_spend_if_necessary(self) -> None:
        self.calls.append("sweep")
        if self.raises is not None:
            raise self.raises


class Peers:
    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.reading = True
        self.disconnects: list[Hashable] = []

    def process_events(self) -> None:
        self.calls.append("peer events")

    def timer_tick_occurred(self) -> None:
        self.calls.append("peer tick")

    def disconnect_all_peers(self) -> None:
        self.calls.append("disconnect all")

    def disconnect(self, connection: Hashable) -> None:
        self.disconnects.append(connection)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Graph:
    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.pruned_at: list[int] = []

    def remove_stale_channels_and_tracking(self, now: int) -> None:
        self.calls.append("prune")
        self.pruned_at.append(now)

    def pieces(self) -> tuple[bytes, ...]:
        self.calls.append("graph write")
        return (b"graph ", b"%d" % len(self.pruned_at))


class Gossip:
    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.network_graph = Graph(calls)

    def handle_event(self, event: object) -> None:
        self.calls.append(f"graph learns {event}")


class Rapid(Gossip):
    """A gossip sync whose first snapshot is still to come."""

    def __init__(self, calls: Calls) -> None:
        super().__init__(calls)
        self.synced = False

    def is_initial_sync_complete(self) -> bool:
        return self.synced


class Scores:
    """A scorer; `learned` is what it was told, each with its arguments."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.learned: list[tuple[object, ...]] = []

    def payment_path_failed(self, path: object, short_channel_id: int, now: float) -> None:
        self.learned.append(("payment_path_failed", path, short_channel_id, now))

    def payment_path_successful(self, path: object, now: float) -> None:
        self.learned.append(("payment_path_successful", path, now))

    def probe_failed(self, path: object, short_channel_id: int, now: float) -> None:
        self.learned.append(("probe_failed", path, short_channel_id, now))

    def probe_successful(self, path: object, now: float) -> None:
        self.learned.append(("probe_successful", path, now))

    def time_passed(self, now: float) -> None:
        self.calls.append("decay")
        self.learned.append(("time_passed", now))

    def write(self) -> bytes:
        self.calls.append("scorer write")
        return b"scores %d" % len(self.learned)


class Setup:
    """One node with its store, its clock and its turns."""

    def __init__(
        self,
        *,
        manager: Any = None,
        store: FakeStore | None = None,
        timers: Timers | None = None,
        asleep: SleepRule = starved,
        gossip: bool | type[Gossip] = True,
        scorer: bool = False,
        monitor: type[Monitor] = Monitor,
        onion_messenger: bool = False,
        sweeper: bool = False,
    ) -> None:
        self.calls = Calls()
        self.clock = FakeClock()
        self.store = FakeStore() if store is None else store
        self.manager = Manager() if manager is None else manager
        self.manager.calls = self.calls
        self.monitor: Any = monitor(self.calls)
        self.peers = Peers(self.calls)
        kind = Gossip if isinstance(gossip, bool) else gossip
        self.gossip: Any = kind(self.calls) if gossip else None
        self.scorer: Any = Scores(self.calls) if scorer else None
        self.onion_messenger = Messenger(self.calls) if onion_messenger else None
        self.sweeper = Sweeper(self.calls) if sweeper else None
        self.handled: list[object] = []
        self.handler: EventHandler = self.handle
        self.timers = Timers() if timers is None else timers
        self.asleep = asleep
        self.logger = logging.getLogger("tests.processor")
        self.woken = 0

    def handle(self, event: object) -> None:
        self.calls.append(f"handler {event}")
        self.handled.append(event)

    def node(self) -> Node:
        return Node(
            lambda event: self.handler(event),
            self.monitor,
            self.manager,
            self.gossip,
            self.peers,
            self.scorer,
            self.onion_messenger,
            self.sweeper,
        )

    def turns(self) -> Turns:
        """The turns, begun; `calls` starts empty."""
        turns = Turns(
            self.node(),
            self.store,
            timers=self.timers,
            clock=self.clock,
            asleep=self.asleep,
            logger=self.logger,
        )
        turns.begin()
        self.calls.clear()
        return turns

    def lifetime(self) -> Lifetime:
        def wake() -> None:
            self.woken += 1

        return Lifetime(
            self.node(),
            self.store,
            wake,
            timers=self.timers,
            clock=self.clock,
            asleep=self.asleep,
            logger=self.logger,
        )


class Flag:
    """Something a test waits for, without sleeping, for at most ten seconds."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def wait(self) -> None:
        assert self._event.wait(10.0), "it did not happen within ten seconds"
