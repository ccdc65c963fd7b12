"""macOS's kqueue as far as `KqueueChild` uses it, on Linux: an epoll of pidfds.

As there, an exit stays readable until it is fetched, a zombie is no process any more (ESRCH), and a forked copy of the
host inherits nothing.
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

pidfd_open = os.pidfd_open  # for itself, whoever plays a system that has none

CONSTANTS = {
    "KQ_FILTER_PROC": -5,
    "KQ_FILTER_TIMER": -7,
    "KQ_EV_ADD": 0x1,
    "KQ_EV_ONESHOT": 0x10,
    "KQ_NOTE_EXIT": 0x80000000,
}


class Kevent(NamedTuple):
    ident: int
    filter: int
    flags: int
    fflags: int = 0
    data: int = 0


class Kqueue:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._held = [self._epoll.fileno()]

    def fileno(self) -> int:
        return self._epoll.fileno()

    def control(self, changes: Sequence[Kevent], max_events: int) -> list[Kevent]:
        assert max_events == 0, "fetching an exit makes the kqueue unreadable"
        for change in changes:
            assert change.flags == CONSTANTS["KQ_EV_ADD"] | CONSTANTS["KQ_EV_ONESHOT"]
            if change.filter == CONSTANTS["KQ_FILTER_TIMER"]:
                watched, due = os.pipe()
                os.close(due)
            else:
                assert (change.filter, change.fflags) == (CONSTANTS["KQ_FILTER_PROC"], CONSTANTS["KQ_NOTE_EXIT"])
                watched = self.watch(change.ident)
            self._held.append(watched)
            self._epoll.register(watched, select.EPOLLIN)
        return []

    def watch(self, pid: int) -> int:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            raise ProcessLookupError(3, "No such process")
        return pidfd_open(pid)

    def close(self) -> None:
        for descriptor in self._held[1:]:
            os.close(descriptor)
        self._epoll.close()


class EarlyKqueue(Kqueue):
    """macOS tells of an exit before the process can be waited for."""

    def watch(self, pid: int) -> int:
        watched, due = os.pipe()
        os.close(due)
        return watched


def install(monkeypatch: pytest.MonkeyPatch, kqueue: type[Kqueue] = Kqueue) -> None:
    monkeypatch.setattr(select, "kqueue", kqueue, raising=False)
    monkeypatch.setattr(select, "kevent", Kevent, raising=False)
    for name, value in CONSTANTS.items():
        monkeypatch.setattr(select, name, value, raising=False)
