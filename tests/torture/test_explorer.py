"""The explorer finds nothing where nothing is wrong: exhaustively in small worlds, at random in larger ones."""

from __future__ import annotations

import os

import pytest

from bgsuper.torture.explorer.scenario import Scenario
from bgsuper.torture.explorer.schedules import play, run_many, run_seed
from bgsuper.torture.explorer.search import Search

# It runs the core millions of times: what it covers the other tests do, and counting it takes half as long again.
pytestmark = pytest.mark.no_cover

#: In CI 20,000 in all, on as many processes as there are processors to have.
RANDOM_SCHEDULES = 20_000
REAL_SCHEDULES = 200


@pytest.mark.parametrize("script", ["ccS", "cSk", "cL"])
def test_every_interleaving(script: str) -> None:
    """A process death and then a power cut, each at any step, and every fate of what was not synced: no rule is broken.
    (3 commits and 1 snapshot in each order: ``python -m bgsuper.torture.explorer exhaust``.)"""
    coverage = Search(Scenario(script)).run()
    assert coverage.violation is None, coverage.choices
    assert coverage.states > 2_000
    assert coverage.schedules > coverage.states
    print(f"{script}: {coverage.states} states, {coverage.schedules} schedules, {coverage.seconds:.1f} s")


@pytest.mark.parametrize(("script", "faults"), [("c", 1)])
def test_every_interleaving_with_a_failed_sync(script: str, faults: int) -> None:
    """The same where a sync fails besides, whatever of it reached the platter."""
    coverage = Search(Scenario(script, failed_syncs=faults)).run()
    assert coverage.violation is None, coverage.choices
    assert coverage.states > 1_000


def test_random_schedules() -> None:
    """Longer scripts, several deaths and power cuts, failed syncs and reads, space that runs out: no rule is broken,
    and every kind of fault did happen."""
    tally = run_many(RANDOM_SCHEDULES, jobs=os.cpu_count() or 1)
    assert not tally.violations, (tally.violations[0].violation, tally.violations[0].choices)
    assert tally.schedules == RANDOM_SCHEDULES
    assert min(tally.faults[kind] for kind in FAULTS) > 100
    print(f"{tally.schedules} schedules, {tally.steps} steps, {tally.seconds:.1f} s: {dict(tally.faults)}")


FAULTS = (
    "host killed",
    "worker killed",
    "orphan killed",
    "worker hung",
    "power cut",
    "sync failed",
    "read failed",
    "space out",
)


def test_random_schedules_over_the_real_store() -> None:
    """SQLite itself, with un-synced writes kept apart: no rule is broken."""
    tally = run_many(REAL_SCHEDULES, world="sqlite")
    assert not tally.violations, (tally.violations[0].violation, tally.violations[0].choices)
    assert min(tally.faults[kind] for kind in ("host killed", "power cut", "sync failed", "space out")) > 20
    print(f"{tally.schedules} schedules, {tally.steps} steps, {tally.seconds:.1f} s: {dict(tally.faults)}")


@pytest.mark.parametrize("world", ["model", "sqlite"])
def test_a_seed_is_one_schedule(world: str) -> None:
    """Run again, a seed gives the same choices; played again, they are all possible."""
    for seed in range(5):
        run = run_seed(seed, world)
        again = run_seed(seed, world)
        assert (run.choices, run.violation) == (again.choices, again.violation)
        assert play(run.scenario, run.choices).choices == run.choices
