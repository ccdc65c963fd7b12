"""The disks that a power cut may leave, built from a log of block writes and flushes."""

from __future__ import annotations

import io
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.torture.power.blocklog import FATES, SECTOR, Disk, Entry, Fate, Kind, read_log, write_sectors

SECTORS = 8


def sector(content: int) -> bytes:
    return bytes([content]) * SECTOR


def write(at: int, *contents: int) -> Entry:
    return Entry(Kind.WRITE, 0, at * SECTOR, b"".join(map(sector, contents)))


FLUSH = Entry(Kind.FLUSH, 0)

writes = st.builds(
    lambda at, contents: write(at, *contents[: SECTORS - at]),
    st.integers(0, SECTORS - 1),
    st.lists(st.integers(1, 255), min_size=1, max_size=4),
)
logs = st.lists(writes | st.just(FLUSH), max_size=20)


def test_a_log_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Each entry with its time, place and data; one that was cut short is left out, wherever it was cut."""
    entries = [Entry(Kind.WRITE, 12, 1024, sector(1)), Entry(Kind.FLUSH, 13), Entry(Kind.WRITE, 14, 0, sector(2))]
    written = b"".join(entry.to_bytes() for entry in entries)
    log = tmp_path / "log"
    log.write_bytes(written)
    assert read_log(log) == entries
    for cut in range(1, len(entries[-1].to_bytes()) + 1):
        log.write_bytes(written[:-cut])
        assert read_log(log) == entries[:2]


@pytest.mark.parametrize("fate", FATES, ids=lambda fate: fate.name)
@given(log=logs, seed=st.integers(0, 2**32), data=st.data())
def test_only_what_a_disk_may_do(fate: Fate, log: list[Entry], seed: int, data: st.DataObject) -> None:
    """Each sector has what it had at the last flush, or what a write since then put there; nothing else, nowhere else.
    Checked against a disk that keeps every version of each sector."""
    cut = data.draw(st.integers(0, len(log)))
    versions = [[sector(0)] for _ in range(SECTORS)]
    for entry in log[:cut]:
        if entry.kind is Kind.FLUSH:
            versions = [contents[-1:] for contents in versions]
            continue
        for index in range(0, len(entry.data), SECTOR):
            versions[(entry.offset + index) // SECTOR].append(entry.data[index : index + SECTOR])
    image = io.BytesIO(bytes(SECTORS * SECTOR))
    disk = Disk(image, log)
    disk.advance(cut // 2)
    write_sectors(image, fate.left(disk.advance(cut), Random(seed)))
    left = image.getvalue()
    assert len(left) == SECTORS * SECTOR
    for number, allowed in enumerate(versions):
        content = left[number * SECTOR : (number + 1) * SECTOR]
        assert content in allowed
        if fate.name == "lost":
            assert content == allowed[0]
        if fate.name == "kept":
            assert content == allowed[-1]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("in order", (1, 2, 0, 0)), ("reordered", (0, 0, 3, 3)), ("reordered", (0, 0, 3, 0)), ("scattered", (0, 2, 0, 3))],
)
def test_what_each_fate_is_for(name: str, wanted: tuple[int, ...]) -> None:
    """Two writes under way, [1 2 . .] and [. . 3 3]: the first alone, the second alone, the second torn, and every
    other sector do all come about."""
    fate = next(fate for fate in FATES if fate.name == name)
    under_way = [write(0, 1, 2), write(2, 3, 3)]
    expected = {number: sector(content) for number, content in enumerate(wanted) if content}
    assert any(fate.left(under_way, Random(seed)) == expected for seed in range(500))
