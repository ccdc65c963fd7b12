"""Which world a scenario asks for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Final

from ...errors import ConfigError
from .real import RealWorld
from .scenario import Scenario
from .world import World

#: The kinds: a model of a store on a model of a disk, and the real SQLite store.
WORLDS: Final = ("model", "sqlite")


def open_world(scenario: Scenario) -> AbstractContextManager[World]:
    """A new world for `scenario`. Raises `ConfigError` if there is no such kind."""
    match scenario.world:
        case "model":
            return nullcontext(World(scenario))
        case "sqlite":
            return RealWorld(scenario)
    raise ConfigError(f"expected a world of {', '.join(WORLDS)}, got {scenario.world!r:.80}")
