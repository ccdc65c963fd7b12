"""The blob that says which store this is and how far it has come."""

from __future__ import annotations

import struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import StoreCorrupt, StoreSealed, StoreTooNew
from bgsuper.key import Seq
from bgsuper.store.identity import SEAL_BYTES, STORE_ID_BYTES, Identity, check_seal

numbers = st.integers(0, (1 << 62) - 1)
seals = st.just(b"") | st.binary(min_size=SEAL_BYTES, max_size=SEAL_BYTES).filter(any)
identities = st.builds(
    Identity,
    st.binary(min_size=STORE_ID_BYTES, max_size=STORE_ID_BYTES),
    numbers,
    numbers.map(Seq),
    numbers.map(Seq),
    seals,
)
#: One of which every byte differs from its neighbours.
SAMPLE = Identity(bytes(range(16)), 7, Seq(0x0102030405060708), Seq(0x1112131415161718), bytes(range(32, 48)))


def checked(content: bytes) -> bytes:
    """`content` with a checksum that fits."""
    return content + struct.pack(">I", crc32(content))


@given(identities)
def test_what_is_packed_is_unpacked(identity: Identity) -> None:
    """All of it, in one length whatever it says."""
    packed = identity.pack()
    assert Identity.unpack(packed, "here") == identity
    assert len(packed) == len(SAMPLE.pack())
    assert identity.last_seq == max(identity.last_commit, identity.last_snapshot)


def test_the_layout_stays() -> None:
    """Stores outlive releases: these bytes are read for ever."""
    packed = (b"\1" + bytes(range(16)) + bytes.fromhex("0000000000000007 0102030405060708 1112131415161718")) + bytes(
        range(32, 48)
    )
    assert SAMPLE.pack() == checked(packed)
    assert Identity.unpack(checked(packed), "here") == SAMPLE


@pytest.mark.parametrize("identity", [SAMPLE, SAMPLE._replace(seal=b""), Identity(bytes(16))])
def test_every_flipped_byte_is_damage(identity: Identity) -> None:
    """Wherever it is, the version included: a number that is wrong is never believed."""
    packed = identity.pack()
    for place in range(len(packed)):
        for flip in (1, 0x80, 0xFF):
            damaged = packed[:place] + bytes([packed[place] ^ flip]) + packed[place + 1 :]
            with pytest.raises(StoreCorrupt, match="how far it had come, is damaged"):
                Identity.unpack(damaged, "here")


def test_every_cut_is_damage() -> None:
    """So is what is longer, checksum or not, and what is no blob at all."""
    packed = SAMPLE.pack()
    for damaged in (*(packed[:length] for length in range(len(packed))), packed + b"\0", checked(packed), None, 7, "x"):
        with pytest.raises(StoreCorrupt):
            Identity.unpack(damaged, "here")


@given(st.binary(max_size=100))
def test_unpack_is_total(content: bytes) -> None:
    """Any bytes, with a checksum that fits or not: an identity or a typed error, and the identity packs again."""
    for packed in (content, checked(content), checked(b"\1" + content)):
        try:
            identity = Identity.unpack(packed, "here")
        except (StoreCorrupt, StoreTooNew):
            continue
        assert identity.pack() == packed


@pytest.mark.parametrize("place", [17, 25, 33])
def test_a_number_beyond_all_is_damage(place: int) -> None:
    """Though its checksum fits."""
    content = bytearray(SAMPLE.pack()[:-4])
    content[place] = 0x40
    with pytest.raises(StoreCorrupt):
        Identity.unpack(checked(bytes(content)), "here")


@pytest.mark.parametrize("version", [2, 255])
def test_a_later_form_is_too_new(version: int) -> None:
    """However long it is."""
    for content in (SAMPLE.pack()[1:-4], b"", bytes(200)):
        with pytest.raises(StoreTooNew, match="a later bgsuper wrote the place; upgrade"):
            Identity.unpack(checked(bytes([version]) + content), "the place")


def test_a_new_store_has_an_id_of_its_own() -> None:
    """Random, and sealed with the key that it was given."""
    seal = b"s" * SEAL_BYTES
    first, second = Identity.new(seal), Identity.new(b"")
    assert first.store_id != second.store_id
    assert len(first.store_id) == STORE_ID_BYTES
    assert first == Identity(first.store_id, seal=seal)
    assert second.last_seq == 0


def test_the_seal_must_be_the_one() -> None:
    """No key for a sealed store, a key for one that is not sealed, another key: each is told by what to do."""
    one, other = b"a" * SEAL_BYTES, b"b" * SEAL_BYTES
    check_seal(b"", b"", "here")
    check_seal(one, one, "here")
    for recorded, given_seal, says in (
        (one, b"", r"^here is sealed, and no key was given: add \?key-file=PATH"),
        (b"", one, "^here is not sealed, but a key was given: leave the key out"),
        (one, other, "^here is sealed with another key than the one that was given"),
    ):
        with pytest.raises(StoreSealed, match=says) as caught:
            check_seal(recorded, given_seal, "here")
        assert one.hex() not in str(caught.value)
