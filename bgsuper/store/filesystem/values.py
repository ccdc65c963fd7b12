"""Value files: written whole under a name of their own, read with what verifies them.

Rules: a file that could not be written whole is removed again; nothing is followed through a symbolic link; whether a
file is durable is the caller's affair, but for `write_paced`.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ...errors import NotFound, StoreCorrupt
from ...key import Key
from ..failures import from_os_error
from ..files import create_private
from ..pace import Pace
from .stamp import Stamp, read_stamp, write_stamp
from .tree import in_the_way, no_namespace


class Found(NamedTuple):
    """A value as its file holds it. `stamp` is None where nothing verifies it."""

    content: bytes
    stamp: Stamp | None


def write(path: str, content: bytes, stamp: Stamp, fsync: Callable[[int], None] | None) -> None:
    """Write the new file `path`; durable (not its name) by `fsync`, if one is given.

    Raises `StoreFull`, `StoreUnwritable`, `StoreUnavailable`, `SyncFailed`.
    """

    def fill(fd: int) -> None:
        write_all(fd, memoryview(content))
        write_stamp(fd, stamp)
        if fsync is not None:
            fsync(fd)

    _create(path, fill)


def write_paced(path: str, content: bytes, stamp: Stamp, fsync: Callable[[int], None]) -> None:
    """Write the new file `path` in slices, each of them synced, so that commits hardly notice; durable but for its
    name. Raises as `write`."""

    def fill(fd: int) -> None:
        write_stamp(fd, stamp)
        pace = Pace()
        rest = memoryview(content)
        while True:
            began = time.monotonic()
            part, rest = rest[: pace.slice_bytes], rest[pace.slice_bytes :]
            write_all(fd, part)
            fsync(fd)
            pause = pace.synced(time.monotonic() - began)
            if not rest:
                return
            time.sleep(pause)

    _create(path, fill)


def _create(path: str, fill: Callable[[int], None]) -> None:
    try:
        fd = create_private(path)
        try:
            fill(fd)
        except BaseException:
            remove_if_there(path)
            raise
        finally:
            os.close(fd)
    except OSError as error:
        raise from_os_error(error, f"writing {path}") from error


def write_all(fd: int, rest: memoryview) -> None:
    """Write all of `rest`. Raises `OSError`."""
    while rest:
        rest = rest[os.write(fd, rest) :]


def remove_if_there(path: str) -> None:
    """Remove the file `path`, as far as that is possible: what stays costs space until the next open."""
    try:
        os.unlink(path)
    except OSError:
        pass


def look(path: str, key: Key) -> tuple[int, Stamp | None]:
    """Length and stamp of the value of `key` at `path`; the content is not read. Raises as `read`."""
    with _opened(path, key) as (fd, length):
        return length, _fitting_stamp(fd, path, key, length)


def read(path: str, key: Key) -> Found:
    """The value of `key` at `path`, verified by its stamp if it has one.

    Raises `NotFound` only if there is no file at that place, `StoreCorrupt`, `StoreTooNew`, `StoreForeign`,
    `StoreUnwritable`, `SyncFailed`.
    """
    with _opened(path, key) as (fd, length):
        # The stamp first: a file that is longer than it should be may be longer than memory.
        stamp = _fitting_stamp(fd, path, key, length)
        found = Found(read_all(fd, length), stamp)
    if found.stamp is not None and found.stamp != Stamp.of(key, found.stamp.seq, found.content):
        raise StoreCorrupt(
            f"the record {key} does not match its checksum: {path}; restore a backup, or salvage the store"
        )
    return found


def _fitting_stamp(fd: int, path: str, key: Key, length: int) -> Stamp | None:
    stamp = read_stamp(fd, path)
    if stamp is not None and stamp.length != length:
        raise StoreCorrupt(
            f"the record {key} should have {stamp.length} bytes, but {path} has {length}; "
            "restore a backup, or salvage the store"
        )
    return stamp


@contextmanager
def _opened(path: str, key: Key) -> Iterator[tuple[int, int]]:
    """A descriptor of the value's file, and its length."""
    try:
        # A pipe would keep us waiting for its other end.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise NotFound(f"there is no record {key}: {path} is a directory")
            if not stat.S_ISREG(status.st_mode):
                raise in_the_way(path)
            yield fd, status.st_size
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise NotFound(f"there is no record {key}") from None
    except NotADirectoryError:
        raise no_namespace(path) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise in_the_way(path) from None
        raise from_os_error(error, f"reading {path}") from error


def read_all(fd: int, length: int) -> bytes:
    """All of the file `fd`, which has about `length` bytes. Raises `OSError`."""
    # In one piece if possible: a graph is large, and is not to be held twice.
    parts = [os.read(fd, length)]
    while part := os.read(fd, 1 << 20):
        parts.append(part)
    return b"".join(parts) if len(parts) > 1 else parts[0]
