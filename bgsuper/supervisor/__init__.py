"""The worker seen from the host.

supervisor.py  Supervisor: the public face, for threads and asyncio
target.py      what the worker is to serve
policy.py      limits and restarts, as data

Sans-IO:
life.py        the life of a worker, as a table
core.py        what is known and what to do: start reading here
incumbent.py   the worker of the moment
backlog.py     what is un-acknowledged, in order
requests.py    reads and backups
diagnosis.py   what a row of looks says about a living worker
death.py       why one died
restarts.py    when it is replaced, and when that is given up
poison.py      is it something we submitted that kills them?
fencing.py     whose epochs the store bears
stopping.py    stop()'s deadline
history.py     what happened, for operators
snapshot_failures.py   what is told to who waits for a snapshot

Hands:
shell.py       the thread that does what the core says
waiters.py     coroutines that wait
launch.py      starting a process
children/      a launched worker, and how the host knows of its death
vitals.py      psutil
"""

from __future__ import annotations

from .policy import Limits, RestartPolicy
from .requests import BackupReport
from .supervisor import Supervisor
from .target import PersisterRef

__all__ = ["BackupReport", "Limits", "PersisterRef", "RestartPolicy", "Supervisor"]
