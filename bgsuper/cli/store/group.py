"""The group that holds the commands."""

from __future__ import annotations

from typing import Final

import click

from ..lazy import LazyGroup

#: Each is a module of this package that defines a command of its name.
COMMANDS: Final = ("info", "ls", "get", "verify", "copy", "backup", "salvage")

EPILOG: Final = """\
\b
A URL says which store, where it is, and what opens it:
  sqlite:///var/lib/node/store                 SQLite, an absolute directory
  file:store                                   files in LDK's layout, a relative one
  'sqlite:///var/lib/node/store?key-file=/etc/node/key'
                                               sealed (quote it: ? means something to shells)

What is made is always new: nothing changes a store that is there, but that `backup` opens one that is closed as a
worker would. While a node has one open, `info` and `backup` ask its worker; the others refuse, and name the process
that holds it: stop the node first.

Exit status: 0 if all is well; 1 if something is damaged, lost or absent; 2 if it could not be done, with one line that
says what to do; 130 after Ctrl-C.
"""


class Commands(LazyGroup):
    package = __package__ or ""
    modules = {name: name for name in COMMANDS}  # noqa: RUF012


@click.group(cls=Commands, epilog=EPILOG)
def store() -> None:
    """Look into a store, check it, copy it, mend it."""
