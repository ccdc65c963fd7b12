"""`bgsuper graph info`: how large a graph is, how much of it is known, and how old that is."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, Self

import click

from ...lightning.routing.gossip import NetworkGraph
from ...lightning.routing.records import ChannelInfo
from ..store.options import as_json_option
from ..store.printing import console
from ..store.reports import grid, size
from .options import chain_option, source_argument
from .source import RECORDS_FORM, Source, load
from .words import dated, sats_text

EPILOG: Final = """\
\b
Examples:
  bgsuper graph info sqlite:///var/lib/node/store
  bgsuper graph info --json graph.bin | jq .channels
  bgsuper graph info snapshot.bin

A direction of a channel is known once a channel_update was received for it. Capacities are known only where somebody
looked the funding outputs up: rapid gossip sync does not say them. A store's records do not hold the time of the last
rapid gossip sync; LDK's bytes and snapshots do.

Exit status: 0; 1 if there is no graph; 2 if it cannot be read.
"""


@click.command(epilog=EPILOG)
@source_argument
@chain_option
@as_json_option
def info(source: str, chain: str | None, as_json: bool) -> None:
    """Say how large a graph is, and how old.

    Counts the channels, nodes and directions of the graph in SOURCE, sums up the capacities that are known, and
    names its chain, its oldest and newest update, and the bytes that it takes there.
    """
    found = load(source, chain)
    if as_json:
        click.echo(json.dumps({"source": source, **_to_json(found)}, indent=2))
    else:
        console().print(grid(_facts(found, time.time())))


@dataclass(slots=True)
class Summary:
    """What a graph comes to, counted in one pass: each row is decoded when it is looked at."""

    channels: int = 0
    nodes: int = 0
    nodes_announced: int = 0
    directions_known: int = 0
    directions_enabled: int = 0
    capacities_known: int = 0
    capacity_sats: int = 0
    oldest_update: int | None = None
    newest_update: int | None = None

    @classmethod
    def of(cls, graph: NetworkGraph) -> Self:
        """That of `graph`."""
        summary = cls(len(graph.channels), len(graph.nodes))
        for channel in graph.channels.values():
            summary._add(channel)
        summary.nodes_announced = sum(node.announcement_info is not None for node in graph.nodes.values())
        return summary

    def _add(self, channel: ChannelInfo) -> None:
        if channel.capacity_sats is not None:
            self.capacities_known += 1
            self.capacity_sats += channel.capacity_sats
        for terms in (channel.one_to_two, channel.two_to_one):
            if terms is not None:
                self.directions_known += 1
                self.directions_enabled += terms.enabled
                said = terms.last_update
                self.oldest_update = min(said, said if self.oldest_update is None else self.oldest_update)
                self.newest_update = max(said, said if self.newest_update is None else self.newest_update)


def _to_json(found: Source) -> dict[str, object]:
    return {
        "form": found.form,
        "chain": found.chain.name,
        "chain_hash": found.chain.chain_hash.hex(),
        "chain_said_by": found.chain.said_by,
        **asdict(Summary.of(found.graph)),
        "rapid_gossip_sync_timestamp": found.graph.last_rapid_gossip_sync_timestamp,
        "bytes": found.length,
        "refused": sum(found.refused.values()),
    }


def _facts(found: Source, now: float) -> Mapping[str, object]:
    summary = Summary.of(found.graph)
    facts = {
        "form": found.form,
        "chain": f"{found.chain.name} (said by {found.chain.said_by})",
        "channels": f"{summary.channels:,}",
        "nodes": f"{summary.nodes:,}, {summary.nodes_announced:,} of them say something of themselves",
        "directions": f"{summary.directions_known:,} of {2 * summary.channels:,} are known, "
        f"{summary.directions_enabled:,} of them enabled",
        "capacities": f"{summary.capacities_known:,} of {summary.channels:,} are known, "
        f"together {sats_text(summary.capacity_sats)}",
        "oldest update": _moment(summary.oldest_update, now),
        "newest update": _moment(summary.newest_update, now),
        "rapid gossip sync": "not told by records"
        if found.form == RECORDS_FORM
        else _moment(found.graph.last_rapid_gossip_sync_timestamp, now),
        "bytes": f"{found.length:,} ({size(found.length)})",
    }
    if refused := sum(found.refused.values()):
        facts["refused"] = f"{refused:,} entries, for which an earlier graph is needed, or which make no sense"
    return facts


def _moment(seconds: int | None, now: float) -> str:
    return "none" if seconds is None else dated(seconds, now)
