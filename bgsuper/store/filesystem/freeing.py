"""Freeing the space of large files little by little: removing 30 MiB at once holds up ext4's journal, and with it every
commit, for 17 ms.

A file is held open while its name goes; once nothing names it, it is cut down in steps. If we die before that, the
kernel frees it: nothing is left behind.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Final

from ..pace import MAX_PAUSE_S
from ..snapshots import REMOVE_BYTES

#: More than these are freed at once: descriptors are scarce.
MAX_FILES: Final = 16


class Freeing:
    """Files without a name that still hold space. May be used by both lanes at once."""

    def __init__(self) -> None:
        # A deque's ends are safe for two threads.
        self._files: deque[int] = deque()

    def hold(self, path: str) -> int | None:
        """A descriptor of the large file `path`, to be handed to `free` when its name is gone; None if it is small, is
        not there, or there are enough of them. Never fails: at worst the file is freed at once."""
        try:
            if os.lstat(path).st_size <= REMOVE_BYTES or len(self._files) >= MAX_FILES:
                return None
            return os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None

    def free(self, fd: int) -> None:
        """Free the space of `fd`, by and by, unless it has another name: then it is somebody's copy."""
        if os.fstat(fd).st_nlink == 0:
            self._files.append(fd)
        else:
            os.close(fd)

    def remove(self, path: str) -> None:
        """Remove the file `path`, and free its space by and by. What cannot be removed stays until the next open."""
        fd = self.hold(path)
        try:
            os.unlink(path)
        except OSError:
            pass
        if fd is not None:
            self.free(fd)

    @property
    def has_some(self) -> bool:
        """Whether `step` would do anything."""
        return bool(self._files)

    def step(self) -> None:
        """Cut a millisecond's worth off a file."""
        try:
            fd = self._files.popleft()
        except IndexError:
            return
        left = os.fstat(fd).st_size - REMOVE_BYTES
        if left > 0:
            try:
                os.truncate(fd, left)
            except OSError:
                pass
            else:
                self._files.appendleft(fd)
                return
        os.close(fd)

    def all_but_slowly(self) -> None:
        """Free everything, with pauses for the commits."""
        while self.has_some:
            began = time.monotonic()
            self.step()
            time.sleep(min(time.monotonic() - began, MAX_PAUSE_S))

    def all_at_once(self) -> None:
        """Free everything: the space is needed, or the store is closed."""
        while self._files:
            os.close(self._files.popleft())
