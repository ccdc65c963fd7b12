"""What may be on a disk after a power cut: the judge of the power cuts, judged."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.key import NETWORK_GRAPH, SCORER, Key, Seq
from bgsuper.torture.power.model import (
    MOST_PROBLEMS,
    Acknowledged,
    Claimed,
    Committed,
    Event,
    Found,
    Model,
    Recovered,
    SnapshotAcknowledged,
    Snapshotted,
)

A, B = Key("channels", "", "a"), Key("channels", "", "b")


def commit(seq: int, puts: dict[Key, bytes], *removes: Key) -> Committed:
    return Committed(seq, Seq(seq), puts, frozenset(removes))


def snapshot(seq: int, content: bytes, *, critical: bool = False, key: Key = NETWORK_GRAPH) -> Snapshotted:
    return Snapshotted(seq, Seq(seq), key, content, critical)


def acknowledged(seq: int) -> Acknowledged:
    return Acknowledged(seq, Seq(seq))


def found(last_commit: int, last_seq: int, records: dict[Key, bytes]) -> Found:
    return Found(Seq(last_commit), Seq(last_seq), records)


def model(*events: Event) -> Model:
    model = Model()
    for event in events:
        model.happen(event)
    return model


TWO = (commit(1, {A: b"a1", B: b"b1"}), commit(2, {A: b"a2"}, B), acknowledged(1))


@pytest.mark.parametrize(
    "good", [found(1, 1, {A: b"a1", B: b"b1"}), found(2, 2, {A: b"a2"})], ids=["the one under way not", "it too"]
)
def test_commits_up_to_a_number(good: Found) -> None:
    """What is acknowledged must be there; what is under way may be."""
    assert model(*TWO).problems(good) == []


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (found(0, 0, {}), "lost: commit 1 was acknowledged"),
        (found(2, 2, {A: b"a2", B: b"b1"}), "channels/b: has the value of 1; it should be none"),
        (found(2, 2, {A: b"a1"}), "channels/a: has the value of 1; it should be that of 2"),
        (found(1, 1, {A: b"a2", B: b"b1"}), "channels/a: has the value of 2; it should be that of 1"),
        (found(1, 1, {A: b"a1"}), "channels/b: missing; the value should be that of 1"),
        (found(1, 1, {A: b"??", B: b"b1"}), "channels/a: has 2 bytes that nobody submitted"),
        (found(1, 1, {A: b"a1", B: b"b1", SCORER: b"x"}), "scorer: has 1 bytes that nobody submitted"),
        (found(3, 3, {A: b"a2"}), "claims commit 3, which nobody submitted"),
        (found(1, 7, {A: b"a1", B: b"b1"}), "claims the number 7, which nobody gave out"),
        (found(2, 1, {A: b"a2"}), "newest number, 1, is below its newest commit, 2"),
    ],
)
def test_lost_split_and_foreign_commits(bad: Found, problem: str) -> None:
    """An acknowledged commit missing, a batch split, an order inverted, a record invented: each is told by its name."""
    assert any(problem in line for line in model(*TWO).problems(bad))


SNAPSHOTS = (
    snapshot(1, b"g1"),
    commit(2, {A: b"a2"}),
    snapshot(3, b"g3"),
    SnapshotAcknowledged(3, Seq(1)),
)


@pytest.mark.parametrize(
    "good",
    [
        found(0, 1, {NETWORK_GRAPH: b"g1"}),
        found(2, 2, {A: b"a2", NETWORK_GRAPH: b"g1"}),
        found(2, 3, {A: b"a2", NETWORK_GRAPH: b"g3"}),
    ],
)
def test_snapshots_under_way(good: Found) -> None:
    """The acknowledged snapshot, or a later one with all commits before it."""
    assert model(*SNAPSHOTS).problems(good) == []


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (found(2, 2, {A: b"a2"}), "goes backwards: the snapshot 1 was acknowledged, 0 is there"),
        (found(0, 3, {NETWORK_GRAPH: b"g3"}), "the snapshot 3 is there without the commit 2 before it"),
        (found(0, 1, {NETWORK_GRAPH: b"g3g1"}), "has 4 bytes that nobody submitted"),
    ],
)
def test_snapshots_gone_wrong(bad: Found, problem: str) -> None:
    """One that goes backwards, overtakes the commits before it, or is a mixture."""
    assert any(problem in line for line in model(*SNAPSHOTS).problems(bad))


def test_a_critical_snapshot_is_acknowledged_with_the_commits() -> None:
    """The number up to which all is durable covers it, and no other snapshot."""
    judge = model(snapshot(1, b"g", critical=True), snapshot(2, b"s", key=SCORER), acknowledged(2))
    assert judge.problems(found(0, 1, {NETWORK_GRAPH: b"g"})) == []
    assert judge.problems(found(0, 2, {SCORER: b"s"})) == [
        "network_graph: goes backwards: the snapshot 1 was acknowledged, 0 is there"
    ]


def test_a_claim_counts_for_commits() -> None:
    """What a host is told at start must be there; a critical snapshot that a commit passed is not claimed by that."""
    judge = model(snapshot(1, b"g", critical=True), commit(2, {A: b"a2"}), Claimed(3, Seq(2)))
    assert judge.problems(found(2, 2, {A: b"a2"})) == []
    assert judge.problems(found(0, 0, {})) == ["lost: commit 2 was acknowledged, the newest one there is 0"]


def test_a_commit_takes_a_snapshots_place() -> None:
    """A commit of the same key is newer than the snapshots before it, and older than those after it."""
    events = (snapshot(1, b"g1"), commit(2, {NETWORK_GRAPH: b"c2"}), acknowledged(2), snapshot(3, b"g3"))
    assert model(*events).problems(found(2, 2, {NETWORK_GRAPH: b"c2"})) == []
    assert model(*events).problems(found(2, 3, {NETWORK_GRAPH: b"g3"})) == []
    assert model(*events).problems(found(2, 2, {NETWORK_GRAPH: b"g1"})) != []


def test_what_was_recovered_counts_and_the_rest_never_was() -> None:
    """After a recovery without commit 2, that one must not come back, and the snapshot must not go."""
    recovered = found(1, 3, {A: b"a1", B: b"b1", NETWORK_GRAPH: b"g"})
    judge = model(*TWO, snapshot(3, b"g"), Recovered(9, recovered))
    assert judge.problems(recovered) == []
    assert judge.problems(found(2, 3, {A: b"a2", NETWORK_GRAPH: b"g"})) != []
    assert judge.problems(found(1, 3, {A: b"a1", B: b"b1"})) != []
    judge.happen(commit(4, {B: b"b4"}))
    assert judge.problems(found(4, 4, {A: b"a1", B: b"b4", NETWORK_GRAPH: b"g"})) == []
    assert judge.problems(found(4, 4, {A: b"a1", B: b"b4"})) == [
        "network_graph: missing; the value should be that of 0"
    ]


def test_a_report_is_short() -> None:
    """However much is lost, a few lines say it."""
    judge = model(commit(1, {Key("channels", "", f"{n}"): b"x" for n in range(100)}), acknowledged(1))
    problems = judge.problems(found(1, 1, {}))
    assert (len(problems), problems[-1]) == (MOST_PROBLEMS + 1, f"... and {100 - MOST_PROBLEMS} more")


@given(st.integers(0, 2**32), st.integers(0, 12))
def test_every_cut_of_a_history_is_good_and_no_other_record_is(seed: int, length: int) -> None:
    """A store that did what it was told up to any number not below what was acknowledged is good; change any record of
    it, or take it away, and it is not."""
    dice = Random(seed)
    judge, states, records = Model(), [found(0, 0, {})], dict[Key, bytes]()
    for seq in range(1, length + 1):
        if dice.random() < 0.3:
            key, content = dice.choice((NETWORK_GRAPH, SCORER)), b"snapshot %d" % seq
            judge.happen(snapshot(seq, content, critical=True, key=key))
            records = {**records, key: content}
            states.append(found(states[-1].last_commit, seq, records))
            continue
        puts = {key: b"%s %d" % (key.name.encode(), seq) for key in (A, B, SCORER) if dice.random() < 0.4}
        removes = {key for key in (A, B, SCORER) if key not in puts and dice.random() < 0.2}
        judge.happen(commit(seq, puts, *removes))
        records = {key: value for key, value in (records | puts).items() if key not in removes}
        states.append(found(seq, seq, records))
    acked = dice.randint(0, length)
    judge.happen(acknowledged(acked))
    good = states[dice.randint(acked, length)]
    assert judge.problems(good) == []
    for key, value in good.records.items():
        assert judge.problems(replace(good, records={**good.records, key: value + b"!"}))
        if good.last_seq == acked:
            assert judge.problems(replace(good, records={k: v for k, v in good.records.items() if k != key}))
