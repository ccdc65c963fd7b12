"""SOURCE, and the graph that is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ...lightning.routing.gossip import NetworkGraph
from ...store.url import SCHEMES
from ..store.progress import progress
from ..store.source import open_source
from .chains import Chain, agreed, asked
from .files import read_graph
from .group import Absent
from .stored import StoredGraph

RECORDS_FORM: Final = "a store's records"
SNAPSHOT_FORM: Final = "a store's snapshot"


class Source(NamedTuple):
    """A graph, and where it was."""

    graph: NetworkGraph
    form: str
    chain: Chain
    length: int  #: bytes of the file, the snapshot, or all records
    refused: Mapping[type[Exception], int]


def load(source: str, chain: str | None) -> Source:
    """The graph in `source`, of the chain of that name if it must be said. Shows how far it is.

    Raises `Absent` if it is a store without a graph, `ConfigError` if it is of another chain, and what reading the
    store or the file raises.
    """
    return _load_store(source, chain) if is_url(source) else _load_file(source, chain)


def is_url(source: str) -> bool:
    """Whether `source` names a store: whatever begins with a scheme that we know, or that nobody gives a file."""
    scheme, colon, rest = source.partition(":")
    return bool(colon) and (scheme.lower() in SCHEMES or (scheme.isalnum() and rest.startswith("//")))


def _load_file(path: str, chain: str | None) -> Source:
    with progress("decoding", None):
        graph, form, length, refused = read_graph(path)
    return Source(graph, form, agreed([Chain(graph.chain_hash, "the file"), *asked(chain)]), length, refused)


def _load_store(url: str, chain: str | None) -> Source:
    view = open_source(url)
    try:
        stored = StoredGraph.of(view)
        if stored.entries:
            found = agreed([*stored.chains(), *asked(chain)])
            with progress("reading", len(stored.entries)) as advance:
                graph = NetworkGraph.restore(found.chain_hash, stored.records(advance))
            return Source(graph, RECORDS_FORM, found, sum(entry.length for entry in stored.entries), {})
    finally:
        view.close()
    if stored.snapshot is None:
        raise Absent(f"there is no network graph in {url}: `bgsuper store ls` lists what there is")
    with progress("decoding", None):
        graph = NetworkGraph.read(stored.snapshot)
    found = agreed([*stored.chains(), *asked(chain)])
    return Source(graph, SNAPSHOT_FORM, found, len(stored.snapshot), {})
