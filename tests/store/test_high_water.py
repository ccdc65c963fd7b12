"""The high-water mark: its file, what damages it, and what it says of a store that was put back."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import (
    ConfigError,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreTooNew,
    StoreUnavailable,
    StoreUnwritable,
    SyncFailed,
)
from bgsuper.key import Seq
from bgsuper.store import high_water as module
from bgsuper.store.api import Opened
from bgsuper.store.high_water import BEYOND, SLOT_BYTES, Found, HighWater, Mark, mark_path, read_mark
from bgsuper.store.url import SCHEMES, parse

OURS, OTHERS = b"o" * 16, b"x" * 16
NONE = Seq(0)
RECORD = module._RECORD_BYTES

numbers = st.integers(0, 2**62 - 1)
seqs = numbers.map(Seq)
marks = st.builds(
    Mark,
    st.binary(min_size=16, max_size=16),
    seqs,
    numbers,
    st.none() | st.builds(Found, store=seqs, mark=seqs),
    seqs,
    seqs,
)


def store(last_commit: int, last_seq: int = 0, epoch: int = 1, store_id: bytes = OURS) -> Opened:
    return Opened(epoch, Seq(last_commit), Seq(max(last_commit, last_seq)), store_id)


def opened(path: Path, last_commit: int, last_seq: int = 0, epoch: int = 1, store_id: bytes = OURS) -> HighWater:
    return HighWater.open(str(path), store(last_commit, last_seq, epoch, store_id))


def reopened(path: Path, last_commit: int, last_seq: int = 0) -> Mark:
    """What a worker finds whose store ends at `last_commit`, or with a snapshot at `last_seq`."""
    mark = opened(path, last_commit, last_seq)
    mark.close()
    return mark.mark


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mark"


def record(serial: int, mark: Mark, slot: int = 0) -> bytes:
    return module._Record(serial, mark, slot).pack()


def as_file(first: bytes, second: bytes = b"") -> bytes:
    return first.ljust(SLOT_BYTES, b"\0") + second.ljust(SLOT_BYTES, b"\0")


# -- the record -------------------------------------------------------------------------------------------------------


@given(numbers, marks, numbers, marks)
def test_the_newer_of_two_records_counts(serial: int, first: Mark, other: int, second: Mark) -> None:
    """Whatever they say, and in whichever slot it stands."""
    content = as_file(record(serial, first), record(other, second))
    expected = second if other >= serial else first
    assert module._records(content, "mark")[-1].mark == expected


@given(marks)
def test_one_record_is_enough(mark: Mark) -> None:
    """Either slot may hold it; what the other holds instead is nothing."""
    for content in (as_file(record(7, mark)), as_file(b"", record(7, mark)), record(7, mark)):
        assert [found.mark for found in module._records(content, "mark")] == [mark]


@given(st.binary(max_size=2 * SLOT_BYTES) | st.builds(as_file, st.binary(max_size=RECORD), st.binary(max_size=RECORD)))
def test_any_bytes_are_a_mark_or_a_typed_error(content: bytes) -> None:
    """The decoder is total."""
    with suppress(StoreCorrupt, StoreTooNew):
        assert 1 <= len(module._records(content, "mark")) <= 2


@given(st.binary(min_size=RECORD - 4, max_size=RECORD - 4))
def test_bytes_with_a_right_checksum_are_not_believed_for_that(packed: bytes) -> None:
    """Nobody's numbers but a mark's: magic, version, flags and ranges are checked as well."""
    content = as_file(packed + crc32(packed).to_bytes(4))
    with pytest.raises((StoreCorrupt, StoreTooNew)):
        module._records(content, "mark")


@pytest.mark.parametrize("bit", range(8 * RECORD))
def test_no_flipped_bit_goes_unnoticed(bit: int) -> None:
    """The other record is used: never a number that nobody wrote."""
    older, newer = Mark(OURS, Seq(5), 1), Mark(OURS, Seq(6), 2, Found(Seq(3), Seq(5)))
    content = bytearray(as_file(record(1, older), record(2, newer)))
    content[SLOT_BYTES + bit // 8] ^= 1 << bit % 8
    assert [found.mark for found in module._records(bytes(content), "mark")] == [older]
    content[bit // 8] ^= 1 << bit % 8
    with pytest.raises(StoreCorrupt, match="the store itself may be whole"):
        module._records(bytes(content), "mark")


def test_a_later_bgsupers_mark_is_not_overwritten(path: Path) -> None:
    """It may say something that we cannot even guess."""
    packed = bytearray(record(9, Mark(OURS, Seq(5), 1)))
    packed[4] += 1
    packed[-4:] = crc32(packed[:-4]).to_bytes(4)
    content = as_file(bytes(packed), record(1, Mark(OURS, Seq(4), 1)))
    path.write_bytes(content)
    for attempt in (lambda: opened(path, 4), lambda: read_mark(str(path))):
        with pytest.raises(StoreTooNew, match="upgrade"):
            attempt()
    assert path.read_bytes() == content


# -- the file ---------------------------------------------------------------------------------------------------------


def test_a_first_start_makes_it(path: Path) -> None:
    """Durable with its name, from the store as it is, for its owner alone, whatever the umask."""
    before = os.umask(0)
    try:
        mark = opened(path, 41, epoch=3)
    finally:
        os.umask(before)
    assert mark.created
    assert mark.mark == read_mark(str(path)) == Mark(OURS, Seq(41), 3)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["mark"]
    mark.close()


def test_what_lies_beside_it_is_left_alone(path: Path) -> None:
    """Whatever its name: it may be somebody's, a channel's backup say."""
    beside = {path.with_name(name): name.encode() for name in ("mark.new", "mark.tmp", "mark.bak")}
    for file, content in beside.items():
        file.write_bytes(content)
    opened(path, 1).close()
    assert {file: file.read_bytes() for file in path.parent.iterdir() if file != path} == beside


def test_there_is_no_mark_yet(path: Path) -> None:
    """That is no error, and nothing is made for whoever only looks."""
    assert read_mark(str(path)) is None
    assert os.listdir(path.parent) == []


def test_it_is_rewritten_in_place(path: Path) -> None:
    """No rename, no growth: a write of one record. The record that is durable stays until the next one is."""
    mark = opened(path, 0)
    before, durable = path.stat(), path.read_bytes()[SLOT_BYTES:]
    for seq in range(1, 50):
        mark.raise_to(Seq(seq), NONE, 2)
        assert path.read_bytes()[SLOT_BYTES:] == durable
    assert read_mark(str(path)) == Mark(OURS, Seq(49), 2)
    mark.sync()
    durable = path.read_bytes()[:SLOT_BYTES]
    for seq in range(50, 60):
        mark.raise_to(Seq(seq), NONE, 2)
        assert path.read_bytes()[:SLOT_BYTES] == durable
    assert read_mark(str(path)) == mark.mark == Mark(OURS, Seq(59), 2)
    mark.close()
    after = path.stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size) == (before.st_ino, 2 * SLOT_BYTES)


def test_what_a_killed_worker_had_not_synced_is_synced_first(path: Path) -> None:
    """Only then may the other record be written over."""
    mark = opened(path, 0)
    mark.raise_to(Seq(7), NONE, 1)
    mark.close()
    synced: list[bytes] = []
    mark = HighWater.open(str(path), store(7, epoch=2), lambda _: synced.append(path.read_bytes()))
    assert synced == [path.read_bytes()]
    mark.raise_to(Seq(8), NONE, 2)
    assert path.read_bytes()[:SLOT_BYTES] == synced[0][:SLOT_BYTES]
    mark.close()


def test_it_never_goes_back(path: Path) -> None:
    """An older number is no news."""
    mark = opened(path, 10)
    mark.raise_to(Seq(12), NONE, 2)
    content = path.read_bytes()
    mark.raise_to(Seq(12), NONE, 3)
    mark.raise_to(Seq(3), NONE, 3)
    assert path.read_bytes() == content
    assert reopened(path, 12) == Mark(OURS, Seq(12), 2)
    mark.close()


@pytest.mark.parametrize("length", range(RECORD))
def test_a_write_that_is_torn_leaves_the_record_before_it(
    path: Path, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut in the middle of it, at any byte; also one that hits several writes since the last sync."""
    mark = opened(path, 1)
    whole = path.read_bytes()
    monkeypatch.setattr(os, "pwrite", torn(length))
    for seq in (2, 3):
        with pytest.raises(StoreFull):
            mark.raise_to(Seq(seq), NONE, 2)
    assert read_mark(str(path)) == mark.mark == Mark(OURS, Seq(1), 1)
    monkeypatch.undo()
    damaged = opened(path, 3)
    assert damaged.damaged == (path.read_bytes() != whole)
    assert damaged.damaged or length < RECORD // 2
    damaged.close()
    mark.raise_to(Seq(3), NONE, 2)
    assert read_mark(str(path)) == Mark(OURS, Seq(3), 2)
    mark.close()


def torn(length: int) -> Callable[[int, bytes, int], int]:
    pwrite = os.pwrite
    return lambda fd, data, offset: pwrite(fd, data[:length], offset)


def test_a_whole_file_has_no_damage(path: Path) -> None:
    """From its first moment on."""
    opened(path, 1).close()
    mark = opened(path, 1)
    assert not mark.damaged
    assert not mark.created
    mark.close()


@pytest.mark.parametrize("content", [b"", b"\0" * 2 * SLOT_BYTES, b"hello"])
def test_a_mark_that_cannot_be_read_is_no_first_start(path: Path, content: bytes) -> None:
    """The protection does not end unnoticed, and nothing is changed."""
    path.write_bytes(content)
    for attempt in (lambda: opened(path, 4), lambda: read_mark(str(path))):
        with pytest.raises(StoreCorrupt, match=f"{path} is damaged.* remove the mark"):
            attempt()
    assert path.read_bytes() == content


def test_another_stores_mark_is_refused(path: Path) -> None:
    """It says nothing of this store, and would be lost to that one."""
    opened(path, 50, store_id=OTHERS).close()
    content = path.read_bytes()
    with pytest.raises(
        ConfigError, match=f"{OURS.hex()}, but {path} belongs to the store {OTHERS.hex()}.* name another file"
    ):
        opened(path, 4)
    assert path.read_bytes() == content


# -- behind -----------------------------------------------------------------------------------------------------------


def test_a_store_at_its_mark_or_beyond_is_not_behind(path: Path) -> None:
    """It may be beyond: a mark lags."""
    opened(path, 10).close()
    assert reopened(path, 10).behind is None
    assert reopened(path, 25) == Mark(OURS, Seq(10), 1)


def test_a_store_below_its_mark_is_behind_until_proved_current(path: Path) -> None:
    """Durably, whatever is committed meanwhile, and with the numbers as they were when it was found."""
    mark = opened(path, 100)
    mark.close()
    mark = opened(path, 60, epoch=2)
    assert mark.mark == Mark(OURS, Seq(100), 1, Found(store=Seq(60), mark=Seq(100)), floor=Seq(100 + BEYOND))
    first = mark.beyond(Seq(60)) + 1
    mark.raise_to(Seq(first), NONE, 2)
    mark.close()
    for last_commit in (first, first + 5):
        assert reopened(path, last_commit).behind == Found(store=Seq(60), mark=Seq(100))
    mark = opened(path, first + 5, epoch=3)
    mark.prove_current(store(first + 6, epoch=3))
    assert reopened(path, first + 6) == mark.mark == Mark(OURS, Seq(first + 6), 3, floor=Seq(first - 1))
    mark.close()


def test_numbers_of_the_lost_future_do_not_come_again(path: Path) -> None:
    """So the lost store, put back when the older one is in use, is behind in its turn."""
    opened(path, 100).close()
    mark = opened(path, 60)
    assert mark.beyond(Seq(60)) == 100 + BEYOND
    mark.prove_current(store(mark.beyond(Seq(60)) + 1, epoch=2))
    assert mark.beyond(mark.mark.highest) == mark.mark.highest
    mark.close()
    assert reopened(path, 100 + 2000).behind == Found(store=Seq(2100), mark=Seq(101 + BEYOND))


def test_they_do_not_come_again_after_a_proof_without_a_commit(path: Path) -> None:
    """Nor after a restart; and the lost store, put back then, is behind, whatever its mark had missed of it."""
    opened(path, 100).close()
    mark = opened(path, 60, 62)
    mark.prove_current(store(60, 62, epoch=2))
    mark.close()
    assert reopened(path, 60, 62) == Mark(OURS, Seq(60), 2, snapshot=Seq(62), floor=Seq(100 + BEYOND))
    content = path.read_bytes()
    for lost in (63, 100, 105, 100 + BEYOND):
        mark = opened(path, lost)
        assert mark.mark.behind == Found(store=Seq(lost), mark=Seq(100 + BEYOND))
        assert mark.beyond(Seq(lost)) == 100 + 2 * BEYOND
        mark.close()
        path.write_bytes(content)
    mark = opened(path, 60, 62)
    assert mark.mark.behind is None
    assert mark.beyond(Seq(62)) == 100 + BEYOND
    mark.raise_to(Seq(101 + BEYOND), NONE, 2)
    mark.close()
    assert reopened(path, 101 + BEYOND).behind is None
    assert reopened(path, 100).behind == Found(store=Seq(100), mark=Seq(101 + BEYOND))


def test_the_newer_store_put_back_before_a_proof_is_not_the_lost_one(path: Path) -> None:
    """That is what is asked for; it may be newer than its mark. How it was found is not written over."""
    opened(path, 100).close()
    found = reopened(path, 60)
    assert reopened(path, 105) == found
    assert found.behind == Found(store=Seq(60), mark=Seq(100))


def test_a_critical_snapshot_that_was_acknowledged_is_missed(path: Path) -> None:
    """As a commit is, though no commit is missing: so a manager that is persisted whole is guarded, too."""
    mark = opened(path, 10)
    mark.raise_to(Seq(10), Seq(20), 1)
    assert read_mark(str(path)) == mark.mark == Mark(OURS, Seq(10), 1, snapshot=Seq(20))
    mark.close()
    assert reopened(path, 10, 20).behind is None
    assert reopened(path, 10, 25).behind is None
    mark = opened(path, 10, 19)
    assert mark.mark.behind == Found(store=Seq(19), mark=Seq(20))
    assert mark.beyond(Seq(19)) == 20 + BEYOND
    mark.close()
    assert reopened(path, 10, 20).behind == Found(store=Seq(19), mark=Seq(20))


def test_a_commit_and_a_snapshot_that_are_missing(path: Path) -> None:
    """The newest numbers of each side are told, and new ones are beyond them."""
    mark = opened(path, 10)
    mark.raise_to(Seq(30), Seq(40), 1)
    mark.close()
    mark = opened(path, 10, 15)
    assert mark.mark.behind == Found(store=Seq(15), mark=Seq(40))
    assert mark.beyond(Seq(15)) == 40 + BEYOND
    mark.close()


def test_a_new_mark_takes_the_snapshots_as_they_are(path: Path) -> None:
    """It cannot tell whose care they had."""
    assert reopened(path, 10, 12) == Mark(OURS, Seq(10), 1, snapshot=Seq(12))
    assert reopened(path, 10, 11).behind == Found(store=Seq(11), mark=Seq(12))


def test_an_even_older_backup_put_back_in_recovery_mode(path: Path) -> None:
    """The oldest of them counts: what the store holds is certain up to there only."""
    opened(path, 100).close()
    reopened(path, 60)
    assert reopened(path, 40).behind == Found(store=Seq(40), mark=Seq(100))
    assert reopened(path, 60).behind == Found(store=Seq(40), mark=Seq(100))


def test_it_is_written_down_only_once(path: Path) -> None:
    """A node that starts again and again in recovery mode wears nothing out."""
    opened(path, 100).close()
    reopened(path, 60)
    content = path.read_bytes()
    reopened(path, 60)
    assert path.read_bytes() == content


def test_either_record_alone_says_that_it_is_behind(path: Path) -> None:
    """And either alone that it was proved current."""
    opened(path, 100).close()
    reopened(path, 60)
    assert {found.mark.behind for found in records(path)} == {Found(store=Seq(60), mark=Seq(100))}
    mark = opened(path, 60)
    mark.prove_current(store(200, epoch=2))
    mark.close()
    assert {found.mark for found in records(path)} == {Mark(OURS, Seq(200), 2, floor=Seq(100 + BEYOND))}


def records(path: Path) -> list[module._Record]:
    found = module._records(path.read_bytes(), str(path))
    assert len(found) == 2
    return found


# -- its disk ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EROFS, StoreUnwritable),
        (errno.EIO, StoreUnavailable),
        (errno.ESTALE, StoreUnavailable),
    ],
)
def test_what_its_disk_refuses(
    path: Path, number: int, kind: type[StoreError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typed error that names the file, never `SyncFailed`, which would accuse the store's disk. It may pass."""
    mark = opened(path, 1)

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(kind, match=str(path)) as caught:
        mark.raise_to(Seq(2), NONE, 1)
    assert not isinstance(caught.value, SyncFailed)
    assert mark.mark.highest == 1
    monkeypatch.undo()
    mark.raise_to(Seq(2), NONE, 1)
    assert read_mark(str(path)) == Mark(OURS, Seq(2), 1)
    mark.close()


def test_a_sync_that_fails_is_not_the_stores(path: Path) -> None:
    """As above; what was not synced is not taken for durable."""
    fails = [False]

    def fsync(fd: int) -> None:
        if fails[0]:
            raise OSError(errno.EIO, "no")
        os.fsync(fd)

    mark = HighWater.open(str(path), store(1, epoch=1), fsync)
    fails[0] = True
    mark.raise_to(Seq(2), NONE, 1)
    durable = path.read_bytes()[SLOT_BYTES:]
    for attempt in (mark.sync, lambda: mark.prove_current(store(5, epoch=2))):
        with pytest.raises(StoreUnavailable, match="syncing the high-water mark"):
            attempt()
    assert path.read_bytes()[SLOT_BYTES:] == durable
    with pytest.raises(StoreUnavailable):
        HighWater.open(str(path), store(0, epoch=1), fsync)
    mark.close()


def test_making_it_fails_with_its_sync(path: Path) -> None:
    """Of the file, and of its directory: neither is the store's."""
    for fine in (0, 1):
        left = [fine]

        def fsync(fd: int, left: list[int] = left) -> None:
            if not left[0]:
                raise OSError(errno.EIO, "no")
            left[0] -= 1

        with pytest.raises(StoreUnavailable, match="making the high-water mark"):
            HighWater.open(str(path), store(1, epoch=1), fsync)
        path.unlink(missing_ok=True)
        assert os.listdir(path.parent) == []


def test_a_mark_that_was_removed_or_replaced_is_not_written_to(path: Path) -> None:
    """Nobody would ever read it. Put back, it is the mark again."""
    mark = opened(path, 1)
    away = path.rename(path.with_name("away"))
    with pytest.raises(StoreUnwritable, match=f"{path} failed: No such file"):
        mark.raise_to(Seq(2), NONE, 1)
    path.write_bytes(b"another")
    with pytest.raises(StoreUnavailable, match="was replaced while it was in use"):
        mark.raise_to(Seq(2), NONE, 1)
    assert path.read_bytes() == b"another"
    away.rename(path)
    mark.raise_to(Seq(2), NONE, 1)
    assert read_mark(str(path)) == Mark(OURS, Seq(2), 1)
    mark.close()


def test_a_place_where_no_file_can_be(path: Path, tmp_path: Path) -> None:
    """A directory that is not there may be a disk that is not mounted: it is not made. Nor is anything else opened."""
    path.mkdir()
    for place in (path / "gone" / "mark", path):
        with pytest.raises(StoreUnwritable, match="is its disk mounted"):
            opened(place, 1)
    assert os.listdir(path) == []
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreUnwritable, match="link"):
        opened(tmp_path / "link", 1)


# -- its place --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [name for name, options in SCHEMES.items() if module.OPTION in options])
def test_it_lies_outside_of_the_store(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever puts back the store's directory must not put back the mark, however its place is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    (tmp_path / "way in").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "way out").symlink_to(tmp_path)
    (tmp_path / "mark in").symlink_to(tmp_path / "store" / "mark")
    inside = (
        "store",
        "store/",
        "store/mark",
        "way in/mark",
        "./x/../store/a/mark",
        "mark in",
        f"{tmp_path}/store/mark",
    )
    for written in inside:
        for store in (f"{tmp_path}/store", "way%20in", "./store/."):
            with pytest.raises(ConfigError, match="outside of the store's directory"):
                mark_path(parse(f"{scheme}:{store}?high-water={written}"))
    for written in ("mark", "store-mark", "store/way out/mark", f"{tmp_path}/mark", "store/../mark"):
        found = mark_path(parse(f"{scheme}:store?high-water={written}"))
        assert found == os.path.realpath(written)
    assert mark_path(parse(f"{scheme}:store")) is None
