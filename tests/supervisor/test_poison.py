"""The search for what workers die of: when it begins, what it takes for proof, when it ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bgsuper.key import Seq
from bgsuper.supervisor.poison import PROOFS, SUSPICIOUS, PoisonSearch


def suspicious(newest: int) -> PoisonSearch:
    search = PoisonSearch()
    for _ in range(SUSPICIOUS):
        assert not search.on
        assert search.died(Seq(newest), None) is None
    assert search.on
    return search


def test_two_deaths_begin_the_search_and_accuse_nobody() -> None:
    """Not even something that happened to be alone: the search had not begun."""
    search = PoisonSearch()
    assert search.died(Seq(9), Seq(9)) is None
    assert not search.on
    assert search.died(Seq(9), Seq(9)) is None
    assert (search.on, search.until) == (True, 9)


def test_what_was_alone_at_two_deaths_is_the_culprit() -> None:
    """One might be chance."""
    search = suspicious(9)
    assert search.died(Seq(9), Seq(5)) is None
    assert search.died(Seq(9), Seq(5)) == 5
    assert (SUSPICIOUS, PROOFS) == (2, 2)


def test_two_different_suspects_prove_nothing() -> None:
    """It must be the same one twice; then it is, at once."""
    search = suspicious(9)
    for alone in (5, 6, 5, 6, 5):
        assert search.died(Seq(9), Seq(alone)) is None
    assert search.died(Seq(9), Seq(5)) == 5


def test_a_death_with_nothing_in_hand_accuses_nobody() -> None:
    """Nor with many things in hand, which `alone` says in the same way."""
    search = suspicious(9)
    for _ in range(10):
        assert search.died(Seq(9), None) is None
    assert search.died(Seq(9), Seq(5)) is None
    assert search.on


def test_what_was_submitted_during_the_search_does_not_prolong_it() -> None:
    """Its bound is what was submitted when it began: the search does not run for ever under load."""
    search = suspicious(9)
    assert search.died(Seq(500), Seq(3)) is None
    assert search.until == 9


def test_an_acquittal_forgets_everything() -> None:
    """Suspicion and proofs: a later pair of deaths begins from nothing."""
    search = suspicious(9)
    assert search.died(Seq(9), Seq(5)) is None
    search.acquit()
    assert search == PoisonSearch()
    assert search.died(Seq(9), Seq(5)) is None
    assert not search.on
    assert search.died(Seq(9), Seq(5)) is None
    assert search.died(Seq(9), Seq(5)) is None  # the proof of before does not count
    assert search.died(Seq(9), Seq(5)) == 5


@given(st.lists(st.none() | st.integers(1, 3)))
def test_the_culprit_was_always_alone_twice_after_the_search_began(deaths: list[int | None]) -> None:
    """Whatever the order of deaths."""
    search = PoisonSearch()
    for number, alone in enumerate(deaths):
        culprit = search.died(Seq(9), None if alone is None else Seq(alone))
        if culprit is not None:
            during = [death for death in deaths[SUSPICIOUS : number + 1] if death is not None]
            assert during[-PROOFS:] == [culprit] * PROOFS
