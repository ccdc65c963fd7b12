"""Was anything lost? The reopened store against the model, byte for byte. Pure, except `read_store`.

Rules:
1. The store holds exactly the commits up to one number: none half, none out of order.
2. That number is not below what was acknowledged. What is missing below it is a loss.
3. What nobody submitted must not be there.
4. The graph, built again from its records and read from its snapshot, has the bytes of the one that ran.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...errors import BgsuperError
from ...key import NETWORK_GRAPH, Key, Seq
from ...lightning.errors import MalformedGraph
from ...lightning.routing.gossip import CHANNELS, NODES, NetworkGraph
from ...supervisor import Supervisor
from ...torture.run.model import Model


@dataclass(frozen=True, slots=True)
class Found:
    """What a reopened store holds."""

    durable: Seq  #: the newest number it knows
    records: Mapping[Key, bytes]
    graph_snapshot: bytes | None


@dataclass(frozen=True, slots=True)
class Findings:
    """What the comparison found. Each problem is a line that names its record."""

    records: int  #: how many were compared
    bytes: int
    lost: tuple[str, ...]  #: acknowledged, and not there as it was
    foreign: tuple[str, ...]  #: there, and never submitted
    graph: tuple[str, ...]  #: how the stored graph differs from the one that ran


def read_store(url: str, namespaces: Sequence[tuple[str, str]]) -> Found:
    """Open the store at `url` with a fresh supervisor, and read `namespaces` and what has none. Raises the store's own
    errors."""
    with_none = dict.fromkeys((*namespaces, ("", "")))
    supervisor = Supervisor(url)
    durable = supervisor.start()
    try:
        records = {key: value for namespace in with_none for key, value in supervisor.scan(*namespace)}
    finally:
        supervisor.stop()
    return Found(durable, records, records.pop(NETWORK_GRAPH, None))


def compare(model: Model[bytes], found: Found, graph: NetworkGraph, *, ended_cleanly: bool) -> Findings:
    """`found` against `model` and `graph`. Only a processor that `ended_cleanly` has written the graph's last
    changes, and everything that was submitted is then durable."""
    lost: list[str] = []
    foreign: list[str] = []
    needed = model.submitted if ended_cleanly else model.acked
    if found.durable < needed:
        lost.append(f"the store's newest number is {found.durable}, but {needed} was acknowledged")
    expected = model.at(max(found.durable, needed))
    for key, value in expected.items():
        there = found.records.get(key)
        if there is None:
            lost.append(f"{key}: put by commit {model.changed_in(key)}, missing")
        elif there != value:
            lost.append(f"{key}: not the {len(value)} bytes that commit {model.changed_in(key)} put")
    for key in found.records.keys() - expected.keys():
        removed = model.changed_in(key)
        if removed:
            lost.append(f"{key}: removed by commit {removed}, and there again")
        else:
            foreign.append(f"{key}: {len(found.records[key])} bytes that nobody submitted")
    return Findings(
        records=len(expected),
        bytes=sum(map(len, expected.values())),
        lost=tuple(lost),
        foreign=tuple(sorted(foreign)),
        graph=tuple(_graph_problems(found, graph)) if ended_cleanly else (),
    )


def unreadable(error: BgsuperError) -> Findings:
    """What is found where the store cannot even be opened again."""
    return Findings(records=0, bytes=0, lost=(f"the store cannot be read again: {error}",), foreign=(), graph=())


def _graph_problems(found: Found, graph: NetworkGraph) -> list[str]:
    problems = []
    written = graph.write()
    if found.graph_snapshot is None:
        problems.append(f"{NETWORK_GRAPH}: the final snapshot is missing")
    elif found.graph_snapshot != written:
        problems.append(f"{NETWORK_GRAPH}: the snapshot is not the graph's {len(written)} bytes")
    records = ((key, value) for key, value in found.records.items() if key[:2] in (CHANNELS, NODES))
    try:
        if NetworkGraph.restore(graph.chain_hash, records).write() != written:
            problems.append("the graph built from its records is not the one that ran")
    except MalformedGraph as error:
        problems.append(f"no graph can be built from its records: {error}")
    return problems
