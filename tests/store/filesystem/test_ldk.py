"""The tests of LDK's `lightning-persister`, by their names: what holds of its FilesystemStore holds of ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bgsuper.errors import ConfigError, StoreError, StoreForeign, StoreInconsistent, StoreUnwritable
from bgsuper.key import Key
from bgsuper.store.filesystem.store import FilesystemStore
from bgsuper.store.filesystem.view import FilesystemView

from .stores import commit, content, is_absent, new_store, opened, tree

SPACE, SUBSPACE, NAME = "testspace", "testsubspace", "testkey"
DATA = bytes([42]) * 32


def names(store: FilesystemStore, primary: str, secondary: str) -> list[str]:
    return [found.name for found, _ in store.scan(primary, secondary, "", 1 << 20)]


def test_do_read_write_remove_list_persist(tmp_path: Path) -> None:
    """Write, list, read, remove; bad namespaces and empty keys fail; names of 120 characters work, of 121 fail."""
    with opened(tmp_path) as store:
        here = Key(SPACE, SUBSPACE, NAME)
        store.apply([commit(1, {here: DATA}), commit(2, {Key("", "", NAME): DATA})])
        for bad in (Key("", SUBSPACE, NAME), Key(SPACE, SUBSPACE, ""), Key("a.b", "", "c"), Key("", "", "A" * 121)):
            with pytest.raises(ConfigError):
                store.apply([commit(3, {bad: DATA, here: b"no"})])
            with pytest.raises(ConfigError):
                store.read(bad)
        with pytest.raises(ConfigError):
            store.scan("..", "", "", 1)
        assert names(store, SPACE, SUBSPACE) == [NAME]
        assert store.read(here) == DATA
        store.apply([commit(3, {}, (here,))])
        assert names(store, SPACE, SUBSPACE) == []
        longest = Key("A" * 120, "A" * 120, "A" * 120)
        store.apply([commit(4, {longest: DATA})])
        assert names(store, "A" * 120, "A" * 120) == ["A" * 120]
        assert store.read(longest) == DATA
        store.apply([commit(5, {}, (longest,))])
        assert names(store, "A" * 120, "A" * 120) == []


def test_read_write_remove_list_persist_async(tmp_path: Path) -> None:
    """Write, remove and write of one key: whoever was called last wins. LDK's callers may run out of order; ours are
    numbered, and an older number never comes after a newer one. No lock map is left: the store keeps none."""
    with opened(tmp_path) as store:
        here = Key(SPACE, SUBSPACE, NAME)
        store.apply([commit(1, {here: DATA}), commit(2, {}, (here,)), commit(3, {here: b"last"})])
        with pytest.raises(StoreError, match="expected a commit after 3"):
            store.apply([commit(2, {}, (here,))])
        assert names(store, SPACE, SUBSPACE) == [NAME]
        assert store.read(here) == b"last"
        store.apply([commit(4, {}, (here,))])
        assert names(store, SPACE, SUBSPACE) == []


def test_list_all_keys_skips_leftover_store_artifacts(tmp_path: Path) -> None:
    """`.tmp` and `.trash` of whoever are in no listing, and LDK's stay where they are."""
    here = Key("primary", "secondary", "key")
    with opened(tmp_path) as store:
        store.apply([commit(1, {here: b"\1"})])
    stale = [
        directory / f"{name}.0.{kind}"
        for directory, name in (
            (tmp_path, "top_level"),
            (tmp_path / "primary", "primary_level"),
            (tmp_path / "primary" / "secondary", "secondary_level"),
        )
        for kind in ("tmp", "trash")
    ]
    for path in stale:
        path.write_bytes(b"stale")
    with opened(tmp_path) as store:
        assert names(store, "", "") == names(store, "primary", "") == []
        assert names(store, "primary", "secondary") == ["key"]
    view = FilesystemView(tmp_path)
    assert [entry.key for entry in view.entries()] == [here]
    view.close()
    assert all(path.exists() for path in stale)


def test_if_monitors_is_not_dir(tmp_path: Path) -> None:
    """Where `monitors` is a file, it is a value; what is below it is not nothing, but an error, at listing, reading and
    writing."""
    (tmp_path / "monitors").write_bytes(b"")
    with opened(tmp_path) as store:
        with pytest.raises(StoreInconsistent, match="found a value"):
            store.scan("monitors", "", "", 1)
        with pytest.raises(StoreInconsistent, match="found a value"):
            store.read(Key("monitors", "", "a"))
        assert store.read(Key("", "", "monitors")) == b""
        with pytest.raises(ConfigError, match="a key monitors or a namespace monitors, not both"):
            store.apply([commit(1, {Key("monitors", "", "a"): b""})])


@pytest.fixture
def anybody() -> Iterator[Path]:
    """A directory of this process, which is not root's: root writes to read-only directories."""
    with TemporaryDirectory() as directory:
        root = os.geteuid() == 0
        if root:
            os.chown(directory, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(directory)
        finally:
            if root:
                os.seteuid(0)
            os.chmod(directory, 0o700)


def test_readonly_dir_perm_failure(anybody: Path) -> None:
    """A directory that becomes read-only: `StoreUnwritable`, and nothing of the group is there."""
    with opened(anybody) as store:
        store.apply([commit(1, {Key("", "", "a"): b"1"})])
        os.chmod(anybody, 0o500)
        with pytest.raises(StoreUnwritable, match="Permission denied"):
            store.apply([commit(2, {Key("", "", "a"): b"2"})])
        assert store.read(Key("", "", "a")) == b"1"
        os.chmod(anybody, 0o700)
    with opened(anybody) as store:
        os.chmod(anybody / "a", 0)
        with pytest.raises(StoreUnwritable, match="Permission denied"):
            store.read(Key("", "", "a"))
        with pytest.raises(StoreUnwritable, match="Permission denied"):
            store.scan("", "", "", 1)


def test_rename_onto_a_directory(tmp_path: Path) -> None:
    """A directory in a value's place: `ConfigError` before anything of the group is written, and the key is absent.
    Removing it is nothing, as LDK's remove of what is no file."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {Key("a", "", "b"): b"1"})])
        before = tree(tmp_path)
        with pytest.raises(ConfigError, match="a key a or a namespace a, not both"):
            store.apply([commit(2, {Key("", "", "a"): b"2", Key("", "", "c"): b"2"})])
        assert tree(tmp_path) == before
        snapshot = store.write_snapshot(Key("x", "", "y"), 2, b"2")  # type: ignore[arg-type]
        (tmp_path / "x" / "y").mkdir()
        with pytest.raises(ConfigError, match="a key x/y or a namespace x/y, not both"):
            store.adopt_snapshot(snapshot)
        assert is_absent(store, Key("", "", "a"))
        store.apply([commit(2, {Key("", "", "c"): b"3"}, (Key("", "", "a"),))])
        assert store.read(Key("a", "", "b")) == b"1"


@pytest.mark.parametrize("first", [Key("", "", "a"), Key("a", "", "b")])
def test_a_file_and_a_directory_of_one_name_in_one_group(tmp_path: Path, first: Key) -> None:
    """What cannot both be is refused whole, in whichever order it comes."""
    with opened(tmp_path) as store:
        second = ({Key("", "", "a"), Key("a", "", "b")} - {first}).pop()
        before = tree(tmp_path)
        with pytest.raises(ConfigError, match=r"a key a or a namespace a, not both, .* putting a/b takes"):
            store.apply([commit(1, {first: b"1", second: b"2"})])
        assert tree(tmp_path) == before
        store.apply([commit(1, {first: b"1"})])
        with pytest.raises(ConfigError, match="not both"):
            store.apply([commit(2, {second: b"2"})])
        assert store.read(first) == b"1"


def test_tmp_is_a_directory(tmp_path: Path) -> None:
    """A directory at the place of the next temporary file: `StoreUnwritable`, and nothing of the group is there; the
    next attempt has another name."""
    with opened(tmp_path) as store:
        (tmp_path / "b.1-1.tmp").mkdir()
        group = [commit(1, {Key("", "", "a"): b"1", Key("", "", "b"): b"1"})]
        with pytest.raises(StoreUnwritable):
            store.apply(group)
        assert is_absent(store, Key("", "", "a"))
        assert content(store) == {}
        store.apply(group)
        assert store.read(Key("", "", "b")) == b"1"
    assert (tmp_path / "b.1-1.tmp").is_dir()


@pytest.mark.parametrize("name", ["manager", "monitors"])
def test_a_symbolic_link_hides_no_value(tmp_path: Path, name: str) -> None:
    """A link in a value's or a namespace's place is an error that names it, at open and later: never an absent key."""
    with opened(tmp_path / "store") as store:
        (tmp_path / "store" / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StoreForeign, match=name):
            store.read(Key("", "", name))
        with pytest.raises(StoreForeign, match=name):
            store.scan("", "", "", 1)
        with pytest.raises(StoreForeign, match=name):
            store.apply([commit(1, {Key("", "", name): b""})])
        with pytest.raises(StoreForeign, match=name):
            store.apply([commit(1, {Key(name, "", "a"): b""})])
    with pytest.raises(StoreForeign, match=name):
        new_store(tmp_path / "store").open()
