"""Hosts as the overseer starts them, where something else than a kill goes wrong: a second host on the directory, a
clock that is set, a directory that is removed, an overseer that dies."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from bgsuper import Key, RestartPolicy, Supervisor
from bgsuper.errors import BgsuperError, StoreError, StoreLocked
from bgsuper.health import WorkerState
from bgsuper.torture.run.host import Orders
from bgsuper.torture.run.process import HostProcess, WorkerProcess
from bgsuper.torture.run.reports import Point, Report

pytestmark = pytest.mark.usefixtures("no_leaks")

PATIENCE_S = 30.0
KEY = Key("app", "", "x")


class Running:
    """A host process, and all that it has reported."""

    def __init__(self, directory: Path, number: int = 1) -> None:
        self.log = open(directory / f"log{number}", "wb")  # noqa: SIM115 - closed by end()
        orders = Orders(f"sqlite://{directory}/store", number, 1, 0, [["torture", "records"]])
        self.process = HostProcess(orders, self.log)
        self.reports: list[Report] = []

    def named(self, name: str) -> list[Report]:
        return [report for report in self.reports if report.name == name]

    def hear_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, self.reports[-5:]
            self.reports += self.process.hear(0.05)

    @property
    def read(self) -> bool:
        """Whether it is open, and told all that it found."""
        return Report("found", [[]]) in self.reports

    @property
    def worker(self) -> WorkerProcess:
        return WorkerProcess(self.named("launched")[-1].fields[0])

    def end(self) -> None:
        self.process.close()
        for report in self.named("launched"):
            WorkerProcess(report.fields[0]).end()
        self.log.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Running]]:
    running: list[Running] = []

    def start_one() -> Running:
        running.append(Running(tmp_path, len(running) + 1))
        return running[-1]

    yield start_one
    for each in running:
        each.end()


# -- reports ----------------------------------------------------------------------------------------------------------


def test_a_host_waits_until_what_it_read_was_judged(start: Callable[[], Running]) -> None:
    """It begins nothing before the word; then it tells of each step before it submits it, and of acknowledgements."""
    host = start()
    host.hear_until(lambda: host.read)
    host.reports += host.process.hear(0.2)
    assert not host.named("begin")
    host.process.go()
    host.hear_until(lambda: len(host.named("acked")) >= 3)
    begun = [report.fields[0] for report in host.named("begin")]
    assert begun == list(range(1, len(begun) + 1))
    names = [report.name for report in host.reports]
    assert names.index("begin") < names.index("received") < names.index("acked")
    host.process.stop()
    host.hear_until(lambda: host.named("stopped"))
    assert host.named("acked")[-1].fields[0] == host.named("begin")[-1].fields[0]


@pytest.mark.parametrize("point", Point)
def test_a_host_dies_at_the_point_that_it_is_told(point: Point, start: Callable[[], Running]) -> None:
    """By its own SIGKILL, and its last words are those that the point allows."""
    host = start()
    host.process.go()
    host.hear_until(lambda: host.named("acked"))
    host.process.die_at(point)
    host.hear_until(lambda: host.process.ended)
    assert host.process.close() == -signal.SIGKILL
    if point is Point.BEGUN:
        assert [report for report in host.reports if report.name in ("begin", "received")]


def test_a_host_whose_overseer_dies_stops_by_itself(tmp_path: Path) -> None:
    """Nothing of a run outlives it: neither host nor worker."""
    orders = Orders(f"sqlite://{tmp_path}/store", 1, 1, 0, [])
    overseer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time\n"
            "from bgsuper.torture.run.process import HostProcess\n"
            "from bgsuper.torture.run.host import Orders\n"
            "import json\n"
            "host = HostProcess(Orders(**json.loads(sys.argv[1])), open(sys.argv[2], 'wb'))\n"
            "host.go()\n"
            "while not any(report.name == 'acked' for report in host.hear(0.1)): pass\n"
            "print(host.pid, flush=True)\n"
            "while True: host.hear(1)\n",
            orders.to_json(),
            str(tmp_path / "log"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert overseer.stdout is not None
    pid = int(overseer.stdout.readline())
    worker = psutil.Process(pid).children()[0]
    overseer.kill()
    overseer.wait()
    overseer.stdout.close()
    deadline = time.monotonic() + PATIENCE_S
    while WorkerProcess(pid).alive or WorkerProcess(worker.pid).alive:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- two hosts on one directory ---------------------------------------------------------------------------------------


def test_a_second_host_is_refused_at_once_and_the_first_goes_on(start: Callable[[], Running], tmp_path: Path) -> None:
    """`StoreLocked` names the holder; the first one notices nothing."""
    first = start()
    first.process.go()
    first.hear_until(lambda: first.named("acked"))
    began = time.monotonic()
    with pytest.raises(StoreLocked, match=str(first.worker.pid)):
        Supervisor(f"sqlite://{tmp_path}/store").start(PATIENCE_S)
    assert time.monotonic() - began < PATIENCE_S / 3
    before = len(first.named("acked"))
    first.hear_until(lambda: len(first.named("acked")) > before + 3)
    assert len(first.named("launched")) == 1


def test_a_new_host_waits_for_an_orphan_that_stands_still_but_not_for_ever(
    start: Callable[[], Running], tmp_path: Path
) -> None:
    """Bounded: half of its start timeout. Once the orphan goes on, the next start succeeds, with all that it had."""
    first = start()
    first.process.go()
    first.hear_until(lambda: first.named("acked"))
    orphan = first.worker
    orphan.signal(signal.SIGSTOP)
    first.process.signal(signal.SIGKILL)
    first.hear_until(lambda: first.process.ended)
    with pytest.raises(StoreLocked, match=str(orphan.pid)):
        Supervisor(f"sqlite://{tmp_path}/store").start(2.0)
    orphan.signal(signal.SIGCONT)
    with Supervisor(f"sqlite://{tmp_path}/store") as supervisor:
        received = [report.fields[0] for report in first.named("received") if report.fields[1] is None]
        assert supervisor.durable_seq >= max(received)


# -- clocks -----------------------------------------------------------------------------------------------------------


def test_a_wall_clock_that_is_set_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Years forth and back with each look at it: no deadline, no state, no order rests on it."""
    wall, steps = time.time, iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: wall() + (10**8 if next(steps) % 2 else -(10**8)))
    with Supervisor(f"sqlite://{tmp_path}/store", restart=RestartPolicy(vitals_interval_s=0.02)) as supervisor:
        for number in range(50):
            supervisor.wait(supervisor.commit({KEY: b"%d" % number}), PATIENCE_S)
        supervisor.health_log()
        assert supervisor.health().state is WorkerState.READY
        assert supervisor.health().restarts == 0
    assert next(steps) > 0


def test_the_worker_never_asks_for_the_wall_clock() -> None:
    """What would be set under it cannot matter to it."""
    package = Path(__file__).parents[2] / "bgsuper"
    files = [path for part in ("worker", "store", "ipc") for path in (package / part).glob("*.py")]
    assert files
    for path in files:
        source = path.read_text()
        assert "time.time(" not in source, path
        assert "datetime" not in source, path


# -- the directory removed under us -----------------------------------------------------------------------------------


def test_a_store_that_was_removed_is_never_replaced_by_an_empty_one(tmp_path: Path) -> None:
    """The successor of a worker whose directory is gone must not start anew: what was acknowledged is lost, and the
    host must hear of it."""
    supervisor = Supervisor(f"sqlite://{tmp_path}/store", restart=RestartPolicy(backoff_first_s=0.01))
    supervisor.start()
    supervisor.wait(supervisor.commit({KEY: b"1"}), PATIENCE_S)
    shutil.rmtree(tmp_path / "store")
    pid = supervisor.health().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_S
    while supervisor.failure() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(StoreError):
        supervisor.stop(PATIENCE_S)


def test_nothing_is_acknowledged_once_the_directory_is_gone(tmp_path: Path) -> None:
    """A sync of a file that was removed makes nothing durable: no later reader can ever find it."""
    supervisor = Supervisor(f"sqlite://{tmp_path}/store")
    supervisor.start()
    try:
        supervisor.wait(supervisor.commit({KEY: b"1"}), PATIENCE_S)
        shutil.rmtree(tmp_path / "store")
        with pytest.raises(BgsuperError):
            supervisor.wait(supervisor.commit({KEY: b"2"}), PATIENCE_S)
    finally:
        try:
            supervisor.stop(PATIENCE_S)
        except BgsuperError:
            pass
