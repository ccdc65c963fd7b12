"""`bgsuper graph node`: what a node says of itself, and its channels."""

from __future__ import annotations

import json
import time
from typing import Final

import click

from ..store.options import as_json_option
from ..store.printing import console
from ..store.reports import grid
from .group import Absent
from .options import chain_option, source_argument
from .reports import announcement_facts, announcement_to_json, channel_to_json, channels_table
from .source import load
from .spelling import parse_node_id

EPILOG: Final = """\
\b
Examples:
  bgsuper graph node sqlite:store 03864ef025fde8fb587d989186ce6a4a186895ee44a926bfc370e2c366597a3f8f
  bgsuper graph node --json graph.bin $NODE_ID | jq .announcement.addresses

What a node says of itself is its own claim, and anybody may call himself anything: whatever is not plainly printable
in an alias is escaped. Fees are msat + millionths of the amount; "its fee" is the node's for forwarding into the
channel, "their fee" that of the other end.

Exit status: 0; 1 if there is no such node, or no graph; 2 if it cannot be read.
"""


@click.command(epilog=EPILOG)
@source_argument
@click.argument("node_id", metavar="NODE_ID")
@chain_option
@as_json_option
def node(source: str, node_id: str, chain: str | None, as_json: bool) -> None:
    """Show a node and its channels.

    Prints what the node NODE_ID, 66 hexadecimal digits, says of itself in the graph in SOURCE: its alias, colour,
    addresses and features; then its channels, each with its capacity, the fees at both ends, and the other node.
    """
    wanted = parse_node_id(node_id)
    graph = load(source, chain).graph
    found = graph.nodes.get(wanted)
    if found is None:
        raise Absent(f"there is no node {wanted.hex()} in {source}: none of its channels is known there")
    if as_json:
        channels = [channel_to_json(graph, scid) for scid in sorted(found.channels)]
        said = announcement_to_json(found.announcement_info)
        click.echo(json.dumps({"node_id": wanted.hex(), "announcement": said, "channels": channels}, indent=2))
        return
    now, out = time.time(), console()
    facts = announcement_facts(found.announcement_info, now)
    out.print(grid({"node": wanted.hex(), **facts, "channels": f"{len(found.channels):,}"}))
    out.print(channels_table(graph, wanted, now))
