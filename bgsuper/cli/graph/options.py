"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from .chains import DEFAULT, NAMES

_Command = Callable[..., Any]

source_argument: Callable[[_Command], _Command] = click.argument("source", metavar="SOURCE")

chain_option: Callable[[_Command], _Command] = click.option(
    "--chain",
    type=click.Choice(list(NAMES)),
    help="Which chain the graph is of; for records of a store that do not say it, as those of rapid gossip sync. "
    f"Without it, {DEFAULT} is assumed. Refused if the graph says otherwise.",
)
