"""The faults of a worker: how each is brought about, what it is to be taken for, and how soon."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from bgsuper import Key, Limits, PersisterRef, RestartPolicy, Supervisor
from bgsuper.errors import BgsuperError
from bgsuper.faults.plan import Plan
from bgsuper.health import WorkerState
from bgsuper.key import MANAGER
from bgsuper.torture.power.frozen import FreezableDisk, mounted

#: Longer than any fault takes to be reported.
PATIENCE_S: Final = 60.0

#: The default policy, but for its limits of memory: how long it takes to fill gigabytes is no matter of detection.
DEFAULT: Final = RestartPolicy(rss_soft_bytes=200 * 2**20, rss_hard_bytes=400 * 2**20)
#: For --quick: the same, sooner.
HASTY: Final = replace(DEFAULT, vitals_interval_s=0.1, hung_s=0.5, dump_s=0.1)


@dataclass
class Scene:
    """A running worker, and what can be done to it."""

    supervisor: Supervisor
    plan: Plan
    disk: FreezableDisk | None

    def signal(self, number: signal.Signals) -> None:
        pid = self.supervisor.health().pid
        assert pid is not None
        os.kill(pid, number)

    def persist(self) -> None:
        self.supervisor.snapshot(MANAGER, [b"manager"], critical=True)

    def commit(self) -> None:
        self.supervisor.commit({Key("app", "", "k"): b"value"})

    def slow_disk(self) -> None:
        self.plan.sync_delay_s = PATIENCE_S
        self.commit()

    def full_disk(self) -> None:
        self.plan.full = 1
        self.commit()

    def freeze(self) -> None:
        assert self.disk is not None
        self.disk.freeze()
        self.commit()


Within = Callable[[RestartPolicy, Limits], float]


def looks(number: int) -> Within:
    """So many looks, and the wait for the first."""
    return lambda policy, _limits: (number + 1) * policy.vitals_interval_s


def at_once(_policy: RestartPolicy, _limits: Limits) -> float:
    return 0.0


def late(_policy: RestartPolicy, limits: Limits) -> float:
    return limits.lagging_s


def hung(policy: RestartPolicy, limits: Limits) -> float:
    return policy.hung_s + looks(1)(policy, limits)


class Case(NamedTuple):
    """One fault."""

    name: str
    state: WorkerState  #: what it is to be taken for
    within: Within
    inject: Callable[[Scene], object]
    misbehaviour: str = ""  #: of `benchmarks.misbehaving`; the store is the target if there is none
    amount: Callable[[RestartPolicy], int] = lambda _policy: 0
    frozen: bool = False  #: needs root


CASES: Final = (
    Case("SIGKILL", WorkerState.EXITED, at_once, lambda scene: scene.signal(signal.SIGKILL)),
    Case("segmentation fault", WorkerState.EXITED, at_once, Scene.persist, "crash"),
    Case("no space", WorkerState.DISK_FULL, at_once, Scene.full_disk),
    Case("SIGSTOP", WorkerState.STOPPED, looks(0), lambda scene: scene.signal(signal.SIGSTOP)),
    Case("disk-sleep (vfork)", WorkerState.DISK_STALLED, looks(3), Scene.persist, "sleep"),
    Case("disk-sleep (frozen disk)", WorkerState.DISK_STALLED, looks(3), Scene.freeze, frozen=True),
    Case("a sync of a minute", WorkerState.LAGGING, late, Scene.slow_disk),
    Case(
        "memory over soft",
        WorkerState.BLOATED,
        looks(3),
        Scene.persist,
        "swell",
        lambda policy: (policy.rss_soft_bytes + policy.rss_hard_bytes) // 2,
    ),
    Case(
        "memory over hard",
        WorkerState.DYING,
        looks(1),
        Scene.persist,
        "swell",
        lambda policy: policy.rss_hard_bytes + 2**26,
    ),
    Case("deadlock", WorkerState.HUNG, hung, Scene.persist, "deadlock"),
    Case("endless Python", WorkerState.HUNG, hung, Scene.persist, "spin"),
    Case("GIL hog", WorkerState.HUNG, hung, Scene.persist, "hog"),
)


@contextmanager
def stage(case: Case, directory: Path, policy: RestartPolicy, limits: Limits) -> Iterator[Scene]:
    """A worker that was idle for a while; at the end it is got rid of, whatever state it is in."""
    with ExitStack() as stack:
        plan = stack.enter_context(Plan.create(directory / "plan"))
        disk = stack.enter_context(mounted(directory)) if case.frozen else None
        target: str | PersisterRef = f"sqlite://{directory}/store?faults={directory}/plan"
        if disk:
            # Without the plan, whose writes would hold the GIL while they are stuck.
            target = f"sqlite://{disk.path}/store"
        if case.misbehaviour:
            config = {"fault": case.misbehaviour, "amount": case.amount(policy)}
            target = PersisterRef("benchmarks.misbehaving:Misbehaving", config)
        supervisor = Supervisor(target, restart=policy, limits=limits)
        supervisor.start()
        try:
            yield Scene(supervisor, plan, disk)
        finally:
            if disk:
                disk.thaw()
            with suppress(BgsuperError):
                supervisor.stop(1)
