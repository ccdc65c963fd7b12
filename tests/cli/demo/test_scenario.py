"""The acts and their scaling."""

from __future__ import annotations

import pytest

from bgsuper.cli.demo.scenario import FAULTS, HEALTHY, LONGEST_S, NO_FAULTS, SHORTEST_S, Act, schedule
from bgsuper.errors import ConfigError


@pytest.mark.parametrize("acts", [FAULTS, NO_FAULTS])
@pytest.mark.parametrize("seconds", [SHORTEST_S, 30.0, LONGEST_S])
def test_the_acts_fill_the_run_without_gaps(acts: tuple[Act, ...], seconds: float) -> None:
    """Each act begins where the one before ends; together they take the whole time, by their weights."""
    planned = schedule(acts, seconds)
    at = 0.0
    for item in planned:
        assert item.start_s == pytest.approx(at)
        at += item.length_s
    assert at == pytest.approx(seconds)
    assert [item.act for item in planned] == list(acts)
    assert planned[0].length_s / planned[1].length_s == pytest.approx(acts[0].weight / acts[1].weight)


@pytest.mark.parametrize("seconds", [0.0, SHORTEST_S - 0.1, LONGEST_S + 1, float("nan"), float("inf")])
def test_a_run_that_is_too_short_or_too_long_is_refused(seconds: float) -> None:
    """The message names the option."""
    with pytest.raises(ConfigError, match="--seconds"):
        schedule(FAULTS, seconds)


def test_the_first_act_measures_the_machine_alone() -> None:
    """Without load and without faults: what the later figures are held against."""
    for acts in (FAULTS, NO_FAULTS):
        assert not acts[0].load
        assert all(act.load for act in acts[1:])
    assert (HEALTHY.deaths, HEALTHY.sync_delay_s, HEALTHY.full) == (0, 0.0, False)


def test_only_one_sync_ever_fails() -> None:
    """The second within a minute would end the supervisor, as it should."""
    assert sum(act.fail_syncs for act in FAULTS) == 1


def test_each_fault_that_the_demo_promises_has_its_act() -> None:
    """Slow, failing and full disks; deaths before, after and outside a sync."""
    assert {act.sync_delay_s for act in FAULTS} >= {0.3, 1.0}
    assert any(act.full for act in FAULTS)
    assert sum(act.deaths for act in FAULTS) == 6
    assert any(act.kill_before_sync for act in FAULTS)
    assert any(act.kill_after_sync for act in FAULTS)
    assert any(act.kills > 1 for act in FAULTS)
