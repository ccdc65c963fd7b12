"""Whose a directory is: ours, LDK's, empty, or another's that is refused and left alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from bgsuper.errors import (
    BgsuperError,
    StoreCorrupt,
    StoreForeign,
    StoreLocked,
    StoreSealed,
    StoreTooNew,
    StoreUnwritable,
)
from bgsuper.key import Key, Seq
from bgsuper.store.api import Opened
from bgsuper.store.filesystem import opening
from bgsuper.store.filesystem import store as module
from bgsuper.store.filesystem.redo import _CHECKSUM, _MAGIC, crc32

from .stores import GRAPH, LOCK, MANAGER, REDO, commit, content, die, key, new_store, opened, tree

SEAL, OTHER = b"s" * 16, b"o" * 16


def ldks(directory: Path) -> Path:
    """A directory as LDK leaves it, a crash of its own included."""
    (directory / "monitors").mkdir(parents=True)
    (directory / "manager").write_bytes(b"manager")
    (directory / "network_graph").write_bytes(b"graph")
    (directory / "monitors" / "ab_0").write_bytes(b"monitor")
    (directory / "monitors" / "ab_0.3.tmp").write_bytes(b"mon")
    (directory / "old.1.trash").write_bytes(b"")
    return directory


def refused(directory: Path, expected: type[BgsuperError], match: str, **options: object) -> None:
    """Opening it is an error, and changes nothing but the lock file."""
    before = {name: value for name, value in tree(directory).items() if name != LOCK}
    with pytest.raises(expected, match=match):
        new_store(directory, **options).open()
    assert {name: value for name, value in tree(directory).items() if name != LOCK} == before


def test_ldks_directory_is_taken_over(tmp_path: Path) -> None:
    """Its values are ours to read as they are; numbers start at nothing; what it left over stays where it is."""
    with opened(ldks(tmp_path)) as store:
        assert content(store, ("", ""), ("monitors", "")) == {
            MANAGER: b"manager",
            GRAPH: b"graph",
            Key("monitors", "", "ab_0"): b"monitor",
        }
        store.apply([commit(1, {MANAGER: b"ours"})])
    assert (tmp_path / "monitors" / "ab_0.3.tmp").exists()
    with opened(tmp_path) as store:
        assert store.read(MANAGER) == b"ours"


@pytest.mark.parametrize(
    "foreign",
    ["notes.txt", ".hidden", "a" * 121, "bgsuper.sqlite3", "monitors/x.y", "monitors/ab/deep/er", "ä", "a b", ".tmp"],
)
def test_what_ldk_would_not_put_there_is_refused(tmp_path: Path, foreign: str) -> None:
    """A directory with anything that is no key of LDK's is another's: named, and nothing changed, no lock file made."""
    path = ldks(tmp_path) / foreign
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    with pytest.raises(StoreForeign, match="found"):
        new_store(tmp_path).open()
    assert not (tmp_path / LOCK).exists()


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are a name like any other."""
    (tmp_path / os.fsdecode(b"\xff\xfe")).write_bytes(b"")
    with pytest.raises(StoreForeign, match="found"):
        new_store(tmp_path).open()


@pytest.mark.parametrize("kind", ["link", "link to a directory", "pipe"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    """Also in a directory of ours: it may hide a value."""
    with opened(tmp_path / "ours"):
        pass
    for directory in (ldks(tmp_path / "ldk"), tmp_path / "ours"):
        if kind == "pipe":
            os.mkfifo(directory / "scorer")
        else:
            (directory / "scorer").symlink_to(directory / ("manager" if kind == "link" else "monitors"))
        with pytest.raises(StoreForeign, match=r"expected a plain file at .*scorer"):
            new_store(directory).open()


def test_a_file_systems_root_may_be_a_store(tmp_path: Path) -> None:
    """lost+found is mkfs's."""
    (tmp_path / "lost+found").mkdir()
    with opened(tmp_path) as store:
        store.apply([commit(1, {MANAGER: b"1"})])


def test_what_appears_later_is_passed_over(tmp_path: Path) -> None:
    """A store of ours goes on beside a foreign file, and neither lists it nor touches it."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {MANAGER: b"1"})])
    (tmp_path / "notes.txt").write_text("mine")
    with opened(tmp_path) as store:
        assert content(store, ("", "")) == {MANAGER: b"1"}
    assert (tmp_path / "notes.txt").read_text() == "mine"


# -- a redo file that is not there, or not whole -----------------------------------------------------------------------


def a_store(directory: Path) -> Path:
    with opened(directory) as store:
        store.apply([commit(1, {MANAGER: b"1"})])
    return directory


def test_a_redo_file_that_is_gone_is_a_loss(tmp_path: Path) -> None:
    """The lock file knows of an epoch: never a new store."""
    (a_store(tmp_path) / REDO).unlink()
    refused(tmp_path, StoreCorrupt, "is missing, but the lock file beside it knows of epoch 1")


def test_a_stamped_value_tells_of_a_store_of_ours(tmp_path: Path) -> None:
    """So does a value with a stamp, where both our files are gone; also one whose stamp is damaged."""
    a_store(tmp_path)
    for name in (REDO, LOCK):
        (tmp_path / name).unlink()
    refused(tmp_path, StoreCorrupt, "manager is a value that bgsuper wrote")
    os.setxattr(tmp_path / "manager", "user.bgsuper", b"damaged")
    (tmp_path / LOCK).unlink()
    refused(tmp_path, StoreCorrupt, "manager is a value that bgsuper wrote")


def test_a_value_on_its_way_tells_of_a_store_of_ours(tmp_path: Path) -> None:
    """So does a temporary file of ours."""
    (ldks(tmp_path) / "manager.3-4.tmp").write_bytes(b"")
    refused(tmp_path, StoreCorrupt, "manager.3-4.tmp was on its way")


def test_a_creation_that_was_cut_short_is_a_new_store(tmp_path: Path) -> None:
    """A lock file without an epoch, and a redo file under its first name, are no loss."""
    (tmp_path / LOCK).write_bytes(b"")
    (tmp_path / "bgsuper.redo.new.tmp").write_bytes(b"bgs")
    with opened(tmp_path) as store:
        store.apply([commit(1, {MANAGER: b"1"})])
    assert not (tmp_path / "bgsuper.redo.new.tmp").exists()


@pytest.mark.parametrize("damage", [b"", b"bgsRedo\0", bytes(200)])
def test_a_redo_file_that_is_damaged(tmp_path: Path, damage: bytes) -> None:
    """Empty, cut or zeroed: `StoreCorrupt`."""
    (a_store(tmp_path) / REDO).write_bytes(damage)
    refused(tmp_path, StoreCorrupt, "is damaged; restore a backup")


def test_a_store_of_a_later_version(tmp_path: Path) -> None:
    """`StoreTooNew`."""
    body = _MAGIC + b"\x02more"
    (a_store(tmp_path) / REDO).write_bytes(body + _CHECKSUM.pack(crc32(body)))
    refused(tmp_path, StoreTooNew, "upgrade bgsuper")


def test_a_redo_file_that_is_no_file(tmp_path: Path) -> None:
    """A link is not followed, a directory not taken for an absent one."""
    (a_store(tmp_path) / REDO).rename(tmp_path / "elsewhere")
    (tmp_path / REDO).symlink_to("elsewhere")
    refused(tmp_path, StoreForeign, "expected a plain file")
    (tmp_path / REDO).unlink()
    (tmp_path / REDO).mkdir()
    refused(tmp_path, StoreForeign, "expected a plain file")


def test_an_older_redo_file_does_not_lower_the_epoch(tmp_path: Path) -> None:
    """As from a backup: the lock file knows of a later epoch."""
    older = (a_store(tmp_path) / REDO).read_bytes()
    for _ in range(3):
        with opened(tmp_path):
            pass
    (tmp_path / REDO).write_bytes(older)
    store = new_store(tmp_path)
    assert store.open()[:3] == (5, Seq(1), Seq(1))
    store.close()


# -- the lock, the seal, the file system -------------------------------------------------------------------------------


def test_one_writer(tmp_path: Path) -> None:
    """A second one gets `StoreLocked`, with pid and epoch, and the first one goes on."""
    with opened(tmp_path) as store:
        with pytest.raises(StoreLocked) as caught:
            new_store(tmp_path).open()
        assert (caught.value.pid, caught.value.epoch) == (os.getpid(), 1)
        store.apply([commit(1, {MANAGER: b"1"})])


def test_a_seal_is_for_life(tmp_path: Path) -> None:
    """A store is sealed with one key from its first record on, or never; LDK's directory is not."""
    with opened(tmp_path / "sealed", seal=SEAL) as store:
        store.apply([commit(1, {MANAGER: b"1"})])
    refused(tmp_path / "sealed", StoreSealed, "no key was given")
    refused(tmp_path / "sealed", StoreSealed, "another key", seal=OTHER)
    with opened(tmp_path / "sealed", seal=SEAL):
        pass
    refused(a_store(tmp_path / "open"), StoreSealed, "is not sealed", seal=SEAL)
    refused(ldks(tmp_path / "ldk"), StoreSealed, "is not sealed", seal=SEAL)


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is made in it."""
    monkeypatch.setitem(module.refuse_remote.__globals__, "file_system_type", lambda directory: "nfs4")
    with pytest.raises(StoreUnwritable, match="it is on nfs4"):
        new_store(tmp_path).open()
    assert os.listdir(tmp_path) == []


def test_a_file_system_that_takes_two_keys_for_one(tmp_path: Path) -> None:
    """Where upper and lower case are one, a value would be lost: refused."""
    (a_store(tmp_path) / LOCK.upper()).write_bytes(b"")
    with pytest.raises(StoreUnwritable, match="upper from lower case"):
        new_store(tmp_path).open()


def test_another_file_system_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A namespace on a mount of its own would be missed by syncfs: refused."""
    real = os.stat

    def stat(path: str) -> os.stat_result:
        found = real(path)
        if path.endswith("monitors"):
            return os.stat_result((*found[:2], found.st_dev + 1, *found[3:10]))
        return found

    monkeypatch.setattr(opening.os, "stat", stat)
    with pytest.raises(StoreForeign, match="monitors is another's mount point"):
        new_store(ldks(tmp_path)).open()


def test_leftovers_of_ours_go(tmp_path: Path) -> None:
    """What a dead worker wrote and never made the value of its key."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {key("a"): b"1"})])
        store.write_snapshot(key("s"), Seq(2), b"2")
        die(store)
    (tmp_path / "manager.0-0.tmp").write_bytes(b"")
    shutil.copy(tmp_path / REDO, tmp_path / "bgsuper.redo.new.tmp")
    store = new_store(tmp_path)
    assert isinstance(store.open(), Opened)
    assert {name for name in tree(tmp_path) if name.endswith(".tmp")} == {LOCK, REDO}
    store.close()
