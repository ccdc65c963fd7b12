"""The group that holds the commands."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

import click

from ...errors import BgsuperError
from ..lazy import LazyGroup

#: The modules of this package that define the commands, under names of their own.
COMMANDS: Final[Mapping[str, str]] = {
    "info": "info",
    "node": "node",
    "channel": "channel",
    "export": "export",
    "import": "import_graph",
}
#: The exit status where what was asked for is not there.
ABSENT: Final = 1

EPILOG: Final = """\
\b
SOURCE is where the graph is:
  sqlite:///var/lib/node/store    a store's records of channels and nodes; if it has none, its snapshot
  graph.bin                       a file with LDK's bytes of a network graph (a NetworkGraph, written)
  snapshot.bin                    a file with a snapshot of a rapid gossip sync server (it begins with "LDK")
What begins with the scheme of a store's URL is one: write ./sqlite:name for a file of such a name.

A store is opened read-only, and while a node has it open the commands refuse, and name the process that holds it.

Exit status: 0 if all is well; 1 if what was asked for is not there; 2 if it could not be done, with one line that says
what to do; 130 after Ctrl-C.
"""


class Absent(BgsuperError):
    """What was asked for is not there, although all could be read."""


class Commands(LazyGroup):
    """What is absent is one line, and an exit status of its own."""

    package = __package__ or ""
    modules = COMMANDS

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Absent as error:
            print(f"bgsuper: {error}", file=sys.stderr)
            return ABSENT


@click.group(cls=Commands, epilog=EPILOG)
def graph() -> None:
    """Look into a network graph, export it for LDK, import one."""
