"""`bgsuper store salvage`: what is whole of a damaged store, as a new one, and what is not, by name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from ...errors import ConfigError, StoreCorrupt
from ...store.api import Damage, StoreView
from ...store.salvaging import Salvaged, prove_saved
from ...store.salvaging import salvage as salvage_values
from ...store.schemes import open_view
from .destination import Destination
from .options import as_json_option, url_argument
from .printing import console
from .progress import progress
from .reports import Found, counted, damage_table, damage_to_json, findings_of, verdict
from .source import open_source
from .verify import count

EPILOG: Final = """\
\b
Examples:
  bgsuper store salvage sqlite:///var/lib/node/store sqlite:///var/lib/node/saved
  bgsuper store salvage file:damaged sqlite:saved --report lost.jsonl

DST must be new or an empty directory; until it is complete, and was read again, it is called DST.partial, as with
`bgsuper store copy`. SRC is left as it is: keep it until the node runs again.

Exit status: 0 if nothing was lost; 1 if anything was; 2 if it could not be done, or nothing whole was found; 130 after
Ctrl-C.
"""

_NEW_IDENTITY: Final = (
    "Which store it is, and how far it had come, could not be read: DST is a new store, whose numbers start anew.",
    "Whoever remembers the old one (the node's high-water mark) will take it for another store, or for one that is "
    "behind.",
)


@click.command(epilog=EPILOG)
@url_argument("SRC")
@url_argument("DST")
@click.option(
    "--report",
    "report_to",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write every finding to this new file, one JSON object a line (key, text).",
)
@as_json_option
def salvage(src: str, dst: str, report_to: Path | None, as_json: bool) -> int:
    """Save what is whole of a damaged store.

    Copies that from SRC to a new store, DST, and says what is not whole. The new store is the same node's if that
    can still be read. It lacks what was lost: a node that starts on it may find a channel missing, or older than
    its peer knows it, and lose what is in it. Prefer a backup.
    """
    found = Found()
    source = open_source(src)
    try:
        destination = Destination.of(dst, src)
        with _lines(report_to) as note, destination.built():

            def report(damage: Damage) -> None:
                found.report(damage)
                note(damage)

            salvaged = _salvage(source, destination, report)
    finally:
        source.close()
    found.counts = salvaged.counts
    if as_json:
        click.echo(json.dumps(_report(src, dst, salvaged, found), indent=2))
    else:
        _print(salvaged, found, dst, report_to)
    return 1 if found.damaged else 0


def _salvage(source: StoreView, destination: Destination, report: Callable[[Damage], None]) -> Salvaged:
    with destination.opened() as target, progress("salvaging", count(source)) as advance:
        salvaged = salvage_values(source, target, report, advance)
    if salvaged.damaged and not salvaged.counts.values:
        # A node would take an empty store for a new one.
        raise StoreCorrupt(
            "nothing whole was found, so no store was made: `bgsuper store verify` says why; look for a backup"
        )
    saved = open_view(destination.partial_url)
    try:
        with progress("comparing", salvaged.counts.values) as advance:
            prove_saved(salvaged, saved, advance)
    finally:
        saved.close()
    return salvaged


@contextmanager
def _lines(path: Path | None) -> Iterator[Callable[[Damage], None]]:
    """Writes findings to the new file `path`, if there is to be one."""
    if path is None:
        yield lambda _: None
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"expected a new file to write the report to, {path} is none ({error.strerror}); name another with --report"
        ) from error
    with open(fd, "w", encoding="utf-8") as file:
        yield lambda damage: print(json.dumps(damage_to_json(damage)), file=file)


def _report(src: str, dst: str, salvaged: Salvaged, found: Found) -> dict[str, object]:
    identity = salvaged.identity
    return {
        "source": src,
        "salvaged": dst,
        "identity": None if identity is None else identity.facts(),
        "lost": bool(found.damaged),
        **found.to_json(),
    }


def _print(salvaged: Salvaged, found: Found, dst: str, report_to: Path | None) -> None:
    out = console()
    if not found.damaged:
        out.print(verdict(True, f"Nothing was lost: {counted(found.counts)} were saved.", _next(dst)))
        return
    out.print(damage_table(found))
    lines = [
        "Before you start a node on it: if a channel's record is among the lost, that channel's funds are at risk;"
    ]
    lines += ["restore a backup if there is one of the newest commit, or have its peer close it."]
    if report_to is not None:
        lines.append(f"Every finding is in {report_to}.")
    if salvaged.identity is None:
        lines.extend(_NEW_IDENTITY)
    title = f"Saved: {counted(found.counts)}. Not whole: {findings_of(found)}."
    out.print(verdict(False, title, [*lines, *_next(dst)]))


def _next(dst: str) -> list[str]:
    return [f"Start the node with {dst}; never run it on both."]
