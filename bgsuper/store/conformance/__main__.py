"""``python -m bgsuper.store.conformance TARGET``: which rules of `Store` a backend keeps, and which it breaks."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from typing import Final

import click
from rich.console import Console
from rich.text import Text

from ...errors import BgsuperError, ConfigError
from . import CASES
from .backend import Backend
from .rules import Case
from .run import Result, run

_MARKS: Final = {"kept": ("✓", "green"), "broken": ("✗", "bold red"), "skipped": ("-", "dim")}
_REFUSED: Final = 2
_INTERRUPTED: Final = 130

EPILOG: Final = """\
\b
Examples:
  python -m bgsuper.store.conformance mypackage.store:MyStore
  python -m bgsuper.store.conformance file: --directory /mnt/disk
  python -m bgsuper.store.conformance "sqlite:?key-file=/path/to/key" --json

Exit status: 0 if every rule is kept, 1 if any is broken, 2 if it could not begin.
"""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("target")
@click.option("--directory", metavar="DIR", help="Where the stores are made: on the disk that you mean to trust.")
@click.option("--only", metavar="CASE", multiple=True, help="Run this case, and others that are named so.")
@click.option("--volatile", is_flag=True, help="It keeps nothing once its process ends: skip what asks for more.")
@click.option("--no-checksums", is_flag=True, help="It does not tell damaged bytes from whole ones.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides what the crash cases write.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else.")
def conformance(
    target: str,
    directory: str | None,
    only: tuple[str, ...],
    volatile: bool,
    no_checksums: bool,
    seed: int,
    as_json: bool,
) -> int:
    """Run a store through the rules of bgsuper.store.api.Store.

    TARGET is package.module:factory, where factory(directory) makes a store that is not open yet, or the URL of one of
    bgsuper's own without its path: sqlite:, file:, memory:.
    """
    backend = partial(Backend, target, volatile=volatile, checksums=not no_checksums, seed=seed)
    cases = _chosen(only)
    if directory is not None and not os.path.isdir(directory):
        raise ConfigError(f"expected --directory to name a directory, got {directory!r:.200}")
    results = run(cases, lambda path: backend(path), directory)
    found = list(results if as_json else _shown(results, len(cases)))
    broken = [result for result in found if result.outcome == "broken"]
    if as_json:
        print(json.dumps({"target": target, "seed": seed, "results": [result._asdict() for result in found]}, indent=1))
    else:
        _conclude(target, found)
    return 1 if broken else 0


def _chosen(only: tuple[str, ...]) -> list[Case]:
    names = {case.__name__: case for case in CASES}
    wanted = [name.replace(" ", "_") for name in only]
    for name in wanted:
        if name not in names:
            raise ConfigError(f"expected --only to name a case as a run prints it, got {name!r:.80}")
    return [names[name] for name in wanted] or list(CASES)


def _shown(results: Iterator[Result], count: int) -> Iterator[Result]:
    """Each result, once it is printed; beside a terminal's last line that says how far it is."""
    console = Console(highlight=False)
    with console.status(f"0 of {count}") as status:
        for number, result in enumerate(results, start=1):
            mark, style = _MARKS[result.outcome]
            line = Text.assemble((mark, style), " ", (result.case.replace("_", " "), style))
            if result.outcome == "broken":
                line.append(f"\n    Rule:  {result.rule}\n    Found: {result.detail}")
            elif result.detail:
                line.append(f": {result.detail}", style="dim")
            console.print(line, soft_wrap=not console.is_terminal)
            status.update(f"{number} of {count}")
            yield result


def _conclude(target: str, found: list[Result]) -> None:
    counts = {outcome: sum(result.outcome == outcome for result in found) for outcome in _MARKS}
    seconds = sum(result.seconds for result in found)
    words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    style = "bold red" if counts["broken"] else "bold green"
    Console(highlight=False).print(Text(f"{target}: {words}, in {seconds:.1f} s", style=style))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    try:
        status = conformance.main(arguments, prog_name="python -m bgsuper.store.conformance", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return _REFUSED
    except (BgsuperError, OSError) as error:
        print(f"bgsuper.store.conformance: {' '.join(str(error).split())}", file=sys.stderr)
        return _REFUSED
    except (KeyboardInterrupt, click.Abort):
        print("bgsuper.store.conformance: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    sys.exit(main())
