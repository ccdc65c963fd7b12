"""How soon does a successor acknowledge after its predecessor's SIGKILL, and what does an idle worker cost?

recovery  commits stream at 200 a second; the worker is killed; the clock runs from the kill to the first
          acknowledgement by its successor. In between: the death seen (pidfd), a fresh interpreter, the store's lock,
          the WAL recovered, the epoch bumped and synced, HELLO, the replay of what was un-acknowledged
start     `Supervisor.start()`: launch to HELLO, on a new store and on one that is there
idle      RSS, CPU time and wakes of a worker that waits, and CPU time of the supervisor's thread beside it
"""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import sys
import time
from pathlib import Path
from threading import Event, Thread
from typing import Final

import psutil
from rich.progress import track
from rich.table import Table

from bgsuper import Key, RestartPolicy, Supervisor

from .harness import Figures, Report, at_most, in_fresh_host, parser, percentile, scratch
from .machine import facts

MODULE: Final = "benchmarks.recovery"
STREAM_S: Final = 1 / 200
#: How long a worker acknowledges before it is killed; longer than the period of the policy below.
UP_S: Final = 0.15
PATIENCE_S: Final = 30.0

# -- in the host under measurement ------------------------------------------------------------------------------------


def measure_recovery(directory: Path, kills: int) -> Figures:
    """Milliseconds from each SIGKILL to the first acknowledgement by the successor."""
    # Each kill is a first one: what the policy does about many in a row is no cost of recovery.
    policy = RestartPolicy(intensity=10**6, period_s=UP_S / 3)
    taken: list[float] = []
    with Supervisor(f"sqlite://{directory}/store", restart=policy) as supervisor:
        over = Event()
        stream = Thread(target=_stream, args=(supervisor, over))
        stream.start()
        try:
            for _ in range(kills):
                time.sleep(UP_S)
                taken.append(_kill(supervisor) * 1e3)
        finally:
            over.set()
            stream.join()
    return {"ms": taken}


def _stream(supervisor: Supervisor, over: Event) -> None:
    filling, number = random.Random(1).randbytes(1016), 0
    while not over.wait(STREAM_S):
        supervisor.commit({Key("channels", "", str(number % 1000)): number.to_bytes(8) + filling})
        number += 1


def _kill(supervisor: Supervisor) -> float:
    """Seconds until what was submitted after the kill is durable: the predecessor cannot have acknowledged that."""
    pid = supervisor.health().pid
    assert pid is not None
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    seq = supervisor.commit({Key("channels", "", "after"): str(began).encode()})
    supervisor.wait(seq, PATIENCE_S)
    return time.perf_counter() - began


def measure_start(directory: Path, starts: int) -> Figures:
    """Milliseconds of start() on a new store, then on that store."""
    taken: dict[str, list[float]] = {"new": [], "existing": []}
    for number in range(starts):
        for case in taken:
            supervisor = Supervisor(f"sqlite://{directory}/store{number}")
            began = time.perf_counter()
            supervisor.start()
            taken[case].append((time.perf_counter() - began) * 1e3)
            supervisor.stop()
    return {"new_ms": taken["new"], "existing_ms": taken["existing"]}


def measure_idle(directory: Path, seconds: float) -> Figures:
    """What worker and supervisor's thread use while nothing happens; first, some work, as in life."""
    with Supervisor(f"sqlite://{directory}/store") as supervisor:
        filling = random.Random(1).randbytes(1016)
        for number in range(2000):
            seq = supervisor.commit({Key("channels", "", str(number)): number.to_bytes(8) + filling})
        supervisor.wait(seq, PATIENCE_S)
        time.sleep(min(1.0, seconds))
        pid = supervisor.health().pid
        assert pid is not None
        worker = psutil.Process(pid)
        before, host_before = _ran(pid), _ran(os.getpid())
        time.sleep(seconds)
        after, host_after = _ran(pid), _ran(os.getpid())
        memory = worker.memory_full_info()
        return {
            "seconds": seconds,
            "rss_mib": memory.rss / 2**20,
            "uss_mib": memory.uss / 2**20,
            "cpu_percent": 100 * (after[0] - before[0]) / seconds,
            "wakes_per_s": (after[1] - before[1]) / seconds,
            "host_cpu_percent": 100 * (host_after[0] - host_before[0]) / seconds,
            "threads": worker.num_threads(),
        }


def _ran(pid: int) -> tuple[float, int]:
    """CPU seconds of all threads of `pid`, and how often they were given a CPU. (psutil counts CPU time in hundredths
    of a second, and switches of the main thread only.)"""
    tasks = [(task / "schedstat").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int(task[0]) for task in tasks) / 1e9, sum(int(task[2]) for task in tasks)


def measure(what: str, directory: Path, amount: float) -> Figures:
    """One cell, in this process."""
    with scratch(directory) as path:
        if what == "recovery":
            return measure_recovery(path, round(amount))
        if what == "start":
            return measure_start(path, round(amount))
        return measure_idle(path, amount)


# -- what is shown ----------------------------------------------------------------------------------------------------


def times_table(times: dict[str, list[float]]) -> Table:
    made = Table(title="Milliseconds")
    for column in ("", "times", "p50", "p95", "max"):
        made.add_column(column, justify="right" if column else "left")
    for name, values in times.items():
        row = [f"{found:.0f}" for found in (statistics.median(values), percentile(values, 0.95), values[-1])]
        made.add_row(name, str(len(values)), *row)
    return made


def idle_table(idle: Figures) -> Table:
    made = Table(title=f"A worker that waits ({idle['seconds']:g} s)")
    for column in ("RSS MiB", "USS MiB", "threads", "CPU %", "wakes a second", "the host's CPU %"):
        made.add_column(column, justify="right")
    names = ("rss_mib", "uss_mib", "threads", "cpu_percent", "wakes_per_s", "host_cpu_percent")
    made.add_row(*(f"{idle[name]:.3g}" for name in names))
    return made


def draw(times: dict[str, list[float]], path: Path) -> None:
    """The share of kills and starts that took at most so long."""
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, axis = pyplot.subplots(figsize=(6, 3.6))
    for (name, values), colour in zip(times.items(), ("#1b7837", "#2166ac", "#92c5de"), strict=True):
        shares = [number / len(values) for number in range(len(values) + 1)]
        axis.step([values[0], *values], shares, where="post", color=colour, label=name)
    axis.axhline(0.95, color="grey", linewidth=0.6)
    axis.set(xlim=(0, None), ylim=(0, 1.02), xlabel="milliseconds", ylabel="share that took at most so long")
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=9, loc="center left")
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--kills", type=int, default=100, help="how often the worker is killed")
    options.add_argument("--starts", type=int, default=30, help="how often each kind of store is started")
    options.add_argument("--idle-seconds", type=float, default=30.0, help="how long an idle worker is watched")
    chosen = options.parse_args()
    if chosen.cell:
        print(json.dumps(measure(**json.loads(chosen.cell), directory=chosen.dir)))
        return
    if chosen.quick:
        chosen.kills, chosen.starts, chosen.idle_seconds = 3, 2, 0.5
    machine = facts(chosen.dir)
    amounts = {"recovery": chosen.kills, "start": chosen.starts, "idle": chosen.idle_seconds}
    found: dict[str, Figures] = {}
    for what in track(amounts, "recovery", disable=not sys.stderr.isatty()):
        cell = {"what": what, "amount": amounts[what]}
        found[what] = in_fresh_host(MODULE, cell, directory=chosen.dir, timeout=600)
    times = {
        "SIGKILL to the successor's first ack": sorted(found["recovery"]["ms"]),
        "start() to HELLO, existing store": sorted(found["start"]["existing_ms"]),
        "start() to HELLO, new store": sorted(found["start"]["new_ms"]),
    }
    idle = found["idle"]
    recovery = times["SIGKILL to the successor's first ack"]
    claims = [
        at_most("p95 from a worker's SIGKILL to its successor's first ack", percentile(recovery, 0.95), 500, "ms"),
        at_most("RSS of an idle worker", idle["rss_mib"], 30, "MiB"),
        at_most("CPU of an idle worker", idle["cpu_percent"], 0.2, "%"),
    ]
    settings = {name: getattr(chosen, name) for name in ("kills", "starts", "idle_seconds")}
    figures = {"ms": times, "idle": idle}
    report = Report("recovery", (__doc__ or "").splitlines()[0], machine, settings, figures, claims)
    report.show(times_table(times), idle_table(idle))
    report.save(chosen.json)
    if chosen.plot:
        draw(times, chosen.plot)


if __name__ == "__main__":
    main()
