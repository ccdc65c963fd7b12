"""``python -m bgsuper.torture.explorer``: search everything, try much at random, or see one schedule again.

Exit status: 0 if nothing was broken; 1 if a rule was, with the schedule kept in a file and how to replay it; 2 for what
could not begin.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ...errors import ConfigError
from .scenario import OPERATIONS, Scenario
from .schedules import Run, Tally, play, run_many
from .search import Coverage, Search
from .shrink import shrink
from .story import tell
from .trace import load_run, save_run

#: 3 commits and 1 snapshot, wherever it comes: critical or not, small or in two frames, its key touched or not.
ALL_SCRIPTS = (
    "sccc", "cscc", "ccsc", "cccs", "Sccc", "cScc", "ccSc", "cccS", "Lccc", "cLcc", "ccLc", "cccL",
    "skcc", "sckc", "scck", "cskc", "csck", "ccsk", "Skcc", "cSkc", "ccSk", "Lkcc", "cLkc", "ccLk", "kscc", "kSkc",
)  # fmt: skip

KEPT_IN = "torture-evidence"
_directory = click.option(
    "--keep", default=KEPT_IN, show_default=True, metavar="DIRECTORY", help="Where a schedule that breaks a rule goes."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def explorer() -> None:
    """A simulation of host, pipe, worker, store and disk, in which anything may die at any step."""


@explorer.command()
@click.option(
    "--script", "scripts", multiple=True, metavar="LETTERS", help=f"One or more of {OPERATIONS}; may be repeated."
)
@click.option("--deaths", default=1, show_default=True, help="How many processes die.")
@click.option("--powers", default=1, show_default=True, help="How often the power fails.")
@click.option("--failed-syncs", default=0, show_default=True, help="How many syncs fail.")
@click.option("--any-order", is_flag=True, help="Processes may die after the power failed as well.")
@_directory
@_json
def exhaust(
    scripts: tuple[str, ...], deaths: int, powers: int, failed_syncs: int, any_order: bool, keep: str, as_json: bool
) -> int:
    """Every interleaving; without --script, of 3 commits and 1 snapshot in each order."""
    done: list[Coverage] = []
    console = Console(stderr=True)
    with console.status("") as status:
        for script in scripts or ALL_SCRIPTS:
            scenario = Scenario(script, deaths, powers, failed_syncs, deaths_first=not any_order)
            search = Search(scenario, lambda now: status.update(f"{now.scenario.script}: {now.states:,} states"))
            coverage = search.run()
            done.append(coverage)
            console.print(
                f"{script}: {coverage.states:,} states, {coverage.steps:,} steps, {coverage.schedules:,} schedules "
                f"of up to {coverage.longest} steps, {coverage.seconds:.1f} s"
            )
            if coverage.violation is not None:
                return _violated(Run(scenario, None, coverage.choices, coverage.violation), keep, as_json)
    total = {
        name: sum(getattr(coverage, name) for coverage in done) for name in ("states", "steps", "schedules", "seconds")
    }
    _report({"scripts": len(done), **total, "violations": 0}, as_json)
    return 0


@explorer.command(name="random")
@click.option("--schedules", default=20_000, show_default=True, type=click.IntRange(1), help="How many to run.")
@click.option("--seed", default=0, show_default=True, help="The first seed; each schedule takes the next.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="In how many processes.")
@click.option("--real", is_flag=True, help="Over the real SQLite store, its un-synced writes kept apart.")
@_directory
@_json
def random_(schedules: int, seed: int, jobs: int, real: bool, keep: str, as_json: bool) -> int:
    """Schedules by chance, with faults of every kind."""
    columns = TextColumn("{task.description}"), SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("schedules", total=schedules)

        def on_batch(tally: Tally) -> None:
            progress.update(task, completed=tally.schedules)

        tally = run_many(schedules, seed=seed, jobs=jobs, world="sqlite" if real else "model", on_batch=on_batch)
    if tally.violations:
        return _violated(tally.violations[0], keep, as_json)
    result = {
        "schedules": tally.schedules,
        "steps": tally.steps,
        "seconds": tally.seconds,
        "faults": dict(tally.faults),
        "violations": 0,
    }
    _report(result, as_json)
    return 0


@explorer.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
def replay(file: str) -> int:
    """Take the schedule in FILE again, and tell each step."""
    found = load_run(file)
    run = play(found.scenario, found.choices, lambda world, choice: click.echo(tell(world, choice)))
    if run.violation is None:
        click.echo("Nothing is broken: whatever it was is mended, or the explorer has changed since.")
        return 0
    click.echo(f"Broken: {run.violation}")
    return 1


def _violated(run: Run, keep: str, as_json: bool) -> int:
    smallest = shrink(run)
    path = save_run(smallest, keep)
    _report(
        {
            "violations": 1,
            "violation": str(smallest.violation),
            "seed": run.seed,
            "scenario": asdict(smallest.scenario),
            "choices": smallest.choices,
            "shrunk_from": len(run.choices),
            "kept": str(path),
            "replay": f"python -m bgsuper.torture.explorer replay {path}",
        },
        as_json,
    )
    return 1


def _report(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(result))
        return
    for name, value in result.items():
        shown = f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
        click.echo(f"{name}: {shown}")


def main() -> int:
    """Run the command line; its exit status."""
    try:
        status = explorer.main(prog_name="python -m bgsuper.torture.explorer", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return 2
    except ConfigError as error:
        print(f"explorer: {error}", file=sys.stderr)
        return 2
    except click.Abort:
        return 130
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    sys.exit(main())
