"""The stamp on a value's file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import StoreCorrupt, StoreFull, StoreTooNew
from bgsuper.key import Key, Seq
from bgsuper.store.filesystem import stamp as codec
from bgsuper.store.filesystem.stamp import ATTRIBUTE, Stamp

from .stores import MANAGER, commit, key, new_store, opened

SEQS = st.integers(0, 2**64 - 1).map(Seq)


@given(SEQS, st.binary())
def test_what_is_packed_is_unpacked(seq: Seq, content: bytes) -> None:
    """Any stamp comes back as it was."""
    stamp = Stamp.of(MANAGER, seq, content)
    assert Stamp.unpack(stamp.pack(), "the file") == stamp == (seq, len(content), stamp.checksum)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_stamp_or_an_error(packed: bytes) -> None:
    """Nothing else comes out."""
    try:
        assert Stamp.unpack(packed, "the file").pack() == packed
    except (StoreCorrupt, StoreTooNew):
        pass


def test_every_flipped_bit_is_found() -> None:
    """In the stamp itself, too."""
    packed = Stamp.of(MANAGER, Seq(3), b"content").pack()
    for bit in range(8 * len(packed)):
        damaged = bytearray(packed)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StoreCorrupt):
            Stamp.unpack(bytes(damaged), "the file")
    later = b"\2something else"
    with pytest.raises(StoreTooNew):
        Stamp.unpack(later + codec._CHECKSUM.pack(codec.crc32(later)), "the file")


def test_a_stamp_is_its_keys() -> None:
    """One content under two keys has two stamps: a file in another's place is found."""
    assert Stamp.of(Key("a", "b", "c"), Seq(0), b"1") != Stamp.of(Key("a", "c", "b"), Seq(0), b"1")


def test_each_file_is_stamped(tmp_path: Path) -> None:
    """With seq 0 for a record, with its number for a snapshot."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {MANAGER: b"m"})])
        store.adopt_snapshot(store.write_snapshot(key("s"), Seq(2), b"s"))
    for name, expected in (
        ("manager", Stamp.of(MANAGER, Seq(0), b"m")),
        ("channels/s", Stamp.of(key("s"), Seq(2), b"s")),
    ):
        assert Stamp.unpack(os.getxattr(tmp_path / name, ATTRIBUTE), name) == expected


def test_a_file_system_without_attributes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are written and read unverified; nothing fails."""

    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", unsupported)
    monkeypatch.setattr(os, "getxattr", unsupported)
    with opened(tmp_path) as store:
        store.apply([commit(1, {MANAGER: b"m"})])
        (tmp_path / "manager").write_bytes(b"x")
        assert store.read(MANAGER) == b"x"


def test_no_space_for_an_attribute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is a full disk, not a file system without attributes."""
    store = new_store(tmp_path)
    store.open()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "setxattr", full)
        with pytest.raises(StoreFull):
            store.apply([commit(1, {MANAGER: b"m"})])
    store.apply([commit(1, {MANAGER: b"m"})])
    store.close()
