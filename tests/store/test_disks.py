"""Real file systems that are full, read-only, or somebody else's. Needs root for mounts and for being somebody else;
skips with the reason elsewhere."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bgsuper.errors import StoreFull, StoreUnwritable
from bgsuper.key import Seq

from .stores import DATABASE, GRAPH, commit, content, key, new_store, opened

NOBODY = 65534


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "t", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.decode(errors='replace').strip()}")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_full_file_system(tmpfs: Path) -> None:
    """Commits and snapshots that do not fit are StoreFull, leave nothing behind, and go through once there is space."""
    with opened(tmpfs / "store") as store:
        store.apply([commit(1, {key("a"): b"1"})])
        free = os.statvfs(tmpfs).f_bavail
        with pytest.raises(StoreFull, match="No space left on device"):
            store.write_snapshot(GRAPH, Seq(2), os.urandom(2 << 20))
        while store.has_idle_work:
            store.idle()
        assert os.statvfs(tmpfs).f_bavail >= free - 8
        filler = tmpfs / "filler"
        filler.write_bytes(bytes(600_000))
        large = [commit(3, {key("b"): os.urandom(600_000)})]
        for _ in range(3):
            with pytest.raises(StoreFull):
                store.apply(large)
            assert content(store) == {key("a"): b"1"}
        filler.unlink()
        store.apply(large)
        assert len(content(store)[key("b")]) == 600_000


def test_no_room_for_a_new_store(tmpfs: Path) -> None:
    """A creation on a full file system is StoreFull, and begun anew once there is space."""
    with pytest.raises(OSError, match="No space"):
        (tmpfs / "filler").write_bytes(bytes(2 << 20))
    with pytest.raises(StoreFull):
        new_store(tmpfs / "store").open()
    (tmpfs / "filler").unlink()
    with opened(tmpfs / "store") as store:
        store.apply([commit(1, {key("a"): b"1"})])


def test_a_read_only_file_system(tmpfs: Path) -> None:
    """Whether there is a store or not: StoreUnwritable."""
    with opened(tmpfs / "store"):
        pass
    subprocess.run(["mount", "-o", "remount,ro", tmpfs], check=True)
    for directory in (tmpfs / "store", tmpfs / "new" / "store"):
        with pytest.raises(StoreUnwritable, match="Read-only file system"):
            new_store(directory).open()


def as_nobody(action: Callable[[], None]) -> None:
    """Run `action` in a child that has no rights of its own; its assertion errors are ours."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            action()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that anybody may enter; pytest's own are closed."""
    with TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


def refused(directory: Path) -> Callable[[], None]:
    def action() -> None:
        with pytest.raises(StoreUnwritable, match=r"Permission denied|readonly|read-only"):
            new_store(directory).open()

    return action


def test_a_parent_of_others(public: Path) -> None:
    """No right to create the directory: StoreUnwritable."""
    as_nobody(refused(public / "a" / "store"))
    assert list(public.iterdir()) == []


def test_a_store_of_others(public: Path) -> None:
    """A store that another user made: StoreUnwritable, never an empty one."""
    with opened(public / "store"):
        pass
    as_nobody(refused(public / "store"))
    (public / "store").chmod(0o777)
    as_nobody(refused(public / "store"))


def test_a_database_of_others(public: Path) -> None:
    """Our directory, our lock file, but a database that we may only read: StoreUnwritable."""
    with opened(public / "store"):
        pass
    for path in (public / "store", *(public / "store").iterdir()):
        os.chown(path, NOBODY, NOBODY)
    os.chown(public / "store" / DATABASE, 0, 0)
    (public / "store" / DATABASE).chmod(0o644)
    as_nobody(refused(public / "store"))
    (public / "store" / DATABASE).chmod(0o600)
    as_nobody(refused(public / "store"))
