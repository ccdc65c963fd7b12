"""`bgsuper graph channel`: one channel, and its terms in both directions."""

from __future__ import annotations

import json
import time
from typing import Final

import click

from ...lightning.wire.gossip import scid_text
from ..store.options import as_json_option
from ..store.printing import console
from ..store.reports import grid
from .group import Absent
from .options import chain_option, source_argument
from .reports import channel_facts, channel_to_json, terms_table
from .source import load
from .spelling import parse_scid

EPILOG: Final = """\
\b
Examples:
  bgsuper graph channel sqlite:store 811316x1023x1
  bgsuper graph channel graph.bin 892051476774125569
  bgsuper graph channel --json graph.bin 811316x1023x1 | jq .one_to_two

"One to two" are the terms on which node one, the one with the lesser id, forwards to node two. Announcements and
updates that are kept can be passed on to peers; what comes from rapid gossip sync cannot.

Exit status: 0; 1 if there is no such channel, or no graph; 2 if it cannot be read.
"""


@click.command(epilog=EPILOG)
@source_argument
@click.argument("scid", metavar="SCID")
@chain_option
@as_json_option
def channel(source: str, scid: str, chain: str | None, as_json: bool) -> None:
    """Show a channel and its terms.

    SCID is a short channel id of the graph in SOURCE, as block x transaction x output or as one integer. Prints
    its two nodes, its capacity if that is known, and the terms of both directions with their ages.
    """
    wanted = parse_scid(scid)
    graph = load(source, chain).graph
    if wanted not in graph.channels:
        raise Absent(f"there is no channel {scid_text(wanted)} in {source}: it was never announced there, or is closed")
    if as_json:
        click.echo(json.dumps(channel_to_json(graph, wanted), indent=2))
        return
    now, out = time.time(), console()
    out.print(grid(channel_facts(graph, wanted, now)))
    out.print(terms_table(graph.channels[wanted], now))
