"""What a damaged write-ahead log still holds."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from bgsuper.store.frames import NO_FRAMES, Frames, newest_frames
from bgsuper.store.untouched import open_untouched
from bgsuper.store.wal import FRAME, HEADER, PAGE_SIZES
from bgsuper.store.wal import Log as WriteAheadLog

from .stores import DATABASE, commit, die, key, new_store

PAGE = 4096
STEP = FRAME.size + PAGE


class Log(NamedTuple):
    path: Path
    content: bytes
    recovered: int  #: frames, all of them
    pages: list[int]  #: the page of each frame
    ends: list[int]  #: the frames that end a transaction
    held: int  #: pages of the database file


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Eight transactions, each of a few pages, over a database of many."""
    store = new_store(tmp_path)
    store.open()
    random = Random(5)
    store.apply([commit(1, {key(f"{i:03}"): random.randbytes(300) for i in range(200)})])
    while store.has_idle_work:
        store.idle()
    for seq in range(2, 10):
        store.apply([commit(seq, {key(f"{random.randrange(200):03}"): random.randbytes(300) for _ in range(2)})])
    die(store)
    path = tmp_path / f"{DATABASE}-wal"
    connection = open_untouched(str(tmp_path / DATABASE))
    recovered = connection.recovered_frames()
    connection.close()
    content = path.read_bytes()
    headers = [FRAME.unpack_from(content, HEADER.size + index * STEP) for index in range(recovered)]
    ends = [index for index, header in enumerate(headers) if header[1]]
    assert len(ends) == 8
    return Log(path, content, recovered, [h[0] for h in headers], ends, (tmp_path / DATABASE).stat().st_size // PAGE)


def read(log: Log, content: bytes, recovered: int) -> Frames:
    log.path.write_bytes(content)
    fd = os.open(log.path, os.O_RDONLY)
    try:
        return newest_frames(fd, recovered, log.held * PAGE)
    finally:
        os.close(fd)


def newest(log: Log, frames: int) -> dict[int, int]:
    """Where the newest content of each page is, if the first `frames` count."""
    return {page: HEADER.size + index * STEP + FRAME.size for index, page in enumerate(log.pages[:frames])}


def flipped(content: bytes, place: int, by: int = 0x10) -> bytes:
    return content[:place] + bytes([content[place] ^ by]) + content[place + 1 :]


def at(index: int) -> int:
    return HEADER.size + index * STEP


def test_an_undamaged_log(log: Log) -> None:
    """Whatever of it SQLite took, all of it is found."""
    for recovered in (0, log.ends[2] + 1, log.recovered):
        frames = read(log, log.content, recovered)
        assert frames.offsets == newest(log, log.recovered)
        assert (frames.damaged, frames.rest_in_doubt) == (set(), False)
        assert frames.page_count >= log.held


def test_an_empty_log(log: Log) -> None:
    """Or one of a header only, or of a piece of one: it says nothing of any page."""
    for length in (0, 1, 31, 32, 33, at(1) - 1):
        frames = read(log, log.content[:length], 0)
        assert frames.offsets == {}
        assert frames.says_nothing_of(1)


def test_a_log_that_was_cut(log: Log) -> None:
    """The transactions that are whole count, the last one's pieces do not."""
    for index in range(log.recovered):
        for cut in (at(index), at(index) + 24, at(index) + 900):
            ended = [end for end in log.ends if end < index]
            assert read(log, log.content[:cut], 0).offsets == newest(log, ended[-1] + 1 if ended else 0)


def test_the_content_of_each_frame(log: Log) -> None:
    """Flipped: that page is damaged unless it was written again, and every other one is as it was; in the newest
    transaction, that one is dropped."""
    damaged = 0
    for index in range(log.recovered):
        frames = read(log, flipped(log.content, at(index) + FRAME.size + 77 * (index + 1)), 0)
        if index > log.ends[-2]:
            assert frames.offsets == newest(log, log.ends[-2] + 1)
            continue
        last = log.pages[index] not in log.pages[index + 1 :]
        assert frames.damaged == ({log.pages[index]} if last else set())
        wanted = newest(log, log.recovered)
        if last:
            del wanted[log.pages[index]]
            assert not frames.says_nothing_of(log.pages[index])
        assert frames.offsets == wanted
        assert not frames.rest_in_doubt
        damaged += last
    assert damaged > 5


def test_each_byte_of_the_headers(log: Log) -> None:
    """Flipped, wherever a later frame proves the transaction: the page that it held and the one that it seems to hold
    are damaged at worst, if it was not written again, and no page is taken from before."""
    lost = 0
    for index in range(log.ends[-2] + 1):
        for place in range(FRAME.size):
            frames = read(log, flipped(log.content, at(index) + place, 1 << place % 8), 0)
            whole = newest(log, log.recovered)
            seeming = FRAME.unpack(log.path.read_bytes()[at(index) : at(index) + FRAME.size])[0]
            assert frames.damaged <= {log.pages[index], seeming} - set(log.pages[index + 1 :])
            assert frames.offsets == {page: at for page, at in whole.items() if page not in frames.damaged}
            assert not frames.rest_in_doubt
            lost += len(frames.damaged)
            assert place < 8 or not frames.damaged
    assert 0 < lost < 30


def test_each_byte_of_the_log_s_header(log: Log) -> None:
    """Flipped: nothing is lost."""
    for place in range(HEADER.size):
        frames = read(log, flipped(log.content, place, 1 << place % 8), 0)
        assert frames.offsets == newest(log, log.recovered), place


def test_a_frame_of_which_nothing_is_left(log: Log) -> None:
    """Whatever page it held is in doubt, and so is each that was not written after it: none is taken from before."""
    index = log.ends[3]
    blank = log.content[: at(index)] + bytes(STEP) + log.content[at(index + 1) :]
    frames = read(log, blank, 0)
    assert frames.rest_in_doubt
    later = {page: offset for page, offset in newest(log, log.recovered).items() if offset > at(index + 1)}
    # The frame after it cannot be proved: its predecessor is gone.
    del later[log.pages[index + 1]]
    assert {page: frames.offsets.get(page) for page in later} == later
    assert not any(frames.says_nothing_of(page) for page in range(1, log.held + 1))


def test_frames_of_an_older_round(log: Log) -> None:
    """Behind a header that is damaged may lie only what was there before it: those do not count."""
    _, version, page_size, number, first, second, _, _ = HEADER.unpack_from(log.content)
    fresh = HEADER.pack(0x377F0682, version, page_size, number + 1, first + 1, second ^ 0x55, 1, 2)
    frames = read(log, fresh + log.content[HEADER.size :], 0)
    assert frames.offsets == {}
    assert frames.rest_in_doubt


def test_a_log_that_was_just_begun_anew(log: Log) -> None:
    """SQLite writes a header in the old one's place, syncs it, and leaves the old frames: all is in the database."""
    _, version, page_size, number, first, second, _, _ = HEADER.unpack_from(log.content)
    fresh = HEADER.pack(0x377F0682, version, page_size, number + 1, first + 1, second ^ 0x55, 0, 0)
    log.path.write_bytes(fresh)
    with log.path.open("rb") as file:
        header = fresh[:24] + struct.pack(">2I", *WriteAheadLog(file.fileno()).sums((0, 0), fresh[:24]))
    assert read(log, header + log.content[HEADER.size :], 0) == NO_FRAMES._replace(page_size=PAGE)
    assert read(log, header, 0) == NO_FRAMES._replace(page_size=PAGE)


@pytest.mark.parametrize("length", [33, HEADER.size + FRAME.size, 512, HEADER.size + STEP, HEADER.size + 2 * STEP])
@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"\x37"])
def test_the_header_and_the_first_frame(log: Log, length: int, filler: bytes) -> None:
    """Damaged together: any page may have been written, so the database's content of none is the newest; whatever the
    frames behind are, and whether there are any."""
    content = filler * length + log.content[length:]
    for cut in (len(content), length):
        frames = read(log, content[:cut], 0)
        assert frames == Frames({}, set(), True, 0, 0)
        assert not any(frames.says_nothing_of(page) for page in range(1, log.held + 20))
    assert read(log, content[: HEADER.size], 0) == NO_FRAMES


def test_no_page_size_misleads(log: Log) -> None:
    """Whatever the header says of it, possible or not: the frames are those of the size by which they were written."""
    for size in (*PAGE_SIZES, 0, 1, 24, 4095, 0xFFFFFFFF):
        content = log.content[:8] + struct.pack(">I", size) + log.content[12:]
        for cut in (len(content), HEADER.size + 10, HEADER.size + STEP + 30):
            frames = read(log, content[:cut], 0)
            if cut == len(content):
                assert (frames.offsets, frames.page_size) == (newest(log, log.recovered), PAGE)


def random_damage(random: Random, content: bytes) -> Iterator[bytes]:
    for _ in range(60):
        place, length = random.randrange(len(content)), random.choice((1, 8, 64, 512, 4096))
        filler = random.choice((bytes(length), random.randbytes(length)))
        yield (content[:place] + filler + content[place + length :])[: len(content)]


def test_any_damage(log: Log) -> None:
    """A page's content is its newest that was durable, or damaged, or the newest transactions are dropped whole."""
    for damaged in random_damage(Random(8), log.content):
        frames = read(log, damaged, 0)
        possible = [newest(log, 0), *(newest(log, end + 1) for end in log.ends)]
        pages = range(1, log.held + 20)

        def fits(state: dict[int, int], frames: Frames = frames, pages: range = pages) -> bool:
            return all(
                frames.offsets.get(page) == state.get(page)
                for page in pages
                if page in frames.offsets or frames.says_nothing_of(page)
            )

        assert any(map(fits, possible))
        for page, offset in frames.offsets.items():
            index = (offset - at(0)) // STEP
            assert log.pages[index] == page
            assert damaged[offset : offset + PAGE] == log.content[offset : offset + PAGE]
