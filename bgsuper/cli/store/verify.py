"""`bgsuper store verify`: read all of a store, and say what is not whole, and what no reading can tell."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from shlex import quote
from typing import Final

import click

from ...errors import StoreError
from ...store.api import Damage, StoreView
from ...store.identity import Identity
from ...store.salvaging import Tally, findings
from .options import as_json_option, url_argument
from .printing import console
from .progress import progress
from .reports import Found, counted, damage_table, findings_of, verdict
from .source import open_source

EPILOG: Final = """\
\b
Examples:
  bgsuper store verify sqlite:///var/lib/node/store
  bgsuper store verify --json file:store > report.json

Exit status: 0 if all is whole; 1 if anything is damaged; 2 if the store cannot be opened.
"""


@click.command(epilog=EPILOG)
@url_argument("URL")
@as_json_option
def verify(url: str, as_json: bool) -> int:
    """Read everything, and say what is damaged.

    Every record and every snapshot of the store URL is checked against its checksum, and the structure that holds
    them against itself. Nothing is changed.
    """
    view = open_source(url)
    try:
        found = _examine(view)
        identity = identity_of(view)
        untold = list(_untold(identity, view.facts()))
    finally:
        view.close()
    if as_json:
        report = {
            "url": url,
            "whole": not found.damaged,
            "identity": None if identity is None else identity.facts(),
            **found.to_json(),
            "cannot_tell": untold,
        }
        click.echo(json.dumps(report, indent=2))
    else:
        _print(found, untold, url)
    return 1 if found.damaged else 0


def count(view: StoreView) -> int | None:
    """How many values there are; None if that cannot be told."""
    try:
        return sum(1 for _ in view.entries())
    except StoreError:
        return None


def identity_of(view: StoreView) -> Identity | None:
    """Which store it is; None if that cannot be told."""
    try:
        return view.identity
    except StoreError:
        return None


def _examine(view: StoreView) -> Found:
    found, tally = Found(), Tally()
    with progress("verifying", count(view)) as advance:
        for finding in findings(view):
            if isinstance(finding, Damage):
                found.report(finding)
            else:
                tally.add(finding)
                advance(finding.key, len(finding.content))
    found.counts = tally.counts
    return found


def _untold(identity: Identity | None, facts: Mapping[str, object]) -> Iterator[str]:
    """What reading a store cannot tell."""
    yield "whether anything was removed: a value that is gone leaves no trace"
    if facts.get("unverified"):
        count = facts["unverified"]
        yield f"whether {count} files are as they were written: LDK, or a copy of files, gave them no checksum"
    if identity is not None:
        yield f"whether it is the newest: an old copy is whole, too, and this one ends at commit {identity.last_commit}"
        if not identity.seal:
            yield "whether somebody changed a value together with its checksum: only sealing shows that"
    yield "whether the values mean anything together: the node checks that when it starts"


def _print(found: Found, untold: list[str], url: str) -> None:
    out = console()
    if found.damaged:
        out.print(damage_table(found))
        title = f"Damaged: {findings_of(found)}; whole are {counted(found.counts)}."
        advice = [
            "Restore a backup if there is one of the newest commit: a node that starts on an older one can lose its",
            f"channels. If there is none: bgsuper store salvage {quote(url)} DST",
            "saves what is whole into a new store.",
        ]
    else:
        title, advice = f"Whole: {counted(found.counts)} were read.", []
    out.print(verdict(not found.damaged, title, [*advice, "Not told by this:", *(f"  {each}" for each in untold)]))
