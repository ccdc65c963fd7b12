"""What is done to host, worker and disk: two tables. A blow strikes at a point of time, weather lasts.

Rule: what a blow is, for how long, and what comes next is decided by a `Random` alone; when exactly it hits is the
machine's doing.
"""

from __future__ import annotations

from enum import StrEnum
from random import Random
from typing import Final, NamedTuple

from .reports import Point


class Blow(StrEnum):
    """One strike. Its value is how a report calls it."""

    WORKER = "worker, at random"
    WORKER_BEFORE_SYNC = "worker, in place of a sync"
    WORKER_AFTER_SYNC = "worker, between sync and acknowledgement"
    WORKER_BEFORE_WRITE = "worker, in place of a write"
    WORKER_STARTING = "worker, and its successor before HELLO"
    HOST = "host, at random"
    HOST_BEGUN = "host, before a submit"
    HOST_SUBMITTED = "host, after a submit"
    HOST_SENT = "host, in the middle of sending"
    HOST_ACKED = "host, acknowledged and not told"
    HOST_STARTING = "host, and its successor at its start"
    BOTH = "worker and host"
    ORPHAN_STOPPED = "host, while its worker is stopped"
    WORKER_STOPPED = "worker stopped for a moment"
    WORKER_FROZEN = "worker stopped until it is replaced"
    HOST_STOPPED = "host stopped for a moment"
    FAILED_SYNC = "a sync fails"


#: How often each is chosen, of the sum of all.
WEIGHTS: Final = {
    Blow.WORKER: 14,
    Blow.WORKER_BEFORE_SYNC: 8,
    Blow.WORKER_AFTER_SYNC: 8,
    Blow.WORKER_BEFORE_WRITE: 8,
    Blow.WORKER_STARTING: 4,
    Blow.HOST: 14,
    Blow.HOST_BEGUN: 4,
    Blow.HOST_SUBMITTED: 4,
    Blow.HOST_SENT: 4,
    Blow.HOST_ACKED: 6,
    Blow.HOST_STARTING: 3,
    Blow.BOTH: 6,
    Blow.ORPHAN_STOPPED: 3,
    Blow.WORKER_STOPPED: 4,
    Blow.WORKER_FROZEN: 1,
    Blow.HOST_STOPPED: 4,
    Blow.FAILED_SYNC: 5,
}

#: Where a host kills itself.
POINTS: Final = {
    Blow.HOST_BEGUN: Point.BEGUN,
    Blow.HOST_SUBMITTED: Point.SUBMITTED,
    Blow.HOST_SENT: Point.SENT,
    Blow.HOST_ACKED: Point.ACKED,
}
#: The field of the fault plan by which a worker kills itself, after so many syncs or writes at most.
PLANNED: Final = {
    Blow.WORKER_BEFORE_SYNC: ("kill_before_sync", 4),
    Blow.WORKER_AFTER_SYNC: ("kill_after_sync", 4),
    Blow.WORKER_BEFORE_WRITE: ("kill_before_write", 30),
}


class Weather(NamedTuple):
    """How the disk is, and for how long, in seconds."""

    name: str
    lasts_s: float
    sync_delay_s: float = 0.0  #: each sync takes so much longer
    full: bool = False  #: each write fails with ENOSPC


CLEAR: Final = Weather("healthy disk", 0.0)


def choose(random: Random) -> Blow:
    """The next blow."""
    return random.choices(tuple(WEIGHTS), tuple(WEIGHTS.values()))[0]


def forecast(random: Random) -> Weather:
    """The next weather: mostly clear."""
    kind = random.choices(("clear", "slow", "full"), (70, 22, 8))[0]
    if kind == "slow":
        return Weather("slow disk", random.uniform(0.5, 2.0), sync_delay_s=0.002 * 60 ** random.random())
    if kind == "full":
        return Weather("full disk", random.uniform(0.1, 1.0), full=True)
    return CLEAR._replace(lasts_s=random.uniform(1.0, 5.0))
