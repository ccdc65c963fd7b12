"""Shrinking: the shortest schedule found that still breaks the same rule.

Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002) over the choices,
with what cannot be taken any more left out; then over the letters of the script; again until neither gets shorter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .scenario import Scenario
from .schedules import Run, play


def shrink(run: Run) -> Run:
    """The smallest run found that breaks the rule which `run` breaks; `run` itself if it cannot be played again."""
    assert run.violation is not None
    rule = run.violation.rule
    best = play(run.scenario, run.choices)
    if best.violation is None or best.violation.rule != rule:
        return run
    before = None
    while before != (best.scenario, best.choices):
        before = (best.scenario, best.choices)
        best = _shorter_script(_fewer_choices(best, rule), rule)
    return replace(best, seed=run.seed)


def _still(scenario: Scenario, choices: Sequence[str], rule: str) -> Run | None:
    """The run of `choices`, if it breaks the rule."""
    run = play(scenario, choices)
    return run if run.violation is not None and run.violation.rule == rule else None


def _shorter_script(run: Run, rule: str) -> Run:
    for position in reversed(range(len(run.scenario.script))):
        script = run.scenario.script[:position] + run.scenario.script[position + 1 :]
        if script:
            run = _still(replace(run.scenario, script=script), run.choices, rule) or run
    return run


def _fewer_choices(run: Run, rule: str) -> Run:
    """ddmin: leave out ever smaller parts of the choices."""
    parts = 2
    while len(run.choices) >= 2:
        size = max(1, len(run.choices) // parts)
        for start in range(0, len(run.choices), size):
            shorter = _still(run.scenario, [*run.choices[:start], *run.choices[start + size :]], rule)
            if shorter is not None and len(shorter.choices) < len(run.choices):
                run, parts = shorter, max(2, parts - 1)
                break
        else:
            if size == 1:
                return run
            parts = min(len(run.choices), 2 * parts)
    return run
