"""The writer lock, between real processes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import StoreLocked, StoreUnavailable, StoreUnwritable
from bgsuper.store import lock
from bgsuper.store.lock import Holder, WriterLock, parse_holder, process_exists

from .stores import commit, key, new_store, opened

pytestmark = pytest.mark.usefixtures("no_leaks")

HOLD = """
import sys
from bgsuper.store.sqlite import SQLiteStore
store = SQLiteStore(sys.argv[1], host_pid=int(sys.argv[2]))
print(store.open().epoch, flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another(directory: Path, host_pid: int) -> Iterator[subprocess.Popen[str]]:
    """A process that has the store in `directory` open until its stdin is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory), str(host_pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip().isdigit()
        try:
            yield process
        finally:
            process.kill()


def dead_pid() -> int:
    """A process id that nobody has now."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_a_second_writer_learns_who_holds_it(tmp_path: Path) -> None:
    """While the holder's host lives: StoreLocked at once, with the holder's pid and epoch, in the text too."""
    with opened(tmp_path):
        pass
    with held_by_another(tmp_path, os.getpid()) as process:
        began = time.monotonic()
        with pytest.raises(StoreLocked, match=rf"process {process.pid} holds it at epoch 2") as caught:
            new_store(tmp_path).open()
        assert time.monotonic() - began < 1
        assert (caught.value.pid, caught.value.epoch) == (process.pid, 2)


def test_a_second_writer_changes_nothing(tmp_path: Path) -> None:
    """The holder goes on writing as if nobody had tried."""
    with opened(tmp_path) as store:
        store.apply([commit(1, {key("a"): b"1"})])
        with pytest.raises(StoreLocked):
            new_store(tmp_path).open()
        store.apply([commit(2, {key("a"): b"2"})])
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    with opened(tmp_path) as store:
        assert store.read(key("a")) == b"2"


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    """SIGKILL leaves no stale lock, and the successor's epoch is greater."""
    with held_by_another(tmp_path, os.getpid()) as process:
        process.kill()
        process.wait()
        store = new_store(tmp_path, lock_timeout_s=0)
        assert store.open().epoch == 2
        store.close()


def test_an_orphan_is_waited_for(tmp_path: Path) -> None:
    """A holder whose host is gone drains; the successor gets the lock once it has ended."""
    with held_by_another(tmp_path, dead_pid()) as process:
        assert process.stdin is not None
        threading.Timer(0.2, process.stdin.close).start()
        began = time.monotonic()
        store = new_store(tmp_path, lock_timeout_s=30)
        assert store.open().epoch == 2
        assert 0.15 < time.monotonic() - began < 20
        store.close()


def test_an_orphan_that_does_not_end_is_a_writer(tmp_path: Path) -> None:
    """The wait is bounded."""
    with held_by_another(tmp_path, dead_pid()) as process:
        began = time.monotonic()
        with pytest.raises(StoreLocked) as caught:
            new_store(tmp_path, lock_timeout_s=0.2).open()
        assert 0.2 <= time.monotonic() - began < 5
        assert caught.value.pid == process.pid


def test_a_holder_that_is_just_starting_gets_named(tmp_path: Path) -> None:
    """Between taking the lock and writing down who has it, a holder is unknown: whoever comes then waits to learn."""
    path = str(tmp_path / "lock")
    starting = WriterLock.acquire(path, 0)
    threading.Timer(0.1, starting.record, (Holder(7, os.getpid(), 3), os.fsync)).start()
    with pytest.raises(StoreLocked) as caught:
        WriterLock.acquire(path, 30)
    assert (caught.value.pid, caught.value.epoch) == (7, 3)
    with pytest.raises(StoreLocked, match="process 7"):
        WriterLock.acquire(path, 0)
    starting.release()


def test_a_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    """A program that the holder starts must not keep the store locked after the holder's end."""
    store = new_store(tmp_path)
    store.open()
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, close_fds=False) as child:
        store.close()
        with opened(tmp_path, lock_timeout_s=0):
            pass
        child.kill()


def test_a_replaced_lock_file_guards_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that lost its name between our open and our flock is not the lock: the new one is taken."""
    path = str(tmp_path / "lock")
    real = lock._open

    def replaced_meanwhile(path: str) -> int:
        monkeypatch.setattr(lock, "_open", real)
        fd = real(path)
        os.unlink(path)
        return fd

    monkeypatch.setattr(lock, "_open", replaced_meanwhile)
    held = WriterLock.acquire(path, 30)
    with pytest.raises(StoreLocked):
        WriterLock.acquire(path, 0)
    held.release()
    held.release()
    WriterLock.acquire(path, 0).release()


def test_a_database_open_elsewhere_is_locked(tmp_path: Path) -> None:
    """Another SQLite program that is writing (backup, sqlite3 shell): StoreLocked, nothing changed."""
    with opened(tmp_path):
        pass
    other = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import apsw, sys; c = apsw.Connection(sys.argv[1], vfs='unix-excl'); "
            "c.execute('BEGIN IMMEDIATE'); print('x', flush=True); sys.stdin.read()",
            str(tmp_path / "bgsuper.sqlite3"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(StoreLocked, match="another program has the database open"):
            new_store(tmp_path).open()
        other.kill()
    with opened(tmp_path):
        pass


def test_an_older_database_put_in_place_does_not_lower_the_epoch(tmp_path: Path) -> None:
    """Epochs rise past what the lock file remembers, even over a restored backup."""
    with opened(tmp_path):
        pass
    backup = (tmp_path / "bgsuper.sqlite3").read_bytes()
    for _ in range(3):
        with opened(tmp_path):
            pass
    (tmp_path / "bgsuper.sqlite3").write_bytes(backup)
    (tmp_path / "bgsuper.sqlite3-wal").unlink()
    store = new_store(tmp_path)
    assert store.open().epoch == 5
    store.close()


@pytest.mark.parametrize(
    "content", [b"", bytes(40), b'{"pid": 12, "ho\0\0\0', b'{"pid": 1, "host": 1, "epoch": 1}\n"epo']
)
def test_a_torn_lock_file_is_harmless(tmp_path: Path, content: bytes) -> None:
    """A lock file that a power cut damaged does not keep a good store shut."""
    with opened(tmp_path):
        pass
    (tmp_path / "lock").write_bytes(content)
    store = new_store(tmp_path)
    assert store.open().epoch == 2
    store.close()
    assert json.loads((tmp_path / "lock").read_text()) == {"pid": os.getpid(), "host": os.getpid(), "epoch": 2}


def test_zeros_are_no_foreign_lock(tmp_path: Path) -> None:
    """A power cut in the very first open may leave a lock file of zeros and no database."""
    (tmp_path / "lock").write_bytes(bytes(40))
    with opened(tmp_path):
        pass


def test_a_lock_that_is_a_directory(tmp_path: Path) -> None:
    """Something else in the lock file's place is said, not waited for."""
    (tmp_path / "lock").mkdir()
    with pytest.raises(StoreUnwritable, match="lock"):
        new_store(tmp_path).open()


def test_who_only_looks_shares_the_lock(tmp_path: Path) -> None:
    """With others who look; a writer waits for all of them, and says why if it waits in vain. Who looks waits for no
    writer."""
    path = str(tmp_path / "lock")
    assert WriterLock.acquire_existing(path) is None
    assert not (tmp_path / "lock").exists()
    writer = WriterLock.acquire(path, 0.0)
    writer.record(Holder(7, os.getpid(), 3), os.fsync)
    content = (tmp_path / "lock").read_bytes()
    with pytest.raises(StoreLocked, match="process 7 holds it at epoch 3") as caught:
        WriterLock.acquire_existing(path)
    assert (caught.value.pid, caught.value.epoch) == (7, 3)
    writer.release()
    first, second = WriterLock.acquire_existing(path), WriterLock.acquire_existing(path)
    assert first is not None
    assert second is not None
    assert first.holder() == Holder(7, os.getpid(), 3)
    for looking in (first, second):
        # Its host lives, but nobody writes.
        with pytest.raises(StoreUnavailable, match="somebody looks into the store"):
            WriterLock.acquire(path, 0.0)
        looking.release()
    WriterLock.acquire(path, 0.0).release()
    assert (tmp_path / "lock").read_bytes() == content


def test_a_writer_begins_when_nobody_looks_any_more(tmp_path: Path) -> None:
    """Within its patience."""
    (tmp_path / "lock").touch()
    looking = WriterLock.acquire_existing(str(tmp_path / "lock"))
    assert looking is not None
    timer = threading.Timer(0.1, looking.release)
    timer.start()
    WriterLock.acquire(str(tmp_path / "lock"), 30.0).release()
    timer.join()


def test_what_is_no_lock_file_keeps_out_who_looks(tmp_path: Path) -> None:
    """A symbolic link, or a lock that was replaced in the meantime: a typed error."""
    (tmp_path / "lock").symlink_to("elsewhere")
    with pytest.raises(StoreUnwritable, match="lock"):
        WriterLock.acquire_existing(str(tmp_path / "lock"))


@given(
    st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_any_lock_content_is_decoded(content: bytes) -> None:
    """Total: a holder or None."""
    assert parse_holder(content) is None


@given(st.integers(), st.integers(), st.integers())
def test_holders_round_trip(pid: int, host: int, epoch: int) -> None:
    """What is recorded is parsed, as far as an epoch makes sense."""
    holder = Holder(pid, host, epoch)
    parsed = parse_holder(json.dumps(holder._asdict()).encode())
    assert parsed == (holder if 0 <= epoch < 2**63 else None)


def test_which_processes_exist() -> None:
    """Ours and others' do, dead and impossible ones do not."""
    assert process_exists(os.getpid())
    assert process_exists(1)
    assert not process_exists(dead_pid())
    assert not process_exists(0)
    assert not process_exists(-1)
    assert not process_exists(2**70)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_flock_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Without the lock nobody keeps a second writer out: one line that names the file, and no database."""

    def flock(fd: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StoreUnwritable, match=f"locking {tmp_path}/store/lock failed: {os.strerror(number)}"):
        new_store(tmp_path / "store").open()
    assert os.listdir(tmp_path / "store") == ["lock"]
