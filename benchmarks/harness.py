"""What the benchmarks share: options, fresh host processes, percentiles, claims, and the report of a run.

A report is JSON: ``{benchmark, question, machine, settings, figures, claims}``. A claim is one sentence of the
project's promises with its limit and what was measured. Claims of kind "count" hold or fail alike on a quiet and on a
busy machine; claims of kind "time" need a quiet one and full runs.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

Figures = dict[str, Any]

ROOT = Path(__file__).parents[1]


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the ascending values that at least `share` of them do not exceed; nan if there are none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def medians(runs: Sequence[Figures]) -> Figures:
    """The median of each figure over `runs`, which all have the same ones."""
    return {name: statistics.median(figures[name] for figures in runs) for name in runs[0]}


@dataclass(frozen=True, slots=True)
class Claim:
    """One promise, judged. `limit` and `measured` are text with their units."""

    text: str
    limit: str
    measured: str
    holds: bool
    kind: Literal["time", "count"] = "time"


def at_most(text: str, measured: float, limit: float, unit: str, kind: Literal["time", "count"] = "time") -> Claim:
    """`text` holds if `measured` does not exceed `limit`."""
    return Claim(text, f"<= {limit:,.4g} {unit}".strip(), f"{measured:,.4g} {unit}".strip(), measured <= limit, kind)


def at_least(text: str, measured: float, limit: float, unit: str) -> Claim:
    """`text` holds if `measured` reaches `limit`."""
    return Claim(text, f">= {limit:,.4g} {unit}".strip(), f"{measured:,.4g} {unit}".strip(), measured >= limit)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark takes; `doc` is its module's docstring."""
    summary = (doc or "").partition("\n\n")[0]
    options = argparse.ArgumentParser(description=summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    options.add_argument("--json", type=Path, metavar="PATH", help="write the report there")
    options.add_argument("--plot", type=Path, metavar="PATH", help="draw the plot there (.png or .svg; matplotlib)")
    options.add_argument("--quick", action="store_true", help="a short run that shows it works, and no time")
    options.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="the disk to measure on")
    options.add_argument("--cell", metavar="JSON", help=argparse.SUPPRESS)
    return options


@contextmanager
def scratch(directory: Path) -> Iterator[Path]:
    """A new directory under `directory`, removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix="bgsuper-bench-", dir=directory))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def in_fresh_host(
    module: str, cell: Mapping[str, object], *, directory: Path, timeout: float, under: Sequence[str] = ()
) -> Figures:
    """Measure one cell in a process of its own: ``python -m module --cell JSON``, which prints its figures as JSON.

    `directory` is the disk to measure on, `under` a command to run it under (strace).
    """
    command = [*under, sys.executable, "-m", module, "--dir", str(directory), "--cell", json.dumps(cell)]
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=timeout, check=True)
    figures: Figures = json.loads(result.stdout)
    return figures


@dataclass(frozen=True)
class Report:
    """What a benchmark found."""

    benchmark: str
    question: str
    machine: Figures
    settings: Figures
    figures: Any
    claims: list[Claim]

    def save(self, path: Path | None) -> None:
        """Write it as JSON, if a path was asked for."""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def show(self, *tables: Table) -> None:
        """Print machine, tables and claims."""
        console = Console(width=None if sys.stdout.isatty() else 140)
        console.print(f"[bold]{self.question}[/]")
        console.print(", ".join(f"{name} {_short(value)}" for name, value in self.machine.items()), style="dim")
        for table in tables:
            console.print(table)
        verdicts = Table("claim", "limit", "measured", "verdict", title="Claims")
        for claim in self.claims:
            verdicts.add_row(claim.text, claim.limit, claim.measured, "[green]holds" if claim.holds else "[red]fails")
        console.print(verdicts)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
