"""Files and directories that survive a power cut and that only their owner can read.

Rules: what we create is 0600 in 0700 directories whatever the umask; a new name is durable once its directory is
synced, so every directory that gains one is; nothing is followed through a symbolic link inside the store.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable

from .failures import from_os_error

if sys.platform == "darwin":
    import fcntl

    def full_sync(fd: int) -> None:
        """Make the file or directory `fd` durable. macOS's fsync stops at the drive's cache, this does not."""
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
else:
    full_sync = os.fsync


def make_directory(path: str, fsync: Callable[[int], None]) -> None:
    """Create `path` and the parents it lacks, each 0700 and durable. An existing directory is left as it is, but its
    name is made durable: whoever made it may have died before that.

    Raises `StoreUnwritable`, `StoreFull`, `SyncFailed`.
    """
    missing: list[str] = []
    if os.path.isdir(path) and os.access(os.path.dirname(path), os.R_OK):
        sync_directory(os.path.dirname(path), fsync)
    while not os.path.isdir(path):
        missing.append(path)
        parent = os.path.dirname(path)
        if parent == path or os.path.lexists(path):
            break
        path = parent
    for directory in reversed(missing):
        try:
            os.mkdir(directory, 0o700)
            os.chmod(directory, 0o700)
        except OSError as error:
            raise from_os_error(error, f"creating the directory {directory}") from error
        sync_directory(os.path.dirname(directory), fsync)


def sync_directory(path: str, fsync: Callable[[int], None]) -> None:
    """Make the names in the directory `path` durable."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise from_os_error(error, f"syncing the directory {path}") from error


def sync_file(path: str, fsync: Callable[[int], None]) -> None:
    """Make what the file `path` holds durable, if there is such a file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, f"opening {path}") from error
    try:
        fsync(fd)
    except OSError as error:
        raise from_os_error(error, f"syncing {path}") from error
    finally:
        os.close(fd)


def create_private(path: str) -> int:
    """A descriptor of the new, empty file `path`, mode 0600 whatever the umask; a left-over of that name goes first.

    Raises `OSError`.
    """
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.fchmod(fd, 0o600)
    return fd


def drop_cached_pages(paths: Iterable[str]) -> None:
    """Forget what the page cache holds of `paths`, so that they are read from the disk again.

    After a failed sync Linux marks the pages clean although they never reached the disk (fsyncgate); reading them back
    would show data that a power cut takes away. Does nothing where the platform has no posix_fadvise (macOS).
    """
    if not hasattr(os, "posix_fadvise"):
        return
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise from_os_error(error, f"opening {path}") from error
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
