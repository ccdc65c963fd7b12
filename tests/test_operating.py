"""docs/operating.md is what an operator has at three in the morning: it must know every word that health can say."""

from __future__ import annotations

import logging
import re
from dataclasses import fields
from pathlib import Path

import pytest

from bgsuper import Limits, RestartPolicy
from bgsuper.health import DeathCause, WorkerState
from bgsuper.supervisor.history import LEVELS

MANUAL = (Path(__file__).parents[1] / "docs" / "operating.md").read_text()
ROWS = {row[1]: row for row in (re.split(r" *\| *", line) for line in MANUAL.splitlines() if line.startswith("| `"))}


@pytest.mark.parametrize("state", WorkerState, ids=lambda state: state.name)
def test_every_state_has_its_row_with_its_level(state: WorkerState) -> None:
    """What it means, what we do, what to do; and how loudly the log speaks of it."""
    _, _, level, *columns, _ = ROWS[f"`{state.name}`"]
    assert level.upper() == logging.getLevelName(LEVELS[state])
    assert len(columns) == 3
    assert all(columns)


@pytest.mark.parametrize("cause", DeathCause, ids=lambda cause: cause.name)
def test_every_cause_of_death_has_its_row(cause: DeathCause) -> None:
    """And says whether it is charged."""
    assert len([column for column in ROWS[f"`{cause.name}`"] if column]) == 3


def test_the_settings_it_names_are_there_with_these_defaults() -> None:
    """A manual that names a setting by a name it no longer has, or another default, misleads."""
    policy = RestartPolicy()
    named = re.findall(r"`(\w+_s|intensity)` \((\d+)(?: s)?\)", MANUAL)
    defaults = {field.name: getattr(policy, field.name) for field in fields(policy)} | {"lagging_s": Limits().lagging_s}
    assert len(named) >= 6
    assert {name: float(value) for name, value in named} == {name: float(defaults[name]) for name, _ in named}
