"""The model: what a store must hold, at any number between what is acknowledged and what was submitted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bgsuper.key import Key, Seq
from bgsuper.torture.run.model import Model

A, B = Key("demo", "x", "a"), Key("demo", "y", "b")
KEYS = st.sampled_from([A, B, Key("demo", "x", "c")])
COMMITS = st.lists(st.tuples(st.dictionaries(KEYS, st.binary(max_size=4)), st.frozensets(KEYS)), max_size=12)


@given(commits=COMMITS, acked=st.integers(0, 12), asked=st.integers(0, 12))
def test_it_holds_what_replaying_the_commits_gives(
    commits: list[tuple[dict[Key, bytes], frozenset[Key]]], acked: int, asked: int
) -> None:
    """`at(n)` is the first n commits applied in order, and never less than what is acknowledged."""
    model = Model[bytes]()
    states: list[dict[Key, bytes]] = [{}]
    for number, (puts, removes) in enumerate(commits, 1):
        removes -= puts.keys()
        model.commit(Seq(number), puts, removes)
        states.append({key: value for key, value in states[-1].items() if key not in removes} | puts)
    acked = min(acked, len(commits))
    model.ack(Seq(acked))
    assert model.at(Seq(asked)) == states[max(acked, min(asked, len(commits)))]
    assert model.acked == acked
    assert model.submitted == model.commits == len(commits)


def test_it_knows_which_commit_changed_a_record() -> None:
    """Putting and removing both count; what was never touched has number 0."""
    model = Model[bytes]()
    model.commit(Seq(1), {A: b"1", B: b"1"}, ())
    model.commit(Seq(4), {}, [A])
    assert (model.changed_in(A), model.changed_in(B), model.changed_in(Key("", "", "c"))) == (4, 1, 0)
    assert model.namespaces() == [("demo", "x"), ("demo", "y")]


def test_what_is_not_durable_when_a_host_is_dead_never_was() -> None:
    """Its numbers are given out again; who changed a record last is known as of what is durable."""
    model = Model[bytes]()
    model.commit(Seq(1), {A: b"1", B: b"1"}, ())
    model.commit(Seq(2), {}, [B])
    model.commit(Seq(3), {A: b"3"}, ())
    model.settle(Seq(2))
    assert (model.submitted, model.acked) == (2, 2)
    assert model.at(Seq(3)) == {A: b"1"}
    assert (model.changed_in(A), model.changed_in(B)) == (1, 2)
    model.forget_removed()
    assert (model.changed_in(A), model.changed_in(B)) == (1, 0)
    model.commit(Seq(3), {B: b"3"}, ())
    assert model.at(Seq(3)) == {A: b"1", B: b"3"}


def test_an_acknowledgement_never_goes_back() -> None:
    """An older acknowledgement changes nothing."""
    model = Model[bytes]()
    model.commit(Seq(1), {A: b"1"}, ())
    model.ack(Seq(1))
    model.ack(Seq(0))
    assert model.acked == 1
