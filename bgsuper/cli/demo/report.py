"""What a run came to: one plain record, which is the JSON, and from which the tables for a person are made.

Units are in the names: `_s` seconds, `_ms` milliseconds, `_bytes`. Nothing here decides anything but the verdict.
"""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass, replace
from typing import Any

from ... import __version__
from ...health import Health, WorkerState
from .meter import Lateness
from .sampler import ActResult, Observed, Sampler
from .series import Happening, Story
from .verify import Findings


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a run."""

    version: str
    machine: str
    directory: str
    kept: bool
    seed: int
    planned_s: float
    ran_s: float
    interrupted_by: int | None  #: the signal
    error: str | None  #: of the processor, the supervisor, or the demo itself
    findings: Findings
    too_early: tuple[int, ...]  #: receipts that left before their cause was durable
    acts: tuple[ActResult, ...]
    lateness: Lateness
    commits_submitted: int
    commits_durable: int
    restarts: int
    epoch: int
    syncs: int
    sync_p99_s: float | None
    sync_most_s: float
    refused: int
    outputs_held_most: int
    outputs_released: int
    outputs_held: int
    payments: int
    settled: int
    snapshots: int
    gossip_taken: int
    gossip_refused: int
    channels: int
    nodes: int
    happenings: tuple[Happening, ...]

    @property
    def ok(self) -> bool:
        """Nothing was lost, nothing left too early, and the end was clean."""
        return not self.problems and self.error is None

    @property
    def verdict(self) -> str:
        """The outcome in one sentence."""
        findings = self.findings
        if findings.lost:
            return f"LOST: {len(findings.lost)} of {findings.records} acknowledged records are not there as they were"
        if findings.foreign:
            return f"NOT CLEAN: {len(findings.foreign)} records are in the store that nobody submitted"
        if findings.graph:
            return "LOST: the stored network graph is not the one that ran"
        if self.too_early:
            return f"NOT SAFE: {len(self.too_early)} outputs left before their cause was durable"
        if self.stuck:
            return f"NOT CLEAN: {self.stuck} outputs never left, though everything is durable"
        if self.error is not None:
            return f"NOT CLEAN: nothing that was acknowledged is lost, but the run ended with an error: {self.error}"
        return f"nothing was lost: all {findings.records:,} records are there, byte for byte"

    @property
    def stuck(self) -> int:
        """How many outputs a clean end left in the gate."""
        return self.outputs_held if self.error is None else 0

    @property
    def problems(self) -> tuple[str, ...]:
        """Each problem in a line."""
        early = tuple(f"receipt {number} left before its payment was durable" for number in self.too_early)
        stuck = (f"{self.stuck} receipts never left",) if self.stuck else ()
        return (*self.findings.lost, *self.findings.foreign, *self.findings.graph, *early, *stuck)

    def keep(self) -> Report:
        """The same, of a directory that is kept."""
        return replace(self, kept=True)

    def to_json(self) -> dict[str, Any]:
        """The record that ``--json`` prints."""
        return {
            "ok": self.ok,
            "verdict": self.verdict,
            "problems": list(self.problems),
            "interrupted_by": self.interrupted_by,
            "error": self.error,
            "version": self.version,
            "machine": self.machine,
            "directory": self.directory,
            "kept": self.kept,
            "seed": self.seed,
            "planned_s": self.planned_s,
            "ran_s": round(self.ran_s, 3),
            "loop_lateness": _lateness(self.lateness),
            "acts": [_act(result) for result in self.acts],
            "worker": {"restarts": self.restarts, "epoch": self.epoch},
            "store": {
                "submitted_seq": self.commits_submitted,
                "durable_seq": self.commits_durable,
                "snapshots": self.snapshots,
                "syncs": self.syncs,
                "refused": self.refused,
                "group_p99_s": self.sync_p99_s,
                "group_most_s": self.sync_most_s,
            },
            "gate": {
                "held_most": self.outputs_held_most,
                "held": self.outputs_held,
                "released": self.outputs_released,
                "too_early": list(self.too_early),
            },
            "payments": {"made": self.payments, "settled": self.settled},
            "gossip": {
                "taken": self.gossip_taken,
                "refused": self.gossip_refused,
                "channels": self.channels,
                "nodes": self.nodes,
            },
            "check": {
                "records": self.findings.records,
                "bytes": self.findings.bytes,
                "lost": list(self.findings.lost),
                "foreign": list(self.findings.foreign),
                "graph": list(self.findings.graph),
            },
            "happenings": [{**item._asdict(), "at_s": round(item.at_s, 3)} for item in self.happenings],
        }


def make_report(
    *,
    story: Story,
    observed: Observed,
    sampler: Sampler,
    findings: Findings,
    health: Health,
    error: BaseException | None,
    interrupted_by: int | None,
    seed: int,
) -> Report:
    """The report of a run that has ended; `health` is the supervisor's last."""
    if error is None and health.state is not WorkerState.ENDED:
        error = RuntimeError(f"the worker is {health.state.value}: {health.evidence}")
    return Report(
        version=__version__,
        machine=f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} processors",
        directory=story.directory,
        kept=False,
        seed=seed,
        planned_s=story.seconds,
        ran_s=story.looks[-1].at_s,
        interrupted_by=interrupted_by,
        error=None if error is None else f"{type(error).__name__}: {error}",
        findings=findings,
        too_early=tuple(observed.app.too_early),
        acts=tuple(sampler.results),
        lateness=observed.meter.total.summary(),
        commits_submitted=health.submitted,
        commits_durable=health.durable,
        restarts=health.restarts,
        epoch=health.epoch,
        syncs=story.looks[-1].syncs,
        sync_p99_s=health.sync_p99_s,
        sync_most_s=sampler.sync_most_s,
        refused=story.looks[-1].refused,
        outputs_held_most=observed.app.held_most,
        outputs_released=observed.app.released,
        outputs_held=observed.app.held,
        payments=observed.app.payments,
        settled=observed.app.settled,
        snapshots=observed.witness.snapshots,
        gossip_taken=observed.sync.taken,
        gossip_refused=observed.sync.refused,
        channels=len(observed.sync.graph.channels),
        nodes=len(observed.sync.graph.nodes),
        happenings=tuple(story.happenings),
    )


def _lateness(lateness: Lateness) -> dict[str, float | int | None]:
    return {
        name.replace("_s", "_ms"): value if name == "wakings" or value is None else round(value * 1000, 3)
        for name, value in asdict(lateness).items()
    }


def _act(result: ActResult) -> dict[str, Any]:
    return {
        "title": result.act.title,
        "what": result.act.what,
        "start_s": round(result.start_s, 3),
        "length_s": round(result.length_s, 3),
        "loop_lateness": _lateness(result.lateness),
        "unacked_most_s": round(result.unacked_most_s, 4),
        "commits": result.commits,
        "restarts": result.restarts,
    }
