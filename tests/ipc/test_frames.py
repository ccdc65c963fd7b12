"""Frames: whatever way a stream is cut, the same frames; whatever bytes come, frames or `FrameError`."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import FrameError
from bgsuper.ipc.frames import HEADER, MAGIC, MAX_BODY, VERSION, Frame, FrameReader, Kind, encode, header

from .strategies import U64, cut, cuttings, frames

A = Frame(Kind.COMMIT, 7, b"seven")
B = Frame(Kind.ACK, 2**64 - 1, b"")
C = Frame(Kind.CHUNK, 0, bytes(range(256)))
STREAM = b"".join(encode(*frame) for frame in (A, B, C))


def test_the_header_is_as_documented() -> None:
    """The layout in the docstring is the layout on the wire: big-endian, 16 bytes, the body after it."""
    assert encode(Kind.SNAPSHOT, 0x0102, b"xyz") == b"bg\x01\x03" + bytes([0, 0, 0, 3]) + bytes(6) + b"\x01\x02xyz"
    assert HEADER.size == 16


def test_kinds_tell_their_direction() -> None:
    """Below 16 the host sends, from 16 the worker does; the numbers fit in the header's byte."""
    from_worker = {"HELLO", "ACK", "SNAPSHOT_ACK", "SNAPSHOT_FAILED", "ERROR", "REPLY", "PROGRESS", "RETRYING"}
    assert {kind.name for kind in Kind if kind >= 16} >= from_worker
    assert all(0 < kind < 256 for kind in Kind)


@pytest.mark.parametrize("at", range(len(STREAM) + 1))
def test_a_cut_at_any_byte_changes_nothing(at: int) -> None:
    """Rule 3: a frame may be cut at any byte, and what is whole comes out at once."""
    reader = FrameReader()
    first, second = reader.feed(STREAM[:at]), reader.feed(STREAM[at:])
    assert [*first, *second] == [A, B, C]
    ends = [len(encode(*A)), len(encode(*A) + encode(*B)), len(STREAM)]
    assert len(first) == sum(end <= at for end in ends)
    reader.close()


def test_one_byte_at_a_time() -> None:
    """The finest cutting there is."""
    reader = FrameReader()
    assert [frame for byte in STREAM for frame in reader.feed(bytes([byte]))] == [A, B, C]


@given(st.data(), st.lists(frames, max_size=8))
def test_any_cutting_gives_the_same_frames(data: st.DataObject, sent: list[Frame]) -> None:
    """Rule 3 for any frames and any number of cuts, empty pieces included."""
    stream = b"".join(encode(*frame) for frame in sent)
    reader = FrameReader()
    pieces = cut(stream, data.draw(cuttings(len(stream))))
    assert [frame for piece in pieces for frame in reader.feed(piece)] == sent
    reader.close()


@given(st.lists(st.binary(max_size=100), max_size=10))
def test_random_bytes_give_frames_or_frame_error(pieces: list[bytes]) -> None:
    """Rule 2: the reader is total, and once it has failed it stays dead."""
    reader = FrameReader()
    dead = False
    for piece in pieces:
        try:
            for frame in reader.feed(piece):
                assert encode(*frame) in b"".join(pieces)
        except FrameError:
            dead = True
        else:
            assert not dead


@given(st.data(), st.lists(frames, min_size=1, max_size=4))
def test_a_damaged_stream_gives_no_frame_past_the_damage(data: st.DataObject, sent: list[Frame]) -> None:
    """Rule 1 and 2: with one byte changed, what comes out before it is what was sent."""
    stream = bytearray(b"".join(encode(*frame) for frame in sent))
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] ^= data.draw(st.integers(1, 255))
    came: list[Frame] = []
    reader = FrameReader()
    try:
        for piece in cut(bytes(stream), data.draw(cuttings(len(stream)))):
            came += reader.feed(piece)
    except FrameError:
        pass
    end = 0
    for ours, theirs in zip(sent, came, strict=False):
        end += HEADER.size + len(ours.body)
        if at < end:
            break
        assert theirs == ours


def raw_header(
    magic: bytes = MAGIC, version: int = VERSION, kind: int = Kind.COMMIT, length: int = 0, seq: int = 1
) -> bytes:
    return struct.pack(">2sBBIQ", magic, version, kind, length, seq)


BAD_HEADERS = {
    "garbage": (raw_header(magic=b"\x16\x03"), "magic"),
    "another version": (raw_header(version=VERSION + 1), f"version {VERSION}, got {VERSION + 1}"),
    "kind 0": (raw_header(kind=0), "known kind"),
    "unknown kind": (raw_header(kind=255), "known kind of frame, got 255"),
    "oversize": (raw_header(length=MAX_BODY + 1), str(MAX_BODY + 1)),
    "as long as the field allows": (raw_header(length=2**32 - 1), str(2**32 - 1)),
}


@pytest.mark.parametrize("bad", BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
def test_a_bad_header_kills_the_reader(bad: tuple[bytes, str]) -> None:
    """A header that no host or worker of this version sends is told by name, and the reader is dead after it."""
    raw, told = bad
    reader = FrameReader()
    assert reader.feed(encode(*A)) == [A]
    with pytest.raises(FrameError, match=told):
        reader.feed(raw)
    with pytest.raises(FrameError, match=told):
        reader.feed(encode(*A))
    with pytest.raises(FrameError, match=told):
        reader.feed(b"")


def test_a_frame_of_the_greatest_length_passes() -> None:
    """The cap itself is allowed."""
    body = bytes(MAX_BODY)
    assert FrameReader().feed(encode(Kind.CHUNK, 1, body)) == [Frame(Kind.CHUNK, 1, body)]


def test_nothing_longer_is_ever_sent() -> None:
    """The cap binds the sender too, before a byte is out."""
    with pytest.raises(FrameError, match="COMMIT"):
        header(Kind.COMMIT, 1, MAX_BODY + 1)


def test_memory_is_bounded_by_one_frame() -> None:
    """Frames that are done leave nothing behind, and a length that is only announced takes nothing."""
    reader = FrameReader()
    reader.feed(raw_header(length=MAX_BODY))
    tracemalloc.start()
    try:
        for _ in range(15):
            reader.feed(bytes(1024 * 1024))
        assert tracemalloc.get_traced_memory()[1] < MAX_BODY + 4 * 1024 * 1024
        tracemalloc.reset_peak()
        [frame] = reader.feed(bytes(1024 * 1024))
        assert len(frame.body) == MAX_BODY
        del frame
        assert tracemalloc.get_traced_memory()[0] < 64 * 1024
    finally:
        tracemalloc.stop()


def test_a_dead_reader_holds_nothing() -> None:
    """What came before the error is dropped with it."""
    reader = FrameReader()
    with pytest.raises(FrameError):
        reader.feed(bytes(100))
    reader.close()


@pytest.mark.parametrize("length", [1, HEADER.size, HEADER.size + 1])
def test_a_stream_may_not_end_inside_a_frame(length: int) -> None:
    """EOF between frames is an end; inside one it is an error."""
    reader = FrameReader()
    assert reader.feed(encode(*A) + encode(*A)[:length]) == [A]
    with pytest.raises(FrameError, match=f"{length} bytes into a frame"):
        reader.close()


@given(st.sampled_from([bytes, bytearray, memoryview]))
def test_a_body_is_the_readers_own(kind: type[bytes]) -> None:
    """The caller may reuse the buffer that it received into."""
    buffer = bytearray(encode(*C))
    [frame] = FrameReader().feed(kind(buffer))
    buffer[:] = bytes(len(buffer))
    assert frame == C
    assert type(frame.body) is bytes


@given(st.integers(0, U64))
def test_every_seq_fits(seq: int) -> None:
    """The header carries 64 bits of it."""
    assert FrameReader().feed(encode(Kind.ACK, seq)) == [Frame(Kind.ACK, seq, b"")]
