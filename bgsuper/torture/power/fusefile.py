"""One file, ``disk``, in a FUSE file system, which logs what is done to it: under a loop device it is a disk whose
every write and flush is known. In place of dm-log-writes, which needs a kernel with device-mapper.

A process of its own serves the content of an image until it is unmounted or its parent dies, and appends to the log. It
has one thread: an entry is in the log before its request is answered, and each request is answered before the next is
taken.

mfusepy (the extra ``test``) and libfuse are needed, and /dev/fuse.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from ...supervisor.launch import PACKAGE_ROOT
from .blocklog import Entry, Kind
from .loopmount import NoDisk, run

NAME: Final = "disk"
#: How long the mount may take.
_START_S: Final = 10.0
_PR_SET_PDEATHSIG: Final = 1
_BOOT: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from bgsuper.torture.power.fusefile import serve; serve(*sys.argv[2:])"
)


def why_not() -> str | None:
    """Why there can be no such file here; None if nothing speaks against it."""
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    if find_spec("mfusepy") is None:
        return "there is no mfusepy: pip install mfusepy"
    try:
        import mfusepy  # noqa: F401
    except (ImportError, OSError) as error:  # libfuse is looked for when it is imported
        return f"mfusepy cannot be used: {error}; install fuse3"
    return None


@contextmanager
def logged_file(image: Path, log: Path, mountpoint: Path) -> Iterator[Path]:
    """Serve `image`; the path of the file whose use is logged. Raises `NoDisk`."""
    mountpoint.mkdir()
    server = subprocess.Popen(
        [sys.executable, "-P", "-c", _BOOT, PACKAGE_ROOT, str(mountpoint), str(image), str(log)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert server.stderr is not None
    try:
        served = mountpoint / NAME
        deadline = time.monotonic() + _START_S
        while not served.exists():
            if server.poll() is not None or time.monotonic() > deadline:
                server.kill()
                raise NoDisk(f"cannot serve a file by FUSE: {' '.join(server.stderr.read().split())[-300:]}")
            time.sleep(0.005)
        yield served
    finally:
        if server.poll() is None:
            run(["umount", "--lazy", str(mountpoint)])
        try:
            server.wait(_START_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        server.stderr.close()


class _Server:
    """What FUSE asks for, about the root and its one file."""

    def __init__(self, image: str, log: str) -> None:
        self._image = os.open(image, os.O_RDWR)
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
        if path == f"/{NAME}":
            return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": os.fstat(self._image).st_size}
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", NAME]

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(self._image, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._note(Entry(Kind.WRITE, time.monotonic_ns(), offset, data))
        return os.pwrite(self._image, data, offset)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._note(Entry(Kind.FLUSH, time.monotonic_ns()))
        return 0

    def _note(self, entry: Entry) -> None:
        noted = entry.to_bytes()
        if os.write(self._log, noted) != len(noted):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def serve(mountpoint: str, image: str, log: str) -> None:
    """Serve until the unmount. The death of the thread that started us is ours too."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    import mfusepy

    class Operations(_Server, mfusepy.Operations):  # type: ignore[misc]
        pass

    mfusepy.FUSE(Operations(image, log), mountpoint, foreground=True, nothreads=True)
