"""Supervisors over real workers, for tests: with a fault plan, quick to restart, and patient about a busy machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bgsuper import Key, PersisterRef, RestartPolicy, Supervisor
from bgsuper.errors import BgsuperError
from bgsuper.faults.plan import Plan
from bgsuper.health import WorkerState

from . import persisters

#: Far more than anything here takes, were the machine free.
PATIENCE_S = 30.0
QUICK = RestartPolicy(backoff_first_s=0.01, backoff_max_s=0.05, vitals_interval_s=0.05, intensity=50, start_intensity=9)
ROOT = Path(__file__).parents[2]


def eventually(condition: Callable[[], object], what: str = "") -> None:
    """Wait for a condition, never for a time."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what or condition}"
        time.sleep(0.005)


def key(number: int) -> Key:
    return Key("app", "", f"k{number:06}")


@dataclass
class Place:
    """A store directory and the plan of its faults."""

    directory: Path
    plan: Plan

    @property
    def url(self) -> str:
        return f"sqlite://{self.directory}/store?faults={self.directory}/plan"

    def supervisor(self, restart: RestartPolicy = QUICK, **settings: object) -> Supervisor:
        return Supervisor(self.url, restart=restart, **settings)  # type: ignore[arg-type]

    @contextmanager
    def running(self, restart: RestartPolicy = QUICK, **settings: object) -> Iterator[Supervisor]:
        """Started; stopped at the end whatever happened, without a word about it."""
        supervisor = self.supervisor(restart, **settings)
        supervisor.start(PATIENCE_S)
        try:
            yield supervisor
        finally:
            for field in ("sync_delay_ns", "full", "fail_syncs"):
                setattr(self.plan, field, 0)
            thaw(supervisor)
            try:
                supervisor.stop(PATIENCE_S)
            except BgsuperError:
                pass

    def stored(self) -> dict[Key, bytes]:
        """What a fresh worker finds."""
        with Supervisor(self.url) as supervisor:
            return dict(supervisor.scan("app"))


def pid_of(supervisor: Supervisor) -> int:
    pid = supervisor.health().pid
    assert pid is not None
    return pid


def send(supervisor: Supervisor, number: signal.Signals) -> None:
    os.kill(pid_of(supervisor), number)


def thaw(supervisor: Supervisor) -> None:
    pid = supervisor.health().pid
    if pid is not None:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass


def freeze(supervisor: Supervisor) -> int:
    """SIGSTOP the worker, and wait until it is stopped; its pid."""
    pid = pid_of(supervisor)
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    return pid


def state_is(supervisor: Supervisor, state: WorkerState) -> Callable[[], bool]:
    return lambda: supervisor.health().state is state


def states(supervisor: Supervisor) -> list[WorkerState]:
    """Those that it was in, oldest first; without DYING, which a death from outside may or may not show."""
    log = supervisor.health_log()
    return [transition.state for transition in log if transition.state is not WorkerState.DYING]


def alive(pid: int) -> bool:
    """Whether the process runs: not gone, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def persister(directory: Path, name: str = "Files", **config: object) -> PersisterRef:
    """One of `persisters`, whose own errors may come back as themselves."""
    return PersisterRef(
        f"{persisters.__name__}:{name}", {"directory": str(directory), **config}, raises=(persisters.DiskOfMineError,)
    )


def host(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A host app of its own, running `script` with `arguments`."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
