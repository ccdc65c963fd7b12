"""`bgsuper graph import`: a graph from a file into a store's records."""

from __future__ import annotations

import json
import os
from typing import Final

import click

from ...errors import ConfigError
from ...key import Seq
from ...lightning.errors import MissingTerms, UnknownChannel
from ...lightning.routing.gossip import NetworkGraph
from ...store.schemes import Opening, make_store
from ...store.url import parse
from ..store.options import as_json_option, url_argument
from ..store.printing import console
from ..store.progress import progress
from ..store.reports import verdict
from ..store.source import open_source
from .chains import DEFAULT, Chain, agreed, asked
from .files import FileGraph, read_graph
from .options import chain_option
from .replacing import Changes, changes, records_of, write
from .spelling import parse_moment
from .stored import StoredGraph

EPILOG: Final = """\
\b
Examples:
  bgsuper graph import graph.bin sqlite:///var/lib/node/store
  bgsuper graph import snapshot.bin sqlite:store      a rapid gossip sync snapshot
  bgsuper graph import --at 2023-10-19T21:00:00Z snapshot.bin sqlite:store

FILE holds LDK's bytes of a network graph, or a whole snapshot of a rapid gossip sync server (from timestamp 0 on, not
one of changes). The store must be there, which a node's first start sees to, and not in use. Of a snapshot, what a node
would find too old is left out: by its own time, or as of --at.

The records of the store are the graph's afterwards, and what it had more is removed; no other record is touched, and
neither is the snapshot network_graph, which the node writes anew on its timer. They are committed in batches: after
Ctrl-C or an error the store has some of both graphs; import again.

Exit status: 0 if the records are the graph's; 2 if it could not be done; 130 after Ctrl-C.
"""


@click.command("import", epilog=EPILOG)
@click.argument("file", metavar="FILE")
@url_argument("URL")
@click.option(
    "--at",
    metavar="TIME",
    help="Take a rapid gossip sync snapshot as of this time (ISO 8601, or seconds since 1970) instead of its own.",
)
@chain_option
@as_json_option
def import_graph(file: str, url: str, at: str | None, chain: str | None, as_json: bool) -> None:
    """Put a graph into a store, in the place of the one there.

    Reads the graph in FILE, and makes the records of channels and nodes in the store URL equal to it. A graph of
    another chain than the one there is refused.
    """
    moment = None if at is None else parse_moment(at)
    with progress("decoding", None):
        found = read_graph(file, moment)
    _refuse_part(found, file)
    told = agreed([Chain(found.graph.chain_hash, "the file"), *asked(chain)])
    has_snapshot = _look(url, told, chain)
    done, numbers = _replace(url, found.graph)
    if as_json:
        click.echo(json.dumps({"file": file, "store": url, **_to_json(found, told, done, numbers)}, indent=2))
        return
    graph = found.graph
    lines = [
        f"{len(done.puts):,} records were put, {len(done.removes):,} removed, "
        f"{done.unchanged:,} were so already; {_numbers(numbers)}."
    ]
    if refused := sum(found.refused.values()):
        lines.append(f"{refused:,} entries of the snapshot were left out.")
    if has_snapshot:
        lines.append("The snapshot network_graph in the store is still the earlier graph; the node writes it anew.")
    title = f"Imported into {url}: {len(graph.channels):,} channels and {len(graph.nodes):,} nodes of {told.name}."
    console().print(verdict(True, title, lines))


def _refuse_part(found: FileGraph, file: str) -> None:
    """Raise `ConfigError` for what would leave a store with less of a graph than a network has."""
    if found.refused.get(MissingTerms, 0) or found.refused.get(UnknownChannel, 0):
        raise ConfigError(
            f"expected a whole graph, and {file} changes an earlier one: ask the server for all since timestamp 0"
        )
    if not found.graph.channels:
        raise ConfigError(f"{file} has no channels (of those that are not too old): nothing was imported")


def _look(url: str, told: Chain, chain: str | None) -> bool:
    """Whether the store has a snapshot of a graph. Raises `ConfigError` if it has a graph of another chain, and
    whatever opening it raises; nothing is changed."""
    view = open_source(url)
    try:
        stored = StoredGraph.of(view)
        said = stored.chains()
        if stored.entries and not said and chain is None and told.name != DEFAULT:
            raise ConfigError(
                f"the graph in {url} does not say its chain, so {DEFAULT} is assumed, and the file's is {told.name}: "
                f"add --chain {told.name} if that is right"
            )
        for each in said:
            agreed([told, Chain(each.chain_hash, f"the graph in {url}, by {each.said_by},")])
        return stored.snapshot is not None
    finally:
        view.close()


def _replace(url: str, graph: NetworkGraph) -> tuple[Changes, tuple[Seq, Seq] | None]:
    store = make_store(parse(url), Opening(os.getpid(), lock_timeout_s=0.0))
    opened = store.open()
    try:
        wanted = changes(store, records_of(graph))
        with progress("writing", len(wanted.puts) + len(wanted.removes)) as advance:
            return wanted, write(store, opened, wanted, advance)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{url} may have some of both graphs; import again") from None
    finally:
        store.close()


def _to_json(found: FileGraph, told: Chain, done: Changes, numbers: tuple[Seq, Seq] | None) -> dict[str, object]:
    return {
        "form": found.form,
        "chain": told.name,
        "channels": len(found.graph.channels),
        "nodes": len(found.graph.nodes),
        "put": len(done.puts),
        "removed": len(done.removes),
        "unchanged": done.unchanged,
        "commits": None if numbers is None else list(numbers),
        "refused": sum(found.refused.values()),
    }


def _numbers(numbers: tuple[Seq, Seq] | None) -> str:
    return "there was nothing to commit" if numbers is None else f"commits {numbers[0]:,} to {numbers[1]:,}"
