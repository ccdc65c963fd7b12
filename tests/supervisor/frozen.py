"""Disks that do not answer, for tests and benchmarks: two ways into uninterruptible sleep, which ps and psutil call
disk-sleep (D).

`Disk`             an ext4 of its own on a loop device that can be frozen: whoever writes to it, or opens a file for
                   writing, sleeps until it is thawed, and SIGKILL stays pending meanwhile. Needs root and loop devices.
`Uninterruptible`  a persister whose main thread waits for a child made with CLONE_VFORK, as posix_spawn's caller does:
                   disk-sleep that needs no rights, lasts as long as it is told to, and yields to SIGKILL.

Rules:
1. Nothing but that file system is ever frozen: `freeze` looks at the device first.
2. It is thawed and unmounted whatever happens. A keeper, a process in a session of its own, makes the mount and undoes
   it when its pipe closes: at the end of the test, or at the death of the test's process.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

#: include/uapi/linux/fs.h: _IOWR('X', 119, int) and _IOWR('X', 120, int).
FIFREEZE: Final = 0xC0045877
FITHAW: Final = 0xC0045878

#: Sparse: what it takes of the real disk is what is written to it.
IMAGE_BYTES: Final = 256 * 1024 * 1024


class NoDisk(Exception):
    """This machine or user cannot mount one; the message says why."""


class Disk:
    """A mounted file system that can be frozen."""

    def __init__(self, mountpoint: Path) -> None:
        self.path = mountpoint
        self._device = os.stat(mountpoint).st_dev
        if self._device == os.stat(mountpoint.parent).st_dev:
            raise NoDisk(f"{mountpoint} is not a file system of its own")

    def freeze(self) -> None:
        """Write out what is dirty, then let nobody write; may be called while it is frozen."""
        self._ioctl(FIFREEZE, already=errno.EBUSY)

    def thaw(self) -> None:
        """Let everybody go on; may be called while it is not frozen."""
        self._ioctl(FITHAW, already=errno.EINVAL)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Frozen as long as the block runs."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def _ioctl(self, request: int, already: int) -> None:
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if os.fstat(fd).st_dev != self._device:
                raise NoDisk(f"{self.path} is not the file system that was mounted there")
            fcntl.ioctl(fd, request, 0)
        except OSError as error:
            if error.errno != already:
                raise
        finally:
            os.close(fd)


@contextmanager
def mounted(directory: Path) -> Iterator[Disk]:
    """A new file system under `directory`, in ``directory/disk``. Raises `NoDisk` where that is impossible."""
    if os.geteuid() != 0:
        raise NoDisk("only root can mount and freeze a file system")
    mountpoint = directory / "disk"
    mountpoint.mkdir()
    keeper = subprocess.Popen(
        [sys.executable, "-I", __file__, str(directory / "disk.image"), str(mountpoint)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    try:
        said = keeper.stdout.readline().strip()
        if said != "mounted":
            raise NoDisk(f"cannot mount an ext4 on a loop device: {said or 'its keeper died'}")
        yield Disk(mountpoint)
    finally:
        keeper.stdin.close()
        keeper.wait()
        keeper.stdout.close()


# -- the keeper -------------------------------------------------------------------------------------------------------


def keep(image: str, mountpoint: str) -> None:
    """Mount, say so, wait for the end of standard input; then thaw and unmount."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    with open(image, "wb") as file:
        file.truncate(IMAGE_BYTES)
    # Nothing left to be initialized in the background, whose writes would be frozen too.
    features = "lazy_itable_init=0,lazy_journal_init=0"
    for command in (["mkfs.ext4", "-q", "-F", "-E", features, image], ["mount", "-o", "loop", image, mountpoint]):
        problem = _run(command)
        if problem:
            return print(problem, flush=True)
    try:
        print("mounted", flush=True)
        sys.stdin.read()
    finally:
        with suppress(NoDisk):  # somebody unmounted it
            Disk(Path(mountpoint)).thaw()
        # Lazily: whoever was stuck in it is just about to go on. The loop device goes with its last user.
        _run(["umount", "--lazy", mountpoint])


def _run(command: list[str]) -> str:
    """What went wrong, in one line; empty if nothing did."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return "" if done.returncode == 0 else f"{command[0]}: {' '.join(done.stderr.split())}"


# -- without rights ---------------------------------------------------------------------------------------------------

CLONE_VFORK: Final = 0x4000


def sleep_uninterruptibly(seconds: float) -> None:
    """Put the calling thread into disk-sleep, with the GIL released, as in a system call on a stuck disk.

    It waits for its child, which has memory of its own and runs nothing but the C library's usleep: no Python, so no
    lock of the parent's can stop it. Linux only.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    stack = ctypes.create_string_buffer(64 * 1024)
    top = (ctypes.addressof(stack) + len(stack)) & ~15
    usleep = ctypes.cast(libc.usleep, ctypes.c_void_p)
    child = libc.clone(
        usleep, ctypes.c_void_p(top), CLONE_VFORK | signal.SIGCHLD, ctypes.c_void_p(round(seconds * 1e6))
    )
    if child < 0:
        raise OSError(ctypes.get_errno(), "clone(CLONE_VFORK) failed")
    os.waitpid(child, 0)


class Uninterruptible:
    """A persister that writes the manager to a file, after disk-sleep of `seconds` each, so many `times`."""

    def __init__(self, directory: str, seconds: float, times: int = 1) -> None:
        self._directory, self._seconds, self._times = Path(directory), seconds, times

    def persist_manager(self, data: bytes) -> None:
        for _ in range(self._times):
            sleep_uninterruptibly(self._seconds)
        (self._directory / "manager").write_bytes(data)

    def persist_graph(self, data: bytes) -> None:
        """Not kept."""

    def persist_scorer(self, data: bytes) -> None:
        """Not kept."""


if __name__ == "__main__":
    keep(*sys.argv[1:])
