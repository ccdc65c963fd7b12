"""The SQLite store on a healthy disk."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from bgsuper.errors import NotFound, StoreCorrupt, StoreError, StoreInconsistent
from bgsuper.key import Key, Seq
from bgsuper.store import sqlite
from bgsuper.store.api import Store

from .stores import DATABASE, GRAPH, MANAGER, commit, content, key, new_store, opened


def test_a_new_store_starts_at_nothing(tmp_path: Path) -> None:
    """A fresh directory gives epoch 1 and no seq; each open of it a greater epoch."""
    store: Store = new_store(tmp_path / "a" / "b")
    assert store.open()[:3] == (1, Seq(0), Seq(0))
    assert store.atomic
    store.close()
    for epoch in (2, 3, 4):
        again = new_store(tmp_path / "a" / "b")
        assert again.open().epoch == epoch
        again.close()


def test_what_was_applied_is_read_back(tmp_path: Path) -> None:
    """Puts, overwrites and removes hold across a reopen, and the last seq with them."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {key("a"): b"1", key("b"): b"2", MANAGER: b""})])
        store.apply([commit(2, {key("a"): b"3"}), commit(3, {}, (key("b"),)), commit(7, {key("c"): b"4"})])
        before = content(store)
    reopened = new_store(tmp_path)
    assert reopened.open()[:3] == (2, Seq(7), Seq(7))
    assert content(reopened) == before == {key("a"): b"3", key("c"): b"4"}
    assert reopened.read(MANAGER) == b""
    reopened.close()


def test_only_an_absent_key_is_not_found(tmp_path: Path) -> None:
    """NotFound is for absence: never there, removed, or another namespace; its text is plain."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {key("a"): b"1", key("b"): b"1"}), commit(2, {}, (key("b"),))])
        for absent in (key("b"), key("A"), Key("channels", "x", "a"), Key("", "", "a")):
            with pytest.raises(NotFound, match="there is no record"):
                store.read(absent)


def test_a_group_is_in_order(tmp_path: Path) -> None:
    """The last word on a key in a group wins; within one batch removes come after puts."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {key("a"): b"1"}), commit(2, {}, (key("a"),)), commit(3, {key("a"): b"3"})])
        assert store.read(key("a")) == b"3"
        store.apply([commit(4, {key("a"): b"4"}, (key("a"),))])
        with pytest.raises(NotFound):
            store.read(key("a"))


@pytest.mark.parametrize("seqs", [[5], [4], [6, 6], [7, 6]])
def test_sequence_numbers_only_rise(tmp_path: Path, seqs: list[int]) -> None:
    """A group whose numbers do not rise is refused whole."""
    with opened(tmp_path) as store:
        store.apply([commit(5, {key("a"): b"5"})])
        with pytest.raises(StoreInconsistent, match="expected a commit after"):
            store.apply([commit(seq, {key("a"): b"x"}) for seq in seqs])
        assert store.read(key("a")) == b"5"
        store.apply([commit(6, {key("a"): b"6"})])


def test_a_record_that_the_database_refuses(tmp_path: Path) -> None:
    """A group with a key of the wrong type (nobody checked it) is refused whole, and the next one goes through."""
    with opened(tmp_path) as store:
        with pytest.raises(StoreError, match="committing failed"):
            store.apply([commit(1, {key("a"): b"1", Key(b"bytes", "", "a"): b"1"})])  # type: ignore[arg-type]
        assert content(store) == {}
        store.apply([commit(1, {key("b"): b"1"})])
        assert content(store) == {key("b"): b"1"}


def test_an_empty_group_writes_nothing(tmp_path: Path) -> None:
    """No batches, no transaction; a batch without records still moves the seq."""
    with opened(tmp_path) as store:
        store.idle()
        store.apply([])
        assert not store.has_idle_work
        store.apply([commit(1)])
    with opened(tmp_path) as store, pytest.raises(StoreInconsistent):
        store.apply([commit(1)])


def test_large_values_and_many_records(tmp_path: Path) -> None:
    """A value of 20 MiB and a commit of 5,000 records come back whole."""
    large = os.urandom(1 << 20) * 20
    many = {key(f"{i:05}"): b"%d" % i for i in range(5000)}
    with opened(tmp_path) as store:
        store.apply([commit(1, {MANAGER: large}), commit(2, many)])
    with opened(tmp_path) as store:
        assert store.read(MANAGER) == large
        assert content(store) == many


#: What a page charges for a value of ten bytes under a name of one letter: the key and 32 bytes count as well.
EACH = 10 + len("channels") + len("a") + 32


def test_scan_pages(tmp_path: Path) -> None:
    """A page starts after the given name, has one record at least, and ends before `limit` is exceeded."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {key(n): n.encode() * 10 for n in "abcde"} | {Key("channels", "s", "aa"): b"x"})])
        assert [k.name for k, _ in store.scan("channels", "", "", 3 * EACH)] == ["a", "b", "c"]
        assert [k.name for k, _ in store.scan("channels", "", "b", 3 * EACH - 1)] == ["c", "d"]
        assert [k.name for k, _ in store.scan("channels", "", "b", 0)] == ["c"]
        assert store.scan("channels", "", "e", 1000) == []
        assert store.scan("channel", "", "", 1000) == []
        assert store.scan("channels", "s", "", 1000) == [(Key("channels", "s", "aa"), b"x")]


def test_scan_merges_snapshots(tmp_path: Path) -> None:
    """Snapshots stand among the records, in the order of names, and count against the limit."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {key("b"): b"2" * 10, key("d"): b"4" * 10})])
        for seq, name in enumerate("ace", 2):
            store.adopt_snapshot(store.write_snapshot(key(name), Seq(seq), name.encode() * 10))
        assert [k.name for k, _ in store.scan("channels", "", "", 1000)] == list("abcde")
        assert [k.name for k, _ in store.scan("channels", "", "a", 3 * EACH)] == list("bcd")
        assert [k.name for k, _ in store.scan("channels", "", "d", 3 * EACH)] == ["e"]
        assert store.scan("", "", "", 1000) == []


def test_idle_checkpoints(tmp_path: Path) -> None:
    """idle() moves the WAL into the database, once; the WAL is then used from its start again."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {key("a"): b"1" * 100_000})])
        size = (tmp_path / DATABASE).stat().st_size
        chores = 0
        while store.has_idle_work:
            store.idle()
            chores += 1
        assert chores == 1
        assert (tmp_path / DATABASE).stat().st_size > size + 90_000
        wal = (tmp_path / f"{DATABASE}-wal").stat().st_size
        for seq in range(2, 10):
            store.apply([commit(seq, {key("a"): b"%d" % seq})])
            store.idle()
        assert (tmp_path / f"{DATABASE}-wal").stat().st_size == wal


def test_a_grown_wal_is_checkpointed_by_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that never idles keeps its WAL within the limit and one group."""
    monkeypatch.setattr(sqlite, "CHECKPOINT_BYTES", 200_000)
    with opened(tmp_path) as store:
        for seq in range(1, 200):
            store.apply([commit(seq, {key(f"{seq % 7}"): os.urandom(5000)})])
        assert 100_000 < (tmp_path / f"{DATABASE}-wal").stat().st_size < 300_000
        assert len(content(store)) == 7


def test_close_leaves_one_file(tmp_path: Path) -> None:
    """After close the WAL is empty, and close may be called again; a closed store says so."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {key("a"): b"1"})])
    assert (tmp_path / f"{DATABASE}-wal").stat().st_size == 0
    store.close()
    assert not store.has_idle_work
    for use in (lambda: store.read(key("a")), lambda: store.apply([commit(2)]), store.idle):
        with pytest.raises(StoreError, match="is not open"):
            use()


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
def test_modes(tmp_path: Path, umask: int) -> None:
    """Files are 0600 in 0700 directories, whatever the umask; an existing directory keeps its mode."""
    tmp_path.chmod(0o755)
    before = os.umask(umask)
    try:
        with opened(tmp_path / "a" / "b") as store:
            store.apply([commit(1, {key("a"): b"1"})])
            store.adopt_snapshot(store.write_snapshot(GRAPH, Seq(2), b"graph"))
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert len([path for path in modes if path.is_file()]) == 4
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


@pytest.mark.parametrize("vfs", ["unix-excl", "unix"])
def test_nothing_is_shared(tmp_path: Path, vfs: str) -> None:
    """The WAL's index is in memory, never in a -shm file, whatever the VFS."""
    with opened(tmp_path, vfs=vfs) as store:
        store.apply([commit(1, {key("a"): b"1"})])
        assert sorted(os.listdir(tmp_path)) == [DATABASE, f"{DATABASE}-wal", "lock", "snapshots"]


def test_a_relative_directory_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means the working directory of the time of construction."""
    monkeypatch.chdir(tmp_path)
    store = new_store(Path("store"))
    monkeypatch.chdir("/")
    store.open()
    store.close()
    assert (tmp_path / "store" / DATABASE).exists()


def test_a_damaged_record_names_its_key(tmp_path: Path) -> None:
    """A flipped bit in a value is StoreCorrupt with the key, by read and scan; other records stay readable."""
    value = os.urandom(2000)
    with opened(tmp_path) as store:
        store.apply([commit(1, {key("good"): b"fine", key("bad"): value})])
    database = tmp_path / DATABASE
    damaged = bytearray(database.read_bytes())
    damaged[damaged.index(value) + 999] ^= 0x10
    database.write_bytes(damaged)
    with opened(tmp_path) as store:
        assert store.read(key("good")) == b"fine"
        with pytest.raises(StoreCorrupt, match="channels/bad"):
            store.read(key("bad"))
        with pytest.raises(StoreCorrupt, match="channels/bad"):
            store.scan("channels", "", "", 10_000)


def test_snapshots_may_be_written_by_another_thread(tmp_path: Path) -> None:
    """write_snapshot beside commits: both lanes' values are there."""
    graph = os.urandom(1 << 20)
    with opened(tmp_path) as store:
        written = []
        thread = threading.Thread(target=lambda: written.append(store.write_snapshot(GRAPH, Seq(1000), graph)))
        thread.start()
        for seq in range(1, 100):
            store.apply([commit(seq, {key("a"): b"%d" % seq})])
        thread.join()
        store.adopt_snapshot(written[0])
        assert store.read(GRAPH) == graph
        assert store.read(key("a")) == b"99"


def test_a_page_counts_its_keys(tmp_path: Path) -> None:
    """Records without a value do not make a page that no message can carry."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {key(f"{number:04}"): b"" for number in range(1000)})])
        page = store.scan("channels", "", "", 1000)
        assert 0 < len(page) < 1000 // 32
        assert len(content(store)) == 1000


def test_whoever_reads_the_database_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    """A backup's shared lock delays the start; it does not end it as StoreLocked."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {key("a"): b"1"})])
    reader = sqlite3.connect(tmp_path / DATABASE, check_same_thread=False, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM record").fetchone()
    ends = threading.Timer(0.3, lambda: (reader.execute("COMMIT"), reader.close()))
    ends.start()
    with opened(tmp_path) as store:
        assert store.read(key("a")) == b"1"
    ends.join()
