"""``python -m bgsuper.torture.power``: the command line of the power cuts.

Exit status: 0 if nothing was lost; 1 if something was, with the evidence kept; 2 if it cannot run here; 3 if it failed
itself; 130 after Ctrl-C.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import click

from ...errors import BgsuperError
from .campaign import BLOCK_LOG, Campaign
from .loopmount import NoDisk, isolate
from .planted import FAULTS
from .report import Tally

#: The width of the table where there is no terminal to ask.
WIDE: Final = 110


@click.command()
@click.option("--ext4", default=500, show_default=True, help="Rounds on ext4; each cuts the power twice.")
@click.option("--xfs", default=500, show_default=True, help="Rounds on XFS.")
@click.option("--block-log", default=300, show_default=True, help="Disks built from a block log.")
@click.option("--seed", default=1, show_default=True, help="What the dice are made from.")
@click.option("--directory", type=click.Path(path_type=Path), help="Where the disks are made.  [default: temporary]")
@click.option("--evidence", type=click.Path(path_type=Path), help="Where violations are kept.  [default: temporary]")
@click.option("--plant", type=click.Choice(list(FAULTS)), help="A fault in the worker: the run must find violations.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
def power(
    ext4: int,
    xfs: int,
    block_log: int,
    seed: int,
    directory: Path | None,
    evidence: Path | None,
    plant: str | None,
    as_json: bool,
) -> int:
    """Cut the power under a real host and its worker, recover, and look for what was lost."""
    campaign = Campaign(ext4, xfs, block_log, seed, directory, evidence, plant)
    # Each worker that loses its disk would be a line.
    logging.getLogger("bgsuper").addHandler(logging.NullHandler())
    logging.getLogger("bgsuper").propagate = False
    isolate()
    tallies = _run(campaign)
    violations = [violation for tally in tallies for violation in tally.violations]
    if as_json:
        report = {"seed": seed, "plant": plant, "ok": not violations, "runs": [tally.to_json() for tally in tallies]}
        click.echo(json.dumps(report, indent=2))
    else:
        _show(tallies)
    return 1 if violations else 0


def _run(campaign: Campaign) -> Sequence[Tally]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    wanted = {"ext4": campaign.ext4, "xfs": campaign.xfs, BLOCK_LOG: campaign.block_log}
    columns = (
        TextColumn("{task.description:10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("violations {task.fields[violations]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {kind: bars.add_task(kind, total=total, violations=0) for kind, total in wanted.items() if total}

        def progress(tally: Tally) -> None:
            bars.update(tasks[tally.kind], advance=1, violations=len(tally.violations))

        return campaign.run(progress)


def _show(tallies: Sequence[Tally]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for heading in ("", "recovered", "cuts", "acknowledged", "un-acknowledged", "(kept)", "violations", "seconds"):
        table.add_column(heading, justify="right")
    for tally in tallies:
        figures = (tally.done, tally.cuts, tally.acknowledged, tally.unacknowledged, tally.kept, len(tally.violations))
        table.add_row(tally.kind, *(f"{figure:,}" for figure in figures), f"{tally.seconds:.0f}")
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    console.print(table)
    for tally in tallies:
        for violation in tally.violations:
            console.print(f"{tally.kind} {violation.number}: {'; '.join(violation.problems)}", markup=False)
            if violation.evidence:
                console.print(f"  kept in {violation.evidence}", markup=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit status."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        status = power.main(arguments, prog_name="python -m bgsuper.torture.power", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BgsuperError as error:
        click.echo(f"power: {error}", err=True)
        return 2 if isinstance(error, NoDisk) else 3
    except (KeyboardInterrupt, click.Abort):
        return 130
    return status if isinstance(status, int) else 0


def _terminated(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
