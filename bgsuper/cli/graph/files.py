"""A graph in a file: LDK's bytes of a NetworkGraph, or a snapshot of a rapid gossip sync server.

Rule: what a file is, its first bytes say; what cannot be one of the two is refused before it is read whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import BinaryIO, Final, NamedTuple

from ...errors import ConfigError
from ...lightning.routing.gossip import NetworkGraph
from ...lightning.routing.rapid import PREFIX, RapidGossipSync

GRAPH_FORM: Final = "LDK's bytes"
RAPID_FORM: Final = "rapid gossip sync snapshot"
#: LDK has written this version ever since.
_GRAPH_PREFIX: Final = b"\x01"
#: Where a snapshot has the chain's hash.
_IN_SNAPSHOT: Final = slice(4, 36)
#: Twenty times mainnet's graph with every message.
MOST_BYTES: Final = 1 << 30


class FileGraph(NamedTuple):
    """A graph, and what the file is that it was in."""

    graph: NetworkGraph
    form: str
    length: int  #: bytes of the file
    #: Entries of a rapid gossip sync snapshot that the graph did not take, by the class of the error.
    refused: Mapping[type[Exception], int]


def read_graph(path: str, at: int | None = None) -> FileGraph:
    """The graph in the file `path`.

    A rapid gossip sync snapshot is taken as a node would that gets it at the time `at`, in seconds since 1970; at its
    own time if that is None. Raises `ConfigError` for what is no such file, `MalformedGraph` and `MalformedSnapshot`
    for a damaged one, and `Stale` for a snapshot that is too old by then.
    """
    data = _read(path)
    if data.startswith(PREFIX):
        # One that ends before its chain's hash is refused whatever the graph's is.
        sync = RapidGossipSync(NetworkGraph(data[_IN_SNAPSHOT]))
        sync.update_network_graph(data, at)
        return FileGraph(sync.network_graph, RAPID_FORM, len(data), sync.refused)
    if at is not None:
        raise ConfigError(
            f"--at is about the entries of a rapid gossip sync snapshot, and {path} is a whole graph: leave it out"
        )
    return FileGraph(NetworkGraph.read(data), GRAPH_FORM, len(data), Counter())


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return _read_known(file, path)
    except IsADirectoryError:
        raise ConfigError(
            f"expected a file or a store's URL, and {path} is a directory: write sqlite:{path} or file:{path} for a "
            "store there"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"expected a file that can be read at {path} ({error.strerror}): look at the path, or write sqlite:PATH "
            "for a store"
        ) from error


def _read_known(file: BinaryIO, path: str) -> bytes:
    head = file.read(8)
    if not head.startswith((PREFIX, _GRAPH_PREFIX)):
        raise ConfigError(
            f"expected LDK's bytes of a network graph, or a snapshot that begins with 'LDK', and {path} begins with "
            f"{head.hex() or 'nothing'}: if it is compressed, expand it first"
        )
    data = head + file.read(MOST_BYTES)
    if len(data) > MOST_BYTES:
        raise ConfigError(f"expected a graph of at most {MOST_BYTES:,} bytes, and {path} has more: it is none")
    return data
