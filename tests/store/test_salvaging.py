"""What is whole comes out, what is not is named, and nothing is taken for saved that was not read again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import StoreCorrupt, StoreError, StoreFull, StoreInconsistent, SyncFailed
from bgsuper.key import Key, Seq
from bgsuper.store.api import Damage, Value
from bgsuper.store.salvaging import Tally, findings, prove_saved, salvage

from .test_copying import STORES, VALUES, A, B, C, silent
from .views import IDENTITY, DictView, Target


def saved(source: DictView, target: Target) -> list[Damage]:
    """Salvage, prove it, and give what was reported."""
    reported: list[Damage] = []
    result = salvage(source, target, reported.append, silent)
    assert result.damaged == len(reported)
    prove_saved(result, target.view(), silent)
    return reported


def test_an_examination_that_memory_does_not_hold() -> None:
    """It ends as one that fails otherwise: with a finding."""
    view = DictView({A: (None, b"1")}, ends_with=MemoryError())
    value, damage = findings(view)
    assert isinstance(value, Value)
    assert isinstance(damage, Damage)
    assert "what follows could not be read" in damage.text


@given(values=STORES, data=st.data())
def test_what_is_whole_is_saved_and_the_rest_is_named(
    values: dict[Key, tuple[Seq | None, bytes]], data: st.DataObject
) -> None:
    """Whichever values are damaged: each value is either in the new store as it was, or reported."""
    damaged = data.draw(st.lists(st.sampled_from(sorted(values)), unique=True)) if values else []
    target = Target()
    reported = saved(DictView(values, damaged=damaged), target)
    assert target.held == {key: value for key, value in values.items() if key not in damaged}
    assert sorted(damage.key for damage in reported if damage.key) == sorted(damaged)
    assert target.identity is not None
    assert target.identity[:3] == IDENTITY[:3]


def test_an_unreadable_identity_makes_another_store() -> None:
    """The values are saved; who they are of is not guessed."""
    target = Target()
    [damage] = saved(DictView(VALUES, identity=None), target)
    assert damage == (None, "the identity is damaged")
    assert target.held == VALUES
    assert target.identity is None


def test_a_snapshot_newer_than_the_identity_moves_it() -> None:
    """Numbers only rise, also where the identity that was found is older than the values."""
    target = Target()
    saved(DictView({A: (Seq(99), b"x")}), target)
    assert target.identity == IDENTITY._replace(last_snapshot=Seq(99))


@pytest.mark.parametrize("error", [StoreCorrupt("a broken tree"), SyncFailed("a bad sector"), StoreError("odd")])
def test_an_examination_that_breaks_off_is_one_more_finding(error: StoreError) -> None:
    """What was found before is saved; that there may be more is said."""
    target = Target()
    [damage] = saved(DictView(VALUES, ends_with=error), target)
    assert damage == (None, f"{error}; what follows could not be read")
    assert target.held == VALUES


@pytest.mark.parametrize("also", [Value(A, None, b"other"), Value(A, Seq(9), b"1")])
@pytest.mark.parametrize("before", [0, 1000])
def test_the_second_value_of_a_key_is_a_finding(also: Value, before: int) -> None:
    """The first is kept, whether it was written already or waits for its batch."""
    values = {A: (None, b"1"), **{Key("n", "", f"{i}"): (None, b"") for i in range(before)}}
    target = Target()
    [damage] = saved(DictView(values, also=[also]), target)
    assert damage.key == A
    assert target.held == values


def test_a_damaged_name_is_a_finding() -> None:
    """It is nobody's value, and must not become a path."""
    target = Target()
    [damage] = saved(DictView(VALUES, also=[Value(Key("n", "", "../up"), None, b"abc")]), target)
    assert damage.key is None
    assert "3 bytes has a damaged name" in damage.text
    assert target.held == VALUES


def test_errors_of_the_new_store_are_raised() -> None:
    """A full disk is no damage of the source."""

    class Full(Target):
        def import_records(self, records: object) -> None:
            raise StoreFull("no space")

    with pytest.raises(StoreFull):
        salvage(DictView(VALUES), Full(), lambda _: None, silent)


def test_the_proof_finds_a_value_that_was_not_kept() -> None:
    """A disk that changes what it was given is found before anything is called saved."""
    target = Target(spoil=lambda content: content.replace(b"2", b"3"))
    result = salvage(DictView(VALUES), target, lambda _: None, silent)
    with pytest.raises(StoreInconsistent, match="expected 3 values"):
        prove_saved(result, target.view(), silent)


def test_the_proof_finds_a_value_too_few_and_damage() -> None:
    """Fewer values, unreadable ones, another identity."""
    target = Target()
    result = salvage(DictView(VALUES), target, lambda _: None, silent)
    fewer = {key: value for key, value in VALUES.items() if key != B}
    for view, said in (
        (DictView(fewer), "found 2"),
        (DictView(VALUES, damaged=[C]), "damaged again"),
        (DictView(VALUES, IDENTITY._replace(last_commit=Seq(1))), "last_commit"),
    ):
        with pytest.raises(StoreInconsistent, match=said):
            prove_saved(result, view, silent)


def test_findings_begin_with_the_identity() -> None:
    """Everything that is not whole is found by one walk."""
    found = list(findings(DictView(VALUES, identity=None, damaged=[B])))
    assert [type(finding) for finding in found] == [Damage, Value, Damage, Value]


def test_the_identity_is_one_finding() -> None:
    """Whether the backend's examination names it as well or not."""
    twice = DictView(VALUES, identity=None, also=[Damage(None, "the identity is damaged")])
    assert [finding for finding in findings(twice) if isinstance(finding, Damage)] == [
        (None, "the identity is damaged")
    ]


def test_a_tally_is_of_a_set() -> None:
    """Order does not matter; a value under another key, or cut elsewhere, does."""
    values = [Value(A, None, b"1"), Value(B, None, b"2"), Value(C, Seq(3), b"")]

    def tally(*of: Value) -> int:
        made = Tally()
        for value in of:
            made.add(value)
        return made.sum

    assert tally(*values) == tally(*reversed(values))
    assert tally(*values) != tally(*values[:2])
    assert tally(Value(A, None, b"1"), Value(B, None, b"2")) != tally(Value(A, None, b"2"), Value(B, None, b"1"))
    assert tally(Value(Key("a", "b", "c"), None, b"")) != tally(Value(Key("a", "", "b"), None, b"c"))
