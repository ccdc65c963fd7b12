"""A schedule in a file, to be seen again: JSON with the scenario, the choices, and what they broke."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from ...errors import ConfigError
from .scenario import Scenario
from .schedules import Run

FORMAT: Final = 1


def save_run(run: Run, directory: str | os.PathLike[str]) -> Path:
    """Write `run` to a new file in `directory`, which is made if it is missing; its path."""
    os.makedirs(directory, exist_ok=True)
    rule = run.violation.rule if run.violation is not None else "none"
    content = {
        "format": FORMAT,
        "seed": run.seed,
        "scenario": run.scenario.to_json(),
        "choices": run.choices,
        "rule": rule,
        "violation": str(run.violation) if run.violation is not None else None,
    }
    text = json.dumps(content, indent=1) + "\n"
    for number in range(1_000_000):
        path = Path(directory, f"violation-{rule}-{number}.json")
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(text)
            return path
        except FileExistsError:
            continue
    raise ConfigError(f"expected room for one more file in {directory}: remove old ones")


def load_run(path: str | os.PathLike[str]) -> Run:
    """The scenario and the choices in the file at `path`, not played yet. Raises `ConfigError`."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"expected a schedule in {os.fspath(path)}: {error}") from error
    match content:
        case {"format": 1, "seed": int() | None as seed, "scenario": scenario, "choices": list(choices)} if all(
            isinstance(choice, str) for choice in choices
        ):
            return Run(Scenario.from_json(scenario), seed, choices)
    raise ConfigError(f"expected a schedule of format {FORMAT} in {os.fspath(path)}")
