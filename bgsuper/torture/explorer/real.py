"""The explorer over the real SQLite store: the same host, pipe and writer, with un-synced writes kept apart.

What the store does happens at once here, so a death in the midst of it is a choice of its own: ``serve die 3`` ends the
worker at the third of the disk operations that this step makes, ``serve eio 1`` fails its first sync, and ``power 2``
cuts the power with one throw of the dice for what was not synced. What is durable shows only after a power cut, so
what was acknowledged is checked when the store is opened again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Final

from ...errors import NotFound, StoreError
from ...key import Key, Seq
from ...store import sqlite as sqlite_module
from ...store.api import Opened
from ...store.sqlite import SQLiteStore
from ...supervisor.children import Exit as ExitStatus
from ...supervisor.supervisor import Supervisor
from .disk import Content, Disk, Value
from .effects import Append, Exit, Say
from .monitor import Monitor, Violation
from .platter import Hand, Platter
from .process import Worker
from .scenario import Scenario
from .store import Outcomes
from .world import SIGKILL, World

#: A step dies at one of these disk operations of its own, or one of these syncs of it fails.
DIES_AT: Final = (1, 2, 3, 4, 6, 9, 14)
FAILS_AT: Final = (1, 2)
#: How many throws of the dice a power cut has, beside taking all that was not synced.
DICE: Final = 4
#: Where syncs cost nothing: what is durable is the platter's to say.
MEMORY: Final = "/dev/shm"
_numbers = count()


class RealWorker(Worker):
    """A worker process on a real store."""

    def __init__(self, disk: Disk, hand: Hand, store: SQLiteStore) -> None:
        super().__init__(disk)
        self.hand = hand
        self.store = self.real = store

    def expect(self, outcomes: Outcomes) -> None:
        self.hand.outcomes = outcomes
        self.hand.full = outcomes.no_space

    def space_comes_back(self) -> None:
        """What a run ahead supposes when the writer sleeps."""
        self.hand.full = False
        super().space_comes_back()


class RealMonitor(Monitor):
    """What can be seen of a real store from outside: what it says when it is opened."""

    def released(self, outputs: list[Seq], disk: Disk) -> None:
        """What was acknowledged is checked after each power cut."""
        for seq in outputs:
            if seq > self.acked and seq not in self.snapshots:
                raise Violation("gate", f"the output of {seq} left, but only {self.acked} was acknowledged")

    def says(self, word: Say, disk: Disk) -> None:
        """Remember what it said, for the next time that the store is opened."""
        match word.kind.name:
            case "HELLO":
                epoch, last_commit = word.fields[:2]
                assert isinstance(epoch, int)
                assert isinstance(last_commit, int)
                if epoch <= self.epoch:
                    raise Violation("one-writer", f"epoch {epoch} came after epoch {self.epoch}")
                self.epoch, self.acked = epoch, max(self.acked, last_commit)
            case "ACK":
                self.acked = max(self.acked, word.seq)
            case "SNAPSHOT_ACK":
                key = self.snapshots[word.seq].key
                self.acked_snapshots[key] = max(self.acked_snapshots.get(key, 0), word.seq)

    def writes(self, effect: Append) -> None:
        """Nothing is known of that."""

    def check(self, disk: Disk) -> None:
        """Only an open store can be looked at."""

    def opened(self, store: SQLiteStore, claimed: Opened) -> None:
        """The store was opened: what was acknowledged is there, in order, whole, and nothing else."""
        content = Content(epoch=claimed.epoch, last_commit=claimed.last_commit, last_snapshot=claimed.last_seq)
        if content.last_commit < self.acked:
            raise Violation(
                "acked", f"{self.acked} was acknowledged, but {content.last_commit} is the last that is left"
            )
        keys = {key for commit in self.commits for key, _ in commit.changes}
        keys |= {snapshot.key for snapshot in self.snapshots.values()}
        for key in keys:
            try:
                value = store.read(key)
            except NotFound:
                value = None
            found = self._origin(key, value)
            if found is not None:
                content.values[key] = found
        removed = {
            key: commit.seq
            for commit in self.commits
            if commit.seq <= content.last_commit
            for key, value in commit.changes
            if value is None
        }
        for key, seq in removed.items():
            content.values.setdefault(key, Value(seq, None, None))
        self.check_content(content)
        for key, seq in self.acked_snapshots.items():
            stamp = content.values[key].stamp if key in content.values else 0
            if stamp < seq:
                raise Violation("acked", f"snapshot {seq} of {key} was acknowledged, and is gone")

    def _origin(self, key: Key, value: bytes | None) -> Value | None:
        if value is None:
            return None
        for commit in self.commits:
            if dict(commit.changes).get(key) == value:
                return Value(commit.seq, value, None)
        for seq, snapshot in self.snapshots.items():
            if snapshot == (key, value):
                return Value(seq, None, "a file")
        raise Violation("unsubmitted", f"{key} holds {value!r:.60}, which nobody submitted")


class RealWorld(World):
    """A `World` whose disk is a directory, which is removed when it closes. One at a time in a process."""

    monitor: RealMonitor

    def __init__(self, scenario: Scenario) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="bgsuper-explorer-", dir=MEMORY if os.path.isdir(MEMORY) else None))
        self.directory = self.root / "store"
        name = f"bgsuper-explorer-{next(_numbers)}"
        self.platter = Platter(str(self.root), f"{name}-platter")
        self.hand = Hand(self.platter, name)
        self.vfs = name
        # Never started: it knows what a worker of its host's is told.
        self.supervisor = Supervisor(f"sqlite://{self.directory}")
        super().__init__(scenario)
        self.monitor = RealMonitor()

    def __enter__(self) -> RealWorld:
        names = vars(sqlite_module)
        self._drop_cached_pages = names["drop_cached_pages"]
        names["drop_cached_pages"] = self.platter.drop_cached_pages
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._nobody_lives()
        vars(sqlite_module)["drop_cached_pages"] = self._drop_cached_pages
        self.hand.close()
        self.platter.close()
        shutil.rmtree(self.root)

    def _store(self, *, distrust_cache: bool = False, check: bool = False) -> SQLiteStore:
        return SQLiteStore(
            self.directory,
            host_pid=os.getpid(),
            vfs=self.vfs,
            fsync=self.hand.fsync,
            distrust_cache=distrust_cache,
            check=check,
            lock_timeout_s=0.0,
        )

    # -- what may happen ----------------------------------------------------------------------------------------------

    def _of(self, worker: Worker, prefix: str) -> Iterator[str]:
        yield from super()._of(worker, prefix)
        assert isinstance(worker, RealWorker)
        idle = not worker.script and not worker.inbox.items and worker.writer is not None and not worker.doomed
        if idle and worker.real.has_idle_work and not self.disk.full:
            yield prefix + "serve"

    def _faults(self) -> Iterator[str]:
        budget = self.scenario
        if self.powers < budget.powers:
            yield "power"
            yield from (f"power {number}" for number in range(DICE))
        steps = [step for step in self._ordinary() if step in ("boot", "serve", "lane")]
        if self.worker is not None and self.worker.lane_script:
            steps = [step for step in steps if step != "lane"]
        if self.deaths < budget.deaths:
            if self.host is not None:
                yield "kill host"
            if self.worker is not None and not self.worker.doomed:
                yield "kill worker"
                if self.may_hang:
                    yield "hang"
            if self.orphan is not None:
                yield "kill orphan"
            yield from (f"{step} die {number}" for step in steps for number in DIES_AT)
        if self.failed_syncs < budget.failed_syncs:
            yield from (f"{step} eio {number}" for step in steps for number in FAILS_AT)
        if self.shortages < budget.shortages and not self.disk.full:
            yield "space out"

    # -- what happens -------------------------------------------------------------------------------------------------

    def _outcomes(self, rest: str) -> Outcomes:
        how, _, number = rest.partition(" ")
        self.failed_syncs += how == "eio"
        return Outcomes(
            no_space=self.disk.full,
            dies_at=int(number) if how == "die" else None,
            fails_at=int(number) if how == "eio" else None,
        )

    def _boot(self, rest: str) -> None:
        host = self.host
        assert host is not None
        self.launching = False
        self.monitor.opens(sum(worker is not None and worker.has_store for worker in (self.worker, self.orphan)))
        self.supervisor._core = host.core
        config = self.supervisor._make_config(host.core.distrust_cache)
        store = self._store(distrust_cache=config.distrust_cache, check=config.check)
        worker = self.worker = RealWorker(self.disk, self.hand, store)
        host.core.launched(1)
        worker.boot(self._outcomes(rest))
        if not self._died_meanwhile(worker) and worker.opened is not None:
            self.monitor.opened(store, worker.opened)

    def _serve_with(self, worker: Worker, rest: str) -> None:
        worker.serve(self._outcomes(rest))
        self.disk.full = self.disk.full and self.hand.full
        self._died_meanwhile(worker)

    def _lane_of(self, worker: Worker, rest: str) -> None:
        if worker.lane_script:
            self._play(worker, worker.lane_script.popleft())
            return
        worker.start_job(self._outcomes(rest))
        self._died_meanwhile(worker)

    def _died_meanwhile(self, worker: Worker) -> bool:
        """Whether the step was its last; what it had said before is heard."""
        if not self.hand.dead:
            return False
        self.deaths += 1
        while worker.script and not isinstance(worker.script[0], Exit):
            effect = worker.script.popleft()
            # Errors that it would have reported, it did not live to see.
            if not isinstance(effect, Say) or effect.kind.name not in ("ERROR", "RETRYING", "HELLO"):
                self._play(worker, effect)
        self._gone(worker, ExitStatus(None, SIGKILL))
        return True

    def _gone(self, worker: Worker, status: ExitStatus) -> None:
        assert isinstance(worker, RealWorker)
        self._release(worker)
        super()._gone(worker, status)

    def _release(self, worker: RealWorker) -> None:
        """What the kernel does for a dead process: descriptors are closed, nothing else happens."""
        self._release_store(worker.real)

    def _release_store(self, store: SQLiteStore) -> None:
        self.hand.dead = True
        store._release()
        self.hand.dead = False

    def _kill(self, rest: str) -> None:
        if rest == "orphan":
            assert isinstance(self.orphan, RealWorker)
            self._release(self.orphan)
        super()._kill(rest)

    def _host_is_gone(self) -> None:
        worker = self.worker
        super()._host_is_gone()
        if isinstance(worker, RealWorker) and self.orphan is not worker:
            self._release(worker)

    def _nobody_lives(self) -> None:
        for worker in (self.worker, self.orphan):
            if isinstance(worker, RealWorker):
                self._release(worker)

    def _power(self, fates: str) -> None:
        self._nobody_lives()
        self.powers += 1
        self.host = self.worker = self.orphan = None
        self.wire, self.launching, self.hanging_up = [], False, False
        self.platter.cut(Random(int(fates) + 1000 * self.powers) if fates else None)

    def check_at_rest(self) -> None:
        """As in a model world; and the store opens twice more, after a power cut each, with the same in it."""
        host = self.host
        if host is None:
            raise Violation("at-rest", "there is no host, and none can be started")
        self.monitor.drained(host)
        self._nobody_lives()
        self.worker = None
        self.hand.outcomes = Outcomes()
        try:
            for _ in range(2):
                self._check_recovery()
        except StoreError as error:
            raise Violation("recovery", f"the store cannot be opened, or read: {error}") from error

    def _check_recovery(self) -> None:
        self.platter.cut()
        store = self._store()
        try:
            claimed = store.open()
            newest = self.monitor.commits[-1].seq if self.monitor.commits else 0
            if claimed.last_commit != newest:
                raise Violation("at-rest", f"{newest} was submitted, but {claimed.last_commit} survived a power cut")
            self.monitor.opened(store, claimed)
        finally:
            self._release_store(store)
