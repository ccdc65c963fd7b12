"""Messages: what is encoded comes back, however it is interleaved; what is hostile gives `FrameError`, never more."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bgsuper.errors import ConfigError, FrameError
from bgsuper.ipc.frames import CHUNK_BYTES, HEADER, MAX_BODY, Frame, FrameReader, Kind, encode
from bgsuper.ipc.messages import (
    INLINE_BYTES,
    MAX_INDEX,
    MAX_PARTIAL,
    MAX_PAYLOAD,
    Assembler,
    Commit,
    Message,
    check_commit_size,
    decode_commits,
    encode_commits,
    encode_message,
    frame_count,
    index_bytes,
    records,
)
from bgsuper.key import MANAGER, Key, Seq

from .strategies import U64, commits, keys

whole_kinds = st.sampled_from([kind for kind in Kind if kind is not Kind.CHUNK])
scalars = st.none() | st.booleans() | st.integers(-(2**63), U64) | st.floats(allow_nan=False) | st.text() | st.binary()
fields = st.lists(
    st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
)
#: Lengths around every border: empty, inline or not, one chunk or more.
lengths = st.sampled_from(
    [0, 1, INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES]
)


def assemble(pieces: Iterable[bytes], assembler: Assembler | None = None) -> list[Message]:
    """The messages in a stream; all of it must be used up."""
    reader, assembler = FrameReader(), assembler or Assembler()
    came = [assembler.feed(frame) for piece in pieces for frame in reader.feed(piece)]
    reader.close()
    return [message for message in came if message is not None]


def frames_of(pieces: Iterable[bytes]) -> list[Frame]:
    reader = FrameReader()
    return [frame for piece in pieces for frame in reader.feed(piece)]


def body(*content: object) -> bytes:
    return bytes(msgpack.packb(list(content)))


# -- round trips ------------------------------------------------------------------------------------------------------


@given(whole_kinds, st.integers(0, U64), fields, st.lists(st.binary(max_size=50), max_size=5))
def test_small_messages_come_back(kind: Kind, seq: int, sent: list[object], payload: list[bytes]) -> None:
    """A small message is one frame, whatever plain values its fields hold."""
    pieces = list(encode_message(kind, seq, sent, payload))
    assert len(pieces) == 1
    assert assemble(pieces) == [Message(kind, seq, sent, b"".join(payload))]


@given(st.lists(lengths, max_size=4))
def test_large_payloads_come_back(sizes: list[int]) -> None:
    """A payload of any size, in pieces of any size, arrives as one value, in as many whole frames as announced."""
    payload = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    pieces = list(encode_message(Kind.SNAPSHOT, 9, ["f"], payload))
    assert len(pieces) == frame_count(sum(sizes))
    assert all(len(frames_of([piece])) == 1 for piece in pieces)
    assert max(map(len, pieces)) <= HEADER.size + CHUNK_BYTES
    assert assemble(pieces) == [Message(Kind.SNAPSHOT, 9, ["f"], b"".join(payload))]


def test_small_pieces_share_chunks() -> None:
    """A commit of many small values is not one frame a value: every chunk but the last is full."""
    pieces = list(encode_message(Kind.COMMIT, 1, [], [b"x" * 1000] * 600))
    assert [len(piece) - HEADER.size for piece in pieces[1:]] == [CHUNK_BYTES, CHUNK_BYTES, 600_000 - 2 * CHUNK_BYTES]


@given(commits())
def test_commits_come_back(commit: Commit) -> None:
    """A commit is the same batch on the other side, in the same order."""
    [message] = assemble(encode_commits([commit]))
    assert decode_commits(message) == [commit]


@given(commits(st.builds(bytes, lengths)))
def test_large_commits_come_back(commit: Commit) -> None:
    """So is one whose values travel as chunks."""
    [message] = assemble(encode_commits([commit]))
    assert decode_commits(message) == [commit]


@given(st.data(), st.integers(2, MAX_PARTIAL))
def test_interleaved_messages_come_back(data: st.DataObject, count: int) -> None:
    """Chunks of several messages, and small messages between them, sort themselves out by seq."""
    sent = [Message(Kind.SNAPSHOT, seq, [seq], bytes([seq]) * (INLINE_BYTES + 1 + CHUNK_BYTES)) for seq in range(count)]
    sent.append(Message(Kind.COMMIT, 99, ["small"], b"between"))
    streams = [frames_of(encode_message(m.kind, m.seq, m.fields, [m.payload])) for m in sent]
    assembler, came = Assembler(), []
    while any(streams):
        stream = data.draw(st.sampled_from([stream for stream in streams if stream]))
        came.append(assembler.feed(stream.pop(0)))
        assert assembler.partial <= MAX_PARTIAL
    assert sorted(message for message in came if message) == sorted(sent)
    assert assembler.partial == 0


# -- what a host may submit -------------------------------------------------------------------------------------------


@given(st.lists(keys, max_size=20), st.integers(0, 2**32 - 1))
def test_index_bytes_is_an_upper_bound(some: list[Key], length: int) -> None:
    """What the host checks before it submits is never below what msgpack makes of it."""
    columns = [*zip(*some, strict=True), [length] * len(some)]
    assert sum(len(msgpack.packb(column)) - 5 for column in columns) <= index_bytes(some)


def test_the_most_keys_allowed_fit_in_a_frame() -> None:
    """Whatever passes `check_commit_size` can be encoded, keys of the greatest length and a full inline payload too."""
    longest = Key("p" * 120, "s" * 120, "n" * 120)
    for key, count in (longest, 40_000), (longest, MAX_INDEX // index_bytes([longest])), (MANAGER, 500_000):
        check_commit_size([key] * (count - 7), [key] * 7, INLINE_BYTES)
        values = [bytes(INLINE_BYTES)] + [b""] * (count - 1)
        commit = Commit(Seq(2), Seq(1), tuple((key, value) for value in values), ())
        assert len(next(encode_commits([commit]))) <= MAX_BODY


def test_too_large_a_commit_is_the_host_apps_error() -> None:
    """What no frame could carry is refused as `ConfigError`, before anything is sent."""
    check_commit_size([MANAGER], [], MAX_PAYLOAD)
    with pytest.raises(ConfigError, match="split"):
        check_commit_size([MANAGER], [], MAX_PAYLOAD + 1)
    with pytest.raises(ConfigError, match="split"):
        check_commit_size([], [Key("p" * 120, "s" * 120, "n" * 120)] * 50_000, 0)


# -- hostile streams --------------------------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    """A msgpack list in a list in a list ..."""
    return b"\x91" * depth + b"\x01"


BAD_BODIES = {
    "empty": b"",
    "not msgpack": b"\xc1",
    "bytes after the body": body([], b"") + b"\x00",
    "bytes after a body too deep to print": nested(990) + b"\x00",
    "too deep to decode": nested(5000),
    "no list": b"\x07",
    "one item": body([]),
    "three items": body([], b"", 1),
    "fields are a map": body({}, b""),
    "fields are text": body("fields", b""),
    "a map with keys that are no text": b"\x92\x91\x81\x01\x02\xc4\x00",
    "payload is text": body([], "payload"),
    "payload is a bool": body([], True),
    "payload is nothing": body([], None),
    "payload is a float": body([], float(INLINE_BYTES + 1)),
    "payload is negative": body([], -1),
    "payload that would fit inline": body([], INLINE_BYTES),
    "payload over the cap": body([], MAX_PAYLOAD + 1),
    "payload of 2^64 - 1": body([], U64),
    "a list that claims 2^32 items": b"\xdd\xff\xff\xff\xff",
    "a map that claims 2^32 items": b"\x92\x91\xdf\xff\xff\xff\xff",
    "bytes that claim 4 GiB": b"\x92\x90\xc6\xff\xff\xff\xff",
    "text that claims 4 GiB": b"\x92\x91\xdb\xff\xff\xff\xff",
    "an extension that claims 4 GiB": b"\x92\x91\xc9\xff\xff\xff\xff\x01",
    "a malformed timestamp": b"\x92\x91\xc7\x03\xff\x00\x00\x00\xc4\x00",
    "text that is not UTF-8": b"\x92\x91\xa1\xff\xc4\x00",
}


@pytest.mark.parametrize("bad", BAD_BODIES.values(), ids=BAD_BODIES.keys())
@pytest.mark.parametrize("stack", [0, 600], ids=["", "deep stack"])
def test_a_bad_body_is_a_frame_error(bad: bytes, stack: int) -> None:
    """Decoding is total, on a nearly used-up stack too, and the message stays short."""
    with pytest.raises(FrameError) as caught:
        on_stack(stack, lambda: Assembler().feed(Frame(Kind.COMMIT, 1, bad)))
    assert len(str(caught.value)) < 300


def on_stack(depth: int, call: Callable[[], object]) -> object:
    """Call `call` with `depth` frames of Python above this one."""
    return on_stack(depth - 1, call) if depth else call()


def test_lists_that_claim_much_take_little() -> None:
    """1,000 nested lists that each announce 16 million items: what is announced must not become resident memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    claim = b"\xdd\x00\xff\xff\xf0" * 1000
    with pytest.raises(FrameError):
        Assembler().feed(Frame(Kind.COMMIT, 1, claim + b"\x01" * (MAX_BODY - len(claim))))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 * 1024


def begin(seq: int, length: int = INLINE_BYTES + 1) -> Frame:
    return Frame(Kind.SNAPSHOT, seq, body([], length))


def chunk(seq: int, length: int) -> Frame:
    return Frame(Kind.CHUNK, seq, bytes(length))


BAD_STREAMS = {
    "a chunk of no message": [chunk(1, 1)],
    "a chunk of another message": [begin(1), chunk(2, 1)],
    "a chunk after the last": [begin(1), chunk(1, INLINE_BYTES + 1), chunk(1, 1)],
    "a chunk of too much": [begin(1), chunk(1, INLINE_BYTES), chunk(1, 2)],
    "a chunk of too much at once": [begin(1), chunk(1, INLINE_BYTES + 2)],
    "an empty chunk": [begin(1), chunk(1, 0)],
    "a seq that is under way": [begin(1), begin(1)],
    "too many under way": [begin(seq) for seq in range(MAX_PARTIAL + 1)],
}


@pytest.mark.parametrize("stream", BAD_STREAMS.values(), ids=BAD_STREAMS.keys())
def test_the_last_frame_of_a_bad_stream_is_refused(stream: list[Frame]) -> None:
    """Chunks fit the message that announced them exactly; what is under way is bounded."""
    assembler = Assembler()
    for frame in stream[:-1]:
        assembler.feed(frame)
    partial = assembler.partial
    with pytest.raises(FrameError):
        assembler.feed(stream[-1])
    assert assembler.partial == partial


def test_a_message_done_makes_room() -> None:
    """The bound is on what is under way, not on what came."""
    assembler = Assembler()
    for seq in range(3 * MAX_PARTIAL):
        assert assembler.feed(begin(seq)) is None
        message = assembler.feed(chunk(seq, INLINE_BYTES + 1))
        assert message == Message(Kind.SNAPSHOT, seq, [], bytes(INLINE_BYTES + 1))


# -- hostile commits --------------------------------------------------------------------------------------------------


def good_fields() -> list[object]:
    """Two commits after 4: 5 puts x and y and removes z, 6 puts nothing and removes y."""
    return [4, [5, 6], [2, 0], [1, 1], ["p", "", "p", ""], ["s", "", "", ""], ["x", "y", "z", "y"], [1, 2]]


GOOD_PAYLOAD: Final = b"122"
PREV, SEQS, PUTS, REMOVES, PRIMARIES, SECONDARIES, NAMES, LENGTHS = range(8)


def two_commits(column: int | None = None, content: object = None, payload: bytes = GOOD_PAYLOAD) -> Message:
    """A good COMMIT, with one of its columns replaced."""
    fields = good_fields()
    if column is not None:
        fields[column] = content
    return Message(Kind.COMMIT, 6, fields, payload)


def in_names(entry: object) -> Message:
    return two_commits(NAMES, ["x", entry, "z", "y"])


def deep_list(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


BAD_COMMITS = {
    "no fields": Message(Kind.COMMIT, 6, [], GOOD_PAYLOAD),
    "a field too few": Message(Kind.COMMIT, 6, good_fields()[:-1], GOOD_PAYLOAD),
    "a field too many": Message(Kind.COMMIT, 6, [*good_fields(), []], GOOD_PAYLOAD),
    "no commits": Message(Kind.COMMIT, 6, [4, [], [], [], [], [], [], []]),
    "the newest is another": two_commits(SEQS, [5, 7]),
    "numbers that do not rise": two_commits(SEQS, [6, 6]),
    "numbers that fall": two_commits(SEQS, [7, 6]),
    "a number that is a bool": Message(Kind.COMMIT, 1, [0, [True], [0], [0], [], [], [], []]),
    "a number that is a float": two_commits(SEQS, [5.0, 6]),
    "a commit too few": two_commits(SEQS, [6]),
    "a commit too many": two_commits(SEQS, [4, 5, 6]),
    "prev is its own": two_commits(PREV, 5),
    "prev is negative": two_commits(PREV, -1),
    "prev is a bool": two_commits(PREV, True),
    "prev is text": two_commits(PREV, "4"),
    "prev is a list": two_commits(PREV, [4]),
    "puts too few": two_commits(PUTS, [1, 0]),
    "puts too many": two_commits(PUTS, [2, 1]),
    "puts of a negative number": two_commits(PUTS, [3, -1]),
    "puts of a number that is a bool": two_commits(PUTS, [2, False]),
    "puts for a third commit": two_commits(PUTS, [2, 0, 0]),
    "puts for one commit only": two_commits(PUTS, [2]),
    "removes too few": two_commits(REMOVES, [1, 0]),
    "removes too many": two_commits(REMOVES, [1, 2]),
    "removes of a negative number": two_commits(REMOVES, [3, -1]),
    "removes of a number that is text": two_commits(REMOVES, [1, "1"]),
    "removes for a third commit": two_commits(REMOVES, [1, 1, 0]),
    "removes for one commit only": two_commits(REMOVES, [2]),
    "a put taken for a remove": two_commits(LENGTHS, [3]),
    "a primary too few": two_commits(PRIMARIES, ["p", "", "p"]),
    "a primary too many": two_commits(PRIMARIES, ["p", "", "p", "", ""]),
    "a secondary too few": two_commits(SECONDARIES, ["s", "", ""]),
    "a secondary too many": two_commits(SECONDARIES, ["s", "", "", "", ""]),
    "a name too few": two_commits(NAMES, ["x", "y", "z"]),
    "a name too many": two_commits(NAMES, ["x", "y", "z", "y", "y"]),
    "names that are one text": two_commits(NAMES, "xyzy"),
    "a length too few": two_commits(LENGTHS, [3]),
    "a length too many": two_commits(LENGTHS, [1, 2, 0]),
    "a length that is a bool": two_commits(LENGTHS, [True, 2]),
    "a length that is a float": two_commits(LENGTHS, [1.0, 2]),
    "a length that is negative": two_commits(LENGTHS, [4, -1]),
    "lengths past the payload": two_commits(LENGTHS, [1, 3]),
    "payload of no record": two_commits(LENGTHS, [1, 1]),
    "payload without records": Message(Kind.COMMIT, 5, [4, [5], [0], [0], [], [], [], []], b"x"),
    "a name that is bytes": in_names(b"y"),
    "a name that is empty": in_names(""),
    "a name with a slash": in_names("a/../b"),
    "a name with a newline": in_names("y\n"),
    "a name that is too long": in_names("y" * 121),
    "a name that is a number": in_names(1),
    "a removed name that is empty": two_commits(NAMES, ["x", "y", "z", ""]),
    "a namespace with a NUL": two_commits(PRIMARIES, ["p", "\x00", "p", ""]),
    "a secondary without a primary": two_commits(SECONDARIES, ["s", "s", "", ""]),
    "a name too deep to print": in_names(deep_list(950)),
    "a length too deep to print": two_commits(LENGTHS, [1, deep_list(950)]),
    "a number too deep to print": two_commits(SEQS, [deep_list(950), 6]),
    "a length of 2^64 - 1": two_commits(LENGTHS, [1, U64]),
    "lengths that overflow": two_commits(LENGTHS, [U64, U64]),
    "a number of puts of 2^64 - 1": two_commits(PUTS, [2, U64]),
} | {
    f"{name} are {wrong}": two_commits(column, content)
    for column, name in enumerate(["prev", "seqs", "puts", "removes", "primaries", "secondaries", "names", "lengths"])
    for wrong, content in {"a map": {}, "text": "abcd", "nothing": None, "a number": 1}.items()
    if (name, wrong) != ("prev", "a number")
}


def test_the_good_commit_is_good() -> None:
    """What the bad ones differ from by one thing each."""
    assert decode_commits(two_commits()) == [
        Commit(Seq(5), Seq(4), ((Key("p", "s", "x"), b"1"), (Key("", "", "y"), b"22")), (Key("p", "", "z"),)),
        Commit(Seq(6), Seq(5), (), (Key("", "", "y"),)),
    ]


@pytest.mark.parametrize("bad", BAD_COMMITS.values(), ids=BAD_COMMITS.keys())
@pytest.mark.parametrize("stack", [0, 600], ids=["", "deep stack"])
def test_a_lying_commit_is_a_frame_error(bad: Message, stack: int) -> None:
    """A commit's columns must fit each other and the payload exactly, with keys that LDK's KVStore takes."""
    with pytest.raises(FrameError) as caught:
        on_stack(stack, lambda: decode_commits(bad))
    assert len(str(caught.value)) < 300


def test_records_refuses_a_length_beyond_the_payload() -> None:
    """Nothing is cut from a payload that the index does not fit."""
    assert records([["", "", "a", 2]], b"xy") == [(Key("", "", "a"), b"xy")]
    with pytest.raises(FrameError, match="announces 1 bytes, 0 are left"):
        records([["", "", "a", 2], ["", "", "b", 1]], b"xy")


@given(st.lists(commits(), min_size=1, max_size=6), st.integers(0, 3))
def test_several_commits_share_a_message(some: list[Commit], gap: int) -> None:
    """A row of commits comes back as it was: each with its own seq, the one before it as prev, and its own values."""
    row, prev = [], 5
    for commit in some:
        row.append(commit._replace(prev=Seq(prev), seq=Seq(prev + 1 + gap)))
        prev = row[-1].seq
    [message] = assemble(encode_commits(row))
    assert message.seq == prev
    assert decode_commits(message) == row


# -- fuzz -------------------------------------------------------------------------------------------------------------


def decode_all(pieces: Iterable[bytes]) -> Iterator[object]:
    """What a worker does with a stream, down to the commits."""
    reader, assembler = FrameReader(), Assembler()
    for piece in pieces:
        for frame in reader.feed(piece):
            message = assembler.feed(frame)
            if message is not None and message.kind is Kind.COMMIT:
                yield from decode_commits(message)
            else:
                yield message


@given(st.data(), commits())
def test_a_mutated_commit_is_a_value_or_a_frame_error(data: st.DataObject, commit: Commit) -> None:
    """Real messages with bytes changed, cut out or doubled: what decodes at all is a well-formed commit."""
    stream = bytearray(b"".join(encode_commits([commit])))
    for _ in range(data.draw(st.integers(1, 4))):
        if not stream:
            break
        at = data.draw(st.integers(0, len(stream) - 1))
        match data.draw(st.sampled_from(["change", "drop", "double"])):
            case "change":
                stream[at] = data.draw(st.integers(0, 255))
            case "drop":
                del stream[at]
            case "double":
                stream[at:at] = stream[at : at + 20]
    try:
        came = list(decode_all([bytes(stream)]))
    except FrameError:
        return
    for value in came:
        if isinstance(value, Commit):
            [message] = assemble(encode_commits([value]))
            assert decode_commits(message) == [value]


@given(st.binary(max_size=300))
@example(b"\x92\x90\xc4\x00")
def test_a_random_body_is_a_value_or_a_frame_error(content: bytes) -> None:
    """The body alone, since random bytes seldom get past a frame's header."""
    with FrameErrorOnly():
        list(decode_all([encode(Kind.COMMIT, 3, content)]))


@given(st.integers(0, 9), fields, st.binary(max_size=40))
def test_random_fields_are_a_value_or_a_frame_error(seq: int, content: list[object], payload: bytes) -> None:
    """Well-formed msgpack of any shape, in place of a commit's fields."""
    with FrameErrorOnly():
        decode_commits(Message(Kind.COMMIT, seq, content, payload))


class FrameErrorOnly:
    """Lets a `FrameError` pass as an expected outcome, and nothing else."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is FrameError
