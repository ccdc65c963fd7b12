"""The present host as the overseer knows it: what it reports goes into the account and the timeline, its disk has
weather, and an orphan of the host before may still be at work.

Nothing happens here by itself: the overseer calls `until`, which hears reports and lets time pass.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection
from random import Random
from typing import IO, Final

from ...faults.plan import Plan
from ...health import WorkerState
from ...key import Key, Seq
from .account import Account, Look, Violation
from .blows import CLEAR, Weather, forecast
from .host import Orders
from .process import HostProcess, WorkerProcess
from .reports import Report
from .timeline import Timeline
from .workload import step

#: How long to wait for a report before looking around; shorter while an orphan is watched.
_TICK_S: Final = 0.02
_ORPHAN_TICK_S: Final = 0.003
_SAMPLE_S: Final = 0.25
#: What an orphan may take beyond two syncs to make durable what it had received.
DRAIN_S: Final = 1.0


class ViolationSeen(Exception):
    """Something that must never be was seen: the run is over. The timeline has it."""


class Watch:
    """One run's hosts, one after the other. `tell` is called in each pass, for whoever looks on."""

    def __init__(self, plan: Plan, log: IO[bytes], random: Random, tell: Callable[[], None]) -> None:
        self.account, self.timeline = Account(), Timeline()
        self.weather, self.changing = CLEAR, False  #: `changing`: whether the weather may
        self.foul = False  #: whether it was anything but clear since this was last set to False
        self.hosts = 0
        self.state = "starting"  #: of the worker, in the supervisor's word
        self._plan, self._log, self._random, self._tell = plan, log, random, tell
        self._began = time.monotonic()
        self._sample_at = self._weather_until = 0.0
        self._sync_s = 0.0
        self._orphan: tuple[WorkerProcess, float, float] | None = None
        self._drained = True
        self._host: HostProcess | None = None
        self._forget()

    def _forget(self) -> None:
        """What is known of a host is not known of the next."""
        self.doomed = False  #: its death is our doing
        self.struck = False  #: so is its worker's, or may be
        self.worker: WorkerProcess | None = None
        self.launches = self.deaths = 0  #: of its workers
        self.acked_by: int | None = None  #: the pid of the worker that acknowledged last
        self.acked_at = 0.0
        self.stopped = self.judged = False
        self._look: Look | None = None

    @property
    def now(self) -> float:
        """Seconds of the run."""
        return time.monotonic() - self._began

    @property
    def host(self) -> HostProcess:
        assert self._host is not None
        return self._host

    @property
    def alive(self) -> bool:
        """Whether there is a host, as far as was heard."""
        return self._host is not None and not self._host.ended

    # -- hosts --------------------------------------------------------------------------------------------------------

    def launch(self, url: str, seed: int, filling: int, namespaces: Collection[tuple[str, str]]) -> None:
        """Start the next host. It will read `namespaces`, and wait until that is judged."""
        self._forget()
        self.hosts += 1
        self._orders = Orders(url, self.hosts, seed, filling, [list(each) for each in namespaces])
        self._host = HostProcess(self._orders, self._log)
        self.timeline.add(self.now, "host", number=self.hosts, state="started")

    def bury(self, died_at: float, *, orphan_stopped_s: float = 0.0) -> None:
        """The host was killed at `died_at`: hear the rest, heal its disk, and watch its orphan."""
        while not self.host.ended:
            self._hear()
        self.host.close()
        self.timeline.add(self.now, "host", number=self.hosts, state="died")
        healthy = not (self._plan.full or self._plan.fail_sync_at or self._plan.full_at_write)
        self.disarm()
        if self.weather.full:
            self._set_weather(CLEAR)
        self._drained = healthy and not self.struck
        if self.worker is not None and self._drained and not self.stopped:
            limit = DRAIN_S + 2 * (self._sync_s + self.weather.sync_delay_s) + orphan_stopped_s
            self._orphan = (self.worker, died_at, limit)

    def disarm(self) -> None:
        """Whatever the disk was to do wrong once, it will not."""
        plan = self._plan
        plan.kill_before_sync = plan.kill_after_sync = plan.kill_before_write = 0
        plan.fail_syncs = plan.fail_sync_at = plan.full_at_write = 0

    def clear_up(self) -> None:
        """The weather is clear from now on."""
        self.changing = False
        self._set_weather(CLEAR)
        self.disarm()

    # -- time passes --------------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Hear reports until `condition` holds, the host is dead, or `timeout` seconds are over; whether it holds."""
        deadline = time.monotonic() + timeout
        while not condition() and self.alive and time.monotonic() < deadline:
            self._hear()
        return condition()

    def require(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        """`until`, for what must come true unless the host dies."""
        if not self.until(condition, timeout) and self.alive:
            self.violate(Violation("stuck", f"{what} did not happen within {timeout:g} s; the worker is {self.state}"))

    def violate(self, *violations: Violation) -> None:
        for violation in violations:
            self.timeline.violation(self.now, violation)
        if violations:
            raise ViolationSeen

    def _hear(self) -> None:
        for report in self.host.hear(_ORPHAN_TICK_S if self._orphan else _TICK_S):
            self._heard(report)
        if self.host.ended and not self.doomed:
            self.doomed = True
            status = self.host.close()
            self.violate(Violation("failed", f"host {self.hosts} ended by itself, with status {status}"))
        self._watch_orphan()
        # Not while a host starts: a full disk at the first open is the host's to know, and no death.
        if self.changing and self.judged and self.now >= self._weather_until:
            self._set_weather(forecast(self._random))
        if self.now >= self._sample_at:
            self._sample_at = self.now + _SAMPLE_S
            account = self.account
            self.timeline.add(
                self.now,
                "sample",
                begun=account.begun,
                acked=account.acked,
                weather=self.weather.name,
                state=self.state,
            )
        self._tell()

    def _set_weather(self, weather: Weather) -> None:
        self.weather = weather
        self._weather_until = self.now + weather.lasts_s
        self._plan.sync_delay_s = weather.sync_delay_s
        self._plan.full = int(weather.full)
        self.foul = self.foul or weather.name != CLEAR.name

    def _watch_orphan(self) -> None:
        if self._orphan is None:
            return
        worker, died_at, limit_s = self._orphan
        if not worker.alive:
            self._orphan = None
            self.timeline.drain(self.now, time.monotonic() - died_at, limit_s)

    # -- what it says -------------------------------------------------------------------------------------------------

    def _heard(self, report: Report) -> None:
        account = self.account
        match report:
            case Report("begin", [seq]):
                account.begin(seq, step(self._orders.seed, self.hosts, seq, self._orders.filling))
            case Report("received", [seq, key]):
                account.receive(seq, Key(*key) if key else None)
            case Report("acked", [seq, pid, at]):
                account.ack(seq)
                self.acked_by, self.acked_at = pid, at
            case Report("snapshot", [key, seq]):
                account.ack_snapshot(Key(*key), seq)
            case Report("launched", [pid]):
                self.worker, self.struck = WorkerProcess(pid), False
                self.launches += 1
                if self.launches > 1:
                    account.new_worker()
            case Report("worker", [state, pid, epoch, cause]):
                self._worker_changed(state, pid, epoch, cause)
            case Report("opened", [durable]):
                self.timeline.add(self.now, "host", number=self.hosts, state="opened", durable=durable)
                namespaces = {(primary, secondary) for primary, secondary in self._orders.namespaces}
                self._look = account.look(Seq(durable), namespaces, drained=self._drained)
                self._drained = True
                # At once: this host may not live to read all.
                self.violate(*self._look.violations)
            case Report("found", [page]):
                self._found(page)
            case Report("beat", [sync_s]):
                self._sync_s = sync_s
            case Report("failed", [error]):
                self.violate(Violation("failed", f"host {self.hosts} ended by itself: {error}"))
            case Report("stopped", []):
                self.stopped = True
            case _:
                raise AssertionError(f"no host reports {report!r:.200}")

    def _worker_changed(self, state: str, pid: int | None, epoch: int, cause: str | None) -> None:
        self.state = state
        self.timeline.add(self.now, "worker", pid=pid, state=state, cause=cause)
        if state == WorkerState.EXITED.value:
            self.deaths += 1
        if epoch:
            self.violate(*self.account.greet(epoch))

    def _found(self, page: list[tuple[list[str], bytes]]) -> None:
        look = self._look
        assert look is not None
        for key, value in page:
            look.see(Key(*key), value)
        if not page:
            violations = look.finish()
            self.timeline.look(self.now, self.hosts, look.records, look.bytes)
            self.violate(*violations)
            self.judged = True

    def close(self) -> None:
        """End host and worker, whatever they do."""
        self.doomed = True
        if self._host is not None:
            self._host.close()
        for worker in (self.worker, self._orphan[0] if self._orphan else None):
            if worker is not None:
                worker.end()

    def stand_still(self) -> None:
        """Stop host and worker where they are: the store is evidence."""
        self.doomed = True
        self.host.signal(signal.SIGSTOP)
        if self.worker is not None:
            self.worker.signal(signal.SIGSTOP)
