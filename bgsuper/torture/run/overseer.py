"""One run: starts hosts, strikes, and judges what each new host finds.

    a host: launched -> opens the store, reads, tells -> judged -> go -> blows, and a recovery after each -> its death

Rules:
1. After a violation nothing is struck and nothing is written any more: the store is evidence.
2. A blow is not struck before the one before it is recovered from. So each recovery time is that of one blow.
3. One sync fails within a restart period at most: a second one ends a supervisor, as it should.
4. What the disk is told to do wrong once ends with the host that it was meant for.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from ...faults.plan import Plan
from .account import Violation
from .blows import CLEAR, PLANNED, POINTS, Blow, choose
from .host import POLICY
from .timeline import Outcome
from .watch import ViolationSeen, Watch
from .workload import FILLING, FILLING_COMMIT_BYTES, WORKING
from .workspace import Workspace

#: How long anything may take that must come: far more than the slowest on a busy machine.
PATIENCE_S: Final = 120.0
#: How long filling the store may take, a MiB.
_FILLING_S: Final = 5.0
#: How long a planned death may take to come about before it is called off.
_PLANNED_S: Final = 3.0
#: How long a worker may take to end after a sync that failed.
_ENDS_S: Final = 1.0
#: The longest rest between a recovery and the next blow.
_REST_S: Final = 0.25
#: The longest that somebody is stopped who shall go on.
_STOPPED_S: Final = 0.4


@dataclass(frozen=True, slots=True)
class Options:
    """What the person asked for. `seconds` or `kills`, whichever comes first."""

    seconds: float = math.inf
    kills: float = math.inf
    seed: int = 1
    filling_bytes: int = 0


class Overseer:
    """One run in `workspace`. `tell` hears of it in each pass."""

    def __init__(self, options: Options, workspace: Workspace, tell: Callable[[Overseer], None]) -> None:
        self.options, self.workspace = options, workspace
        self.interrupted = False  #: set it to end the run in good order
        self.doing = "starting"
        self._random = Random(f"{options.seed} blows")
        self._plan = Plan.create(workspace.faults)
        self._log = open(workspace.log, "ab")  # noqa: SIM115 - closed with the run
        self.watch = Watch(self._plan, self._log, Random(f"{options.seed} weather"), lambda: tell(self))
        self._filling = math.ceil(options.filling_bytes / FILLING_COMMIT_BYTES)
        self._failed_sync_at = -math.inf

    def run(self) -> Outcome:
        """All of it, to a clean end, or to the first violation."""
        watch = self.watch
        try:
            self._first_host()
            while not self._over:
                self._rest()
                self._strike(choose(self._random))
            self._end()
        except ViolationSeen:
            watch.stand_still()
            self.workspace.copy_store()
        finally:
            watch.close()
            self._log.close()
            self._plan.close()
        return Outcome(
            seed=self.options.seed,
            ran_s=watch.now,
            commits=watch.account.commits,
            snapshots=watch.account.snapshots,
            acked=watch.account.acked,
            hosts=watch.hosts,
            epochs=watch.account.epoch,
            interrupted=self.interrupted,
            timeline=watch.timeline,
        )

    @property
    def _over(self) -> bool:
        options = self.options
        return self.interrupted or self.watch.now >= options.seconds or self.watch.timeline.killed >= options.kills

    # -- hosts --------------------------------------------------------------------------------------------------------

    def _first_host(self) -> None:
        watch = self.watch
        self._launch()
        self._await_judged()
        watch.host.go()
        if self._filling:
            self.doing = f"filling the store with {self._filling} MiB"
            watch.require(
                lambda: watch.account.acked >= self._filling or self.interrupted,
                PATIENCE_S + _FILLING_S * self._filling,
                "filling the store",
            )
        watch.require(lambda: watch.acked_by is not None, PATIENCE_S, "a first acknowledgement")
        watch.changing = True

    def _launch(self) -> None:
        self.watch.launch(self.workspace.url, self.options.seed, self._filling, WORKING)

    def _await_judged(self) -> None:
        watch = self.watch
        watch.require(lambda: watch.judged, PATIENCE_S, "opening the store, and reading it,")

    def _end(self) -> None:
        """Stop in good order; then a last host reads everything."""
        watch = self.watch
        self.doing = "stopping in good order"
        watch.clear_up()
        self._stop()
        if not watch.account.all_acked:
            lost = f"stop() left {watch.account.acked} acknowledged of {watch.account.begun}"
            watch.violate(Violation("failed", lost))
        self.doing = "reading everything"
        watch.launch(self.workspace.url, self.options.seed, self._filling, (*WORKING, FILLING))
        watch.require(lambda: watch.judged, PATIENCE_S + _FILLING_S * self._filling, "the last look at the store")
        self._stop()

    def _stop(self) -> None:
        watch = self.watch
        watch.doomed = True
        watch.host.stop()
        watch.require(lambda: watch.stopped, PATIENCE_S, "stop()")
        watch.bury(time.monotonic())

    # -- blows --------------------------------------------------------------------------------------------------------

    def _rest(self) -> None:
        self.doing = "working"
        self.watch.until(lambda: self.interrupted, self._random.random() * _REST_S)

    def _strike(self, blow: Blow) -> None:
        self.doing = blow.value
        self.watch.foul = self.watch.weather.name != CLEAR.name
        match blow:
            case Blow.WORKER:
                self._kill_worker(blow)
            case Blow.WORKER_STARTING:
                self._kill_worker_and_successor(blow)
            case Blow.WORKER_BEFORE_SYNC | Blow.WORKER_AFTER_SYNC | Blow.WORKER_BEFORE_WRITE:
                self._plan_worker_death(blow)
            case Blow.FAILED_SYNC:
                self._fail_sync(blow)
            case Blow.WORKER_STOPPED:
                self._stop_worker(blow)
            case Blow.WORKER_FROZEN:
                self._freeze_worker(blow)
            case Blow.HOST_STOPPED:
                self._stop_host(blow)
            case Blow.HOST_STARTING:
                self._kill_host_and_successor(blow)
            case Blow.BOTH:
                self._kill_both(blow)
            case Blow.ORPHAN_STOPPED:
                self._kill_host_of_stopped(blow)
            case Blow.HOST:
                at = self._kill_host()
                self.watch.bury(at)
                self._next_host(blow, at, kills=1)
            case _:
                self._plan_host_death(blow)

    def _signal_worker(self, number: signal.Signals) -> float:
        """When it was sent."""
        worker = self.watch.worker
        assert worker is not None
        at = time.monotonic()
        self.watch.struck = self.watch.struck or number == signal.SIGKILL
        worker.signal(number)
        return at

    def _kill_worker(self, blow: Blow) -> None:
        launches = self.watch.launches
        at = self._signal_worker(signal.SIGKILL)
        self._recover_worker(blow, at, launches, kills=1)

    def _kill_worker_and_successor(self, blow: Blow) -> None:
        watch, launches, kills = self.watch, self.watch.launches, 1
        self._signal_worker(signal.SIGKILL)
        watch.require(lambda: watch.launches > launches, PATIENCE_S, "the launch of a successor")
        watch.until(lambda: False, self._random.random() * 0.1)
        if watch.alive:
            launches, kills = watch.launches, 2
            at = self._signal_worker(signal.SIGKILL)
            self._recover_worker(blow, at, launches, kills)

    def _plan_worker_death(self, blow: Blow) -> None:
        watch, launches, deaths = self.watch, self.watch.launches, self.watch.deaths
        field, most = PLANNED[blow]
        watch.struck = True
        setattr(self._plan, field, self._random.randint(1, most))
        watch.until(lambda: watch.deaths > deaths, _PLANNED_S)
        watch.disarm()
        # It may have come about in the moment of the calling off.
        if watch.deaths == deaths and not watch.until(lambda: watch.deaths > deaths, 0.1):
            self._kill_worker(blow)
            return
        self._recover_worker(blow, time.monotonic(), launches, kills=1)

    def _fail_sync(self, blow: Blow) -> None:
        """It ends the worker, unless it was that of a snapshot which is not critical: that is given up."""
        watch, launches, deaths = self.watch, self.watch.launches, self.watch.deaths
        if watch.weather.full or time.monotonic() - self._failed_sync_at < 2 * POLICY.period_s:
            return
        watch.struck = True
        self._plan.fail_sync_at = self._random.randint(1, 4)
        watch.until(lambda: not self._plan.fail_sync_at, _PLANNED_S)
        at = self._failed_sync_at = time.monotonic()
        failed = not self._plan.fail_sync_at
        watch.disarm()
        if watch.until(lambda: watch.deaths > deaths, _ENDS_S if failed else 0.0):
            self._failed_sync_at = time.monotonic()
            self._recover_worker(blow, at, launches, kills=0)
        elif failed:
            watch.timeline.blow(watch.now, blow.value, 0)

    def _recover_worker(self, blow: Blow, at: float, launches: int, kills: int) -> None:
        """Since `at`: wait for an acknowledgement by a worker launched after `launches` others."""
        watch = self.watch

        def recovered() -> bool:
            return watch.launches > launches and watch.worker is not None and watch.acked_by == watch.worker.pid

        watch.timeline.blow(watch.now, blow.value, kills)
        watch.require(recovered, PATIENCE_S, f"recovery from: {blow.value}")
        self._recovered(blow, at)

    def _recovered(self, blow: Blow, at: float) -> None:
        watch = self.watch
        watch.timeline.recovery(watch.now, blow.value, watch.acked_at - at, foul=watch.foul)

    def _stop_worker(self, blow: Blow) -> None:
        watch = self.watch
        self._signal_worker(signal.SIGSTOP)
        watch.until(lambda: False, self._random.random() * _STOPPED_S)
        at = self._signal_worker(signal.SIGCONT)
        watch.timeline.blow(watch.now, blow.value, 0)
        watch.require(lambda: watch.acked_at > at, PATIENCE_S, f"recovery from: {blow.value}")
        self._recovered(blow, at)

    def _freeze_worker(self, blow: Blow) -> None:
        launches = self.watch.launches
        at = self._signal_worker(signal.SIGSTOP)
        self.watch.struck = True
        self._recover_worker(blow, at, launches, kills=0)

    def _stop_host(self, blow: Blow) -> None:
        watch = self.watch
        watch.host.signal(signal.SIGSTOP)
        watch.until(lambda: False, self._random.random() * _STOPPED_S)
        at = time.monotonic()
        watch.host.signal(signal.SIGCONT)
        watch.timeline.blow(watch.now, blow.value, 0)
        watch.require(lambda: watch.acked_at > at, PATIENCE_S, f"recovery from: {blow.value}")
        self._recovered(blow, at)

    # -- deaths of hosts ----------------------------------------------------------------------------------------------

    def _kill_host(self) -> float:
        """When it was killed."""
        self.watch.doomed = True
        at = time.monotonic()
        self.watch.host.signal(signal.SIGKILL)
        return at

    def _next_host(self, blow: Blow, at: float, kills: int) -> None:
        """The host before died `at`: a new one, up to its first acknowledgement."""
        self.watch.timeline.blow(self.watch.now, blow.value, kills)
        self._launch()
        self._recover_host(blow, at)

    def _recover_host(self, blow: Blow, at: float) -> None:
        watch = self.watch
        self._await_judged()
        watch.host.go()
        watch.require(lambda: watch.acked_by is not None, PATIENCE_S, f"recovery from: {blow.value}")
        self._recovered(blow, at)

    def _plan_host_death(self, blow: Blow) -> None:
        watch = self.watch
        watch.doomed = True
        watch.host.die_at(POINTS[blow])
        watch.until(lambda: False, _PLANNED_S)
        at = self._kill_host() if watch.alive else time.monotonic()
        watch.bury(at)
        self._next_host(blow, at, kills=1)

    def _kill_host_and_successor(self, blow: Blow) -> None:
        self.watch.bury(self._kill_host())
        self._launch()
        self.watch.until(lambda: False, self._random.random() * 0.6)
        at = self._kill_host()
        self.watch.bury(at)
        self._next_host(blow, at, kills=2)

    def _kill_both(self, blow: Blow) -> None:
        if self._random.random() < 0.5:
            at = self._kill_host()
            self._signal_worker(signal.SIGKILL)
        else:
            at = self._signal_worker(signal.SIGKILL)
            self._kill_host()
        self.watch.bury(at)
        self._next_host(blow, at, kills=2)

    def _kill_host_of_stopped(self, blow: Blow) -> None:
        """The next host waits for the orphan, which is only slow."""
        watch, orphan = self.watch, self.watch.worker
        assert orphan is not None
        self._signal_worker(signal.SIGSTOP)
        at = self._kill_host()
        stopped_s = self._random.random() * _STOPPED_S
        watch.bury(at, orphan_stopped_s=stopped_s)
        watch.timeline.blow(watch.now, blow.value, 1)
        self._launch()
        watch.until(lambda: False, stopped_s)
        orphan.signal(signal.SIGCONT)
        self._recover_host(blow, at)
