"""Uninterruptible sleep, which ps and psutil call disk-sleep (D), without a disk: it needs no rights, lasts as long as
it is told to, and yields to SIGKILL.

A process is in it while it waits for a child made with CLONE_VFORK, as posix_spawn's caller does.
"""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

#: include/uapi/linux/sched.h
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
