"""Small graphs, and every place where one may lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from bgsuper.cli.graph.replacing import records_of
from bgsuper.key import NETWORK_GRAPH, Key
from bgsuper.lightning.chain_hash import REGTEST
from bgsuper.lightning.routing.gossip import CHANNELS, NODES, NetworkGraph
from tests.cli.store.stores import Place, fill, held
from tests.lightning import gossip_network as net
from tests.lightning.gossip_network import NODES as SIGNERS
from tests.lightning.gossip_network import NOW

#: A terminal would turn red, clear its screen, set its title, and write from right to left.
HOSTILE = b"\x1b[31m\x1b[2J\x1b]0;x\x07\xe2\x80\xae[red]\\"
HOSTILE_TEXT = "\\x1b[31m\\x1b[2J\\x1b]0;x\\x07\\u202e[red]\\\\"

IPV4 = bytes([1, 203, 0, 113, 7]) + (9735).to_bytes(2, "big")
IPV6 = bytes([2]) + bytes.fromhex("20010db8000000000000000000000001") + (9736).to_bytes(2, "big")
TOR_V3 = bytes([4]) + bytes(range(35)) + (80).to_bytes(2, "big")
DNS = bytes([5, 11]) + b"example.com" + (9737).to_bytes(2, "big")

SCID = 811316 << 40 | 1023 << 16 | 1
GRAPH = CHANNELS[0]
#: What a store has beside a graph, also right before, between and behind its namespaces.
OTHERS: Mapping[Key, bytes] = {
    Key("", "", "manager"): b"the manager",
    Key("channels", "", "one"): b"a channel",
    Key("zebra", "z", "1"): b"the last",
}
NEIGHBOURS: Mapping[Key, bytes] = {
    Key(GRAPH, "", "header"): b"in the primary namespace",
    **{Key(GRAPH, name, "0000000000000001"): name.encode() for name in ("c", "channels_", "m", "nodes_")},
}


def network(channels: int = 2, chain_hash: bytes = REGTEST, now: int = NOW) -> NetworkGraph:
    """`SCID` joins nodes 0 and 1, the next ones nodes 1 and 2 and so on in turns. The first has a capacity and both
    directions, the others one direction each; nodes 0 and 1 say something of themselves."""
    graph = NetworkGraph(chain_hash)
    for number in range(channels):
        pair = (1, 2) if number % 2 else (0, 1)
        announcement = net.announcement(SCID + number, *pair, chain_hash=chain_hash)
        capacity = None if number else 50_000
        graph.update_channel_from_checked_announcement(announcement, now, capacity_sats=capacity)
        for direction in (0,) if number else (0, 1):
            timestamp = now - 3600 * direction - 60 * number
            message = net.update(SCID + number, pair[direction], direction, timestamp, chain_hash=chain_hash)
            graph.update_channel(message, now)
    graph.update_node_from_announcement(net.node(0, now, alias=b"Alice", addresses=IPV4 + IPV6 + TOR_V3 + DNS))
    graph.update_node_from_announcement(net.node(1, now, alias=HOSTILE))
    return graph


NETWORK = network()


def records(graph: NetworkGraph = NETWORK) -> dict[Key, bytes]:
    """What a store holds of `graph`."""
    return records_of(graph)


def without_messages() -> NetworkGraph:
    """A graph of regtest whose records say nothing of their chain, as those of rapid gossip sync."""
    graph = NetworkGraph(REGTEST)
    graph.update_channel_from_unsigned_announcement(net.announcement(SCID), NOW)
    graph.update_channel_unsigned(net.update(SCID, 0, 0), NOW)
    return graph


def graph_in(url: str) -> dict[Key, bytes]:
    """The graph's records in a store."""
    return {key: record for key, record in held(url).items() if key[:2] in (CHANNELS, NODES)}


class Source(NamedTuple):
    """A place with a graph."""

    name: str
    form: str


def _records_in(kind: str) -> Callable[[Path], str]:
    def make(directory: Path) -> str:
        url = Place(directory, kind).url()
        fill(url, {**OTHERS, **NEIGHBOURS, **records()}, {})
        return url

    return make


def _snapshot_in(kind: str) -> Callable[[Path], str]:
    def make(directory: Path) -> str:
        url = Place(directory, kind).url()
        fill(url, OTHERS, {NETWORK_GRAPH: NETWORK.write()})
        return url

    return make


def _file(directory: Path) -> str:
    path = directory / "graph.bin"
    path.write_bytes(NETWORK.write())
    return str(path)


#: Makes `NETWORK` somewhere, each way that there is.
SOURCES: Mapping[str, Callable[[Path], str]] = {
    "records in sqlite": _records_in("sqlite"),
    "records in file": _records_in("file"),
    "records in sqlite sealed": _records_in("sqlite sealed"),
    "snapshot in sqlite": _snapshot_in("sqlite"),
    "snapshot in file": _snapshot_in("file"),
    "file": _file,
}
ALICE, MALLORY, BOB = (signer.public.hex() for signer in SIGNERS[:3])
