"""The director: acts wait for repairs, and the disk is left healthy."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from bgsuper.cli.demo import director
from bgsuper.cli.demo.director import Director
from bgsuper.cli.demo.load import Load
from bgsuper.cli.demo.scenario import HEALTHY, Act, Scheduled
from bgsuper.cli.demo.witness import Witness
from bgsuper.faults.plan import Plan
from bgsuper.health import Health, WorkerState
from bgsuper.key import Seq

WELL = Health(
    state=WorkerState.READY,
    since_s=0,
    evidence="",
    atomic=True,
    gate="open",
    pid=None,
    epoch=1,
    restarts=0,
    last_death=None,
    last_cause=None,
    submitted=Seq(0),
    durable=Seq(0),
    unacked_bytes=0,
    oldest_unacked_s=None,
    sync_last_s=None,
    sync_p99_s=None,
    rss_bytes=None,
    cpu_percent=None,
    write_bytes=None,
)


@dataclass
class FakeWitness:
    """A worker that is well after some looks at it."""

    looks: Iterator[Health]
    snapshot_under_way: bool = False

    def health(self) -> Health:
        return next(self.looks)


@dataclass
class FakeLoad:
    on: bool = False


@dataclass
class Stage:
    plan: Plan
    load: FakeLoad = field(default_factory=FakeLoad)
    begun: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def direct(self, *looks: Health, then: Health = WELL) -> Director:
        witness = FakeWitness(itertools.chain(looks, itertools.repeat(then)))
        return Director(self.plan, cast(Witness, witness), cast(Load, self.load), self.begun.append, self.said.append)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(director, "_POLL_S", 0)
    monkeypatch.setattr(director, "OVERTIME_S", 0.05)
    with Plan.create(tmp_path / "plan") as plan:
        yield Stage(plan)


def _play(directed: Director, *acts: Act) -> None:
    asyncio.run(directed.play([Scheduled(act, 0.0, 0.0) for act in acts]))


@pytest.mark.parametrize(
    "ill",
    [
        {"state": WorkerState.STARTING},
        {"restarts": 0},
        {"oldest_unacked_s": 3.0},
    ],
)
def test_an_act_lasts_until_its_damage_is_repaired(ill: dict[str, Any], stage: Stage) -> None:
    """The successor is ready and has caught up before the next act begins."""
    after = replace(WELL, restarts=1)
    looks = [WELL, WELL, *[replace(after, **ill)] * 5]
    directed = stage.direct(*looks, then=after)
    _play(directed, Act("failed", "", 1, fail_syncs=1), Act("next", "", 1))
    assert stage.begun == [0, 1]
    witness = cast(FakeWitness, directed._witness)
    assert next(witness.looks) == after
    assert not stage.said


def test_what_is_never_repaired_is_told_and_does_not_hang(stage: Stage) -> None:
    """The show goes on after the overtime."""
    _play(stage.direct(then=replace(WELL, state=WorkerState.WEDGED)), Act("kill", "", 1, kill_after_sync=1))
    assert "kill: not repaired" in stage.said[0]


def test_each_act_sets_the_plan_and_the_end_heals_it(stage: Stage) -> None:
    """All faults of an act are armed as it begins; none is left at the end."""
    act = Act("all", "", 1, sync_delay_s=0.5, fail_syncs=1, kill_before_sync=2, kill_after_sync=3)
    seen: list[tuple[object, ...]] = []

    async def watch() -> None:
        directed = stage.direct(then=replace(WELL, restarts=9))
        playing = asyncio.create_task(directed.play([Scheduled(act, 0.0, 0.05)]))
        await asyncio.sleep(0.01)
        plan = stage.plan
        seen.append((plan.sync_delay_s, plan.fail_syncs, plan.kill_before_sync, plan.kill_after_sync, stage.load.on))
        playing.cancel()
        await asyncio.wait([playing])

    asyncio.run(watch())
    assert seen == [(0.5, 1, 2, 3, True)]
    plan = stage.plan
    assert (plan.sync_delay_s, plan.fail_syncs, plan.kill_before_sync, plan.kill_after_sync, plan.full) == (0,) * 5
    assert not stage.load.on


def test_it_kills_as_often_as_the_act_says(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time the worker of that moment."""
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    _play(stage.direct(then=replace(WELL, pid=77, restarts=9)), Act("kills", "", 1, kills=3))
    assert killed == [(77, signal.SIGKILL)] * 3


def test_the_healthy_act_arms_nothing() -> None:
    """It is what the disk is left with."""
    assert HEALTHY.deaths == 0
