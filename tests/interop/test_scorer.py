"""LDK and we read each other's scorers: what payments over mainnet's real channels taught.

Needs what `test_ldk_files` needs, and says so where it is missing.
"""

from __future__ import annotations

from pathlib import Path

from bgsuper.lightning.routing.scoring import ProbabilisticScorer

from . import real
from .test_ldk_files import ldk


def test_ldk_reads_ours_and_we_read_ldks(tmp_path: Path) -> None:
    """It gives back the same: the same length in its own order, the same bytes once sorted, each channel equal."""
    scorer = real.scorer()
    assert len(scorer.channels) > 15
    assert any(any(liquidity.min_history) for liquidity in scorer.channels.values())
    assert any(liquidity.last_updated != liquidity.history_updated for liquidity in scorer.channels.values())
    ours = scorer.write()
    tmp_path.joinpath("network_graph").write_bytes(real.graph().write())
    tmp_path.joinpath("scorer").write_bytes(ours)
    told = ldk("write", tmp_path)
    theirs = tmp_path.joinpath("scorer").read_bytes()
    assert theirs.hex() == told["scorer"]
    assert len(theirs) == len(ours)
    again = ProbabilisticScorer.read(theirs, real.graph())
    assert dict(again.channels) == dict(scorer.channels)
    assert again.write() == ours
