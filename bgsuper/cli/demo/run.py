"""One run of the demo, from an empty directory to its report.

    start a supervisor -> play the acts on an event loop -> stop cleanly -> reopen -> compare -> report

Whatever happens on the way ends up in the report: an error of the processor, an interruption. The comparison is made in
any case.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Final

from ... import process_events
from ...errors import BgsuperError
from ...faults.plan import Plan
from ...lightning import chain_hash
from ...lightning.routing import sample
from ...lightning.routing.gossip import NetworkGraph
from ...processor.timers import Timers
from ...supervisor import RestartPolicy, Supervisor
from ...torture.run.model import Model
from .app import App
from .director import Director
from .load import Load
from .meter import LatenessMeter
from .peers import NoChain, Peers, SampleSync
from .report import Report, make_report
from .sampler import Observed, Sampler
from .scenario import Act, Scheduled, schedule
from .series import Story
from .show import Show
from .verify import Findings, compare, read_store, unreadable
from .witness import Witness
from .workspace import Workspace

#: The demo's deaths are planned, so they must not spend a budget; and a person waits for each successor.
PLANNED_DEATHS: Final = RestartPolicy(intensity=100, start_intensity=100, backoff_first_s=0.05, backoff_max_s=0.2)
#: How long the final writes, and the end of the worker, may take.
STOP_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the person asked for."""

    seconds: float
    seed: int
    acts: Sequence[Act]


class Run:
    """A run in `workspace`, told to `show`. Used once."""

    def __init__(self, options: Options, workspace: Workspace, show: Show) -> None:
        self._options, self._workspace, self._show = options, workspace, show
        self._scheduled = schedule(options.acts, options.seconds)
        self.story = _story(workspace, options.seconds, self._scheduled)
        self._graph = NetworkGraph(chain_hash.MAINNET)
        self._model = Model[bytes]()
        self._error: BaseException | None = None
        self._signal: int | None = None

    def play(self) -> Report:
        """Do all of it. Raises `BgsuperError` if the store cannot be opened at all."""
        plan = Plan.create(self._workspace.faults)
        with plan, _logged_to(self._workspace):
            supervisor = Supervisor(self._workspace.url_with_faults, restart=PLANNED_DEATHS)
            supervisor.start()
            witness = Witness(supervisor, self._model)
            observed = self._observed(witness, plan)
            self._show.begin(self.story)
            sampler = Sampler(observed, self.story, self._show.tell)
            try:
                with _steady_collector():
                    asyncio.run(self._on_loop(observed, sampler))
            finally:
                self._stop(supervisor)
                witness.note_acked()
            self._show.end("reopening the store, and comparing every record")
            findings = self._verify()
        return make_report(
            story=self.story,
            observed=observed,
            sampler=sampler,
            findings=findings,
            health=supervisor.health(),
            error=self._error,
            interrupted_by=self._signal,
            seed=self._options.seed,
        )

    def _observed(self, witness: Witness, plan: Plan) -> Observed:
        app = App(Random(self._options.seed), self._graph, witness.all_durable)
        return Observed(witness, plan, app, SampleSync(self._graph), LatenessMeter())

    async def _on_loop(self, observed: Observed, sampler: Sampler) -> None:
        stop, interrupted = asyncio.Event(), asyncio.Event()
        peers = Peers()
        load_s = sum(scheduled.length_s for scheduled in self._scheduled if scheduled.act.load)
        load = Load(observed.app, observed.sync, peers, sample.messages(), load_s)
        director = Director(
            observed.plan,
            observed.witness,
            load,
            begun=lambda index: sampler.begin_act(index, self._scheduled[index].act),
            happened=lambda text: sampler.happened("fault", text),
        )
        with self._interrupts(interrupted):
            sampler.start()
            looking = asyncio.create_task(sampler.run())
            processing = asyncio.create_task(
                process_events(
                    observed.witness,
                    observed.app.settle,
                    NoChain(),
                    observed.app,
                    observed.sync,
                    peers,
                    timers=self._timers(),
                    stop=stop,
                    stop_timeout=STOP_S,
                )
            )
            feeding = asyncio.create_task(load.run())
            playing = asyncio.create_task(director.play(self._scheduled))
            waiting = asyncio.create_task(interrupted.wait())
            await asyncio.wait({playing, processing, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if interrupted.is_set():
                sampler.happened("note", "interrupted: stopping cleanly")
            await _cancel(playing, feeding, waiting)
            sampler.end_act()
            stop.set()
            await asyncio.wait({processing})
            self._error = processing.exception() or _exception(playing) or _exception(feeding)
            await _cancel(looking)
            self._error = self._error or _exception(looking)
            sampler.look()
            observed.meter.stop()

    def _timers(self) -> Timers:
        """The graph is pruned and written once while the disk is slow (or calm, if it never is), and at the end."""
        planned = next((item for item in self._scheduled if item.act.sync_delay_s), self._scheduled[-1])
        return Timers(freshness=1.0, ping=1.0, first_prune=planned.start_s + 0.1 * planned.length_s, prune=3600.0)

    def _verify(self) -> Findings:
        try:
            found = read_store(self._workspace.url, self._model.namespaces())
        except BgsuperError as error:
            return unreadable(error)
        return compare(self._model, found, self._graph, ended_cleanly=self._error is None)

    def _stop(self, supervisor: Supervisor) -> None:
        try:
            supervisor.stop(STOP_S)
        except BgsuperError as error:
            self._error = self._error or error

    @contextmanager
    def _interrupts(self, interrupted: asyncio.Event) -> Iterator[None]:
        """The first Ctrl-C, or SIGTERM, stops the run cleanly; a second one is Python's own."""
        loop = asyncio.get_running_loop()
        caught = (signal.SIGINT, signal.SIGTERM)

        def interrupt(number: int) -> None:
            self._signal = number
            interrupted.set()
            for each in caught:
                loop.remove_signal_handler(each)

        for number in caught:
            loop.add_signal_handler(number, interrupt, number)
        try:
            yield
        finally:
            for number in caught:
                loop.remove_signal_handler(number)


def _story(workspace: Workspace, seconds: float, scheduled: Sequence[Scheduled]) -> Story:
    acts = [(item.act.title, item.act.what, item.start_s, item.length_s) for item in scheduled]
    return Story(str(workspace.directory), seconds, acts)


async def _cancel(*tasks: asyncio.Task[object]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _exception(task: asyncio.Task[object]) -> BaseException | None:
    return None if task.cancelled() else task.exception()


@contextmanager
def _steady_collector() -> Iterator[None]:
    """What was made before the run lives on: let no collection during it look at that again."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _logged_to(workspace: Workspace) -> Iterator[None]:
    """What bgsuper logs goes to a file: planned deaths would otherwise fill the screen with warnings."""
    logger = logging.getLogger("bgsuper")
    handler = logging.FileHandler(workspace.log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    before, level = logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
        logger.setLevel(level)
        handler.close()
