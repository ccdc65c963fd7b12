"""`bgsuper store ls`: what is in a store, a line a value, as it is found."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Final

import click

from ...store.api import Entry, StoreView
from .options import url_argument
from .source import open_source
from .spelling import NAMESPACE_HELP, Namespaces, parse_namespaces

EPILOG: Final = f"""\
\b
Examples:
  bgsuper store ls sqlite:///var/lib/node/store
  bgsuper store ls file:store monitor_updates
  bgsuper store ls --json file:store / | jq -r .key

{NAMESPACE_HELP}

A line is the length in bytes as it is stored, the lane (`record`, or `snapshot` with its number), and the key, as
`bgsuper store get` takes it.

Exit status: 0; 1 if whoever reads the lines goes away early; 2 if the store cannot be opened, or damage ends the list.
"""


@click.command(epilog=EPILOG)
@url_argument("URL")
@click.argument("namespace", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line instead.")
def ls(url: str, namespace: str | None, as_json: bool) -> None:
    """List what is in a store.

    Prints the values of the store URL, or of one NAMESPACE, in the order of their keys.

    Nothing is read but keys and lengths, and no list is made: a million records need no more memory than one.
    """
    wanted = None if namespace is None else parse_namespaces(namespace)
    view = open_source(url)
    try:
        for entry in _entries(view, wanted):
            sys.stdout.write(_json(entry) if as_json else _line(entry))
    finally:
        view.close()


def _entries(view: StoreView, wanted: Namespaces | None) -> Iterator[Entry]:
    for entry in view.entries():
        if wanted is None or wanted.has(entry.key):
            yield entry
        elif wanted.are_before(entry.key):
            return


def _line(entry: Entry) -> str:
    lane = "record" if entry.seq is None else f"snapshot {entry.seq}"
    return f"{entry.length:>13,}  {lane:<20}  {entry.key}\n"


def _json(entry: Entry) -> str:
    key = {
        "key": str(entry.key),
        "primary": entry.key.primary,
        "secondary": entry.key.secondary,
        "name": entry.key.name,
    }
    return json.dumps({**key, "length": entry.length, "snapshot": entry.seq}) + "\n"
