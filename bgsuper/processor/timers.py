"""All timers of the processor in one table, and when they are due.

    what             first after      then each          LDK (seconds)
    freshness        at the start     freshness          60; ChannelManager::timer_tick_occurred
    archive          first_archive    archive            15, then 600; archive_fully_resolved_channel_monitors
    prune            first_prune      prune              60, then 3,600; remove_stale_channels_and_tracking, then
                                                         persist the graph; after rapid sync: once it is complete
    scorer           first_scorer     scorer             300; ScoreUpdate::time_passed, then persist the scorer
    sweeper          sweeper          sweeper            30; regenerate_and_broadcast_spend_if_necessary
    onion_messenger  onion_messenger  onion_messenger    10; OnionMessenger::timer_tick_occurred
    ping             ping             ping               10; PeerManager::timer_tick_occurred
    rebroadcast      at the start     rebroadcast        30; ChainMonitor::rebroadcast_pending_claims

A timer fires when its period has passed, not up to a second later as in v0.0.106 (whose `as_secs() > PERIOD` compares
whole seconds). The next period counts from when it fired: after a pause it fires once, not once for each period missed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import Enum

from ..errors import ConfigError


@dataclass(frozen=True, slots=True)
class Timers:
    """Periods in seconds: each finite and greater than 0, and `rest` less than `asleep`; else `ConfigError`."""

    freshness: float = 60.0  #: ticks of the channel manager
    ping: float = 10.0  #: ticks of the peer manager
    first_prune: float = 60.0  #: a short-lived client prunes its graph too
    prune: float = 3600.0  #: later prunes; each is followed by a write of the graph
    first_scorer: float = 30.0  #: a short-lived client saves its scorer too
    scorer: float = 300.0  #: later decays of the scorer, each followed by a write; what it learns is saved besides
    rebroadcast: float = 30.0  #: broadcasts of claims that are not confirmed
    first_archive: float = 15.0  #: a short-lived client archives its monitors too
    archive: float = 600.0  #: later archivals of resolved monitors
    onion_messenger: float = 10.0  #: ticks of the onion messenger
    sweeper: float = 30.0  #: looks of the sweeper
    replay: float = 0.05  #: until events are given again to a handler that raised `ReplayEvent`
    rest: float = 0.1  #: the longest that the loop rests when nothing wakes it
    asleep: float = 1.0  #: over this a rest means that the machine slept, and that the sockets may be dead

    def __post_init__(self) -> None:
        for field in fields(self):
            period = getattr(self, field.name)
            if not (isinstance(period, int | float) and math.isfinite(period) and period > 0):
                raise ConfigError(f"expected Timers.{field.name} in seconds, greater than 0, got {period!r:.80}")
        if self.rest >= self.asleep:
            raise ConfigError(
                f"expected Timers.rest to be less than Timers.asleep, got {self.rest} and {self.asleep}: "
                "each rest would look like a sleep of the machine, and disconnect all peers"
            )


class Timer(Enum):
    """What the schedule knows of; the order in which those due at once fire (LDK's)."""

    FRESHNESS = "freshness"
    ARCHIVE = "archive"
    PRUNE = "prune"
    SCORER = "scorer"
    SWEEPER = "sweeper"
    ONION_MESSENGER = "onion_messenger"
    PING = "ping"
    REBROADCAST = "rebroadcast"


class Schedule:
    """When each timer fires next. Pure: `now` is handed in, in seconds of a monotonic clock."""

    def __init__(self, timers: Timers, which: Iterable[Timer], now: float) -> None:
        self._period = {
            Timer.FRESHNESS: timers.freshness,
            Timer.ARCHIVE: timers.archive,
            Timer.PRUNE: timers.prune,
            Timer.SCORER: timers.scorer,
            Timer.SWEEPER: timers.sweeper,
            Timer.ONION_MESSENGER: timers.onion_messenger,
            Timer.PING: timers.ping,
            Timer.REBROADCAST: timers.rebroadcast,
        }
        first = {
            **self._period,
            Timer.ARCHIVE: timers.first_archive,
            Timer.PRUNE: timers.first_prune,
            Timer.SCORER: timers.first_scorer,
        }
        self._next = {timer: now + first[timer] for timer in which}

    def fire(self, now: float) -> list[Timer]:
        """The timers due at `now`, in the table's order; their next periods begin."""
        due = [timer for timer in Timer if timer in self._next and now >= self._next[timer]]
        for timer in due:
            self.restart(timer, now)
        return due

    def restart(self, timer: Timer, now: float) -> None:
        """Begin a period of `timer` at `now` without firing it, also of one that was not in the schedule."""
        self._next[timer] = now + self._period[timer]

    def due_in(self, now: float) -> float:
        """Seconds until the next timer fires, 0 if one is due."""
        return max(0.0, min(self._next.values()) - now)
