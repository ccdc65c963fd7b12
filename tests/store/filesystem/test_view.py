"""What is seen of a directory without changing it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bgsuper.errors import (
    NotFound,
    StoreCorrupt,
    StoreForeign,
    StoreLocked,
    StoreSealed,
    StoreTooNew,
    StoreUnavailable,
    StoreUnwritable,
)
from bgsuper.key import Key, Seq
from bgsuper.store.api import Damage, Entry, StoreView, Value
from bgsuper.store.filesystem.redo import _CHECKSUM, _MAGIC, crc32
from bgsuper.store.filesystem.view import FilesystemView

from .platter import Crash, Platter
from .stores import GRAPH, LOCK, MANAGER, REDO, UPDATE, commit, content, die, key, new_store, opened, tree
from .test_ownership import SEAL, a_store, ldks


def test_a_store_is_seen_as_it_is(tmp_path: Path) -> None:
    """Every value once, in the order of the keys, snapshots with their numbers; the identity as it is recorded; and
    nothing changes."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {key("a"): b"1", UPDATE: b"", MANAGER: b"m", Key("b", "c", "d"): b"2"})])
        store.apply([commit(2, {}, (key("a"),))])
        store.adopt_snapshot(store.write_snapshot(GRAPH, Seq(9), b"graph"))
        store_id = store._identity.store_id
    before = {path: path.stat() for path in tmp_path.rglob("*")}
    view: StoreView = FilesystemView(tmp_path)
    entries = list(view.entries())
    assert entries == [
        Entry(MANAGER, 1, None),
        Entry(GRAPH, 5, Seq(9)),
        Entry(Key("b", "c", "d"), 1, None),
        Entry(UPDATE, 0, None),
    ]
    assert [entry.key for entry in entries] == sorted(entry.key for entry in entries)
    assert list(view.examine()) == [Value(entry.key, entry.seq, view.read(entry.key)) for entry in entries]
    assert view.identity == (store_id, 1, 2, 9, b"")
    with pytest.raises(NotFound):
        view.read(key("a"))
    facts = view.facts()
    assert (facts["values"], facts["bytes"], facts["unverified"], facts["foreign names"]) == (4, 7, 0, [])
    view.close()
    view.close()
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in tmp_path.rglob("*")} == {
        path: (status.st_mtime_ns, status.st_ino) for path, status in before.items()
    }


def test_ldks_directory_is_seen(tmp_path: Path) -> None:
    """With an identity as of a new store, the same as long as the view lives, and nothing of ours put there."""
    view = FilesystemView(ldks(tmp_path))
    assert [(item.key.name, item.content) for item in view.examine() if isinstance(item, Value)] == [
        ("manager", b"manager"),
        ("network_graph", b"graph"),
        ("ab_0", b"monitor"),
    ]
    assert view.identity == view.identity
    assert view.identity[1:] == (0, 0, 0, b"")
    assert view.facts()["unverified"] == 3
    view.close()
    assert not (tmp_path / LOCK).exists()


def test_a_living_writer_keeps_it(tmp_path: Path) -> None:
    """`StoreLocked` while a writer lives; the other way round it is out of reach for now."""
    with opened(tmp_path), pytest.raises(StoreLocked):
        FilesystemView(tmp_path)
    view = FilesystemView(tmp_path)
    with pytest.raises(StoreUnavailable, match="somebody looks"):
        new_store(tmp_path).open()
    view.close()


def test_no_directory_is_no_store(tmp_path: Path) -> None:
    """Nothing there and another program's directory are `StoreForeign`, a file is `StoreUnwritable`."""
    for nothing in (tmp_path / "nothing", tmp_path):
        with pytest.raises(StoreForeign, match="found nothing: look at the path"):
            FilesystemView(nothing)
    (tmp_path / "file.txt").write_bytes(b"")
    with pytest.raises(StoreUnwritable, match="found something else"):
        FilesystemView(tmp_path / "file.txt")
    with pytest.raises(StoreForeign, match=r"found .*file\.txt"):
        FilesystemView(tmp_path)


def test_a_seal(tmp_path: Path) -> None:
    """As a writer is refused, so is a reader, and the lock is free afterwards."""
    with opened(tmp_path, seal=SEAL):
        pass
    with pytest.raises(StoreSealed):
        FilesystemView(tmp_path)
    view = FilesystemView(tmp_path, seal=SEAL)
    assert view.identity.seal == SEAL
    view.close()
    with pytest.raises(StoreSealed):
        FilesystemView(ldks(tmp_path / "ldk"), seal=SEAL)


def test_a_lost_identity_is_damage(tmp_path: Path) -> None:
    """The values are still there to be salvaged; whoever asks for one, or for all, is told instead."""
    (a_store(tmp_path) / REDO).unlink()
    view = FilesystemView(tmp_path)
    with pytest.raises(StoreCorrupt, match="is missing"):
        _ = view.identity
    damage, value = view.examine()
    assert isinstance(damage, Damage)
    assert damage.key is None
    assert value == Value(MANAGER, None, b"1")
    for use in (lambda: view.read(MANAGER), lambda: next(view.entries())):
        with pytest.raises(StoreCorrupt, match="is missing"):
            use()
    view.close()


def test_what_does_not_belong_here_is_named(tmp_path: Path) -> None:
    """A foreign name is a fact; what stands in a value's way is damage, and stops a listing."""
    (a_store(tmp_path) / "notes.txt").write_bytes(b"")
    (tmp_path / "deep" / "er" / "still").mkdir(parents=True)
    view = FilesystemView(tmp_path)
    assert sorted(map(str, view.facts()["foreign names"])) == ["deep/er/still", "notes.txt"]  # type: ignore[call-overload]
    assert [type(item) for item in view.examine()] == [Value]
    (tmp_path / "scorer").symlink_to("manager")
    assert list(view.examine())[1].key == Key("", "", "scorer")
    assert [type(item) for item in view.examine()] == [Value, Damage]
    with pytest.raises(StoreForeign, match="scorer"):
        list(view.entries())
    with pytest.raises(StoreForeign, match="scorer"):
        view.read(Key("", "", "scorer"))
    view.close()


def test_a_group_that_is_not_in_place_yet_is_seen(tmp_path: Path) -> None:
    """Whatever a crash left to be done, a view shows what the next open makes of it, and changes nothing."""
    unfinished = set()
    for n in range(1, 100):
        directory = tmp_path / f"{n}"
        directory.mkdir()
        platter = Platter(directory)
        store = new_store(directory, fsync=platter.fsync)
        store.open()
        store.apply([commit(1, {key("a"): b"1", MANAGER: b"1", GRAPH: b"1"})])

        def fault(step: int, call: str, last: int = n) -> None:
            if step >= last:
                raise Crash

        platter.steps, platter.fault = 0, fault
        done = False
        try:
            with platter.watching():
                store.apply([commit(2, {key("a"): b"2", UPDATE: b"2", GRAPH: b"2"}, (MANAGER,))])
            done = True
        except Crash:
            pass
        die(store)
        platter.close()
        before = tree(directory)
        view = FilesystemView(directory)
        seen = {item.key: item.content for item in view.examine() if isinstance(item, Value)}
        entries = [entry.key for entry in view.entries()]
        assert entries == sorted(seen)
        assert all(view.read(found) == value for found, value in seen.items())
        last = view.identity.last_commit
        unfinished.add(view.facts()["to be put in place"])
        view.close()
        assert tree(directory) == before
        with opened(directory) as store:
            assert content(store) == seen
            assert store._identity.last_commit == last
        assert len(seen) == 3
        if done:
            break
    assert unfinished == {0, 1, 2, 3, 4}


def test_views_share_the_lock(tmp_path: Path) -> None:
    """Several may look at once, also where the lock file cannot be written; no writer meanwhile."""
    os.chmod(a_store(tmp_path) / LOCK, 0o400)
    views = [FilesystemView(tmp_path) for _ in range(2)]
    with pytest.raises(StoreUnavailable, match="somebody looks"):
        new_store(tmp_path).open()
    for view in views:
        assert view.read(MANAGER) == b"1"
        view.close()


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    """As it is made, with what to do."""
    body = _MAGIC + b"\2more"
    (a_store(tmp_path) / REDO).write_bytes(body + _CHECKSUM.pack(crc32(body)))
    with pytest.raises(StoreTooNew):
        FilesystemView(tmp_path)
