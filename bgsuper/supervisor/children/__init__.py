"""A launched worker, and how the host knows of its death.

Rules:
1. Death is what the kernel says to a descriptor: a pidfd, a kqueue, or a socket on which a waiting thread reports.
   `Child.fileno()` is readable once the worker is dead, however the host treats SIGCHLD and whoever reaps it.
2. A signal must never hit a process that merely got the same pid: through the pidfd, or by pid only while the worker
   has not been reaped, by us or by another part of the host.
3. A worker's death kills nobody else: no SIGPIPE.
4. Nobody waits for a worker that may live for ever. One that is abandoned alive is reaped by a thread of its own
   whenever it dies, so that it does not stay a zombie of the host.

child.py     what a child is, and how it ended
launched.py  what all of them share
pidfd.py     Linux
bypid.py     where there are no pidfds: macOS and the BSDs (kqueue), gVisor and strict containers (a thread)
choice.py    which of them, by what the kernel grants
"""

from __future__ import annotations

from .child import SEND_FLAGS, Child, Exit
from .choice import MakeChild, best_child

__all__ = ["SEND_FLAGS", "Child", "Exit", "MakeChild", "best_child"]
