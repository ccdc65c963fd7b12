"""The backlog's books: every byte counted, nothing half done, nobody overtaken by what is older."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import Backlogged, ConfigError, FrameError
from bgsuper.ipc.frames import Frame, FrameReader, Kind
from bgsuper.ipc.messages import MAX_PAYLOAD, Assembler, decode_commits
from bgsuper.key import Key, Seq
from bgsuper.supervisor.backlog import OVERHEAD_BYTES, TAKE_BYTES, TAKE_COMMITS, Backlog
from bgsuper.supervisor.policy import Limits, RestartPolicy

from .rig import A, B, C


def state(backlog: Backlog) -> str:
    return repr({name: value for name, value in vars(backlog).items() if name != "_limits"})


def frames(backlog: Backlog) -> list[Frame]:
    """What one `take` gives."""
    return FrameReader().feed(b"".join(backlog.take()))


def numbers(frame: Frame) -> list[int]:
    """Of the commits in a COMMIT frame."""
    message = Assembler().feed(frame)
    assert message is not None
    return [commit.seq for commit in decode_commits(message)]


def take_all(backlog: Backlog) -> list[Frame]:
    taken = []
    while backlog.has_output:
        taken += frames(backlog)
    return taken


# -- what is refused changes nothing ----------------------------------------------------------------------------------

BAD = [
    ({"app/a": b"v"}, (), ConfigError),
    ({("", "x", "name"): b"v"}, (), ConfigError),
    ({("app", "", ""): b"v"}, (), ConfigError),
    ({("app", "", "a/b"): b"v"}, (), ConfigError),
    ({A: b"v", B: "text"}, (), TypeError),
    ({A: b"v", B: bytearray(b"v")}, (), TypeError),
    ({A: None}, (), TypeError),
    ({A: b"v"}, (B, ("app", "", "x" * 121)), ConfigError),
    ({A: b"v"}, "abc", ConfigError),
]


@pytest.mark.parametrize(("puts", "removes", "error"), BAD)
def test_a_commit_that_cannot_be_meant_changes_nothing(puts: object, removes: object, error: type[Exception]) -> None:
    """Also if only its last record is wrong."""
    backlog = Backlog(Limits())
    backlog.snapshot(A, [b"s"], True, 0.0)
    before = state(backlog)
    with pytest.raises(error):
        backlog.commit(puts, removes, 1.0)  # type: ignore[arg-type]
    assert state(backlog) == before


@pytest.mark.parametrize(
    ("key", "pieces", "error"),
    [("app/a", [b"s"], ConfigError), (A, [b"s", "t"], TypeError), (A, [bytearray(1)], TypeError)],
)
def test_a_snapshot_that_cannot_be_meant_changes_nothing(
    key: object, pieces: list[object], error: type[Exception]
) -> None:
    """Nor does it replace the one that waits."""
    backlog = Backlog(Limits())
    backlog.snapshot(A, [b"s"], True, 0.0)
    before = state(backlog)
    with pytest.raises(error):
        backlog.snapshot(key, pieces, False, 1.0)  # type: ignore[arg-type]
    assert state(backlog) == before


def test_what_no_frame_could_carry_is_refused() -> None:
    """Told to the submitter, not found out by the worker."""
    backlog = Backlog(Limits(soft_bytes=2**40, hard_bytes=2**41))
    before = state(backlog)
    half = bytes(MAX_PAYLOAD // 2 + 1)
    with pytest.raises(ConfigError):
        backlog.commit({A: half, B: half}, (), 0.0)
    with pytest.raises(ConfigError):
        backlog.snapshot(A, [half, half], False, 0.0)
    assert state(backlog) == before


# -- the limits -------------------------------------------------------------------------------------------------------


def test_backlogged_never_while_writable_and_only_from_the_hard_limit() -> None:
    """Judged before adding: the one that crosses the limit is taken, the next is not; room again, it is taken again."""
    each = 2 * OVERHEAD_BYTES + 100
    backlog = Backlog(Limits(soft_bytes=2 * each, hard_bytes=3 * each))
    for count in range(3):
        assert backlog.writable is (count < 2)
        backlog.commit({A: bytes(100)}, (), 0.0)
    assert backlog.unacked_bytes == 3 * each
    before = state(backlog)
    for refused in (lambda: backlog.commit({}, (), 0.0), lambda: backlog.snapshot(A, [], False, 0.0)):
        with pytest.raises(Backlogged):
            refused()
    assert state(backlog) == before
    take_all(backlog)
    backlog.acked(1)
    assert not backlog.writable
    backlog.commit({A: bytes(100)}, (), 0.0)
    take_all(backlog)
    backlog.acked(3)
    assert backlog.writable


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from([A, B, C]), st.binary(max_size=9), max_size=3),
            st.sets(st.sampled_from([A, B, C])),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_every_byte_is_counted_and_given_back(submissions: list[tuple[dict[Key, bytes], set[Key], bool]]) -> None:
    """What commits count for is their keys and values and a constant; snapshots that were replaced or overtaken count
    for nothing; in the end all is zero."""
    backlog = Backlog(Limits())
    commits, waiting = 0, {}
    for puts, removes, snapshot in submissions:
        if snapshot:
            for key, value in puts.items():
                backlog.snapshot(key, [value], False, 0.0)
                waiting[key] = OVERHEAD_BYTES + len(value)
        else:
            backlog.commit(puts, removes, 0.0)
            commits += OVERHEAD_BYTES * (1 + len(puts) + len(removes)) + sum(map(len, puts.values()))
            for key in (*puts, *removes):
                waiting.pop(key, None)
        assert backlog.unacked_bytes == commits + sum(waiting.values())
    last = None
    for frame in take_all(backlog):
        if frame.kind is Kind.COMMIT:
            last = frame.seq
        if frame.kind is Kind.SNAPSHOT:
            backlog.snapshot_done(frame.seq)
    if last is not None:
        backlog.acked(last)
    assert (backlog.unacked_bytes, backlog.unacked) == (0, 0)


# -- order ------------------------------------------------------------------------------------------------------------


def test_one_take_is_bounded() -> None:
    """The thread that encodes holds the GIL."""
    backlog = Backlog(Limits())
    for _ in range(3 * TAKE_COMMITS):
        backlog.commit({A: b"v"}, (), 0.0)
    assert [len(numbers(frame)) for frame in take_all(backlog)] == [TAKE_COMMITS] * 3
    for size in (1, 1, TAKE_BYTES // 2, TAKE_BYTES // 2, TAKE_BYTES, 1):
        backlog.commit({A: bytes(size)}, (), 0.0)
    assert [len(numbers(frame)) for frame in take_all(backlog) if frame.kind is Kind.COMMIT] == [3, 1, 1, 1]


def test_commits_pass_between_the_chunks_of_a_snapshot() -> None:
    """20 MiB on the wire hold up no commit of another key."""
    backlog = Backlog(Limits())
    backlog.snapshot(A, [bytes(1 << 20)], False, 0.0)
    first = frames(backlog)
    backlog.commit({B: b"v"}, (), 0.0)
    assert [frame.kind for frame in first + frames(backlog)] == [Kind.SNAPSHOT, Kind.COMMIT]
    assert [frame.kind for frame in take_all(backlog)] == [Kind.CHUNK] * 4


@pytest.mark.parametrize("removes", [False, True])
def test_a_commit_of_its_key_waits_for_the_snapshot_on_the_wire(removes: bool) -> None:
    """Else the worker, which sees a snapshot only when it is whole, would take it for the newer value."""
    backlog = Backlog(Limits())
    backlog.snapshot(A, [bytes(1 << 20)], True, 0.0)
    first = frames(backlog)
    backlog.commit({B: b"v"} if removes else {A: b"v"}, (A,) if removes else (), 0.0)
    rest = take_all(backlog)
    assert [frame.kind for frame in first + rest] == [Kind.SNAPSHOT, *[Kind.CHUNK] * 4, Kind.COMMIT]
    # And the next snapshot is none the slower.
    backlog.snapshot_done(1)
    backlog.snapshot(A, [bytes(1 << 20)], True, 0.0)
    frames(backlog)
    backlog.commit({B: b"v"}, (), 0.0)
    assert [frame.kind for frame in frames(backlog)] == [Kind.COMMIT]


def test_a_death_on_the_wire_sends_the_snapshot_from_its_start() -> None:
    """A successor knows nothing of half a payload."""
    backlog = Backlog(Limits())
    content = bytes(range(256)) * 4096
    backlog.snapshot(A, [content], False, 0.0)
    frames(backlog)
    frames(backlog)
    backlog.commit({A: b"v"}, (), 0.0)  # overtakes it
    backlog.snapshot(B, [content], False, 0.0)
    backlog.replay(backlog.acked_commit)
    assembler = Assembler()
    messages = [message for frame in take_all(backlog) if (message := assembler.feed(frame))]
    assert [(message.kind, message.seq) for message in messages] == [(Kind.COMMIT, 2), (Kind.SNAPSHOT, 3)]
    assert messages[1].payload == content
    assert decode_commits(messages[0])[0].puts == ((A, b"v"),)


def test_the_latest_of_many_snapshots_is_sent_and_serves_all() -> None:
    """One is in flight, the newest waits, those in between are gone; a critical one lends its care to its successor."""
    backlog = Backlog(Limits())
    for number in range(5):
        backlog.snapshot(A, [b"%d" % number], number == 2, float(number))
        if number == 0:
            assert [frame.seq for frame in take_all(backlog)] == [1]
    assert not backlog.has_output  # at most one of a key is in flight
    assert (backlog.durable, backlog.oldest()) == (2, 2.0)
    assert backlog.snapshot_done(1) == (A, [1])
    assembler = Assembler()
    [frame] = take_all(backlog)
    message = assembler.feed(frame)
    assert message is not None
    assert (message.seq, message.payload, message.fields[3]) == (5, b"4", True)
    assert not backlog.is_durable(backlog.submitted)
    assert backlog.snapshot_done(5) == (A, [2, 3, 4, 5])
    assert (backlog.durable, backlog.oldest(), backlog.unacked_bytes) == (5, None, 0)


def test_a_death_lends_the_care_of_what_was_in_flight_to_what_waits() -> None:
    """Whoever waits for the older one now waits for the newer one, which must then not fail quietly."""
    backlog = Backlog(Limits())
    backlog.snapshot(A, [b"1"], True, 0.0)
    take_all(backlog)
    backlog.snapshot(A, [b"2"], False, 0.0)
    backlog.replay(backlog.acked_commit)
    [frame] = take_all(backlog)
    message = Assembler().feed(frame)
    assert message is not None
    assert (message.seq, message.fields[3]) == (2, True)
    assert backlog.snapshot_done(2) == (A, [1, 2])
    assert backlog.unacked_bytes == 0


def test_a_commit_makes_the_snapshots_it_overtakes_durable_with_it() -> None:
    """Whoever waits for one of them waits for the commit."""
    backlog = Backlog(Limits())
    snapshot = backlog.snapshot(A, [b"s"], True, 0.0)
    commit = backlog.commit({}, (A,), 0.0)
    assert [frame.kind for frame in take_all(backlog)] == [Kind.COMMIT]
    assert not backlog.is_durable(snapshot)
    backlog.acked(commit)
    assert backlog.is_durable(snapshot)
    assert (backlog.unacked, backlog.unacked_bytes) == (0, 0)


@pytest.mark.parametrize("seq", [0, 4, 2**64])
def test_an_ack_outside_what_was_sent_is_refused(seq: int) -> None:
    """It may neither go back nor speak of what is not sent yet; it changes nothing."""
    backlog = Backlog(Limits())
    for _ in range(3):
        backlog.commit({A: b"v"}, (), 0.0)
    take_all(backlog)
    backlog.acked(1)
    backlog.commit({A: b"v"}, (), 0.0)
    before = state(backlog)
    with pytest.raises(FrameError):
        backlog.acked(seq)
    assert state(backlog) == before


def test_a_snapshot_is_settled_once() -> None:
    """Of a number that is not in flight nothing can be said."""
    backlog = Backlog(Limits())
    backlog.snapshot(A, [b"s"], False, 0.0)
    for seq in (1, 0, 2):
        with pytest.raises(FrameError):
            backlog.snapshot_done(seq)
    take_all(backlog)
    backlog.snapshot_done(1)
    with pytest.raises(FrameError):
        backlog.snapshot_done(1)


# -- one at a time: what do workers die of? ---------------------------------------------------------------------------


def settle(backlog: Backlog, frame: Frame) -> None:
    """The worker did what that frame asks for."""
    if frame.kind is Kind.COMMIT:
        backlog.acked(frame.seq)
    else:
        backlog.snapshot_done(frame.seq)


def suspected(*, critical: bool = False) -> Backlog:
    """Two commits and two snapshots, after a death that made somebody suspicious."""
    backlog = Backlog(Limits())
    backlog.commit({A: b"v"}, (), 0.0)
    backlog.snapshot(B, [b"s"], critical, 0.0)
    backlog.commit({A: b"w"}, (), 0.0)
    backlog.snapshot(C, [b"s"], critical, 0.0)
    take_all(backlog)
    backlog.one_at_a_time = True
    backlog.replay(backlog.acked_commit)
    return backlog


def test_one_at_a_time_is_one_at_a_time() -> None:
    """Each frame waits until the one before is acknowledged, commits before snapshots; then everything is durable."""
    backlog = suspected()
    for seq in (1, 3, 2, 4):
        assert backlog.has_output
        [frame] = frames(backlog)
        assert frame.seq == seq
        assert (backlog.alone(), backlog.has_output, list(backlog.take())) == (seq, False, [])
        settle(backlog, frame)
        assert backlog.alone() is None
    assert (backlog.has_output, backlog.unacked, backlog.unacked_bytes) == (False, 0, 0)


def test_a_large_snapshot_goes_out_whole_before_anything_else() -> None:
    """Its chunks are one thing; no commit passes between them now."""
    backlog = Backlog(Limits())
    backlog.one_at_a_time = True
    backlog.snapshot(A, [bytes(1 << 20)], False, 0.0)
    first = frames(backlog)
    backlog.commit({B: b"v"}, (), 0.0)
    rest = take_all(backlog)
    assert [frame.kind for frame in first + rest] == [Kind.SNAPSHOT, *[Kind.CHUNK] * 4]
    assert backlog.alone() == 1
    backlog.snapshot_done(1)
    assert [frame.kind for frame in take_all(backlog)] == [Kind.COMMIT]


def test_the_search_that_is_over_lets_everything_go_at_once() -> None:
    """The rest is one group again."""
    backlog = suspected()
    frames(backlog)
    backlog.one_at_a_time = False
    assert [frame.seq for frame in take_all(backlog)] == [3, 2, 4]


def test_alone_is_said_of_one_thing_only() -> None:
    """Neither of none nor of many: nothing could be concluded from a death."""
    backlog = Backlog(Limits())
    assert backlog.alone() is None
    backlog.commit({A: b"v"}, (), 0.0)
    assert backlog.alone() is None  # not on its way yet
    take_all(backlog)
    assert backlog.alone() == 1
    backlog.snapshot(B, [b"s"], False, 0.0)
    take_all(backlog)
    assert backlog.alone() is None
    backlog.acked(1)
    assert backlog.alone() == 2


def test_what_is_described_is_named_by_its_keys_alone() -> None:
    """An operator must find the record, and values are nobody's to read; however many records, it stays short."""
    backlog = Backlog(Limits())
    backlog.commit({A: b"secret"}, (B,), 0.0)
    backlog.commit({Key("app", "", f"k{number}"): b"secret" for number in range(100)}, (), 0.0)
    backlog.snapshot(C, [b"secret"], False, 0.0)
    for sent in (False, True):
        if sent:
            take_all(backlog)
        assert backlog.describe(Seq(1)) == f"commit 1 ({A}, {B})"
        assert backlog.describe(Seq(2)).startswith("commit 2 (")
        assert backlog.describe(Seq(2)).endswith(" and 97 more)")
        assert backlog.describe(Seq(3)) == f"snapshot 3 ({C})"
        assert backlog.describe(Seq(99)) == "99"
        assert not any("secret" in backlog.describe(Seq(seq)) for seq in (1, 2, 3))


def test_a_mere_snapshot_can_be_given_up() -> None:
    """Whoever waits for it, or for what it stood for, is told; its bytes are given back, and it is not sent again."""
    backlog = Backlog(Limits())
    for _ in range(3):
        backlog.snapshot(A, [b"s"], False, 0.0)
    take_all(backlog)
    assert backlog.drop_snapshot(Seq(3)) == (A, [1, 2, 3])
    assert (backlog.unacked, backlog.unacked_bytes, backlog.alone()) == (0, 0, None)
    backlog.replay(backlog.acked_commit)
    assert not backlog.has_output


@pytest.mark.parametrize("what", ["commit", "critical", "inherited", "waiting", "absent"])
def test_what_outputs_wait_for_is_never_given_up(what: str) -> None:
    """Neither a commit nor a critical snapshot, nor one that stands for a critical one; and nothing that no worker
    had."""
    backlog = Backlog(Limits())
    seq = Seq(1)
    if what == "commit":
        backlog.commit({A: b"v"}, (), 0.0)
    else:
        backlog.snapshot(A, [b"s"], what in ("critical", "inherited"), 0.0)
    if what == "inherited":
        seq = backlog.snapshot(A, [b"t"], False, 0.0)
    if what != "waiting":
        take_all(backlog)
    if what == "absent":
        seq = Seq(7)
    before = state(backlog)
    assert backlog.drop_snapshot(seq) is None
    assert state(backlog) == before


def test_what_is_half_sent_can_be_finished_alone() -> None:
    """A worker that is to be replaced gets the rest of the snapshot on the wire, and no commit that waits behind it."""
    backlog = Backlog(Limits())
    assert not backlog.half_sent
    backlog.snapshot(A, [bytes(1 << 20)], False, 0.0)
    assert not backlog.half_sent
    kinds = [frame.kind for frame in frames(backlog)]
    backlog.commit({B: b"v"}, (), 0.0)
    while backlog.half_sent:
        kinds += [frame.kind for frame in FrameReader().feed(b"".join(backlog.take_rest()))]
    assert kinds == [Kind.SNAPSHOT, *[Kind.CHUNK] * 4]
    assert backlog.next_commit == 2


def test_unsent_is_what_was_not_yet_put_on_the_wire() -> None:
    """That a snapshot may not go out yet (an older one of its key is in flight) does not make it sent."""
    backlog = Backlog(Limits())
    assert not backlog.unsent
    backlog.commit({A: b"v"}, (), 0.0)
    assert backlog.unsent
    take_all(backlog)
    assert not backlog.unsent
    backlog.snapshot(B, [bytes(1 << 20)], False, 0.0)
    frames(backlog)
    assert backlog.unsent
    take_all(backlog)
    assert not backlog.unsent
    backlog.snapshot(B, [b"s"], False, 0.0)
    assert (backlog.unsent, backlog.has_output) == (True, False)
    backlog.snapshot_done(2)
    take_all(backlog)
    assert not backlog.unsent


# -- what the host may set --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: Limits(soft_bytes=0),
        lambda: Limits(soft_bytes=2, hard_bytes=1),
        lambda: Limits(soft_bytes=2, hard_bytes=2),
        lambda: Limits(lagging_s=float("nan")),
        lambda: RestartPolicy(intensity=-1),
        lambda: RestartPolicy(period_s=True),
        lambda: RestartPolicy(backoff_max_s="1"),  # type: ignore[arg-type]
    ],
)
def test_limits_that_cannot_be_meant(make: object) -> None:
    """Told where they are written."""
    assert callable(make)
    with pytest.raises(ConfigError):
        make()
