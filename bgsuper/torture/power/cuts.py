"""Power cuts by the shutdown ioctl: a host works on a file system of ours, the power goes at any moment, the file
system is mounted again, and the store is judged.

Each round: the store is recovered in this process and judged; the power goes again, at once; a real host recovers it,
and must find the same (what was claimed once must be durable by then: a second recovery changes nothing); then it works
until the cut. Some cuts strike while the host starts, or while the store is made; and some after the worker was killed,
as soon as its successor has said what it found.

Rules:
1. An acknowledgement counts if it was seen before the ioctl was called. A sync that is under way while it runs may
   return success and be lost: of 300 cuts under a plain program that appends and calls fdatasync, that befell 23 on
   ext4 and 3 on XFS (Linux 6.18); no disk that loses its power does that.
2. What a round did is decided by its dice, when exactly the power goes by the machine. So the evidence of a violation
   is the store as it was before any recovery, not only the seed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from ...errors import BgsuperError
from ...faults.plan import Plan
from ...supervisor.launch import Launcher, launch
from .host import Host
from .loopmount import LoopDisk
from .model import Acknowledged, Claimed, Event, Found, Model, Recovered
from .recovery import new_store, read_host, read_store
from .report import Evidence, Tally, Violation
from .workload import Workload

#: How much a host does at least, and how much longer it works before the power goes, both at most; now and then it
#: stops for a checkpoint.
_MOST_STEPS: Final = 8
_LONGEST_S: Final = 0.04
#: How long after the first sign of a worker at the store the power goes while it starts.
_LONGEST_START_S: Final = 0.012
#: At which sync of a burst a worker is killed, at most, and how long it may take to come to that.
_MOST_SYNCS: Final = 2
_RUSH_S: Final = 0.2
_POLL_S: Final = 0.0002
#: A store that is recovered again and again is left for a new one: then its making is cut short, too.
_NEW_STORE: Final = 0.12
_SUCCESSION: Final = "a recovery without a power cut"
#: How often the power goes while the host starts; or while it makes a store; and how often the worker dies before.
_AT_START: Final = 0.15
_AT_CREATION: Final = 0.6
_WORKER_DIES: Final = 0.3


@dataclass(frozen=True, slots=True)
class Cuts:
    """`rounds` power cuts on a file system of type `kind`, in files under `directory`."""

    kind: str
    rounds: int
    seed: int
    directory: Path
    evidence: Evidence
    launcher: Launcher = launch

    def run(self, progress: Callable[[Tally], None] = lambda tally: None) -> Tally:
        """Do it; `progress` is told after each round. Raises `NoDisk`."""
        tally = Tally(self.kind, self.rounds)
        disk = LoopDisk(self.kind, self.directory / f"{self.kind}.image", self.directory / self.kind)
        disk.make()
        began = time.monotonic()
        try:
            with Plan.create(self.plan) as plan, ThreadPoolExecutor(1, "power") as thread:
                rounds = _Rounds(self, disk, plan, thread, tally)
                for number in range(self.rounds):
                    rounds.one(number)
                    tally.seconds = time.monotonic() - began
                    progress(tally)
                # The last cut is judged as well.
                rounds.last(self.rounds)
        finally:
            disk.abandon()
            disk.image.unlink(missing_ok=True)
        return tally

    @property
    def plan(self) -> Path:
        """The fault plan of hosts whose worker is to die."""
        return self.directory / f"{self.kind}.faults"


class _Rounds:
    def __init__(self, cuts: Cuts, disk: LoopDisk, plan: Plan, thread: ThreadPoolExecutor, tally: Tally) -> None:
        self._cuts, self._disk, self._plan, self._thread, self._tally = cuts, disk, plan, thread, tally
        self._dice = Random(f"{cuts.seed}/{cuts.kind}")
        self._evidence = cuts.evidence
        self._stores = 0
        self._model = Model()

    def one(self, number: int) -> None:
        """Judge what the last cut left, go on from there, and cut again."""
        self._disk.mount()
        if not self._judged(number) or self._dice.random() < _NEW_STORE:
            self._new_store()
        try:
            self._work(number)
        finally:
            self._disk.unmount()

    def last(self, number: int) -> None:
        """Judge what the last cut left."""
        self._disk.mount()
        try:
            self._judged(number)
        finally:
            self._disk.unmount()

    @property
    def _store(self) -> Path:
        return self._disk.path / f"store-{self._stores}"

    def _new_store(self) -> None:
        shutil.rmtree(self._store, ignore_errors=True)
        self._stores += 1
        self._model = Model()
        self._tally.stores += 1

    def _judged(self, number: int) -> bool:
        """Recover, judge, cut the power again and remount; False if there is nothing to go on from."""
        if not self._stores:
            return False
        self._evidence.take(self._store)
        store = new_store(self._store)
        try:
            found = read_store(store)
        except BgsuperError as error:
            self._violated(number, [f"cannot be recovered: {type(error).__name__}: {error}"])
            return False
        else:
            problems = self._model.problems(found)
            if problems:
                self._violated(number, problems)
                return False
            self._disk.cut_power()
            self._tally.cuts += 1
        finally:
            store.close()
        self._tally.recovered(self._model, found)
        self._model.happen(Recovered(time.monotonic_ns(), found))
        self._disk.unmount()
        self._disk.mount()
        return True

    def _work(self, number: int) -> None:
        dies = self._dice.random() < _WORKER_DIES
        with self._host(faulty=dies) as host:
            if self._dice.random() < (_AT_START if self._model.settled.last_seq else _AT_CREATION):
                self._cut_at_start(host)
                return
            claimed = self._model.settled
            found = self._started(number, host, "a second recovery")
            if found is None:
                self._disk.cut_power()
                return
            if found != claimed:
                self._violated(number, ["a second recovery finds something else"])
            if not dies:
                self._cut_at_work(number, host, self._dice.uniform(0, _LONGEST_S))
                return
            self._die_at_work(number, host)
        with self._host() as successor:
            if self._dice.random() < 0.5:
                self._cut_at_hello(number, successor)
            elif self._started(number, successor, _SUCCESSION) is not None:
                self._cut_at_work(number, successor, self._dice.uniform(0, _LONGEST_S))
            else:
                self._disk.cut_power()

    @contextmanager
    def _host(self, *, faulty: bool = False) -> Iterator[Host]:
        host = Host(self._store, self._cuts.launcher, self._cuts.plan if faulty else None)
        try:
            yield host
        finally:
            host.end()

    def _started(self, number: int, host: Host, what: str) -> Found | None:
        """Start `host`, judge what it finds; None if it cannot."""
        try:
            found = read_host(host.supervisor, self._model)
        except BgsuperError as error:
            self._violated(number, [f"{what} fails: {type(error).__name__}: {error}"])
            return None
        problems = self._model.problems(found)
        if problems:
            self._violated(number, [f"after {what}:", *problems])
        self._model.happen(Recovered(time.monotonic_ns(), found))
        return found

    def _die_at_work(self, number: int, host: Host) -> None:
        """Work until the worker is killed in place of a sync: what it wrote is in the page cache, where its successor
        will find it."""
        events: list[Event] = []
        workload = Workload(host.supervisor, self._dice, events.append)
        try:
            for _ in range(self._dice.randint(1, _MOST_STEPS)):
                workload.step()
            host.lose_power()
            self._plan.kill_before_sync = self._dice.randint(1, _MOST_SYNCS)
            workload.rush()
        except BgsuperError as error:
            if not self._plan.kill_before_sync:
                self._violated(number, [f"the host fails on a good disk: {type(error).__name__}: {error}"])
        host.die(_RUSH_S)
        self._plan.kill_before_sync = 0
        workload.look()
        for event in events:
            self._model.happen(event)

    def _cut_at_hello(self, number: int, host: Host) -> None:
        """Cut as soon as the host is told what is durable."""
        try:
            claimed = host.supervisor.start()
            self._model.happen(Claimed(time.monotonic_ns(), claimed))
        except BgsuperError as error:
            self._violated(number, [f"{_SUCCESSION} fails: {type(error).__name__}: {error}"])
        _Cut(host, self._disk, self._tally, lambda event: None).after(0)

    def _cut_at_work(self, number: int, host: Host, seconds: float) -> None:
        events: list[Event] = []
        workload = Workload(host.supervisor, self._dice, events.append)
        cut = _Cut(host, self._disk, self._tally, events.append)
        done: Future[None] | None = None
        try:
            # However busy the machine is, something is acknowledged now and then.
            for _ in range(self._dice.randint(0, _MOST_STEPS)):
                workload.step()
            done = self._thread.submit(cut.after, seconds)
            while not cut.began:
                workload.step()
        except BgsuperError as error:
            if not cut.began:
                self._violated(number, [f"the host fails on a good disk: {type(error).__name__}: {error}"])
        (done or self._thread.submit(cut.after, 0)).result()
        for event in sorted(events, key=lambda event: event.at):
            if event.at <= cut.began:
                self._model.happen(event)

    def _cut_at_start(self, host: Host) -> None:
        """Start, and cut soon after the worker shows that it is at the store: its lock file is written."""
        at_end = _Cut(host, self._disk, self._tally, lambda event: None)
        lock, delay = self._store / "lock", self._dice.uniform(0, _LONGEST_START_S)
        before = _changed(lock)

        def cut() -> None:
            deadline = time.monotonic() + 10
            while _changed(lock) == before and time.monotonic() < deadline:
                time.sleep(_POLL_S)
            at_end.after(delay)

        done = self._thread.submit(cut)
        try:
            host.supervisor.start()
        except BgsuperError:
            self._tally.in_start += 1
        done.result()

    def _violated(self, number: int, problems: list[str]) -> None:
        kept = self._evidence.keep(f"{self._disk.kind}-{number}", problems, self._disk.image)
        self._tally.violations.append(Violation(number, tuple(problems), kept))


class _Cut:
    """The end of `host`, and of all that it wrote to `disk` and did not sync."""

    def __init__(self, host: Host, disk: LoopDisk, tally: Tally, note: Callable[[Event], None]) -> None:
        self._host, self._disk, self._tally, self._note = host, disk, tally, note
        self.began = 0  #: nanoseconds of the monotonic clock; 0 before the cut

    def after(self, seconds: float) -> None:
        """Cut after so long. Raises `OSError`."""
        time.sleep(seconds)
        self._host.lose_power()
        durable = self._host.supervisor.durable_seq
        self.began = time.monotonic_ns()
        self._note(Acknowledged(self.began, durable))
        self._disk.cut_power()
        self._tally.cuts += 1


def _changed(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
