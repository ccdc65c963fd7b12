"""What proves a row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import StoreCorrupt
from bgsuper.key import Key, Seq
from bgsuper.store.api import SnapshotFile
from bgsuper.store.rows import checksum, pointer, verified
from bgsuper.store.snapshots import _stem

parts = st.from_regex(r"[A-Za-z0-9_-]{0,20}", fullmatch=True)
keys = st.builds(Key, parts, parts, parts)
anything = st.none() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False)


@given(keys, st.binary())
def test_what_was_put_is_verified(key: Key, value: bytes) -> None:
    """The value comes back."""
    assert verified(key, checksum(key, value), value) == value


@given(keys, st.binary(), st.integers(min_value=0), st.integers(0, 7))
def test_every_flipped_bit_of_key_or_value_is_found(key: Key, value: bytes, place: int, bit: int) -> None:
    """Of each part of the key: a value never turns up under another name."""
    columns = [part.encode("latin-1") for part in key] + [value]
    recorded = checksum(key, value)
    column = place % 4
    if columns[column]:
        flipped = bytearray(columns[column])
        flipped[place % len(flipped)] ^= 1 << bit
        columns[column] = bytes(flipped)
        primary, secondary, name = (part.decode("latin-1") for part in columns[:3])
        with pytest.raises(StoreCorrupt, match="does not match its checksum"):
            verified(Key(primary, secondary, name), recorded, columns[3])


@given(keys, keys, st.binary())
def test_a_value_belongs_to_one_key(key: Key, other: Key, value: bytes) -> None:
    """Also where the parts of two keys, joined, are the same text."""
    if key != other:
        assert checksum(key, value) != checksum(other, value)


@given(anything, anything, anything, anything, anything)
def test_columns_of_any_type(primary: object, secondary: object, name: object, recorded: object, value: object) -> None:
    """A damaged row is StoreCorrupt, whatever it holds."""
    with pytest.raises(StoreCorrupt):
        verified(Key(primary, secondary, name), recorded, value)  # type: ignore[arg-type]


def test_a_pointer_is_told_twice() -> None:
    """Key and number stand in the file's name as well."""
    key, file = Key("", "", "network_graph"), _stem(Key("", "", "network_graph"), Seq(7)) + "1-0"
    row = (*key, 7, file, 5, b"d" * 16)
    assert pointer(row) == SnapshotFile(key, Seq(7), file, 5, b"d" * 16)
    for column, other in ((0, "a"), (2, "scorer"), (3, 8), (4, file[:-4]), (4, None), (5, "5"), (6, "d"), (3, b"7")):
        with pytest.raises(StoreCorrupt, match="snapshot table is damaged"):
            pointer((*row[:column], other, *row[column + 1 :]))
    with pytest.raises(StoreCorrupt):
        pointer(row[:-1])
