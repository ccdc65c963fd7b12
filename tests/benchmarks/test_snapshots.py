"""Which commits count as beside a snapshot, and what is compared with what."""

from __future__ import annotations

from threading import Event

import pytest

from benchmarks.harness import Figures
from benchmarks.snapshots import LOADS, NONE, Found, Stream, content, judge


@pytest.fixture
def stream() -> Stream:
    """Over, with two snapshots whose times are made up: 10 to 12 and 13 to 15."""
    first = Event()
    stream = Stream(lambda _: first.set())
    first.wait()
    stream.stop()
    del stream.begun[:], stream.done[:]
    stream.begun.extend((10.0, 13.0))
    stream.done.extend((12.0, 15.0))
    return stream


@pytest.mark.parametrize(
    ("moment", "beside"), [(9.9, False), (10, True), (12, True), (12.5, False), (13, True), (15, True), (15.1, False)]
)
def test_beside_a_snapshot_is_from_its_beginning_to_its_end(stream: Stream, moment: float, beside: bool) -> None:
    """A commit between two snapshots waits for neither."""
    assert stream.during(moment) is beside


def test_contents_differ_everywhere() -> None:
    """SQLite leaves alone every page that is as it was."""
    one, other = b"".join(content(1 << 20, 1)), b"".join(content(1 << 20, 2))
    assert len(one) == len(other) == 1 << 20
    assert all(one[at : at + 64] != other[at : at + 64] for at in range(0, 1 << 20, 4096))


def figures(p99_ms: float, longest_ms: float = 0.0) -> Figures:
    return {"p99_ms": p99_ms, "snapshot_max_ms": longest_ms}


@pytest.mark.parametrize(
    ("p99_ms", "longest_ms", "blocks", "held"), [(2.0, 2000.0, 1.05, True), (2.1, 2001.0, 1.06, False)]
)
def test_ours_is_judged_beside_none(p99_ms: float, longest_ms: float, blocks: float, held: bool) -> None:
    """And nobody else's figures count."""
    beside = {(load, way): figures(99.0, 9999.0) for load in LOADS for way in ("file", "record")}
    beside |= {(load, NONE): figures(1.0) for load in LOADS}
    beside |= {(load, "bgsuper"): figures(p99_ms, longest_ms) for load in LOADS}
    alone = {(0, "bgsuper"): {"blocks": blocks}, (0, "record"): {"blocks": 9.0}, (300, "bgsuper"): {"blocks": 9.0}}
    claims = judge(Found(beside, alone))
    assert len(claims) == 5
    assert {claim.holds for claim in claims} == {held}
