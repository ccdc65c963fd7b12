"""A copy has everything, batch by batch, and the proof of that finds whatever is not so."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import ConfigError, StoreCorrupt, StoreInconsistent
from bgsuper.key import Key, Seq
from bgsuper.store.copying import BATCH_BYTES, BATCH_RECORDS, Counts, copy_values, prove_equal

from .views import IDENTITY, DictView, Target

A, B, C = Key("", "", "a"), Key("channels", "", "b"), Key("channels", "x", "c")
VALUES = {A: (None, b"1"), B: (Seq(42), b"22" * 50), C: (None, b"")}

PARTS = st.text("aZ0_-", max_size=3)
KEYS = st.one_of(
    st.builds(Key, PARTS.filter(bool), PARTS, PARTS.filter(bool)),
    st.builds(Key, st.just(""), st.just(""), PARTS.filter(bool)),
)
STORES = st.dictionaries(KEYS, st.tuples(st.none() | st.integers(1, 99).map(Seq), st.binary(max_size=40)), max_size=30)


def silent(_key: Key, _length: int) -> None:
    """Nobody is told."""


@given(values=STORES)
def test_a_copy_is_equal_whatever_the_store(values: dict[Key, tuple[Seq | None, bytes]]) -> None:
    """Every value is there in its lane, under the source's identity, and the proof agrees."""
    source, target = DictView(values), Target()
    told: list[tuple[Key, int]] = []
    counts = copy_values(source, target, lambda key, length: told.append((key, length)))
    assert target.held == values
    assert target.identity == IDENTITY
    assert counts.values == len(values)
    assert counts.bytes == sum(len(content) for _, content in values.values())
    assert told == [(key, len(values[key][1])) for key in sorted(values)]
    prove_equal(source, target.view(), silent)


def test_counts_are_of_each_lane() -> None:
    """Records and snapshots are told apart."""
    assert copy_values(DictView(VALUES), Target(), silent) == Counts(records=2, snapshots=1, bytes=101)


def test_many_small_records_go_in_batches() -> None:
    """No batch has more than `BATCH_RECORDS`, none is empty."""
    source = DictView({Key("n", "", f"{i:05}"): (None, b"x") for i in range(2 * BATCH_RECORDS + 1)})
    target = Target()
    copy_values(source, target, silent)
    assert [len(batch) for batch in target.batches] == [BATCH_RECORDS, BATCH_RECORDS, 1]


def test_large_values_do_not_wait_for_each_other() -> None:
    """A batch goes out once it has `BATCH_BYTES`: memory holds one large value."""
    large = bytes(BATCH_BYTES)
    source = DictView({Key("n", "", name): (None, large) for name in "abc"})
    target = Target()
    copy_values(source, target, silent)
    assert [len(batch) for batch in target.batches] == [1, 1, 1]


def test_the_identity_comes_last() -> None:
    """A copy that stopped half-way is not yet that store."""
    target = Target()
    with pytest.raises(StoreCorrupt):
        copy_values(DictView(VALUES, damaged=[C]), target, silent)
    assert target.identity is None


def test_a_damaged_identity_is_no_copy() -> None:
    """Whoever it is of is not guessed; nothing is written before."""
    target = Target()
    with pytest.raises(StoreCorrupt, match="identity"):
        copy_values(DictView(VALUES, identity=None), target, silent)
    assert target.held == {}


@pytest.mark.parametrize("name", ["../up", "a/b", "", "x" * 121, ".", "a\0"])
@pytest.mark.parametrize("seq", [None, Seq(1)])
def test_a_name_that_ldk_would_refuse_goes_nowhere(name: str, seq: Seq | None) -> None:
    """What a foreign hand put into a database must not become a path."""
    target = Target()
    with pytest.raises(ConfigError, match="expected"):
        copy_values(DictView({Key("n", "", name): (seq, b"x")}), target, silent)
    assert target.held == {}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({A: (None, b"1"), B: VALUES[B]}, "lacks channels/x/c"),
        ({B: VALUES[B], C: VALUES[C]}, "lacks a"),
        ({}, "lacks a"),
        ({**VALUES, Key("z", "", "z"): (None, b"")}, "has z/z, which"),
        ({**VALUES, Key("", "", "Z"): (None, b"")}, "has Z, which"),
        ({**VALUES, A: (None, b"2")}, "value of a is not"),
        ({**VALUES, A: (None, b"1\0")}, "value of a is not"),
        ({**VALUES, B: (Seq(41), VALUES[B][1])}, "snapshot 41 of channels/b, the source 42"),
    ],
)
def test_the_proof_finds_each_difference(wrong: dict[Key, tuple[Seq | None, bytes]], said: str) -> None:
    """A key too few, one too many, another value, another snapshot: by name."""
    with pytest.raises(StoreInconsistent, match=said):
        prove_equal(DictView(VALUES), DictView(wrong), silent)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"store_id": bytes(16)}, "store_id"),
        ({"last_commit": 40}, "last_commit"),
        ({"last_snapshot": 44}, "last_snapshot"),
        ({"epoch": 6}, "epoch"),
        ({"epoch": 6, "last_commit": 1}, "last_commit and epoch"),
    ],
)
def test_the_proof_is_of_the_identity_too(changed: dict[str, object], said: str) -> None:
    """A copy with equal values that goes on elsewhere is not the same store."""
    with pytest.raises(StoreInconsistent, match=said):
        prove_equal(DictView(VALUES), DictView(VALUES, IDENTITY._replace(**changed)), silent)


def test_a_later_epoch_and_another_seal_are_the_same_store() -> None:
    """Epochs only rise; the seal is the copy's own."""
    prove_equal(DictView(VALUES), DictView(VALUES, IDENTITY._replace(epoch=9, seal=b"s" * 16)), silent)


def test_a_backend_without_lanes_is_equal() -> None:
    """A snapshot that comes out as a record is the same value."""
    without = {key: (None, content) for key, (_, content) in VALUES.items()}
    prove_equal(DictView(VALUES), DictView(without), silent)


@given(values=STORES.filter(bool), data=st.data())
def test_the_proof_finds_any_change(values: dict[Key, tuple[Seq | None, bytes]], data: st.DataObject) -> None:
    """Any value changed by any byte, any key missing."""
    key = data.draw(st.sampled_from(sorted(values)))
    seq, content = values[key]
    changes: list[Callable[[], dict[Key, tuple[Seq | None, bytes]]]] = [
        lambda: {**values, key: (seq, content + b"\0")},
        lambda: {other: value for other, value in values.items() if other != key},
    ]
    wrong = data.draw(st.sampled_from(changes))()
    with pytest.raises(StoreInconsistent, match=str(key)):
        prove_equal(DictView(values), DictView(wrong), silent)
