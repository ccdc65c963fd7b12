"""Looks at everything 20 times a second, and sums up each act. All on the loop, and cheap: it must not be what is
measured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ...faults.plan import Plan
from ...health import Health, WorkerState
from .app import App
from .meter import Lateness, LatenessMeter
from .peers import SampleSync
from .scenario import Act
from .series import Happening, Look, Story
from .witness import Witness

PERIOD_S: Final = 0.05

#: The states of which a person should hear, beside deaths and successors.
_WORTH_TELLING: Final = {WorkerState.LAGGING, WorkerState.DISK_FULL, WorkerState.WEDGED, WorkerState.FAILED}


@dataclass(frozen=True, slots=True)
class ActResult:
    """What came of one act; seconds."""

    act: Act
    start_s: float
    length_s: float
    lateness: Lateness
    unacked_most_s: float  #: the greatest age of an un-acknowledged commit
    commits: int  #: that became durable
    restarts: int


@dataclass(frozen=True, slots=True)
class Observed:
    """What is looked at."""

    witness: Witness
    plan: Plan
    app: App
    sync: SampleSync
    meter: LatenessMeter


class Sampler:
    """Fills `story` and tells it to `tell`."""

    def __init__(self, observed: Observed, story: Story, tell: Callable[[Look | Happening], None]) -> None:
        self.results: list[ActResult] = []
        self.sync_most_s = 0.0
        self._observed, self._story, self._tell = observed, story, tell
        self._act: Act | None = None
        self._index = 0
        self._act_start_s = self._unacked_most_s = 0.0
        self._commits = self._restarts = 0
        self._last: Health | None = None
        self._pid: int | None = None  # of the newest worker that said HELLO

    def start(self) -> None:
        """The run's clock begins, and so does the measuring."""
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._observed.meter.start()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(PERIOD_S)

    def begin_act(self, index: int, act: Act) -> None:
        """An act begins, and the one before ends."""
        self.end_act()
        self._act, self._index = act, index
        self._act_start_s, self._unacked_most_s = self._now(), 0.0
        health = self._observed.witness.health()
        self._commits, self._restarts = health.durable, health.restarts
        self.happened("act", f"{act.title}: {act.what}")

    def end_act(self) -> None:
        """Sum up the act that ends, if there is one."""
        lateness = self._observed.meter.next_act()
        if self._act is None:
            return
        health = self._observed.witness.health()
        self.results.append(
            ActResult(
                act=self._act,
                start_s=self._act_start_s,
                length_s=self._now() - self._act_start_s,
                lateness=lateness,
                unacked_most_s=self._unacked_most_s,
                commits=health.durable - self._commits,
                restarts=health.restarts - self._restarts,
            )
        )
        self._act = None

    def happened(self, kind: str, text: str) -> None:
        """Add to the story, after what is known of the worker by now."""
        self._note_changes(self._observed.witness.health())
        self._add(kind, text)

    def _add(self, kind: str, text: str) -> None:
        happening = Happening(self._now(), kind, text)
        self._story.happenings.append(happening)
        self._tell(happening)

    def look(self) -> None:
        """One look."""
        seen = self._observed
        health = seen.witness.health()
        self._note_changes(health)
        seen.witness.note_acked()
        unacked_s = health.oldest_unacked_s or 0.0
        self._unacked_most_s = max(self._unacked_most_s, unacked_s)
        self.sync_most_s = max(self.sync_most_s, health.sync_last_s or 0.0)
        lateness = seen.meter.total.summary()
        look = Look(
            at_s=self._now(),
            act=self._index,
            late_s=seen.meter.take_worst(),
            late_p50_s=lateness.p50_s or 0.0,
            late_p999_s=lateness.p999_s or 0.0,
            late_max_s=lateness.max_s or 0.0,
            state=health.state.value,
            evidence=health.evidence,
            pid=health.pid,
            epoch=health.epoch,
            restarts=health.restarts,
            rss_bytes=health.rss_bytes,
            commits=health.submitted,
            commits_durable=health.durable,
            unacked_bytes=health.unacked_bytes,
            unacked_s=unacked_s,
            syncs=seen.plan.syncs + seen.plan.snapshot_syncs,
            sync_last_s=health.sync_last_s,
            sync_p99_s=health.sync_p99_s,
            refused=seen.plan.refused,
            gate="holding" if seen.app.held else "open",
            held=seen.app.held,
            released=seen.app.released,
            payments=seen.app.payments,
            gossip_taken=seen.sync.taken,
            gossip_refused=seen.sync.refused,
            channels=len(seen.sync.graph.channels),
            nodes=len(seen.sync.graph.nodes),
        )
        self._story.looks.append(look)
        self._tell(look)

    def _note_changes(self, health: Health) -> None:
        last, self._last = self._last or health, health
        if health.restarts != last.restarts:
            self._add("death", f"{_worker(self._pid)} died: {health.last_death}")
        if health.epoch != last.epoch:
            self._add("worker", f"{_worker(health.pid)} took over with epoch {health.epoch}")
        if health.state is not last.state and health.state in _WORTH_TELLING:
            self._add("worker", f"{health.state.value}: {health.evidence}")
        if health.epoch != last.epoch or self._pid is None:
            self._pid = health.pid

    def _now(self) -> float:
        return self._loop.time() - self._began


def _worker(pid: int | None) -> str:
    return "a worker" if pid is None else f"worker {pid}"
