"""Stores that are cut, flipped, short of files or mixed up: `bgsuper.torture.mutate.stores` says what opening them may
do, and its `judge` sees to that. As many more as wanted: ``python -m bgsuper.torture.mutate --stores 100000``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from random import Random

import pytest

from bgsuper.errors import NotFound, StoreCorrupt, StoreForeign, StoreTooNew
from bgsuper.key import MANAGER, NETWORK_GRAPH, Seq
from bgsuper.store.database import SCHEMA_VERSION
from bgsuper.store.identity import Identity
from bgsuper.store.sqlite import SQLiteStore
from bgsuper.supervisor import Supervisor
from bgsuper.torture.mutate import stores
from bgsuper.torture.mutate.stores import DATABASE, LOCK, WAL, Broken, Original, Verdict, build, judge, write_tree
from bgsuper.torture.mutate.views import Seen, look
from tests.supervisor.hosts import eventually

PAGE = 4096
FRAME = 24 + PAGE


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    """Half in the database, half in the WAL."""
    return build(tmp_path_factory.mktemp("original"), Random(1))


@pytest.fixture(scope="module")
def checkpointed(tmp_path_factory: pytest.TempPathFactory) -> Original:
    """All of it in the database: nothing in a WAL hides the damage."""
    return build(tmp_path_factory.mktemp("checkpointed"), Random(2), with_wal=False)


def frames(original: Original) -> int:
    """How many bytes of the WAL are its newest transactions'; what lies behind is older."""
    wal = original.files[WAL]
    salts = wal[16:24]
    length = 32
    while wal[length + 8 : length + 16] == salts:
        length += FRAME
    return length


def newest_transaction(original: Original) -> int:
    """Where the newest transaction of the WAL begins."""
    wal = original.files[WAL]
    end = frames(original) - FRAME
    while end > 32 and wal[end - FRAME + 4 : end - FRAME + 8] == bytes(4):
        end -= FRAME
    return end


def changed(original: Original, name: str, content: bytes | None) -> dict[str, bytes]:
    files = {path: held for path, held in original.files.items() if path != name}
    return files if content is None else files | {name: content}


def places(length: int, count: int, random: Random, *structured: int) -> Iterator[int]:
    yield from sorted(
        {place for place in structured if 0 <= place < length} | set(random.choices(range(length), k=count))
    )


def test_the_undamaged_store_opens(tmp_path: Path, original: Original, checkpointed: Original) -> None:
    """What the tests below damage is otherwise whole; reading it leaves it so."""
    for whole in (original, checkpointed):
        for _ in range(2):
            write_tree(tmp_path / "store", whole.files)
            assert judge(tmp_path / "store", whole) == Verdict(None, whole.newest)
        assert judge(tmp_path / "store", whole) == Verdict(None, whole.newest)
    assert frames(original) - 32 >= 6 * (FRAME)
    assert original.checkpointed < original.newest


# -- cut ---------------------------------------------------------------------------------------------------------------


def test_a_database_that_is_cut(tmp_path: Path, original: Original, checkpointed: Original) -> None:
    """Anywhere: refused as StoreCorrupt, or what the WAL holds makes up for it, or what is lost is StoreCorrupt when it
    is read. Nothing is ever absent for it."""
    for whole in (original, checkpointed):
        content = whole.files[DATABASE]
        edges = [at + off for at in range(0, len(content), PAGE) for off in (0, 1, PAGE - 1)]
        for place in places(len(content), 60, Random(3), *edges, 99, 100):
            write_tree(tmp_path / "store", changed(whole, DATABASE, content[:place]))
            verdict = judge(tmp_path / "store", whole)
            assert verdict.refused is None or isinstance(verdict.refused, StoreCorrupt), place
            assert verdict.refused is not None or verdict.newest == whole.newest


def test_a_wal_that_is_cut(tmp_path: Path, original: Original) -> None:
    """Anywhere: the state after the last commit that is whole in it. What is gone cannot be told from a crash before
    its sync (not promised); but a commit is never there in part."""
    content, end = original.files[WAL], frames(original)
    edges = [at + off for at in range(32, end + 1, FRAME) for off in (-1, 0, 1, 24)]
    states = set()
    for place in places(len(content) + 1, 40, Random(4), 0, 1, 31, 32, 33, *edges):
        write_tree(tmp_path / "store", changed(original, WAL, content[:place]))
        verdict = judge(tmp_path / "store", original)
        assert verdict.refused is None
        assert not verdict.unreadable
        assert (verdict.newest == original.newest) == (place >= end)
        states.add(verdict.newest)
    assert states == set(range(original.checkpointed, original.newest + 1))


def test_a_lock_file_that_is_cut_or_flipped(tmp_path: Path, original: Original) -> None:
    """It says who was here, and no more: with any of its bytes gone or changed the store opens, whole."""
    content = original.files[LOCK]
    for place in range(len(content)):
        for damaged in (content[:place], content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]):
            write_tree(tmp_path / "store", changed(original, LOCK, damaged))
            verdict = judge(tmp_path / "store", original)
            assert verdict == Verdict(None, original.newest)


def test_a_snapshot_that_is_cut_or_flipped(tmp_path: Path, original: Original) -> None:
    """Its key is StoreCorrupt when it is read, and nothing else is lost."""
    content = original.files[original.snapshot]
    for place in places(len(content), 40, Random(5), 0, 1, len(content) - 1):
        for damaged in (content[:place], content[:place] + bytes([content[place] ^ 0x04]) + content[place + 1 :]):
            write_tree(tmp_path / "store", changed(original, original.snapshot, damaged))
            assert judge(tmp_path / "store", original) == Verdict(None, original.newest, frozenset({NETWORK_GRAPH}))


# -- flipped -----------------------------------------------------------------------------------------------------------


def test_a_database_with_a_flipped_bit(tmp_path: Path, original: Original, checkpointed: Original) -> None:
    """Anywhere: refused with nothing changed, or each key reads as it was or is StoreCorrupt. Most of all in the index:
    a record that cannot be found there is never called absent."""
    for whole, count in ((original, 100), (checkpointed, 700)):
        content = whole.files[DATABASE]
        structure = [at + off for at in range(0, len(content), PAGE) for off in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)]
        flipped = stores.flips(content, places(len(content), count, Random(6), *structure, *range(16, 32)), Random(7))
        for place, damaged in flipped:
            write_tree(tmp_path / "store", changed(whole, DATABASE, damaged))
            try:
                verdict = judge(tmp_path / "store", whole)
            except Broken as broken:
                raise AssertionError(f"flipped at {place}: {broken}") from broken
            if verdict.refused is None:
                assert verdict.newest == whole.newest, place
            else:
                assert isinstance(verdict.refused, StoreCorrupt | StoreForeign | StoreTooNew), place


def test_each_byte_of_the_index(tmp_path: Path, checkpointed: Original) -> None:
    """The page of the index that holds the keys, byte by byte: no key is ever absent, none missing from its namespace
    (ldk-node #1026)."""
    content = checkpointed.files[DATABASE]
    [page] = [
        at for at in range(0, len(content), PAGE) if content[at] == 0x0A and b"channelsk20" in content[at : at + PAGE]
    ]
    used = page + int.from_bytes(content[page + 5 : page + 7], "big")
    cells = range(page, page + 8 + 2 * int.from_bytes(content[page + 3 : page + 5], "big"))
    unreadable = 0
    for place, damaged in stores.flips(content, iter([*cells, *range(used, page + PAGE, 3)]), Random(8)):
        write_tree(tmp_path / "store", changed(checkpointed, DATABASE, damaged))
        verdict = judge(tmp_path / "store", checkpointed)
        assert verdict.refused is None, place
        unreadable += bool(verdict.unreadable)
    assert unreadable > 100


def test_a_wal_with_a_flipped_bit(tmp_path: Path, original: Original) -> None:
    """In any transaction but the newest: refused, since what SQLite would drop with it was acknowledged. In the newest:
    that one is dropped whole, as a crash before its sync would leave it (not promised). Behind it: nothing happens."""
    content, end, last = original.files[WAL], frames(original), newest_transaction(original)
    heads = [at + off for at in range(32, end, FRAME) for off in (0, 4, 7, 8, 12, 16, 20, 23, 24)]
    refused = dropped = 0
    for place, damaged in stores.flips(
        content, places(len(content), 200, Random(9), *range(0, 32, 3), *heads), Random(10)
    ):
        write_tree(tmp_path / "store", changed(original, WAL, damaged))
        verdict = judge(tmp_path / "store", original)
        if place < last:
            assert isinstance(verdict.refused, StoreCorrupt), place
            refused += 1
        elif place < end:
            assert verdict.refused is not None or verdict.newest == original.newest - 1, place
            dropped += verdict.refused is None
        else:
            assert verdict.newest == original.newest, place
        assert not verdict.unreadable
    assert refused > 50
    assert dropped > 20


def test_each_byte_of_the_identity(tmp_path: Path, checkpointed: Original) -> None:
    """Flipped: refused, with nothing changed. An epoch or a newest number that is wrong is never believed, nor is the
    store taken for another one."""
    content = checkpointed.files[DATABASE]
    blob = checkpointed.opened.store_id
    at = content.index(blob) - 1
    for place, damaged in stores.flips(content, iter(range(at, at + len(Identity(blob).pack()))), Random(11)):
        write_tree(tmp_path / "store", changed(checkpointed, DATABASE, damaged))
        verdict = judge(tmp_path / "store", checkpointed)
        assert isinstance(verdict.refused, StoreCorrupt), place
        assert "how far it had come, is damaged" in str(verdict.refused)
        seen = look(tmp_path / "store", checkpointed)
        assert (seen.refused, seen.newest, seen.lost) == (None, checkpointed.newest, frozenset())


@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"S"])
def test_a_page_that_is_gone(tmp_path: Path, original: Original, checkpointed: Original, filler: bytes) -> None:
    """A whole page of any file overwritten: as above. (The frame before the WAL's newest transaction tells where
    that began, so with it that one may go, too.)"""
    for whole in (original, checkpointed):
        for name, content in whole.files.items():
            for at in range(0, len(content), PAGE):
                length = min(PAGE, len(content) - at)
                write_tree(
                    tmp_path / "store", changed(whole, name, content[:at] + filler * length + content[at + length :])
                )
                verdict = judge(tmp_path / "store", whole)
                dropped = name == WAL and at + PAGE > newest_transaction(original) - FRAME
                assert verdict.refused is not None or dropped or verdict.newest == whole.newest, (name, at)


# -- missing, foreign, of another version ------------------------------------------------------------------------------


def test_files_that_are_missing(tmp_path: Path, original: Original) -> None:
    """Each alone, and each set: without the database it is StoreCorrupt while anything tells that there was one;
    without the WAL it is the state of the last checkpoint; without a snapshot, that key is StoreCorrupt."""
    names = list(original.files)
    for missing in (set(some) for count in range(1, len(names)) for some in combinations(names, count)):
        write_tree(tmp_path / "store", {name: held for name, held in original.files.items() if name not in missing})
        for _ in range(2):
            verdict = judge(tmp_path / "store", original)
            if DATABASE in missing:
                assert isinstance(verdict.refused, StoreCorrupt)
                assert "missing" in str(verdict.refused)
            else:
                assert verdict.newest == (original.checkpointed if WAL in missing else original.newest)
                assert verdict.unreadable == ({NETWORK_GRAPH} if original.snapshot in missing else frozenset())


def test_parts_of_another_store_that_do_not_matter(tmp_path: Path, original: Original, checkpointed: Original) -> None:
    """Another store's lock file, or its snapshots: what is ours is there, or StoreCorrupt."""
    write_tree(tmp_path / "store", changed(original, LOCK, checkpointed.files[LOCK]))
    assert judge(tmp_path / "store", original).newest == original.newest
    write_tree(tmp_path / "store", changed(original, original.snapshot, checkpointed.files[checkpointed.snapshot]))
    assert judge(tmp_path / "store", original) == Verdict(None, original.newest, frozenset({NETWORK_GRAPH}))


@pytest.mark.parametrize("pointed_to", ["the graph's file", "an older one"])
def test_a_pointer_to_another_snapshot(tmp_path: Path, pointed_to: str) -> None:
    """A row of the snapshot table that names a file of ours, whole, but of another key or of another time: refused."""
    store = SQLiteStore(tmp_path, host_pid=1)
    store.open()
    graph = store.write_snapshot(NETWORK_GRAPH, Seq(1), b"graph")
    store.adopt_snapshot(
        graph._replace(key=MANAGER) if pointed_to == "the graph's file" else graph._replace(seq=Seq(2))
    )
    store.close()
    with pytest.raises(StoreCorrupt, match="snapshot table is damaged"):
        SQLiteStore(tmp_path, host_pid=1).open()


@pytest.mark.parametrize("content", [b"", b"x" * 5000])
def test_another_programs_rollback_journal(tmp_path: Path, original: Original, content: bytes) -> None:
    """SQLite would roll the database back by it, or delete it: refused before SQLite sees it."""
    write_tree(tmp_path / "store", changed(original, f"{DATABASE}-journal", content))
    verdict = judge(tmp_path / "store", original)
    assert isinstance(verdict.refused, StoreForeign)
    assert "-journal" in str(verdict.refused)


@pytest.mark.parametrize("name", [f"{DATABASE}-shm", "notes.txt", "snapshots/notes.txt", "bgsuper.sqlite3.new"])
def test_foreign_files_beside_ours(tmp_path: Path, original: Original, name: str) -> None:
    """They do not matter, and are left alone."""
    write_tree(tmp_path / "store", changed(original, name, b"precious"))
    assert judge(tmp_path / "store", original) == Verdict(None, original.newest)
    assert (tmp_path / "store" / name).read_bytes() == b"precious"


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 255, 2**31 - 1])
def test_a_later_version(tmp_path: Path, original: Original, version: int) -> None:
    """Refused as what it is, whatever else it may hold."""
    content = original.files[DATABASE]
    write_tree(
        tmp_path / "store", changed(original, DATABASE, content[:60] + version.to_bytes(4, "big") + content[64:])
    )
    verdict = judge(tmp_path / "store", original)
    assert isinstance(verdict.refused, StoreTooNew)
    assert "upgrade" in str(verdict.refused)


# -- looked into -------------------------------------------------------------------------------------------------------


def test_a_view_of_the_undamaged_store(tmp_path: Path, original: Original, checkpointed: Original) -> None:
    """What the tests below damage is otherwise shown whole, without a finding."""
    for whole in (original, checkpointed):
        write_tree(tmp_path / "store", whole.files)
        assert look(tmp_path / "store", whole) == Seen(None, whole.newest)


def test_a_view_of_a_database_with_a_flipped_bit(tmp_path: Path, original: Original, checkpointed: Original) -> None:
    """Anywhere: a later version is refused as such; else all that is lost is one value, and it is named."""
    for whole, count in ((original, 60), (checkpointed, 250)):
        content = whole.files[DATABASE]
        for place, damaged in stores.flips(
            content, places(len(content), count, Random(12), *range(0, 112, 3)), Random(13)
        ):
            write_tree(tmp_path / "store", changed(whole, DATABASE, damaged))
            seen = look(tmp_path / "store", whole)
            if seen.refused is not None:
                assert isinstance(seen.refused, StoreTooNew), place
                assert 60 <= place < 64
                continue
            assert seen.newest == whole.newest, place
            assert len(seen.lost) <= 1, place
            assert seen.lost <= {damage.key for damage in seen.damage}, place


def test_a_view_of_a_wal_with_a_flipped_bit(tmp_path: Path, original: Original) -> None:
    """In any transaction but the newest: it is read on behind the damage, so that the newest state is shown. In the
    newest: that one may be dropped whole (not promised)."""
    content, last = original.files[WAL], newest_transaction(original)
    for place, damaged in stores.flips(content, places(len(content), 80, Random(14), *range(0, 60, 5)), Random(15)):
        write_tree(tmp_path / "store", changed(original, WAL, damaged))
        seen = look(tmp_path / "store", original)
        assert seen.refused is None
        assert seen.newest == original.newest or last <= place < frames(original)
        assert seen.newest >= original.newest - 1
        assert not seen.lost


def test_a_view_of_any_other_damage(tmp_path: Path, original: Original, checkpointed: Original) -> None:
    """Pages that are gone, files that are cut or missing: never a wrong value, never an untyped error."""
    for whole in (original, checkpointed):
        for name, content in whole.files.items():
            for at in range(0, len(content), PAGE):
                gone = content[:at] + bytes(len(content[at : at + PAGE])) + content[at + PAGE :]
                for damaged in (content[: at + 7], gone, None):
                    write_tree(tmp_path / "store", changed(whole, name, damaged))
                    seen = look(tmp_path / "store", whole)
                    assert name == WAL or seen.refused is not None or seen.newest == whole.newest


# -- by a real host ----------------------------------------------------------------------------------------------------


def test_a_host_is_told_the_same(tmp_path: Path, original: Original, checkpointed: Original) -> None:
    """Supervisor.start() raises the store's own error, and the directory is as it was; a record that only the index has
    lost is StoreCorrupt for whoever reads it, by name or by namespace, and ends the supervisor."""
    directory = tmp_path / "store"
    wal = bytearray(original.files[WAL])
    wal[100] ^= 1
    database = bytearray(checkpointed.files[DATABASE])
    database[100] ^= 0xFF
    for files in (
        changed(original, WAL, bytes(wal)),
        changed(checkpointed, DATABASE, bytes(database)),
        changed(original, DATABASE, None),
    ):
        write_tree(directory, files)
        before = stores.read_tree(directory)
        with pytest.raises(StoreCorrupt):
            Supervisor(f"sqlite://{directory}").start()
        assert stores.read_tree(directory) | {LOCK: b""} == before | {LOCK: b""}
    write_tree(directory, original.files)
    with Supervisor(f"sqlite://{directory}") as supervisor:
        assert supervisor.read(MANAGER) == original.history[original.newest][MANAGER]
    content = checkpointed.files[DATABASE]
    at = content.index(b"channelsk20", PAGE)
    at = content.index(b"channelsk20") if content[at // PAGE * PAGE] != 0x0A else at
    write_tree(directory, changed(checkpointed, DATABASE, content[:at] + b"d" + content[at + 1 :]))
    supervisor = Supervisor(f"sqlite://{directory}")
    supervisor.start()
    try:
        with pytest.raises(StoreCorrupt, match="index"):
            supervisor.read(stores.key(20))
        with pytest.raises(StoreCorrupt, match="index"):
            list(supervisor.scan("channels"))
        with pytest.raises(StoreCorrupt, match="index"):
            supervisor.read(stores.key(99))
        eventually(lambda: supervisor.failure() is not None)
    finally:
        with pytest.raises(StoreCorrupt, match="index"):
            supervisor.stop()


def test_an_absent_key_is_still_not_found(tmp_path: Path, checkpointed: Original) -> None:
    """The check of the check: over a sound index, absence is absence."""
    write_tree(tmp_path, checkpointed.files)
    store = SQLiteStore(tmp_path, host_pid=1, check=True)
    store.open()
    with pytest.raises(NotFound):
        store.read(stores.key(99))
    store.close()
