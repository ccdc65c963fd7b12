"""A table that changes while it is copied: the copy shows what was there when it began."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bgsuper.key import Key
from bgsuper.lightning.routing.table import DecodedRecords, RecordTable, TableCopy

ids = st.integers(0, 30)


def new_table() -> RecordTable[int]:
    return RecordTable(lambda ident: Key("t", "", str(ident)))


class Copying(RuleBasedStateMachine):
    """Records come, change and go while up to three copies are taken in steps of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.table = new_table()
        self.model: dict[int, bytes] = {}
        self.copies: list[tuple[TableCopy[int], list[tuple[int, bytes]], list[tuple[int, bytes]]]] = []
        self.count = 0

    def records(self) -> list[tuple[int, bytes]]:
        return sorted(self.model.items())

    @rule(ident=ids)
    def put(self, ident: int) -> None:
        self.count += 1
        record = str(self.count).encode()
        self.table.put(ident, record)
        self.model[ident] = record

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        ident = data.draw(st.sampled_from(sorted(self.model)))
        assert self.table.remove(ident) == self.model.pop(ident)

    @precondition(lambda self: len(self.copies) < 3)
    @rule()
    def begin(self) -> None:
        copy = self.table.copy()
        assert copy.length == len(self.model)
        self.copies.append((copy, self.records(), []))

    @precondition(lambda self: self.copies)
    @rule(data=st.data(), count=st.integers(1, 8))
    def step(self, data: st.DataObject, count: int) -> None:
        copy, expected, taken = data.draw(st.sampled_from(self.copies))
        records = copy.step(count)
        assert len(records) <= count
        taken += records
        assert taken == expected[: len(taken)]
        assert copy.left == len(expected) - len(taken)
        if not copy.left:
            self.copies.remove((copy, expected, taken))

    @precondition(lambda self: self.copies)
    @rule()
    def give_up(self) -> None:
        self.copies.pop()

    @invariant()
    def table_equals_model(self) -> None:
        assert self.table.records == self.model
        assert self.table.ids_after(None, 100) == sorted(self.model)

    def teardown(self) -> None:
        for copy, expected, taken in self.copies:
            while copy.left:
                taken += copy.step(3)
            assert taken == expected


TestCopying = Copying.TestCase
TestCopying.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)


@given(st.sets(ids), st.integers(1, 40))
def test_a_quiet_table(rows: set[int], count: int) -> None:
    """All records in order, whatever the size of a step; afterwards nothing, again and again."""
    table = new_table()
    for ident in rows:
        table.put(ident, str(ident).encode())
    copy = table.copy()
    taken = []
    while copy.left:
        taken += copy.step(count)
    assert taken == sorted(table.records.items())
    assert copy.step(count) == []


def test_what_came_since_is_passed_over_some_a_step() -> None:
    """A step looks at so many ids and no more, though none of them was there when the copy began."""
    table = new_table()
    table.put(1000, b"a")
    copy = table.copy()
    for ident in range(100):
        table.put(ident, b"b")
    steps = 0
    while copy.left:
        records = copy.step(10)
        steps += 1
    assert (steps, records) == (11, [(1000, b"a")])


def test_a_copy_that_nobody_holds_costs_nothing() -> None:
    """It ends by itself: later changes keep nothing for it."""
    table = new_table()
    table.put(1, b"a")
    copy = table.copy()
    del copy
    gc.collect()
    assert not table._copies


def test_what_is_not_there_cannot_be_removed() -> None:
    """A KeyError, and the table is as it was, with a copy under way or without."""
    table = new_table()
    table.put(1, b"a")
    table.take_changes()
    for copies in ([], [table.copy()]):
        with pytest.raises(KeyError):
            table.remove(2)
        assert table.take_changes() == ({}, set())
        assert [copy.step(5) for copy in copies] == [[(1, b"a")]] * len(copies)


def test_a_loaded_record_is_no_change() -> None:
    """What came from the store need not go there."""
    table = new_table()
    table.load([(2, b"b"), (1, b"a")])
    assert table.copy().step(5) == [(1, b"a"), (2, b"b")]
    assert table.take_changes() == ({}, set())


def test_a_record_that_goes_twice_is_missing_once() -> None:
    """A copy is to give a record that went, came and went again one time, and nothing behind it is passed over."""
    table = new_table()
    for ident in (1, 2, 9):
        table.put(ident, b"a")
    copy = table.copy()
    for _ in range(3):
        table.remove(1)
        table.put(1, b"b")
    table.remove(1)
    table.remove(2)
    taken = []
    while copy.left:
        taken += copy.step(2)
    assert taken == [(1, b"a"), (2, b"a"), (9, b"a")]


def test_what_the_store_holds_otherwise() -> None:
    """Marked, a record is put once more and one that is not there removed."""
    table = new_table()
    table.load([(1, b"a")])
    table.mark_changed([1, 2])
    assert table.take_changes() == ({Key("t", "", "1"): b"a"}, {Key("t", "", "2")})


def test_changes_of_a_record_merge() -> None:
    """A store gets the newest alone, once; what went is removed."""
    table = new_table()
    for record in (b"a", b"b", b"c"):
        table.put(1, record)
    table.put(2, b"x")
    assert table.take_changes() == ({Key("t", "", "1"): b"c", Key("t", "", "2"): b"x"}, set())
    assert table.remove(1) == b"c"
    assert table.take_changes() == ({}, {Key("t", "", "1")})


def test_what_the_table_holds_is_not_the_collectors() -> None:
    """Ids and records are atoms, and so the dictionary of them is not looked through either, however large."""
    table = new_table()
    for ident in range(1000):
        table.put(ident, bytes([ident % 256]))
    gc.collect()
    assert not gc.is_tracked(table._records)


def test_decoded_records() -> None:
    """A view decodes what it is asked for, and nothing for a length, a membership or the ids."""
    asked: list[bytes] = []

    def decode(record: bytes) -> str:
        asked.append(record)
        return record.decode()

    table = new_table()
    view = DecodedRecords(table.records, decode)
    table.put(1, b"a")
    table.put(2, b"b")
    assert (len(view), list(view), 1 in view, 3 in view, asked) == (2, [1, 2], True, False, [])
    assert (view[2], view.get(3), asked) == ("b", None, [b"b"])
    with pytest.raises(KeyError):
        view[3]
    assert view == {1: "a", 2: "b"}
