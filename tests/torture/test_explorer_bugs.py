"""Planted bugs: the general run finds each of them, and what it keeps of it is short and can be played again."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgsuper.torture.explorer.scenario import Scenario
from bgsuper.torture.explorer.schedules import Run, play, run_batch
from bgsuper.torture.explorer.search import Search
from bgsuper.torture.explorer.shrink import shrink
from bgsuper.torture.explorer.trace import load_run, save_run

from .bugs import BUGS, REAL_BUGS, Bug

pytestmark = pytest.mark.no_cover  # as in test_explorer

#: In so many schedules each bug must be found: a fifth of what CI runs.
BUDGET = 4_000
REAL_BUDGET = 100
#: No shrunk schedule is longer; one without a choice at all breaks the rule when it is left in peace.
SHORT = 25


def found(bug: Bug, budget: int, world: str) -> Run:
    tally = run_batch(0, budget, world)
    assert tally.violations, f"{bug.name} was not found in {budget} schedules"
    return tally.violations[0]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At random; shrunk, kept in a file and read back, it breaks the same rule, and without the bug it breaks none."""
    bug.plant(monkeypatch)
    smallest = shrink(found(bug, BUDGET, "model"))
    assert smallest.violation is not None
    assert smallest.violation.rule in bug.rules, smallest.violation
    assert len(smallest.choices) <= SHORT
    kept = load_run(save_run(smallest, tmp_path))
    again = play(kept.scenario, kept.choices)
    assert again.violation is not None
    assert again.violation.rule == smallest.violation.rule
    monkeypatch.undo()
    assert play(kept.scenario, kept.choices).violation is None


@pytest.mark.parametrize("bug", REAL_BUGS, ids=lambda bug: bug.name)
def test_a_bug_of_the_real_store_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    """At random, over SQLite with un-synced writes kept apart."""
    bug.plant(monkeypatch)
    run = found(bug, REAL_BUDGET, "sqlite")
    assert run.violation is not None
    assert run.violation.rule in bug.rules, run.violation
    monkeypatch.undo()
    assert play(run.scenario, run.choices).violation is None


#: What takes a failed sync or read, or more than one death, is not in the scenario below.
ELSEWHERE = {
    "a read error taken for a missing key",
    "retry a failed sync",
    "trust the cache after a failed sync",
    "a hole in the log stepped over",
    "coalesce across a commit",
}


@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug.name not in ELSEWHERE], ids=lambda bug: bug.name)
def test_reduction_hides_no_bug(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exhaustive search leaves out orders of steps that commute: each bug that its scenario can show is still
    found by it."""
    bug.plant(monkeypatch)
    violations = (Search(Scenario(script)).run().violation for script in ("Sk", "ck"))
    violation = next(filter(None, violations))
    assert violation.rule in bug.rules
