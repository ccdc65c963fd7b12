"""An orphan drains what its host had sent, and ends. One that hangs meanwhile has nobody left who would kill it, and it
holds the lock: it ends itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

#: So long it may get nothing done.
PATIENCE_S = 60.0
#: How often that is looked at.
LOOK_S = 1.0


def mind(host_pid: int, progress: Callable[[], list[object]]) -> None:
    """Return never, but end the process once its host is dead, `progress` (PROGRESS's fields) shows none, and nothing
    is written."""
    before, since = (progress()[1], written()), time.monotonic()
    while time.monotonic() - since < PATIENCE_S:
        time.sleep(LOOK_S)
        now = (progress()[1], written())
        # A host that lives judges by itself how long is too long.
        if os.getppid() == host_pid or now != before:
            before, since = now, time.monotonic()
    os._exit(1)


def written() -> bytes:
    """What the kernel says that this process has written, in its own words; nothing where it does not say."""
    try:
        with open("/proc/self/io", "rb") as file:
            return file.read().partition(b"\nwrite_bytes")[2]
    except OSError:
        return b""
