"""The command line of `bgsuper torture`: options in, a live report, a verdict, an exit status.

What it runs is imported only when it runs, so that ``--help`` comes at once."""

from __future__ import annotations

import json
import math
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ..errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from ..torture.run.overseer import Overseer

#: How long a run is if nothing says so.
MINUTES: Final = 1.0
#: The width of the tables where there is no terminal to ask.
WIDE: Final = 110
#: Seconds between two pictures, and between two lines where there is no terminal.
FRAME_S: Final = 0.25
LINE_S: Final = 10.0

EPILOG: Final = """\
\b
Examples:
  bgsuper torture                                   a minute in a temporary directory
  bgsuper torture --minutes 60 --store sqlite:///mnt/disk/torture
                                                    an hour on the disk that you mean to trust
  bgsuper torture --kills 2000 --json report.json   until 2,000 processes were killed
  bgsuper torture --size 1024 --kills 200           recovery times at a store of 1 GiB

Exit status: 0 if nothing was lost, and the store is removed; 1 if anything was, with the evidence kept: the store as it
was found, the timeline, and how to see it again; 2 if it could not begin. Ctrl-C ends the run in good order, with the
last look at the store, and a report of what was found; a second one ends it at once (130).
"""


@click.command(epilog=EPILOG)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MINUTES",
    help=f"How long blows are struck.  [default: {MINUTES:g}, or without end if --kills is given]",
)
@click.option(
    "--kills", type=click.IntRange(min=1), metavar="NUMBER", help="End once so many processes were killed by SIGKILL."
)
@click.option(
    "--store",
    metavar="URL",
    help="Where the store goes, such as sqlite:///mnt/disk/torture: a directory that is new or empty.  "
    "[default: one among the temporary files]",
)
@click.option(
    "--size", type=click.IntRange(min=0), default=0, metavar="MIB", help="Fill the store with so many MiB first."
)
@click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    metavar="NUMBER",
    help="What workload, blows and weather are made from.",
)
@click.option(
    "--json",
    "report_to",
    metavar="FILE|-",
    help="Write summary and timeline (commits, acks, kills, recoveries) to this file, or to standard output.",
)
@click.option("--keep", is_flag=True, help="Keep the store after a good run as well.")
def torture(
    minutes: float | None,
    kills: int | None,
    store: str | None,
    size: int,
    seed: int,
    report_to: str | None,
    keep: bool,
) -> int:
    """Kill a host and its worker again and again, and look whether anything acknowledged was lost.

    A host of its own submits commits and snapshots through a real supervisor. It and its worker are killed at random
    and at named points (before a sync, between a sync and its acknowledgement, ...), stopped, and killed while they
    start; the disk becomes slow, refuses a sync, is full for a while. Each new host must find all that was
    acknowledged: whole, in order, nothing else, no snapshot older than before. The account of that is kept outside of
    all that is killed.

    A loss of power is not shown by this: a kill takes a process away, never the page cache.
    """
    if minutes is None and kills is None:
        minutes = MINUTES
    report_file = _writable(report_to)

    from rich.console import Console

    from ..torture.run.overseer import Options, Overseer
    from ..torture.run.screen import summary
    from ..torture.run.workspace import Workspace

    options = Options(
        seconds=math.inf if minutes is None else minutes * 60,
        kills=math.inf if kills is None else kills,
        seed=seed,
        filling_bytes=size * 2**20,
    )
    stream = sys.stderr if report_to == "-" else sys.stdout
    console = Console(file=stream) if stream.isatty() else Console(file=stream, width=WIDE)
    workspace = Workspace.make(store)
    console.print(f"bgsuper torture: seed {seed}, the store is {workspace.store.path}", highlight=False, soft_wrap=True)
    try:
        with _shown(console) as tell:
            overseer = Overseer(options, workspace, tell)
            with _interrupts(overseer):
                outcome = overseer.run()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{workspace.own.path} and {workspace.store.path} are left; remove them") from None
    if not outcome.ok:
        workspace.explain(outcome, _command(minutes, kills, store, size, seed))
    elif not keep:
        workspace.remove()
    report = {"summary": outcome.summary(), "timeline": outcome.timeline.lines}
    if report_file is not None:
        report_file.write_text(json.dumps(report) + "\n")
    elif report_to == "-":
        click.echo(json.dumps(report))
    for part in summary(outcome, None if outcome.ok else str(workspace.evidence)):
        console.print(part)
    if outcome.ok and keep:
        console.print(
            f"The store is kept in {workspace.store.path}, what was logged in {workspace.log}",
            highlight=False,
            soft_wrap=True,
        )
    return 0 if outcome.ok else 1


def _writable(report_to: str | None) -> Path | None:
    """The report's file, begun: an hour's run must not end at a typing error."""
    if report_to is None or report_to == "-":
        return None
    try:
        Path(report_to).write_text("")
    except OSError as error:
        raise ConfigError(
            f"expected a file to write the report to, {report_to} is none ({error.strerror}); name another with --json"
        ) from error
    return Path(report_to)


def _command(minutes: float | None, kills: int | None, store: str | None, size: int, seed: int) -> str:
    """The command line that makes the same run again."""
    given = {"minutes": minutes, "kills": kills, "store": store, "size": size or None, "seed": seed}
    words = [word for name, value in given.items() if value is not None for word in (f"--{name}", f"{value}")]
    return shlex.join(["bgsuper", "torture", *words])


@contextmanager
def _shown(console: Console) -> Iterator[Callable[[Overseer], None]]:
    """To whom the run is told: a picture on a terminal, or a line now and then."""
    from rich.live import Live

    from ..torture.run.screen import draw, line

    due = 0.0

    def is_due(every_s: float) -> bool:
        nonlocal due
        if time.monotonic() < due:
            return False
        due = time.monotonic() + every_s
        return True

    if not console.is_terminal:

        def print_line(overseer: Overseer) -> None:
            if is_due(LINE_S):
                console.print(line(overseer), highlight=False, soft_wrap=True)

        yield print_line
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def show(overseer: Overseer) -> None:
            if is_due(FRAME_S):
                live.update(draw(overseer), refresh=True)

        yield show


@contextmanager
def _interrupts(overseer: Overseer) -> Iterator[None]:
    """The first Ctrl-C, or SIGTERM, ends the run in good order; a second one is Python's own."""
    caught = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in caught}

    def interrupt(*_: object) -> None:
        overseer.interrupted = True
        for number in caught:
            signal.signal(number, before[number])

    for number in caught:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, before[number])
