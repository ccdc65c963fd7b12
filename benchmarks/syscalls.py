"""Which system calls a process makes, by strace: counts that no noise can touch.

strace follows the host's threads and lets go of what it execs (``-b execve``), so that the worker is not counted.
What is counted lies between the two marks that the host writes to /dev/null.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SYNCS: Final = frozenset({"fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "msync"})
NAMES: Final = frozenset({"rename", "renameat", "renameat2", "unlink", "unlinkat", "ftruncate", "fallocate"})
WRITES: Final = frozenset({"write", "writev", "pwrite64", "pwritev", "pwritev2", "copy_file_range", "sendfile"})
SENDS: Final = frozenset({"sendto", "sendmsg"})

_BEGIN: Final = b"bgsuper-begin"
_END: Final = b"bgsuper-end"
_CALL: Final = re.compile(r"(\d+) +(\w+)\((?:(\d+)<([^>]*)>)?(.*)")
_RESUMED: Final = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>")
_RESULT: Final = re.compile(r"= (\d+)$")


def available() -> bool:
    """Whether there is an strace that can let go of children (5.12 or later has ``-b``)."""
    return shutil.which("strace") is not None


def command(output: Path) -> list[str]:
    """Run a host under this."""
    traced = ",".join(sorted(SYNCS | NAMES | WRITES | SENDS))
    return ["strace", "-f", "-b", "execve", "-y", "-qq", "-s", "16", "-e", f"trace={traced}", "-o", str(output)]


@contextmanager
def marked() -> Iterator[None]:
    """In the host: what happens within is what counts."""
    fd = os.open(os.devnull, os.O_WRONLY)
    os.write(fd, _BEGIN)
    try:
        yield
    finally:
        os.write(fd, _END)
        os.close(fd)


class Counts:
    """What one host did between the marks."""

    def __init__(self, trace: Path) -> None:
        self.disk: Counter[str] = Counter()  #: calls that write to files, sync or rename them
        self.sends: list[int] = []  #: bytes of each send into a socket
        pending: dict[str, bool] = {}  # by thread: whether its unfinished call is a send
        counting = False
        for line in trace.read_text(errors="replace").splitlines():
            if _BEGIN.decode() in line:
                counting = True
            elif _END.decode() in line:
                return
            elif counting:
                self._count(line, pending)
        raise ValueError(f"{trace} does not hold a whole run: it lacks a mark")

    def _count(self, line: str, pending: dict[str, bool]) -> None:
        if (resumed := _RESUMED.match(line)) is not None:
            if pending.pop(resumed[1], False):
                self._note_send(line)
            return
        call = _CALL.match(line)
        if call is None:
            return
        thread, name, _, target, _ = call.groups()
        if name in SENDS:
            if "<unfinished" in line:
                pending[thread] = True
            else:
                self._note_send(line)
        elif name in SYNCS or name in NAMES or ((target or "").startswith("/") and target != os.devnull):
            self.disk[name] += 1

    def _note_send(self, line: str) -> None:
        result = _RESULT.search(line)
        if result is not None:
            self.sends.append(int(result[1]))
