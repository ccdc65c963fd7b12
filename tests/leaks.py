"""What a test of processes may leave behind: nothing. One look at this process's children, descriptors and threads,
to be compared with a later one.

A worker runs in a session of its own and outlives a dead host, so it is not always a child of ours. Workers inherit the
environment, though: a mark in it tells those of this test run from those of other runs on the same machine.
"""

from __future__ import annotations

import gc
import os
import threading
import time
import uuid
from dataclasses import dataclass

import psutil

MARK = "BGSUPER_TEST_RUN"
RUN = uuid.uuid4().hex
_DESCRIPTORS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"


@dataclass(frozen=True)
class Held:
    """What this process holds, each thing under the name by which a report calls it."""

    processes: dict[psutil.Process, str]
    descriptors: frozenset[str]
    threads: frozenset[threading.Thread]

    @classmethod
    def now(cls) -> Held:
        """What is held at this moment."""
        return cls(_processes(), _descriptors(), frozenset(threading.enumerate()))

    def leaked_since(self) -> list[str]:
        """What is held now and was not then, in words."""
        now = Held.now()
        return [
            *(f"process {name}" for process, name in now.processes.items() if process not in self.processes),
            *(f"descriptor {name}" for name in sorted(now.descriptors - self.descriptors)),
            *(f"thread {thread.name!r}" for thread in now.threads - self.threads),
        ]

    def settle(self, timeout: float) -> list[str]:
        """What is still leaked once nothing is, or after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while leaked := self.leaked_since():
            if time.monotonic() > deadline:
                return leaked
            gc.collect()  # what only a reference cycle holds is not leaked
            time.sleep(0.02)
        return []

    def kill_since(self) -> None:
        """Kill the processes leaked since, so that one leak fails one test."""
        for process in _processes().keys() - self.processes.keys():
            try:
                process.kill()
                process.wait(5)
            except (psutil.NoSuchProcess, psutil.TimeoutExpired):
                pass


def _processes() -> dict[psutil.Process, str]:
    found = {process: _name(process) for process in psutil.Process().children(recursive=True)}
    for process in psutil.process_iter():
        if process.pid != os.getpid() and process not in found and _is_ours(process):
            found[process] = _name(process)
    return found


def _is_ours(process: psutil.Process) -> bool:
    try:
        return process.environ().get(MARK) == RUN
    except psutil.Error:
        return False  # gone, a zombie of someone else, or not ours to look at


def _name(process: psutil.Process) -> str:
    try:
        status = process.status()
        command = process.name() if status == psutil.STATUS_ZOMBIE else " ".join(process.cmdline())
    except psutil.Error:
        return f"{process.pid}"
    return f"{process.pid} ({status}): {command}"


def _descriptors() -> frozenset[str]:
    return frozenset(filter(None, map(_descriptor, os.listdir(_DESCRIPTORS))))


def _descriptor(number: str) -> str | None:
    try:
        stat = os.fstat(int(number))
    except OSError:
        return None  # the one that listed the directory
    try:
        target = os.readlink(f"{_DESCRIPTORS}/{number}")
    except OSError:
        target = f"mode {stat.st_mode:o}, inode {stat.st_ino}"
    return f"{number} -> {target}"
