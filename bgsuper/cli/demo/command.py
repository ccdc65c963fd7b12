"""The command line of `bgsuper demo`: options in, tables or JSON out, an exit status.

What it runs is imported only when it runs, so that ``--help`` comes at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final, TextIO

import click

from ...errors import BgsuperError
from .scenario import FAULTS, LONGEST_S, NO_FAULTS, SHORTEST_S, schedule

EPILOG: Final = """\
Exit status: 0 if nothing was lost and the end was clean; 1 if not, with the directory kept as evidence; 2 if the demo
could not begin; 130 after Ctrl-C, with a report of the part that ran.
"""

#: The width of the tables where there is no terminal to ask.
WIDE: Final = 110


@click.command(epilog=EPILOG)
@click.option(
    "--seconds",
    type=float,
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help=f"How long the run takes, from {SHORTEST_S:g} to {LONGEST_S:g}; the acts are scaled to it. Restarts may add "
    "a second or two.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="DIRECTORY",
    help="Where the store goes: a new or an empty directory.  [default: a fresh one among the temporary files]",
)
@click.option(
    "--seed", type=int, default=1, show_default=True, metavar="NUMBER", help="What the payments are made from."
)
@click.option("--no-faults", is_flag=True, help="Leave the disk and the worker alone: only the idle and the calm act.")
@click.option("--keep", is_flag=True, help="Keep the directory after a good run as well.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object; progress goes to stderr.")
@click.option(
    "--svg",
    type=click.File("w", encoding="utf-8", lazy=False),
    metavar="FILE",
    help="Save the live view's last picture to this file.",
)
def demo(
    seconds: float, directory: Path | None, seed: int, no_faults: bool, keep: bool, as_json: bool, svg: TextIO | None
) -> int:
    """Watch a node survive its disk and its worker.

    Runs a small node under load in a directory of its own: real gossip of Bitcoin's mainnet, payments, an SQLite store
    in a worker process. Meanwhile the disk becomes slow, refuses a sync, is full, and the worker is killed, again and
    again. Then stops cleanly, reopens the store and compares every record with what the demo itself wrote down.

    On a terminal it shows live how late the event loop is and how long the oldest commit waits for the disk.
    """
    acts = NO_FAULTS if no_faults else FAULTS
    schedule(acts, seconds)

    from rich.console import Console

    from .run import Options, Run
    from .show import Lines, LiveView, Show, picture
    from .tables import tables
    from .workspace import Workspace

    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    show: Show = (
        LiveView(console) if console.is_terminal and not as_json else Lines(sys.stderr if as_json else sys.stdout)
    )
    workspace = Workspace.make(directory)
    run = Run(Options(seconds, seed, acts), workspace, show)
    try:
        report = run.play()
    except BgsuperError as error:
        raise BgsuperError(f"{error} (what was logged is in {workspace.log})") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{workspace.directory} is left as it was; remove it") from None
    finally:
        show.close()
    if keep or not report.ok:
        report = report.keep()
        workspace.report.write_text(json.dumps(report.to_json(), indent=2) + "\n")
    else:
        workspace.remove()
    if svg is not None:
        svg.write(picture(run.story, "a directory of its own"))
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        for table in tables(report):
            console.print(table)
    if not report.ok:
        return 1
    return 128 + report.interrupted_by if report.interrupted_by is not None else 0
