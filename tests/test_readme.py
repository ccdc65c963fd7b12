"""The README is true: its examples run as printed, and CI runs its test command to the letter."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

pytestmark = pytest.mark.usefixtures("no_leaks")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def run(source: str, directory: Path) -> str:
    script = directory / "host.py"
    script.write_text(source)
    done = subprocess.run(
        [sys.executable, "-W", "error", script.name], cwd=directory, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_host_app_runs_as_printed_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """At most 20 lines, no Lightning, and the second run counts on."""
    source = blocks("python")[0]
    assert len(source.splitlines()) <= 20
    assert run(source, tmp_path) == "1000 is durable; the worker is ready\n"
    assert run(source, tmp_path) == "2000 is durable; the worker is ready\n"


def test_its_asyncio_twin_runs_as_printed(tmp_path: Path) -> None:
    """At most 20 lines; every answer leaves once, in order, after its commit."""
    source = blocks("python")[1]
    assert len(source.splitlines()) <= 20
    assert run(source, tmp_path).splitlines() == [f"answer {number}: {number**2}" for number in range(1000)]


def test_ci_runs_exactly_the_readmes_test_command() -> None:
    """What CI proves is what a reader types."""
    command = blocks("sh")[1].strip()
    assert command.endswith("-m pytest")
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()
