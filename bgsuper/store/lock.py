"""The writer lock: at most one process writes to a store directory, and a second one learns who holds it.

Rules:
1. flock, not lockf: a POSIX lock is dropped when any descriptor of the file is closed, by whatever library. Never an
   O_EXCL pid file: it outlives its owner. The kernel frees a flock when its holder dies.
2. The file stays where it is; it also remembers the last epoch, so that a lost database is not taken for a new store.
3. Who only looks into a store shares the lock: writers stay out meanwhile, and wait for it to be over. Past their
   patience that is `StoreUnavailable`, never the end of a node: whoever looks is done some time.
4. A holder whose host process is gone is an orphan that drains what it was sent: it is waited for. A holder with a
   living host is another node: `StoreLocked` at once.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from ..errors import StoreLocked, StoreUnavailable
from .failures import from_os_error

POLL_S: Final = 0.02
#: How long to wait for an orphaned worker that drains what its dead host sent.
LOCK_TIMEOUT_S: Final = 10.0
#: Far more than a holder takes.
_MAX_CONTENT: Final = 4096


class Holder(NamedTuple):
    """What the lock file says about its last holder; `pid` is the worker's, `host` its supervisor's."""

    pid: int
    host: int
    epoch: int
    unfinished: bool = False  #: it makes a backup there, which is no store yet


def parse_holder(content: bytes) -> Holder | None:
    """The holder that `content` names, or None if it names none: an empty, torn or foreign file."""
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    match fields:
        case {"pid": int(pid), "host": int(host), "epoch": int(epoch)} if 0 <= epoch < 2**63:
            return Holder(pid, host, epoch, fields.get("unfinished") is True)
    return None


class WriterLock:
    """The lock, held from `acquire` until `release` or the death of the process."""

    def __init__(self, path: str, fd: int) -> None:
        self._path = path
        self._fd = fd

    @classmethod
    def acquire(cls, path: str, timeout_s: float) -> WriterLock:
        """Take the lock; wait up to `timeout_s` seconds for an orphan to finish.

        Raises `StoreLocked`, `StoreUnavailable` if somebody looks into the store all that time, `StoreUnwritable`,
        `StoreFull`.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                lock = cls(path, _open(path))
                try:
                    if lock._try():
                        return lock
                    holder = lock.holder()
                    watched = lock._try(fcntl.LOCK_SH)
                except BaseException:
                    lock.release()
                    raise
            except OSError as error:
                raise from_os_error(error, f"locking {path}") from error
            lock.release()
            if watched:
                if time.monotonic() >= deadline:
                    raise StoreUnavailable(
                        f"expected {path} to be free, but somebody looks into the store; let them finish"
                    )
            # One who holds the lock and is not named yet is just starting.
            elif (holder is not None and process_exists(holder.host)) or time.monotonic() >= deadline:
                raise _locked(path, holder)
            time.sleep(POLL_S)

    @classmethod
    def acquire_existing(cls, path: str) -> WriterLock | None:
        """Keep writers out without changing a byte, shared with others who look; None if there is no lock file (a
        backup has none, and no writer). Raises `StoreLocked` at once while a writer lives, `StoreUnwritable`."""
        try:
            lock = cls(path, os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise from_os_error(error, f"locking {path}") from error
        try:
            if lock._try(fcntl.LOCK_SH):
                return lock
            raise _locked(path, lock.holder())
        except BaseException as error:
            lock.release()
            if isinstance(error, OSError):
                raise from_os_error(error, f"locking {path}") from error
            raise

    def _try(self, kind: int = fcntl.LOCK_EX) -> bool:
        try:
            fcntl.flock(self._fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # Somebody may have replaced the file between open and flock: then the lock guards nothing.
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self._path))
        except FileNotFoundError:
            return False

    @property
    def content(self) -> bytes:
        """What the file says: its first line, without the zeros that a power cut leaves of an unsynced one."""
        return os.pread(self._fd, _MAX_CONTENT, 0).partition(b"\n")[0].strip(b"\0")

    def holder(self) -> Holder | None:
        """What the file says; once the lock is ours, its last holder before us."""
        return parse_holder(self.content)

    def record(self, holder: Holder, fsync: Callable[[int], None]) -> None:
        """Write down who holds the lock, durably. Raises as `acquire`, or `SyncFailed`."""
        said = holder._asdict()
        if not holder.unfinished:
            del said["unfinished"]
        content = json.dumps(said).encode() + b"\n"
        try:
            os.pwrite(self._fd, content, 0)
            os.ftruncate(self._fd, len(content))
            fsync(self._fd)
        except OSError as error:
            raise from_os_error(error, f"writing {self._path}") from error

    def release(self) -> None:
        """Give the lock up; further calls do nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def process_exists(pid: int) -> bool:
    """Whether there is a process `pid`, ours to signal or not."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError as error:
        return error.errno == errno.EPERM
    except OverflowError:
        return False
    return True


def _open(path: str) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if os.fstat(fd).st_size == 0:
        os.fchmod(fd, 0o600)
    return fd


def _locked(path: str, holder: Holder | None) -> StoreLocked:
    if holder is None:
        return StoreLocked(f"expected {path} to be free, but another process holds it; stop that process")
    return StoreLocked(
        f"expected {path} to be free, but process {holder.pid} holds it at epoch {holder.epoch}; stop it",
        pid=holder.pid,
        epoch=holder.epoch,
    )
