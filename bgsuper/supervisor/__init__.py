"""The worker seen from the host.

supervisor.py  Supervisor: the public face, for threads and asyncio
life.py        the life of a worker, as a table
core.py        what is known and what to do (sans-IO): start reading here
backlog.py     what is un-acknowledged, in order (sans-IO)
requests.py    reads (sans-IO)
policy.py      limits and restarts, as data
shell.py       the thread that does what the core says
waiters.py     coroutines that wait
launch.py      starting a process and knowing its death
vitals.py      psutil
target.py      what the worker is to serve
"""

from __future__ import annotations

from .policy import Limits, RestartPolicy
from .supervisor import Supervisor
from .target import PersisterRef

__all__ = ["Limits", "PersisterRef", "RestartPolicy", "Supervisor"]
