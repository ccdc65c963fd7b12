"""A table that changes while it is copied: the copy shows what was there when it began."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bgsuper.key import Key
from bgsuper.lightning.routing.table import RecordTable, TableCopy

ids = st.integers(0, 30)


def new_table() -> RecordTable[int, list[str]]:
    """Rows are changed in place, as a node's are."""
    return RecordTable(lambda row: ",".join(row).encode(), lambda ident: Key("t", "", str(ident)))


class Copying(RuleBasedStateMachine):
    """Rows come, change and go while up to three copies are taken in steps of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.table = new_table()
        self.model: dict[int, list[str]] = {}
        self.copies: list[tuple[TableCopy[int], list[tuple[int, bytes]], list[tuple[int, bytes]]]] = []
        self.count = 0

    def word(self) -> str:
        self.count += 1
        return str(self.count)

    def records(self) -> list[tuple[int, bytes]]:
        return [(ident, ",".join(self.model[ident]).encode()) for ident in sorted(self.model)]

    @rule(ident=ids)
    def put(self, ident: int) -> None:
        row = [self.word()]
        self.table.put(ident, row)
        self.model[ident] = list(row)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        ident = data.draw(st.sampled_from(sorted(self.model)))
        word = self.word()
        self.table.edit(ident).append(word)
        self.model[ident].append(word)

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
        if not records:
            assert taken == expected
            self.copies.remove((copy, expected, taken))

    @precondition(lambda self: self.copies)
    @rule()
    def give_up(self) -> None:
        self.copies.pop()

    @invariant()
    def table_equals_model(self) -> None:
        assert list(self.table.records()) == self.records()

    def teardown(self) -> None:
        for copy, expected, taken in self.copies:
            while records := copy.step(3):
                taken += records
            assert taken == expected


TestCopying = Copying.TestCase
TestCopying.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)


@given(st.sets(ids), st.integers(1, 40))
def test_a_quiet_table(rows: set[int], count: int) -> None:
    """All records in order, whatever the size of a step; afterwards nothing, again and again."""
    table = new_table()
    for ident in rows:
        table.put(ident, [str(ident)])
    copy = table.copy()
    taken = []
    while records := copy.step(count):
        taken += records
    assert taken == list(table.records())
    assert copy.step(count) == []


def test_a_copy_that_nobody_holds_costs_nothing() -> None:
    """It ends by itself: later changes keep nothing for it."""
    table = new_table()
    table.put(1, ["a"])
    copy = table.copy()
    del copy
    gc.collect()
    assert not table._copies


def test_what_is_not_there_cannot_be_removed() -> None:
    """A KeyError, and the table is as it was, with a copy under way or without."""
    table = new_table()
    table.put(1, ["a"])
    table.take_changes()
    for copies in ([], [table.copy()]):
        for change in (table.remove, table.edit):
            with pytest.raises(KeyError):
                change(2)
        assert table.take_changes() == ({}, set())
        assert [copy.step(5) for copy in copies] == [[(1, b"a")]] * len(copies)
