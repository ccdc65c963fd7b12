"""LDK and we read each other's network graphs, made from mainnet's real gossip.

Needs what `test_ldk_files` needs, and says so where it is missing.
"""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from bgsuper.cli.main import main
from bgsuper.lightning.routing.gossip import NetworkGraph
from bgsuper.lightning.routing.scoring import ProbabilisticScorer

from . import real
from .test_ldk_files import GRAPH as LDK_GRAPH
from .test_ldk_files import ldk


def rewritten(directory: Path, graph: bytes) -> bytes:
    """`graph` as LDK writes it after reading it."""
    directory.joinpath("network_graph").write_bytes(graph)
    directory.joinpath("scorer").write_bytes(ProbabilisticScorer(NetworkGraph.read(graph)).write())
    told = ldk("write", directory)
    assert sorted(map(int, told["channels"])) == sorted(NetworkGraph.read(graph).channels)
    return directory.joinpath("network_graph").read_bytes()


def test_the_graph_is_worth_comparing() -> None:
    """Real channels, with both directions and with one, with capacities and without, and nodes that speak."""
    graph = real.graph()
    channels = list(graph.channels.values())
    known = [(channel.one_to_two is not None) + (channel.two_to_one is not None) for channel in channels]
    assert len(channels) > 50
    assert {0, 1, 2} >= set(known) >= {1, 2}
    assert {channel.capacity_sats is None for channel in channels} == {True, False}
    assert sum(node.announcement_info is not None for node in graph.nodes.values()) > 20
    assert all(channel.announcement_message is not None for channel in channels)


@pytest.mark.parametrize("rapid", [None, 1_697_749_200])
def test_ldk_reads_ours_and_we_read_ldks(tmp_path: Path, rapid: int | None) -> None:
    """It gives back the same graph: the same length in its own order, the same bytes once sorted."""
    graph = NetworkGraph.read(real.graph().write())
    graph.last_rapid_gossip_sync_timestamp = rapid
    ours = graph.write()
    theirs = rewritten(tmp_path, ours)
    assert len(theirs) == len(ours)
    again = NetworkGraph.read(theirs)
    assert again.last_rapid_gossip_sync_timestamp == rapid
    assert again.write() == ours


def test_a_graph_of_ldks_own_making(tmp_path: Path) -> None:
    """One that began as LDK's goes through us and back."""
    ours = NetworkGraph.read(LDK_GRAPH).write()
    assert NetworkGraph.read(rewritten(tmp_path, ours)).write() == ours


def test_ldk_reads_what_the_command_exports(tmp_path: Path) -> None:
    """`bgsuper graph export` of LDK's file gives one that LDK takes for the same graph."""
    (tmp_path / "ldk.bin").write_bytes(LDK_GRAPH)
    (tmp_path / "store").mkdir()
    exported = tmp_path / "exported.bin"
    assert main(["graph", "export", str(tmp_path / "ldk.bin"), str(exported)]) == 0
    theirs = rewritten(tmp_path / "store", exported.read_bytes())
    assert NetworkGraph.read(theirs).write() == exported.read_bytes()


def test_the_vector_is_ldks() -> None:
    """What stands for LDK where it is not installed: its own order, which is not ours."""
    vector = Path(__file__).parents[1].joinpath("vectors", "ldk_mesh3x3_graph.xz")
    assert lzma.decompress(vector.read_bytes()) == LDK_GRAPH
    assert NetworkGraph.read(LDK_GRAPH).write() != LDK_GRAPH
