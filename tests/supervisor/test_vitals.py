"""Vitals describe, and never decide: whatever psutil does, there is an answer."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from bgsuper import PersisterRef, RestartPolicy, Supervisor, WorkerState
from bgsuper.errors import WorkerStartFailed
from bgsuper.supervisor import vitals as vitals_module
from bgsuper.supervisor.vitals import Vitals, Watch, thread_status

from .hosts import PATIENCE_S, eventually, host

FIELDS = {
    "memory_info": "rss_bytes",
    "cpu_times": "cpu_s",
    "io_counters": "write_bytes",
    "num_ctx_switches": "switches",
}
PIPES: dict[str, int] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


def test_a_living_process_is_described() -> None:
    """This one runs, has memory and has used the processor."""
    vitals = Watch(os.getpid()).look()
    assert vitals.status in ("running", "sleeping")
    assert vitals.rss_bytes is not None
    assert vitals.rss_bytes > 1_000_000
    assert vitals.cpu_s is not None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (psutil.NoSuchProcess(1), "gone"),
        (psutil.AccessDenied(1), "unknown"),
        (RuntimeError("/proc/1/io file was empty"), "unknown"),
        (ValueError("a field was missing"), "unknown"),
        (PermissionError(13, "no"), "unknown"),
    ],
)
def test_whatever_psutil_raises_is_an_answer(error: Exception, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An odd line in /proc must not end the supervisor."""

    def fail(_: object) -> object:
        raise error

    watch = Watch(os.getpid())
    monkeypatch.setattr(psutil.Process, "io_counters", fail)
    monkeypatch.setattr(psutil.Process, "status", fail)
    assert watch.look() == Vitals(status)


@pytest.mark.parametrize("figure", ["memory_info", "cpu_times", "io_counters", "num_ctx_switches"])
@pytest.mark.parametrize("error", [psutil.AccessDenied(1), NotImplementedError(), ValueError("an odd line")])
def test_a_figure_that_is_denied_leaves_the_others(
    figure: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every platform, container or kernel gives them all."""

    def fail(_: object) -> object:
        raise error

    monkeypatch.setattr(psutil._psplatform.Process, figure, fail)  # type: ignore[attr-defined]
    vitals = Watch(os.getpid()).look(threading.get_native_id())
    assert vitals.status in ("running", "sleeping")
    assert [field for field, value in vitals._asdict().items() if value is None] == [FIELDS[figure]]


@pytest.mark.parametrize("figure", ["memory_info", "cpu_times", "io_counters", "num_ctx_switches"])
@pytest.mark.parametrize(("error", "status"), [(psutil.NoSuchProcess(1), "gone"), (psutil.ZombieProcess(1), "zombie")])
def test_a_death_in_the_middle_of_a_look(
    figure: str, error: Exception, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read before it says nothing any more."""

    def fail(_: object) -> object:
        raise error

    monkeypatch.setattr(psutil._psplatform.Process, figure, fail)  # type: ignore[attr-defined]
    assert Watch(os.getpid()).look() == Vitals(status)


def test_a_dead_process() -> None:
    """A zombie until it is reaped, and then gone; one that never was is unknown."""
    process = subprocess.Popen(["sleep", "3600"])
    watch = Watch(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert watch.look(process.pid) == Vitals("zombie")
    process.wait()
    assert watch.look(process.pid) == Vitals("gone")
    assert Watch(process.pid).look() == Vitals("unknown")


def test_context_switches_are_counted() -> None:
    """Those of the main thread: a process that does nothing has no new ones, one that sleeps and wakes has."""
    process = subprocess.Popen([sys.executable, "-c", "input()\nprint(1, flush=True)\ninput()"], **PIPES)
    assert process.stdin is not None
    assert process.stdout is not None
    watch = Watch(process.pid)
    try:
        eventually(lambda: watch.look().status == "sleeping" and idle(watch))
        before = watch.look().switches
        assert before is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        eventually(lambda: (watch.look().switches or 0) > before)
    finally:
        process.communicate(b"\n")


def idle(watch: Watch) -> bool:
    first = watch.look()
    time.sleep(0.02)
    return watch.look().switches == first.switches


# -- the snapshot thread ----------------------------------------------------------------------------------------------


def test_a_thread_has_a_state_of_its_own() -> None:
    """The main thread runs or waits, another one sleeps; which is which is what psutil cannot tell."""
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    try:
        watch = Watch(os.getpid())
        eventually(lambda: watch.look(thread.native_id).lane_status == "sleeping")
        assert watch.look(threading.get_native_id()).lane_status == "running"
    finally:
        event.set()
        thread.join()


def test_a_thread_in_the_disk(tmp_path: Path) -> None:
    """CLONE_VFORK is uninterruptible sleep that needs no disk: subprocess sleeps so until its child has executed. Here
    the child opens a pipe that nobody writes to before."""
    os.mkfifo(tmp_path / "fifo")
    script = (
        "import os, sys, threading\n"
        "fifo = sys.argv[1]\n"
        "def sleep_in_the_kernel():\n"
        "    print(threading.get_native_id(), flush=True)\n"
        "    open_it = [(os.POSIX_SPAWN_OPEN, 3, fifo, os.O_RDONLY, 0)]\n"
        "    os.waitpid(os.posix_spawn('/bin/true', ['true'], {}, file_actions=open_it), 0)\n"
        "thread = threading.Thread(target=sleep_in_the_kernel, daemon=True)\n"
        "thread.start()\n"
        "thread.join()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path / "fifo"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    lane = int(process.stdout.readline())
    watch = Watch(process.pid)
    try:
        eventually(lambda: watch.look(lane).lane_status == "disk-sleep")
        assert watch.look(lane).status != "disk-sleep"
    finally:
        writer = os.open(tmp_path / "fifo", os.O_RDWR)
        process.communicate(timeout=PATIENCE_S)
        os.close(writer)


def test_a_thread_that_is_gone_or_never_was() -> None:
    """Nothing, and the rest of the look stands."""
    vitals = Watch(os.getpid()).look(1)
    assert vitals.lane_status is None
    assert vitals.rss_bytes is not None


def test_a_thread_may_be_called_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is whatever it has given itself."""
    stat = b"12 (a) R 1 () D 1 12 12 0 -1 4194304"
    monkeypatch.setattr(vitals_module, "open", lambda *_: io.BytesIO(stat), raising=False)
    assert thread_status(1, 1) == "disk-sleep"


@pytest.mark.parametrize("stat", [b"", b"12", b"12 (a) ", b"12 (a) ?", b")", b"\xff" * 5000])
def test_an_odd_line_about_a_thread(stat: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing."""
    monkeypatch.setattr(vitals_module, "open", lambda *_: io.BytesIO(stat), raising=False)
    assert thread_status(1, 1) is None


LOOKING_HOST = """
import os, re, sys, threading
from bgsuper.supervisor.vitals import Watch
watch = Watch(os.getpid())
opened = set()
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        opened.add(re.sub("[0-9]+", "N", os.fsdecode(arguments[0])))
sys.addaudithook(hook)
assert watch.look(threading.get_native_id()).lane_status
print(*sorted(opened))
"""


def test_a_look_reads_nothing_that_a_stuck_worker_could_hold() -> None:
    """cmdline, environ, maps and smaps wait for the lock of its memory map."""
    output, errors = host(LOOKING_HOST).communicate(timeout=PATIENCE_S)
    assert output.split() == [f"/proc/N/{name}" for name in ("io", "stat", "statm", "status", "task/N/stat")], errors


# -- in a supervisor --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_leaks")
def test_looks_can_be_switched_off(tmp_path: Path) -> None:
    """An interval without end is no interval that select() refuses."""
    policy = RestartPolicy(vitals_interval_s=math.inf)
    with Supervisor(f"sqlite://{tmp_path}/store", restart=policy) as supervisor:
        assert supervisor.health().state is WorkerState.READY


@pytest.mark.usefixtures("no_leaks")
def test_a_config_that_cannot_be_packed_is_a_failed_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is no UTF-8 has no place in a message: an error at start, not a bug in bgsuper."""
    monkeypatch.syspath_prepend("/nowhere/\udcff")
    with pytest.raises(WorkerStartFailed, match="surrogates"):
        Supervisor(PersisterRef("tests.supervisor.persisters:Files", {"directory": "x"})).start()
