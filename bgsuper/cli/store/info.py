"""`bgsuper store info`: which store it is, how far it has come, and how much there is in it.

While a node has the store open, its worker is asked instead, over the socket that it listens on for that (`live`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import click

from ...errors import StoreError, StoreLocked
from ...store.api import StoreView
from ...store.high_water import mark_path, read_mark
from ...store.identity import Identity
from ...store.url import parse
from .options import as_json_option, url_argument
from .printing import console
from .reports import Census, census_table, grid, identity_facts, verdict
from .source import open_source

EPILOG: Final = """\
\b
Examples:
  bgsuper store info sqlite:///var/lib/node/store
  bgsuper store info --json file:store | jq .identity.last_commit

Values are counted, not read: `bgsuper store verify` tells whether they are whole. Bytes are counted as they are stored,
sealed and compressed if they are.

Exit status: 0; 1 if damage is in the way; 2 if the store cannot be opened.
"""


@dataclass
class Information:
    """What a store says of itself, as far as damage allows."""

    identity: Identity | None = None
    census: Census = field(default_factory=Census)
    facts: Mapping[str, object] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, view: StoreView, mark: Mapping[str, object]) -> Information:
        """What `view` tells, and what is known of its high-water mark; what stands in the way is noted."""
        information = cls(facts={**view.facts(), **mark})
        try:
            information.identity = view.identity
        except StoreError as error:
            information.damage.append(str(error))
        try:
            for entry in view.entries():
                information.census.add(entry)
        except StoreError as error:
            information.damage.append(str(error))
        return information

    def to_json(self) -> dict[str, object]:
        return {
            "identity": None if self.identity is None else self.identity.facts(),
            "namespaces": self.census.to_json(),
            "facts": dict(self.facts),
            "damage": self.damage,
        }


@click.command(epilog=EPILOG)
@url_argument("URL")
@as_json_option
def info(url: str, as_json: bool) -> int:
    """Say which store it is, and how much is in it.

    Prints the id of the store URL, which copies and backups share; its epoch, greater by one each time that a
    worker opens it; the numbers of its newest commit and snapshot; records, snapshots and bytes of each namespace;
    and what the backend says of its files.
    """
    try:
        view = open_source(url)
    except StoreLocked as locked:
        return _info_of_a_running_one(url, as_json, locked)
    try:
        information = Information.of(view, _mark(url))
    finally:
        view.close()
    if as_json:
        click.echo(json.dumps({"url": url, **information.to_json()}, indent=2, default=str))
    else:
        _print(information)
    return 1 if information.damage else 0


def _mark(url: str) -> dict[str, object]:
    """What the high-water mark says that `url` names, if it names one."""
    path = mark_path(parse(url))
    if path is None:
        return {}
    try:
        mark = read_mark(path)
    except StoreError as error:
        return {"high-water mark": str(error)}
    if mark is None:
        return {"high-water mark": "none was made yet"}
    snapshot = f", and snapshot {mark.snapshot:,}" if mark.snapshot > mark.highest else ""
    behind = "" if mark.behind is None else f"; the store was found behind it, at {mark.behind.store:,}"
    return {"high-water mark": f"{mark.highest:,}{snapshot}{behind}"}


def _info_of_a_running_one(url: str, as_json: bool, locked: StoreLocked) -> int:
    from . import live

    told = live.info(url)
    if told is None:
        raise locked
    if as_json:
        click.echo(json.dumps({"url": url, **told}, indent=2, default=str))
    else:
        console().print(grid({name.replace("_", " "): fact for name, fact in told.items()}))
    return 0


def _print(information: Information) -> None:
    out = console()
    identity = information.identity
    out.print(grid({**(identity_facts(identity) if identity else {"store id": "damaged"}), **information.facts}))
    out.print(census_table(information.census))
    if information.damage:
        advice = "bgsuper store verify says what is not whole, bgsuper store salvage saves the rest"
        out.print(verdict(False, "It is damaged.", [*information.damage, advice]))
