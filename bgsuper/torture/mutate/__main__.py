"""``python -m bgsuper.torture.mutate``: mutated inputs for every parser, and damaged stores.

Exit status: 0 if every rule held; 1 if one did not, with the inputs kept in a directory.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from . import campaign, damage
from .parsers import parsers


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--inputs", default=100_000, show_default=True, type=click.IntRange(0), help="How many, over all parsers."
)
@click.option("--stores", default=0, show_default=True, type=click.IntRange(0), help="How many damaged stores to open.")
@click.option("--seed", default=1, show_default=True, help="Inputs and damages are made from it.")
@click.option("--only", metavar="NAME", help="One parser alone.")
@click.option("--keep", default="torture-evidence", show_default=True, metavar="DIRECTORY", help="Where findings go.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def main(inputs: int, stores: int, seed: int, only: str | None, keep: str, as_json: bool) -> int:
    """Give bytes that nobody wrote to whatever reads bytes from outside."""
    chosen = {name: parser for name, parser in parsers().items() if only in (None, name)}
    if not chosen:
        raise click.BadParameter(f"expected one of: {', '.join(parsers())}", param_hint="--only")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("inputs", total=inputs)
        account = campaign.run(
            chosen, inputs, seed, lambda name, count: progress.update(task, advance=count, description=name)
        )
        task = progress.add_task("damaged stores", total=stores, visible=stores > 0)
        with tempfile.TemporaryDirectory(prefix="bgsuper-mutate-") as directory:
            damaged = damage.run(Path(directory), stores, seed, lambda: progress.update(task, advance=1))
    _keep(account, damaged, Path(keep), console)
    if as_json:
        click.echo(json.dumps(_plain(account, damaged)))
    else:
        console.print(_table(account))
        console.print(f"process grown by {account.grown_bytes / 2**20:.0f} MiB at most; stores: {damaged.summary}")
    return 0 if account.held and not damaged.broken else 1


def _keep(account: campaign.Account, damaged: damage.Damaged, directory: Path, console: Console) -> None:
    for finding in account.findings:
        directory.mkdir(parents=True, exist_ok=True)
        path = (
            directory / f"input-{finding.parser.replace(' ', '-').replace(',', '')}-{account.seed}-{finding.number}.bin"
        )
        path.write_bytes(finding.content)
        console.print(f"[red]{finding.parser}[/red] {finding.what}: {path}", highlight=False)
    for broken in damaged.broken:
        console.print(f"[red]store[/red] {broken}; again: --inputs 0 --stores {damaged.opened} --seed {account.seed}")
    if account.grown_bytes > campaign.GROWTH_BYTES:
        console.print(f"[red]memory[/red] grew by {account.grown_bytes / 2**20:.0f} MiB")


def _plain(account: campaign.Account, damaged: damage.Damaged) -> dict[str, object]:
    return {
        "inputs": account.inputs,
        "seed": account.seed,
        "parsers": {name: asdict(tally) for name, tally in account.tallies.items()},
        "grown_bytes": account.grown_bytes,
        "stores": asdict(damaged),
        "findings": [
            {"parser": found.parser, "number": found.number, "what": found.what, "hex": found.content.hex()}
            for found in account.findings
        ],
    }


def _table(account: campaign.Account) -> Table:
    table = Table("parser", "inputs", "taken", "refused", "slowest ms")
    for name, tally in account.tallies.items():
        figures = (tally.inputs, tally.taken, tally.refused)
        table.add_row(name, *(f"{figure:,}" for figure in figures), f"{tally.slowest_s * 1000:.1f}")
    return table


if __name__ == "__main__":
    sys.exit(main(standalone_mode=False))
