"""The filesystem store on a healthy disk."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from bgsuper.errors import (
    ConfigError,
    NotFound,
    StoreCorrupt,
    StoreError,
    StoreInconsistent,
    StoreUnwritable,
    SyncFailed,
)
from bgsuper.key import Key, Seq
from bgsuper.store.api import CopyTarget, Opened, SnapshotFile
from bgsuper.store.filesystem import freeing
from bgsuper.store.filesystem.store import FilesystemStore
from bgsuper.store.identity import Identity

from .stores import GRAPH, LOCK, MANAGER, REDO, UPDATE, commit, content, die, is_absent, key, new_store, opened, tree


def test_a_new_store_starts_at_nothing(tmp_path: Path) -> None:
    """A fresh directory gives epoch 1 and no seq; each open of it a greater epoch and the same id."""
    store: CopyTarget = new_store(tmp_path / "a" / "b")
    first = store.open()
    assert first[:3] == (1, Seq(0), Seq(0))
    assert store.atomic
    store.close()
    for epoch in (2, 3, 4):
        again = new_store(tmp_path / "a" / "b")
        assert again.open() == Opened(epoch, Seq(0), Seq(0), first.store_id)
        again.close()


def test_the_layout_is_ldks(tmp_path: Path) -> None:
    """One file a value with the value alone in it, empty namespaces left out; beside them only what LDK's listing
    skips. Files are 0600, directories 0700, whatever the umask."""
    umask = os.umask(0)
    try:
        with opened(tmp_path / "store") as store:
            store.apply([commit(1, {MANAGER: b"m", key("a"): b"a", UPDATE: b"u"})])
    finally:
        os.umask(umask)
    found = tree(tmp_path / "store")
    for own in (LOCK, REDO):
        del found[own]
    assert found == {
        "manager": b"m",
        "channels": None,
        "channels/a": b"a",
        "monitor_updates": None,
        "monitor_updates/ab_0": None,
        "monitor_updates/ab_0/1": b"u",
    }
    for path in (tmp_path / "store", *(tmp_path / "store").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_what_was_applied_is_read_back(tmp_path: Path) -> None:
    """Puts, overwrites and removes hold across a reopen, clean or not, and the last seq with them."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {key("a"): b"1", key("b"): b"2", MANAGER: b""})])
        store.apply([commit(2, {key("a"): b"3"}), commit(3, {}, (key("b"),)), commit(7, {key("c"): b"4"})])
        before = content(store)
        die(store)
    for epoch in (2, 3):
        reopened = new_store(tmp_path)
        assert reopened.open()[:3] == (epoch, Seq(7), Seq(7))
        assert content(reopened) == before == {key("a"): b"3", key("c"): b"4", MANAGER: b""}
        reopened.close()


def test_only_an_absent_key_is_not_found(tmp_path: Path) -> None:
    """NotFound is for absence: never there, removed, another namespace, or a namespace's own name."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {key("a"): b"1", key("b"): b"1"}), commit(2, {}, (key("b"),))])
        for absent in (key("b"), key("A"), Key("channels", "x", "a"), Key("", "", "a"), Key("", "", "channels")):
            with pytest.raises(NotFound, match="there is no record"):
                store.read(absent)
        # Where a value has the namespace's name nobody can tell what was below it.
        for unknown in (Key("channels", "a", "x"), Key("channels", "a", "a")):
            with pytest.raises(StoreInconsistent, match="found a value"):
                store.read(unknown)
        with pytest.raises(StoreInconsistent, match="found a value"):
            store.scan("channels", "a", "", 100)
        store.apply([commit(3, {}, (Key("channels", "a", "x"),))])
        assert store.read(key("a")) == b"1"


def test_a_group_is_in_order(tmp_path: Path) -> None:
    """The last word on a key in a group wins; within one batch removes come after puts."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {key("a"): b"1"}), commit(2, {}, (key("a"),)), commit(3, {key("a"): b"3"})])
        assert store.read(key("a")) == b"3"
        store.apply([commit(4, {key("a"): b"4"}, (key("a"),))])
        assert is_absent(store, key("a"))


@pytest.mark.parametrize("seqs", [[5], [4], [6, 6], [7, 6]])
def test_sequence_numbers_only_rise(tmp_path: Path, seqs: list[int]) -> None:
    """A group whose numbers do not rise is refused whole."""
    with opened(tmp_path) as store:
        store.apply([commit(5, {key("a"): b"5"})])
        with pytest.raises(StoreInconsistent, match="expected a commit after"):
            store.apply([commit(seq, {key("a"): b"x"}) for seq in seqs])
        assert store.read(key("a")) == b"5"
        store.apply([commit(6, {key("a"): b"6"})])


def test_a_page_is_bounded(tmp_path: Path) -> None:
    """At least one record, then as long as they fit; pages together are the namespace, in the order of names."""
    records = {key(f"{n:03}"): bytes(n * 10) for n in range(50)}
    with opened(tmp_path) as store:
        store.apply([commit(1, records)])
        assert store.scan("channels", "", "", 1 << 20) == sorted(records.items())
        assert len(store.scan("channels", "", "048", 0)) == 1
        assert store.scan("channels", "", "049", 1 << 20) == []
        for limit in (0, 100, 1000, 5000):
            found: list[tuple[Key, bytes]] = []
            while page := store.scan("channels", "", found[-1][0].name if found else "", limit):
                assert len(page) == 1 or sum(len(value) + 32 for _, value in page) <= limit
                found += page
            assert dict(found) == records
        assert store.scan("channels", "x", "", 100) == store.scan("nothing", "", "", 100) == []


def test_a_listing_follows_the_commits_between_its_pages(tmp_path: Path) -> None:
    """Names are kept from page to page, but not over a commit or a snapshot."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {key("a"): b"1", key("b"): b"1"})])
        assert [found.name for found, _ in store.scan("channels", "", "", 0)] == ["a"]
        store.apply([commit(2, {key("c"): b"1"}, (key("b"),))])
        assert [found.name for found, _ in store.scan("channels", "", "a", 0)] == ["c"]
        store.adopt_snapshot(store.write_snapshot(key("d"), Seq(3), b"1"))
        assert [found.name for found, _ in store.scan("channels", "", "c", 0)] == ["d"]


def test_the_redo_file_is_emptied_when_the_store_idles(tmp_path: Path) -> None:
    """So that what LDK then writes is not taken back by the next open; and close does the same."""
    with opened(tmp_path) as store:
        assert not store.has_idle_work
        store.apply([commit(1, {MANAGER: b"1"})])
        assert store.has_idle_work
        store.idle()
        assert not store.has_idle_work
        die(store)
    (tmp_path / "manager").unlink()
    (tmp_path / "manager").write_bytes(b"LDK's")
    with opened(tmp_path) as store:
        assert store.read(MANAGER) == b"LDK's"
        store.apply([commit(2, {MANAGER: b"2"})])
    (tmp_path / "manager").unlink()
    with opened(tmp_path) as store:
        assert is_absent(store, MANAGER)


def test_a_group_that_was_not_emptied_away_tells_a_foreign_hand(tmp_path: Path) -> None:
    """After a crash, what another program wrote is never taken for the group, nor the group put over it."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {MANAGER: b"1"})])
        die(store)
    (tmp_path / "manager").unlink()
    (tmp_path / "manager").write_bytes(b"LDK's")
    before = tree(tmp_path)
    with pytest.raises(StoreCorrupt, match="another program wrote to it"):
        new_store(tmp_path).open()
    assert tree(tmp_path) == before


# -- snapshots ---------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_adopted(tmp_path: Path) -> None:
    """Nothing is to be seen of it before; then it is the value, in place of a record or an older snapshot, and its
    number is kept. A commit takes its place in turn."""
    value = os.urandom(700_000)
    with opened(tmp_path) as store:
        store.apply([commit(1, {GRAPH: b"1"})])
        snapshot = store.write_snapshot(GRAPH, Seq(2), value)
        assert (snapshot.key, snapshot.seq, snapshot.length) == (GRAPH, 2, len(value))
        assert (tmp_path / snapshot.file).read_bytes() == value
        assert store.read(GRAPH) == b"1"
        assert [found for found, _ in store.scan("", "", "", 1 << 21)] == [GRAPH]
        store.adopt_snapshot(snapshot)
        assert store.read(GRAPH) == value == (tmp_path / "network_graph").read_bytes()
        store.adopt_snapshot(store.write_snapshot(GRAPH, Seq(3), b""))
        die(store)
    with opened(tmp_path) as store:
        assert store.read(GRAPH) == b""
        store.apply([commit(4, {GRAPH: b"4"})])
    again = new_store(tmp_path)
    assert again.open()[1:3] == (4, 4)
    assert again.read(GRAPH) == b"4"
    again.close()


def test_the_newest_snapshot_is_remembered(tmp_path: Path) -> None:
    """`last_seq` is that of a snapshot where that is newer; an older one does not lower it."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {MANAGER: b"1"})])
        older, newer = (store.write_snapshot(GRAPH, Seq(seq), b"%d" % seq) for seq in (5, 9))
        store.adopt_snapshot(newer)
        store.adopt_snapshot(older)
        die(store)
    again = new_store(tmp_path)
    assert again.open()[1:3] == (1, 9)
    again.close()


def test_a_discarded_snapshot_leaves_nothing(tmp_path: Path) -> None:
    """Its file goes at once, its space by and by; one that nobody discarded goes at the next open."""
    with opened(tmp_path) as store:
        store.discard_snapshot(store.write_snapshot(GRAPH, Seq(1), bytes(5_000_000)))
        assert set(os.listdir(tmp_path)) == {LOCK, REDO}
        steps = 0
        while store.has_idle_work:
            store.idle()
            steps += 1
        assert steps == 3
        store.write_snapshot(Key("a", "b", "c"), Seq(1), bytes(5_000_000))
        die(store)
    with opened(tmp_path) as store:
        assert set(os.listdir(tmp_path)) == {LOCK, REDO, "a"}
        assert os.listdir(tmp_path / "a" / "b") == []
        assert store.has_idle_work


def test_a_file_that_is_none_of_ours_is_not_touched(tmp_path: Path) -> None:
    """A snapshot's name from elsewhere leads nowhere."""
    with opened(tmp_path / "store") as store:
        (tmp_path / "victim").write_bytes(b"1")
        snapshot = store.write_snapshot(GRAPH, Seq(1), b"1")
        for file in ("../victim", "network_graph", "other.1-0.tmp", "network_graph.1-0.tmp/../../victim", REDO):
            with pytest.raises(StoreError, match="expected the name of a snapshot file"):
                store.discard_snapshot(snapshot._replace(file=file))
            with pytest.raises(StoreError, match="expected the name of a snapshot file"):
                store.adopt_snapshot(snapshot._replace(file=file))
        assert (tmp_path / "victim").exists()


@pytest.mark.parametrize("harm", ["removed", "cut", "a directory"])
def test_a_snapshot_whose_file_is_gone_is_not_adopted(tmp_path: Path, harm: str) -> None:
    """A cleaner of `*.tmp` took it: `SyncFailed`, so that a new worker writes it again; the store is as it was."""
    store = new_store(tmp_path)
    store.open()
    store.apply([commit(1, {GRAPH: b"1"})])
    snapshot = store.write_snapshot(GRAPH, Seq(2), b"22")
    path = tmp_path / snapshot.file
    if harm == "cut":
        path.write_bytes(b"2")
    else:
        path.unlink()
    if harm == "a directory":
        path.mkdir()
    before = (tmp_path / REDO).read_bytes()
    with pytest.raises(SyncFailed, match="it was removed or changed"):
        store.adopt_snapshot(snapshot)
    assert (tmp_path / REDO).read_bytes() == before
    with pytest.raises(SyncFailed, match="open it in a new process"):
        store.read(GRAPH)
    store.close()
    with opened(tmp_path) as store:
        assert store.read(GRAPH) == b"1"
        store.adopt_snapshot(store.write_snapshot(GRAPH, Seq(2), b"22"))
        assert store.read(GRAPH) == b"22"


def test_a_name_is_a_keys_or_a_namespaces(tmp_path: Path) -> None:
    """Never both, in whichever order they come, in one commit or as a snapshot: `ConfigError` with both, nothing is
    written, and the store goes on."""
    records = Key("", "", "records")
    with opened(tmp_path) as store:
        store.apply([commit(1, {MANAGER: b"m", UPDATE: b"u"})])
        before = tree(tmp_path)
        for puts in (
            {records: b"", Key("records", "", "a"): b""},
            {Key("manager", "", "a"): b""},
            {Key("manager", "a", "b"): b""},
            {Key("", "", "monitor_updates"): b""},
            {Key("monitor_updates", "", "ab_0"): b""},
            {Key("monitor_updates", "", "b"): b"", Key("monitor_updates", "b", "a"): b""},
        ):
            with pytest.raises(
                ConfigError, match=r"expected a key (\S+) or a namespace \1, not both, .* sqlite: store"
            ):
                store.apply([commit(2, puts)])
            with pytest.raises(ConfigError):
                store.import_records(list(puts.items()))
            assert tree(tmp_path) == before
        with pytest.raises(ConfigError, match=r"a key manager or a namespace manager, not both, .* putting manager/a "):
            store.write_snapshot(Key("manager", "", "a"), Seq(2), b"")
        assert tree(tmp_path) == before
        store.apply([commit(2, {records: b"2"})])
        assert store.read(records) == b"2"


def test_replaced_space_is_freed_in_steps(tmp_path: Path) -> None:
    """A large value that is replaced or removed is cut down while the store idles; a copy by hard link is not."""
    with opened(tmp_path) as store:
        big = bytes(freeing.REMOVE_BYTES * 2 + 1)
        store.apply([commit(1, {MANAGER: big, key("a"): big})])
        os.link(tmp_path / "channels" / "a", tmp_path / "channels" / "copy")
        store.apply([commit(2, {MANAGER: b"2"}, (key("a"),))])
        steps = 0
        while store.has_idle_work:
            store.idle()
            steps += 1
        assert steps == 4
        assert (tmp_path / "channels" / "copy").read_bytes() == big


def test_snapshots_in_a_thread_beside_commits(tmp_path: Path) -> None:
    """write_snapshot may run beside everything else, also where both make the same directories."""
    with opened(tmp_path) as store:
        written: list[SnapshotFile] = []

        def write() -> None:
            written.extend(
                store.write_snapshot(Key("a", f"{seq}", "s"), Seq(seq), bytes(seq)) for seq in range(1000, 1030)
            )

        thread = threading.Thread(target=write)
        thread.start()
        for seq in range(1, 31):
            store.apply([commit(seq, {Key("a", f"{seq + 999}", "r"): b"%d" % seq})])
        thread.join()
        for snapshot in written:
            store.adopt_snapshot(snapshot)
            assert store.read(snapshot.key) == bytes(snapshot.seq)
            assert store.read(Key("a", snapshot.key.secondary, "r")) == b"%d" % (snapshot.seq - 999)


# -- copies, checks, and a directory that goes -------------------------------------------------------------------------


def test_a_copy_takes_over_an_identity(tmp_path: Path) -> None:
    """Records come under no number; then the copy goes on as the other store, but with an epoch that only rises."""
    theirs = Identity(bytes(range(16)), 40, Seq(70), Seq(80), b"other seal......")
    with opened(tmp_path) as store:
        store.import_records([(MANAGER, b"1"), (key("a"), b"2")])
        store.adopt_snapshot(store.write_snapshot(GRAPH, Seq(75), b"3"))
        store.import_identity(theirs)
        store.apply([commit(71, {key("b"): b"4"})])
    again = new_store(tmp_path)
    assert again.open() == Opened(41, Seq(71), Seq(80), theirs.store_id)
    assert content(again) == {MANAGER: b"1", key("a"): b"2", GRAPH: b"3", key("b"): b"4"}
    again.close()


def test_a_check_reads_everything(tmp_path: Path) -> None:
    """In idle steps, commits in between; damage that nobody has asked for yet is found."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {key(f"{n}"): bytes(400_000) for n in range(10)} | {GRAPH: b"g"})])
    with opened(tmp_path, check=True) as store:
        steps = 0
        while store.has_idle_work:
            store.idle()
            steps += 1
            if steps == 1:
                store.apply([commit(2, {}, (key("9"),))])
        assert steps >= 4
    (tmp_path / "channels" / "5").write_bytes(bytes(399_999) + b"x")
    store = new_store(tmp_path, check=True)
    store.open()
    with pytest.raises(StoreCorrupt, match="channels/5"):
        do_chores(store)
    die(store)


def do_chores(store: FilesystemStore) -> None:
    while store.has_idle_work:
        store.idle()


def test_a_store_that_goes_is_not_empty(tmp_path: Path) -> None:
    """A directory that is moved away while the store is open: nothing is `NotFound`, nothing is acknowledged."""
    store = new_store(tmp_path / "store")
    store.open()
    store.apply([commit(1, {MANAGER: b"1"})])
    os.rename(tmp_path / "store", tmp_path / "moved")
    for use in (lambda: store.read(MANAGER), lambda: store.scan("channels", "", "", 1)):
        with pytest.raises(StoreUnwritable, match="moved or removed"):
            use()
    with pytest.raises(StoreUnwritable):
        store.apply([commit(2, {MANAGER: b"2"})])
    (tmp_path / "store").mkdir()
    with pytest.raises(StoreUnwritable, match="moved, removed or replaced"):
        store.apply([commit(2, {MANAGER: b"2"})])
    with pytest.raises(StoreUnwritable, match="open it in a new process"):
        store.read(MANAGER)
    store.close()
    shutil.rmtree(tmp_path / "store")
    os.rename(tmp_path / "moved", tmp_path / "store")
    with opened(tmp_path / "store") as store:
        assert store.read(MANAGER) == b"1"


def test_another_store_in_its_place_never_answers(tmp_path: Path) -> None:
    """Not with a value, a listing, an absence or a damage of its own."""
    with opened(tmp_path / "other") as other:
        other.apply([commit(1, {MANAGER: b"other", key("a"): b"other"})])
    (tmp_path / "other" / "channels" / "a").write_bytes(b"damaged")
    store = new_store(tmp_path / "store")
    store.open()
    store.apply([commit(1, {MANAGER: b"1", key("a"): b"1", key("b"): b"1"})])
    assert len(store.scan("channels", "", "", 0)) == 1
    os.rename(tmp_path / "store", tmp_path / "moved")
    os.rename(tmp_path / "other", tmp_path / "store")
    for use in (
        lambda: store.read(MANAGER),
        lambda: store.read(key("a")),
        lambda: store.read(key("b")),
        lambda: store.scan("channels", "", "b", 1000),
        lambda: store.scan("", "", "", 1000),
    ):
        with pytest.raises(StoreUnwritable, match="moved or removed"):
            use()
    store.close()


def test_a_second_writer_is_noticed(tmp_path: Path) -> None:
    """Whoever removes the lock file lets a second writer in; the first one acknowledges nothing more."""
    store = new_store(tmp_path)
    store.open()
    store.apply([commit(1, {MANAGER: b"1"})])
    (tmp_path / LOCK).unlink()
    with opened(tmp_path) as second:
        for seq in (2, 3, 4):
            second.apply([commit(seq, {MANAGER: b"second"})])
        with pytest.raises(StoreUnwritable, match="one process alone"):
            store.apply([commit(2, {MANAGER: b"first"})])
        assert second.read(MANAGER) == b"second"
    store.close()
    with opened(tmp_path) as again:
        assert again.read(MANAGER) == b"second"


def test_a_closed_store_does_nothing(tmp_path: Path) -> None:
    """Not before open, not after close; close may be called again."""
    store = new_store(tmp_path)
    for _ in range(2):
        for use in (
            lambda: store.read(MANAGER),
            lambda: store.apply([]),
            lambda: store.scan("", "", "", 1),
            store.idle,
        ):
            with pytest.raises(StoreError, match="is not open"):
                use()
        assert not store.has_idle_work
        store.close()
        store.close()
        if store._epoch == 0:
            store.open()
            store.close()
