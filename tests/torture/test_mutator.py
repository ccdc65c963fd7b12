"""The byte mutator: the same from the same seed, something else nearly each time, bounded, and every mutation used."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from bgsuper.torture.mutate import mutator
from bgsuper.torture.mutate.mutator import MAX_BYTES, mutate

CORPUS = [bytes(range(200)), b"\0" * 40, b"short", b""]


def test_an_input_can_be_made_again_from_its_seed() -> None:
    """Nothing comes from anywhere else."""
    for seed in range(200):
        content = CORPUS[seed % len(CORPUS)]
        assert mutate(Random(seed), content, CORPUS) == mutate(Random(seed), content, CORPUS)


@pytest.mark.parametrize("content", CORPUS[:3])
def test_what_comes_out_is_seldom_what_went_in(content: bytes) -> None:
    """And it is many things."""
    results = Counter(mutate(Random(seed), content, CORPUS) for seed in range(1000))
    assert results[content] < 150
    assert len(results) > 500


def test_no_input_grows_without_end() -> None:
    """However often it is mutated again."""
    random, content = Random(1), bytes(MAX_BYTES - 10)
    for _ in range(300):
        content = mutate(random, content, [bytes(MAX_BYTES)])
        assert len(content) <= MAX_BYTES


@pytest.mark.parametrize("mutation", mutator._MUTATIONS, ids=lambda each: each.__name__)
def test_each_mutation_changes_something_and_stands_anything(mutation: mutator.Mutation) -> None:
    """Of a hundred tries at least one changes its input; none fails, not even on nothing."""
    changed = 0
    for seed in range(100):
        for content in CORPUS:
            mutated = bytearray(content)
            mutation(Random(seed), mutated, CORPUS)
            changed += bytes(mutated) != content
    assert changed
