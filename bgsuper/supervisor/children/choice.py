"""Which kind of child: the best that this kernel, and whatever guards it, grants."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable

from .bypid import KqueueChild, WaitingChild
from .child import Child
from .pidfd import PidfdChild

#: Makes a child of a process and the host's end of its pipe. Raises `OSError` or `RuntimeError`: it cannot be watched.
MakeChild = Callable[[subprocess.Popen[bytes], socket.socket], Child]


def best_child() -> MakeChild:
    """Asked before each launch, since a host may put itself under a seccomp filter meanwhile; it costs microseconds.

    Raises `OSError` if there is no descriptor or memory left to ask.
    """
    if grants_pidfds():
        return PidfdChild.open
    return KqueueChild if hasattr(select, "kqueue") else WaitingChild


def grants_pidfds() -> bool:
    """Whether a process can be opened, signalled and waited for by pidfd; tried on ourselves.

    So it is on Linux 5.4, unless a sandbox (gVisor, WSL 1) does not know it or a container's seccomp filter refuses it.
    """
    if not hasattr(os, "pidfd_open"):
        return False
    try:
        ourselves = os.pidfd_open(os.getpid())
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        return False
    try:
        signal.pidfd_send_signal(ourselves, 0)
        os.waitid(os.P_PIDFD, ourselves, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True  # the very answer: nobody is their own child
    except OSError:
        return False
    finally:
        os.close(ourselves)
    return False
