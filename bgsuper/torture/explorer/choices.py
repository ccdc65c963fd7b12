"""What may happen next in a world: its state, and every step that is possible in it.

Steps, and who takes them:

    submit                         the host's loop
    take, deliver, half            the supervisor's thread puts frames on the pipe; they arrive, perhaps cut
    hear, wait                     the supervisor hears the worker's next message; its back-off passes
    boot                           a launched worker gets the lock and opens the store
    serve                          the writer takes all that waits
    step, lane                     the writer's, the snapshot lane's next effect: a write, a sync, a message
    orphan ...                     ... of a worker whose host is dead
    kill ..., hang, reap, start    a process dies; is taken for broken and killed, and is dead at last; a new host
    power FATES                    the power fails: what becomes of each thing un-synced (k, d, t: `disk`)
    ... eio FATES, ... bad read    the step, with its first sync, or read, failing
    space out, space in            the disk is full, and is not

Reduction (`Scenario.reduced`), for exhaustive search. Of steps that commute one order is enough, as long as each state
in which a *crash* would find something else is still visited:

1. Once a writer or a lane has begun (its script is not empty), only its own next effect or a crash is offered. Nobody
   else can see or change what it does before it speaks; what the others would have done in between is in memory only,
   and a crash forgets that or finds it done afterwards. What a worker *says* is checked when it says it, so no order
   of hearing can hide a lie.
2. `take` and `deliver` are one step: between them the frames are in the host's memory, as they were in its backlog.
   A frame cut by the host's death is a choice of that death.
3. A worker that can boot boots: that depends on the disk alone. While there is an orphan, a new host may start and
   its worker ask for the lock, and that is all that it can do.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final

from .disk import FATES, Disk
from .effects import AwaitSpace
from .host import Host
from .monitor import Monitor
from .process import Worker
from .scenario import Scenario

#: A host that sees more workers fail by their own doing convicts what they had in hand of it, and rightly gives up.
MOST_HANGS: Final = 3


class Situation:
    """The state of a world, and what may happen next."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.disk = Disk()
        self.monitor = Monitor()
        self.host: Host | None = Host()
        self.worker: Worker | None = None  #: the living host's
        self.orphan: Worker | None = None  #: its host is dead
        self.wire: list[bytes] = []  #: taken, not delivered
        self.hanging_up = False  #: the host's end closes behind what is on the wire
        self.launching = False
        self.position = 0  #: in the script
        self.hosts = 1
        self.hangs = 0
        self.deaths = self.powers = self.failed_syncs = self.shortages = self.failed_reads = 0

    def choices(self) -> list[str]:
        """Every step that is possible now: those that simply go on, then those that are faults."""
        return [*self.ordinary(), *self.faults()]

    def ordinary(self) -> list[str]:
        """Steps of a world in which nothing goes wrong any more."""
        if self.scenario.reduced:
            alone = self._alone()
            if alone is not None:
                return alone
        return list(self._ordinary())

    def _alone(self) -> list[str] | None:
        """Reduction rules 1 and 3: the only steps to offer."""
        boots = ["boot"] if self.launching and self._lock_is_free() else []
        if self.orphan is not None:
            starts = ["start"] if self.host is None else []
            return [*list(self._of(self.orphan, "orphan "))[:1], *starts, *boots]
        worker = self.worker
        if worker is not None and (worker.script or worker.lane_script):
            return list(self._of(worker, ""))[:1]
        return boots or None

    def _ordinary(self) -> Iterator[str]:
        if self.host is None:
            yield "start"
        else:
            yield from self._of_host(self.host)
        if self.launching and self._lock_is_free():
            yield "boot"
        if self.worker is not None:
            if self.worker.doomed:
                yield "reap"
            yield from self._of(self.worker, "")
        if self.orphan is not None:
            yield from self._of(self.orphan, "orphan ")
        if self.disk.full:
            yield "space in"

    def _of_host(self, host: Host) -> Iterator[str]:
        if host.waits:
            yield "wait"
        core = host.core
        if self.position < len(self.scenario.script) and core.greeted and not core.failed and not core.stopping:
            yield "submit"
        if self.worker is None:
            return
        if not self.worker.doomed:
            if host.core.has_output and not self.wire:
                yield "take"
            if self.wire:
                yield "deliver"
                if not self.scenario.reduced and len(self.wire[0]) > 1:
                    yield "half"
        if self.worker.outbox:
            yield "hear"

    def _of(self, worker: Worker, prefix: str) -> Iterator[str]:
        if worker.script:
            if not (isinstance(worker.script[0], AwaitSpace) and self.disk.full):
                yield prefix + "step"
        elif worker.inbox.items and worker.writer is not None and not worker.doomed:
            yield prefix + "serve"
        jobs = worker.lane.jobs
        if worker.lane_script or (jobs and not worker.doomed and not (jobs[0][2] and self.disk.full)):
            yield prefix + "lane"

    def faults(self) -> list[str]:
        """Steps that cost of the budget."""
        return list(self._faults())

    def _faults(self) -> Iterator[str]:
        budget = self.scenario
        if self.deaths < budget.deaths and not (budget.deaths_first and self.powers):
            if self.host is not None:
                yield "kill host"
                if budget.reduced and self.worker is not None and not self.worker.doomed and self.host.core.has_output:
                    yield "kill host half"
            if self.worker is not None and not self.worker.doomed:
                yield "kill worker"
                if self.may_hang:
                    yield "hang"
            if self.orphan is not None:
                yield "kill orphan"
        if self.powers < budget.powers:
            for fates in product(FATES, repeat=self.disk.unsynced()):
                yield f"power {''.join(fates)}".strip()
        if self.failed_syncs < budget.failed_syncs:
            yield from self._failing_syncs()
        if self.failed_reads < budget.failed_reads and self.worker is not None and "serve" in self._of(self.worker, ""):
            yield "serve bad read"
        if self.shortages < budget.shortages and not self.disk.full:
            yield "space out"

    @property
    def may_hang(self) -> int:
        """How many workers may still be taken for broken."""
        return min(self.scenario.deaths - self.deaths, MOST_HANGS - self.hangs)

    def _failing_syncs(self) -> Iterator[str]:
        # The entry that is about to be written, and whatever is dirty before it.
        dirty = sum(slot.dirty for slot in self.disk.slots) + 1
        landings = ["".join(fates) for fates in product(FATES, repeat=dirty)]
        if self.launching and self._lock_is_free():
            yield from (f"boot eio {fates}" for fates in landings)
        if self.worker is not None and not self.worker.doomed:
            if not self.worker.script and self.worker.inbox.items and self.worker.writer is not None:
                yield from (f"serve eio {fates}" for fates in landings)
            if not self.worker.lane_script and self.worker.lane.jobs:
                yield "lane eio"

    def allows(self, choice: str) -> bool:
        """Whether `choice` can be taken now, with whatever fates: there may be more or fewer things un-synced than when
        it was chosen."""
        ordinary = choice in self.ordinary()
        return ordinary or _without_fates(choice) in map(_without_fates, self.faults())

    def _lock_is_free(self) -> bool:
        """The store's lock is a process's own: free as soon as no living process has the store open."""
        return not any(worker is not None and worker.has_store for worker in (self.worker, self.orphan))


def _without_fates(choice: str) -> str:
    words = choice.split()
    if words[0] == "power":
        return "power"
    return " ".join(words[:2]) if len(words) == 3 and words[1] == "eio" else choice
