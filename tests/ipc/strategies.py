"""What Hypothesis makes for the tests of the pipe: frames, keys, commits, and ways to cut a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from hypothesis import strategies as st

from bgsuper.ipc.frames import Frame, Kind
from bgsuper.ipc.messages import Commit
from bgsuper.key import Key, Seq

PART_ALPHABET = "ABCXYZabcxyz0189_-"
U64 = 2**64 - 1

kinds = st.sampled_from(list(Kind))
frames = st.builds(Frame, kinds, st.integers(0, U64), st.binary(max_size=200))

_part = st.text(PART_ALPHABET, max_size=120)
_name = st.text(PART_ALPHABET, min_size=1, max_size=120)
keys = st.one_of(
    st.builds(Key, st.just(""), st.just(""), _name),
    st.builds(Key, _part.filter(bool), _part, _name),
)


small_values = st.binary(max_size=300)


@st.composite
def commits(draw: st.DrawFn, values: st.SearchStrategy[bytes] = small_values) -> Commit:
    """Any commit that a host can submit."""
    seq = draw(st.integers(1, U64))
    prev = draw(st.integers(0, seq - 1))
    puts = draw(st.lists(st.tuples(keys, values), max_size=6))
    removes = draw(st.lists(keys, max_size=4))
    return Commit(Seq(seq), Seq(prev), tuple(puts), tuple(removes))


def cuttings(length: int) -> st.SearchStrategy[list[int]]:
    """Places at which to cut a stream of `length` bytes."""
    return st.lists(st.integers(0, length), max_size=12).map(sorted)


def cut(stream: bytes, places: Sequence[int]) -> Iterator[bytes]:
    """The pieces of `stream` between `places`."""
    for start, stop in pairwise([0, *places, len(stream)]):
        yield stream[start:stop]
