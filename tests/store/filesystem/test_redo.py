"""The redo file's codec: exact both ways, and total on anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import StoreCorrupt, StoreTooNew
from bgsuper.key import Key, Seq
from bgsuper.store.filesystem import redo as codec
from bgsuper.store.filesystem.redo import Adopt, Redo, Remove
from bgsuper.store.filesystem.stamp import Stamp
from bgsuper.store.filesystem.tree import is_temporary_name
from bgsuper.store.identity import Identity

PARTS = st.text("abcXYZ019_-", max_size=120)
KEYS = st.builds(Key, PARTS.filter(bool), PARTS, PARTS.filter(bool)) | st.builds(
    Key, st.just(""), st.just(""), PARTS.filter(bool)
)
NUMBERS = st.integers(0, (1 << 62) - 1)
IDENTITIES = st.builds(
    Identity,
    st.binary(min_size=16, max_size=16),
    NUMBERS,
    NUMBERS.map(Seq),
    NUMBERS.map(Seq),
    st.just(b"") | st.just(b"s" * 16),
)
STAMPS = st.builds(Stamp, NUMBERS.map(Seq), NUMBERS, st.integers(0, 2**32 - 1))
OPERATIONS = st.builds(Adopt, KEYS, NUMBERS, NUMBERS, STAMPS) | st.builds(Remove, KEYS)
REDOS = st.builds(
    Redo, IDENTITIES, st.lists(OPERATIONS, max_size=6, unique_by=lambda operation: operation.key).map(tuple)
)
SAMPLE = Redo(
    Identity(bytes(16), 3, Seq(7), Seq(9)),
    (Adopt(Key("a", "b", "c"), 3, 4, Stamp(Seq(0), 5, 6)), Remove(Key("", "", "manager"))),
)


@given(REDOS)
def test_what_is_packed_is_unpacked(redo: Redo) -> None:
    """Any redo comes back as it was, and its temporary names are ours."""
    assert Redo.unpack(redo.pack(), "the file") == redo
    for operation in redo.operations:
        assert not isinstance(operation, Adopt) or is_temporary_name(operation.temporary)


@given(st.binary(max_size=300) | REDOS.map(Redo.pack).flatmap(lambda packed: st.binary().map(packed.__add__)))
def test_any_bytes_are_a_redo_or_an_error(packed: bytes) -> None:
    """Nothing but `StoreCorrupt` and `StoreTooNew` comes out."""
    try:
        redo = Redo.unpack(packed, "the file")
    except (StoreCorrupt, StoreTooNew):
        pass
    else:
        assert redo.pack() == packed


@given(st.data())
def test_a_body_that_means_nothing(data: st.DataObject) -> None:
    """Also behind a checksum that is right: any body gives a redo or an error."""
    body = bytearray(SAMPLE.pack()[:-4])
    at = data.draw(st.integers(9, len(body) - 1))
    body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    packed = bytes(body) + codec._CHECKSUM.pack(codec.crc32(bytes(body)))
    try:
        assert Redo.unpack(packed, "the file").pack() == packed
    except (StoreCorrupt, StoreTooNew):
        pass


def test_every_flipped_bit_and_every_cut_is_found() -> None:
    """A checksum over everything: no single bit, and no missing end, goes unnoticed."""
    packed = SAMPLE.pack()
    for bit in range(8 * len(packed)):
        damaged = bytearray(packed)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StoreCorrupt):
            Redo.unpack(bytes(damaged), "the file")
    for length in range(len(packed)):
        with pytest.raises(StoreCorrupt):
            Redo.unpack(packed[:length], "the file")


def test_a_later_version_is_told_from_damage() -> None:
    """`StoreTooNew`, whatever follows the version."""
    body = codec._MAGIC + b"\2whatever a later version says"
    with pytest.raises(StoreTooNew):
        Redo.unpack(body + codec._CHECKSUM.pack(codec.crc32(body)), "the file")


def test_no_key_stands_twice() -> None:
    """Two operations on one key have no order that a redo could keep twice over."""
    packed = SAMPLE._replace(operations=(Remove(Key("", "", "a")), Remove(Key("", "", "a")))).pack()
    with pytest.raises(StoreCorrupt):
        Redo.unpack(packed, "the file")
