"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_Command = Callable[..., Any]

as_json_option: Callable[[_Command], _Command] = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON; progress goes to stderr."
)


def url_argument(metavar: str) -> Callable[[_Command], _Command]:
    """A store URL, given by position; the parameter has the metavar's name in small letters."""
    return click.argument(metavar.lower(), metavar=metavar)
