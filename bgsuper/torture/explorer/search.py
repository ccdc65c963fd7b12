"""Exhaustive search: every interleaving of a scenario, each state visited once.

Depth first, from saved states; a state that was visited before, on whatever way, is not entered again. Since nothing
in a world goes round in circles (each step uses up script, budget or work), the number of schedules that a state leads
to is the sum over its steps, so that what was covered can be said in schedules as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .monitor import Violation
from .scenario import Scenario
from .states import fingerprint, restore, save
from .world import World


@dataclass(slots=True)
class Coverage:
    """What a search has seen."""

    scenario: Scenario
    states: int = 0
    steps: int = 0  #: taken, each from another state or another one from the same
    schedules: int = 0  #: how many ways there are from the start to an end
    longest: int = 0
    seconds: float = 0.0
    violation: Violation | None = None
    choices: list[str] = field(default_factory=list)  #: the way to it


class Search:
    """One search. `on_state` is called now and then, for whoever watches."""

    def __init__(self, scenario: Scenario, on_state: Callable[[Coverage], None] = lambda _: None) -> None:
        self.coverage = Coverage(scenario)
        self._on_state = on_state
        self._schedules: dict[int, int] = {}
        self._trace: list[str] = []

    def run(self) -> Coverage:
        """Visit everything, or stop at the first violation."""
        began = time.monotonic()
        coverage = self.coverage
        try:
            coverage.schedules = self._visit(World(coverage.scenario))
        except Violation as violation:
            coverage.violation, coverage.choices = violation, list(self._trace)
        coverage.states, coverage.seconds = len(self._schedules), time.monotonic() - began
        return coverage

    def _visit(self, world: World) -> int:
        """The number of schedules from `world` on, which is used up by that."""
        mark = fingerprint(world)
        known = self._schedules.get(mark)
        if known is not None:
            return known
        ordinary, faults = world.ordinary(), world.faults()
        if not ordinary:
            world.check_at_rest()
        choices = ordinary + faults
        saved = save(world) if len(choices) > 1 else b""
        schedules = 0 if choices else 1
        for number, choice in enumerate(choices):
            child = world if number == 0 else restore(saved)
            self._trace.append(choice)
            child.do(choice)
            self.coverage.steps += 1
            schedules += self._visit(child)
            self._trace.pop()
        self._schedules[mark] = schedules
        coverage = self.coverage
        coverage.longest = max(coverage.longest, len(self._trace))
        coverage.states = len(self._schedules)
        if not coverage.states & 1023:
            self._on_state(coverage)
        return schedules
