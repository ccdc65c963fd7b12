"""Every byte of a store, flipped: an error, or the same content as before; never another value, never an absent key."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgsuper.errors import StoreCorrupt, StoreUnwritable
from bgsuper.key import Seq
from bgsuper.store.api import Damage, Value
from bgsuper.store.filesystem import redo_file, values
from bgsuper.store.filesystem.stamp import ATTRIBUTE
from bgsuper.store.filesystem.store import FilesystemStore
from bgsuper.store.filesystem.view import FilesystemView

from .stores import GRAPH, LOCK, MANAGER, REDO, UPDATE, commit, content, die, key, new_store, opened

CONTENT = {MANAGER: b"manager" * 9, UPDATE: b"", key("a"): b"a" * 50, GRAPH: b"graph" * 30}


@pytest.fixture(params=["emptied", "full"])
def directory(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A store whose redo file is empty, or names a group that is in place."""
    store = new_store(tmp_path, fsync=no_sync)
    store.open()
    store.adopt_snapshot(store.write_snapshot(GRAPH, Seq(1), CONTENT[GRAPH]))
    store.apply([commit(2, {key: value for key, value in CONTENT.items() if key != GRAPH}, (key("z"),))])
    while request.param == "emptied" and store.has_idle_work:
        store.idle()
    die(store)
    return tmp_path


def no_sync(fd: int) -> None:
    """The power stays: thousands of opens need not wait for the disk."""


def flips(directory: Path) -> Iterator[Path]:
    """Each byte of each file, and of each attribute, is flipped for one step."""
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        stamp = os.getxattr(path, ATTRIBUTE) if ATTRIBUTE in os.listxattr(path) else None
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
            yield path
        path.write_bytes(whole)
        for at in range(len(stamp) if stamp else 0):
            assert stamp is not None
            os.setxattr(path, ATTRIBUTE, stamp[:at] + bytes([stamp[at] ^ 1 << at % 8]) + stamp[at + 1 :])
            yield path
        if stamp is not None:
            os.setxattr(path, ATTRIBUTE, stamp)


def test_a_view_finds_every_flipped_byte(directory: Path) -> None:
    """`examine` goes on: all that is not touched is there, what is touched is damage. The lock file counts for
    nothing."""
    count = 0
    for path in flips(directory):
        view = FilesystemView(directory)
        found = list(view.examine())
        view.close()
        values = {item.key: item.content for item in found if isinstance(item, Value)}
        damages = [item for item in found if isinstance(item, Damage)]
        assert values.items() <= CONTENT.items()
        assert len(damages) == (path.name != LOCK)
        if path.name.startswith("bgsuper"):
            assert values == CONTENT
        else:
            assert len(values) == len(CONTENT) - 1
            assert str(damages[0].key) == str(path.relative_to(directory))
            assert path.name in damages[0].text
        count += 1
    assert count > 400


def test_the_store_finds_every_flipped_byte(directory: Path) -> None:
    """At open, or when the value is asked for; a value that was not asked for, by its check."""
    for path in flips(directory):
        store = new_store(directory, check=True, fsync=no_sync)
        before = files(directory)
        try:
            opened = store.open()
        except StoreCorrupt:
            assert path.name != LOCK
            assert files(directory).items() - before.items() <= {(directory / LOCK, (directory / LOCK).read_bytes())}
            continue
        assert opened.last_seq == 2
        if path.name == LOCK:
            assert content(store) == CONTENT
        else:
            with pytest.raises(StoreCorrupt, match=path.name):
                content(store)
            with pytest.raises(StoreCorrupt, match=path.name):
                do_chores(store)
        die(store)
        # As it was before: this open has emptied the redo file.
        for name in (LOCK, REDO):
            (directory / name).write_bytes(before[directory / name])


def files(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def do_chores(store: FilesystemStore) -> None:
    while store.has_idle_work:
        store.idle()


def test_a_value_in_anothers_place(tmp_path: Path) -> None:
    """Two files that changed places, attributes and all."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {key("a"): b"1", key("b"): b"2"})])
    channels = tmp_path / "channels"
    (channels / "a").rename(channels / "x")
    (channels / "b").rename(channels / "a")
    (channels / "x").rename(channels / "b")
    with opened(tmp_path) as store:
        for name in "ab":
            with pytest.raises(StoreCorrupt, match=f"channels/{name} does not match"):
                store.read(key(name))


def test_a_cut_file(tmp_path: Path) -> None:
    """A file that a crash or a copy cut short is damage, not a shorter value."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {MANAGER: b"whole"})])
    for length in range(5):
        os.truncate(tmp_path / "manager", length)
        with opened(tmp_path) as store, pytest.raises(StoreCorrupt, match="manager"):
            store.read(MANAGER)
        view = FilesystemView(tmp_path)
        with pytest.raises(StoreCorrupt, match=f"should have 5 bytes, but .* has {length}"):
            list(view.entries())
        view.close()


#: A sparse file of that length is quickly made; no memory holds it.
ENDLESS = 1 << 40


def test_a_file_that_seems_endless(tmp_path: Path) -> None:
    """A value's length is compared with its stamp before it is read; the redo file has a bound."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {MANAGER: b"whole", key("a"): b"1"})])
    os.truncate(tmp_path / "manager", ENDLESS)
    with opened(tmp_path) as store, pytest.raises(StoreCorrupt, match=f"should have 5 bytes, but .* has {ENDLESS}"):
        store.read(MANAGER)
    view = FilesystemView(tmp_path)
    damage, value = view.examine()
    assert (damage.key, value) == (MANAGER, Value(key("a"), None, b"1"))
    view.close()
    os.truncate(tmp_path / REDO, ENDLESS)
    with pytest.raises(StoreCorrupt, match=f"found {ENDLESS}"):
        new_store(tmp_path).open()
    view = FilesystemView(tmp_path)
    assert [finding.key for finding in view.examine()] == [None, MANAGER, key("a")]
    view.close()


def test_a_value_that_memory_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing says how long it should be: a finding, and the next one is read."""
    (tmp_path / "manager").write_bytes(b"LDK's")
    (tmp_path / "scorer").write_bytes(b"2")
    read_all = values.read_all

    def fails(fd: int, length: int) -> bytes:
        if length == 5:
            raise MemoryError
        return read_all(fd, length)

    monkeypatch.setattr(values, "read_all", fails)
    view = FilesystemView(tmp_path)
    damage, value = view.examine()
    assert isinstance(value, Value)
    assert isinstance(damage, Damage)
    assert damage.key == MANAGER
    assert "does not fit into memory" in damage.text
    view.close()


def test_no_redo_file_is_written_that_would_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that is too large fails as a whole, and the store is as it was."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {MANAGER: b"1"})])
        with monkeypatch.context() as patched:
            patched.setattr(redo_file, "MOST_BYTES", 100)
            with pytest.raises(StoreUnwritable, match="too large"):
                store.apply([commit(2, {MANAGER: b"2", key("a"): b"2"})])
    with opened(tmp_path) as store:
        assert content(store) == {MANAGER: b"1"}
