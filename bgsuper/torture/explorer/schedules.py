"""Random schedules: a seed is a scenario, with faults of every kind, and one way through it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from random import Random
from typing import Final

from .monitor import Violation
from .scenario import Scenario
from .world import World
from .worlds import open_world

#: How likely a step is a fault, as long as the budget allows one.
FAULT_SHARE: Final = 0.06
#: Letters of the scripts: mostly commits, and everything else.
LETTERS: Final = "cccckkxssSSLrrq"
#: How many schedules a process runs before it reports.
BATCH: Final = {"model": 500, "sqlite": 20}
#: More steps than any schedule takes: what goes on longer goes round in circles.
MOST_STEPS: Final = 5000


@dataclass(slots=True)
class Run:
    """One schedule, taken to its end."""

    scenario: Scenario
    seed: int | None = None
    choices: list[str] = field(default_factory=list)
    violation: Violation | None = None


def scenario_of(dice: Random, world: str) -> Scenario:
    """A scenario by chance, for a world of that kind."""
    return Scenario(
        "".join(dice.choices(LETTERS, k=dice.randint(2, 9))),
        deaths=dice.randint(0, 4),
        powers=dice.randint(0, 2),
        failed_syncs=dice.choice((0, 0, 1, 2)),
        shortages=dice.choice((0, 0, 1)),
        failed_reads=dice.choice((0, 0, 1)),
        deaths_first=False,
        reduced=False,
        world=world,
    )


def run_seed(seed: int, world: str = "model") -> Run:
    """The schedule of `seed`, from the first step to the rest after the last, or to a violation."""
    dice = Random(seed)
    run = Run(scenario_of(dice, world), seed)
    with open_world(run.scenario) as opened:
        try:
            for choice in choose(opened, dice):
                run.choices.append(choice)
                opened.do(choice)
            opened.check_at_rest()
        except Violation as violation:
            run.violation = violation
    return run


def choose(world: World, dice: Random) -> Iterator[str]:
    """A way through `world` by chance, step by step, until nothing is left to do."""
    for _ in range(MOST_STEPS):
        ordinary = world.ordinary()
        if not ordinary:
            return
        faults = world.faults() if dice.random() < FAULT_SHARE else []
        yield dice.choice(faults or ordinary)
    raise Violation("at-rest", f"after {MOST_STEPS} steps it still has something to do")


def play(scenario: Scenario, choices: Sequence[str], on_step: Callable[[World, str], None] = lambda _, __: None) -> Run:
    """Take `choices` again, but for those that are not possible, and then leave the world in peace."""
    run = Run(scenario)
    with open_world(scenario) as world:
        try:
            for choice in choices:
                if world.allows(choice):
                    run.choices.append(choice)
                    on_step(world, choice)
                    world.do(choice)
            world.leave_in_peace(on_step)
        except Violation as violation:
            run.violation = violation
    return run


@dataclass(slots=True)
class Tally:
    """What many schedules came to."""

    schedules: int = 0
    steps: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    violations: list[Run] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.schedules += other.schedules
        self.steps += other.steps
        self.faults += other.faults
        self.violations += other.violations


def run_batch(first: int, count: int, world: str) -> Tally:
    """The schedules of `count` seeds from `first` on, up to the first violation."""
    tally = Tally()
    for seed in range(first, first + count):
        run = run_seed(seed, world)
        tally.schedules += 1
        tally.steps += len(run.choices)
        tally.faults.update(filter(None, map(fault_of, run.choices)))
        if run.violation is not None:
            tally.violations.append(run)
            break
    return tally


def fault_of(choice: str) -> str | None:
    """What kind of fault `choice` is, if it is one."""
    match choice.split():
        case ["kill", *who]:
            return f"{who[0]} killed"
        case ["hang"]:
            return "worker hung"
        case ["power", *_]:
            return "power cut"
        case [_, "eio", *_]:
            return "sync failed"
        case [step, "die", _]:
            return f"worker killed in a {step}"
        case [_, "bad", "read"]:
            return "read failed"
        case ["space", "out"]:
            return "space out"
    return None


def run_many(
    schedules: int,
    *,
    seed: int = 0,
    jobs: int = 1,
    world: str = "model",
    on_batch: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """`schedules` seeds from `seed` on, in `jobs` processes; stops soon after a violation."""
    began = time.monotonic()
    total = Tally()
    size = BATCH[world]
    batches = [(first, min(size, seed + schedules - first)) for first in range(seed, seed + schedules, size)]

    def note(tally: Tally) -> bool:
        total.add(tally)
        total.seconds = time.monotonic() - began
        on_batch(total)
        return not total.violations

    if jobs == 1:
        for first, count in batches:
            if not note(run_batch(first, count, world)):
                break
        return total
    with ProcessPoolExecutor(jobs) as pool:
        waiting = [pool.submit(run_batch, first, count, world) for first, count in batches]
        for done in as_completed(waiting):
            if not note(done.result()):
                pool.shutdown(cancel_futures=True)
                break
    return total
