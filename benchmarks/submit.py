"""What does it cost the caller to submit a commit of 1 KiB, whatever the worker is doing?

`Supervisor.commit()` is called on a paced schedule and timed, wall and CPU, while the worker

ready       makes the commits durable on the disk as it is
snapshots   beside it writes 20 MiB snapshots, one after the other
slow disk   waits a second for each sync
stopped     is stopped (SIGSTOP): nothing leaves the pipe
restarting  is killed again and again, and replaced

Beside them stand two floors, timed by the same loop: an append to a deque under a lock, which shows what the machine
and the interpreter's pauses cost without us; and one byte written to a pipe on which a thread waits, which shows what
it costs to wake anybody at all.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Final

from rich.progress import track
from rich.table import Table

from bgsuper import Key, Limits, RestartPolicy, Supervisor
from bgsuper.faults.plan import Plan

from .harness import Figures, Report, at_most, in_fresh_host, medians, parser, percentile, scratch
from .machine import facts

MODULE: Final = "benchmarks.submit"
FLOOR: Final = "floor"
WAKE: Final = "wake"
CONDITIONS: Final = ("ready", "snapshots", "slow disk", "stopped", "restarting")
RATES: Final = (500, 5000)
COMMIT_BYTES: Final = 1024
SLOW_SYNC_S: Final = 1.0
KILL_EVERY_S: Final = 0.5
SNAPSHOT: Final = Key("", "", "network_graph")
LIMIT_US: Final = 50.0

# -- in the host under measurement ------------------------------------------------------------------------------------


def measure(condition: str, rate: int, seconds: float, directory: Path) -> Figures:
    """One cell, in this process."""
    if condition == FLOOR:
        lock, queue = Lock(), deque[tuple[Key, bytes]](maxlen=1000)

        def append(key: Key, value: bytes) -> None:
            with lock:
                queue.append((key, value))

        return paced(append, rate, seconds)
    if condition == WAKE:
        with woken() as wake:
            return paced(lambda key, value: wake(), rate, seconds)
    with scratch(directory) as path, Plan.create(path / "plan") as plan:
        policy = RestartPolicy(intensity=10**6, period_s=0.05, stopped_grace_s=3600.0)
        limits = Limits(soft_bytes=1 << 30, hard_bytes=1 << 31)
        supervisor = Supervisor(f"sqlite://{path}/store?faults={path}/plan", restart=policy, limits=limits)
        with supervisor, during(condition, supervisor, plan):
            return paced(lambda key, value: supervisor.commit({key: value}), rate, seconds)


@contextmanager
def woken() -> Iterator[Callable[[], None]]:
    """What wakes a thread that does nothing but wait."""
    reading, writing = os.pipe()

    def sleep() -> None:
        while os.read(reading, 64):
            pass

    def wake() -> None:
        os.write(writing, b"w")

    thread = Thread(target=sleep)
    thread.start()
    yield wake
    os.close(writing)
    thread.join()
    os.close(reading)


@contextmanager
def during(condition: str, supervisor: Supervisor, plan: Plan) -> Iterator[None]:
    """Put the worker into `condition`, and afterwards make it well again."""
    if condition == "slow disk":
        plan.sync_delay_s = SLOW_SYNC_S
        yield
        plan.sync_delay_s = 0
    elif condition == "stopped":
        pid = supervisor.health().pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        yield
        os.kill(pid, signal.SIGCONT)
    elif condition in ("snapshots", "restarting"):
        over = Event()
        work = partial(_snapshots, supervisor, over) if condition == "snapshots" else partial(_kills, supervisor, over)
        thread = Thread(target=work)
        thread.start()
        yield
        over.set()
        thread.join()
    else:
        yield


def _snapshots(supervisor: Supervisor, over: Event) -> None:
    pieces = [random.Random(1).randbytes(64 * 1024)] * 320
    while not over.wait(0.01):
        supervisor.wait(supervisor.snapshot(SNAPSHOT, pieces))


def _kills(supervisor: Supervisor, over: Event) -> None:
    while not over.wait(KILL_EVERY_S):
        pid = supervisor.health().pid
        if pid is not None:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # its successor is not launched yet


def paced(submit: Callable[[Key, bytes], object], rate: int, seconds: float) -> Figures:
    """Call `submit` `rate` times a second, and time each call."""
    filling = random.Random(1).randbytes(COMMIT_BYTES - 8)
    keys = [Key("channels", "", str(i)) for i in range(1000)]
    wall, cpu = array("d"), array("d")
    begin = time.perf_counter()
    for number in range(round(rate * seconds)):
        key, value = keys[number % 1000], number.to_bytes(8) + filling
        ahead = begin + number / rate - time.perf_counter()
        if ahead > 0:
            time.sleep(ahead)
        cpu_before, before = time.thread_time(), time.perf_counter()
        submit(key, value)
        after, cpu_after = time.perf_counter(), time.thread_time()
        wall.append((after - before) * 1e6)
        cpu.append((cpu_after - cpu_before) * 1e6)
    ordered, ordered_cpu = sorted(wall), sorted(cpu)
    return {
        "submits": len(ordered),
        "p50_us": percentile(ordered, 0.5),
        "p99_us": percentile(ordered, 0.99),
        "p999_us": percentile(ordered, 0.999),
        "max_us": ordered[-1],
        "cpu_p50_us": percentile(ordered_cpu, 0.5),
        "cpu_p99_us": percentile(ordered_cpu, 0.99),
    }


# -- what is shown ----------------------------------------------------------------------------------------------------


def table(figures: dict[tuple[str, int], Figures]) -> Table:
    made = Table(title="One commit() of 1 KiB (medians of runs; us)")
    for column in ("the worker", "rate", "p50", "p99", "p99.9", "max", "CPU p50", "CPU p99"):
        made.add_column(column, justify="left" if column == "the worker" else "right")
    for (condition, rate), found in figures.items():
        names = ("p50_us", "p99_us", "p999_us", "max_us", "cpu_p50_us", "cpu_p99_us")
        made.add_row(condition, f"{rate}/s", *(f"{found[name]:,.1f}" for name in names))
    return made


def draw(figures: dict[tuple[str, int], Figures], path: Path) -> None:
    """p50, p99 and p99.9 for each condition."""
    from matplotlib import pyplot

    rates = list(dict.fromkeys(rate for _, rate in figures))
    conditions = list(dict.fromkeys(condition for condition, _ in figures))
    pyplot.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = pyplot.subplots(1, len(rates), figsize=(5 * len(rates), 3.6), sharey=True, squeeze=False)
    for axis, rate in zip(axes[0], rates, strict=True):
        rows = range(len(conditions))
        for name, marker, colour in (("p50", "o", "#1b7837"), ("p99", "D", "#2166ac"), ("p999", "|", "#888888")):
            values = [figures[condition, rate][f"{name}_us"] for condition in conditions]
            label = name.replace("p999", "p99.9")
            axis.plot(values, rows, marker, color=colour, label=label, markersize=6 if marker != "|" else 12)
        axis.axvline(LIMIT_US, color="#b2182b", linewidth=0.8)
        axis.text(LIMIT_US, -0.55, " limit of p99", color="#b2182b", fontsize=8)
        axis.set(xscale="log", title=f"{rate} a second\n", xlabel="one commit() (us)", yticks=rows)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_yticklabels(conditions)
        axis.grid(axis="x", alpha=0.25)
    axes[0][0].invert_yaxis()
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=4.0, help="how long a cell measures")
    options.add_argument("--runs", type=int, default=3, help="interleaved runs")
    options.add_argument("--rates", nargs="+", type=int, default=list(RATES), metavar="N", help="commits a second")
    chosen = options.parse_args()
    if chosen.cell:
        print(json.dumps(measure(**json.loads(chosen.cell), directory=chosen.dir)))
        return
    if chosen.quick:
        chosen.seconds, chosen.runs, chosen.rates = 0.6, 1, [500]
    machine = facts(chosen.dir)
    each = [(condition, rate) for rate in chosen.rates for condition in (FLOOR, WAKE, *CONDITIONS)]
    taken: defaultdict[tuple[str, int], list[Figures]] = defaultdict(list)
    for condition, rate in track(each * chosen.runs, "submit", disable=not sys.stderr.isatty()):
        spec = {"condition": condition, "rate": rate, "seconds": chosen.seconds}
        figures = in_fresh_host(MODULE, spec, directory=chosen.dir, timeout=120 + 10 * chosen.seconds)
        taken[condition, rate].append(figures)
    results = {cell: medians(runs) for cell, runs in taken.items()}
    claims = [
        at_most(f"p99 of a submit, worker {condition}, {rate}/s", found["p99_us"], LIMIT_US, "us")
        for (condition, rate), found in results.items()
        if condition not in (FLOOR, WAKE)
    ]
    rows = [{"condition": condition, "rate": rate} | found for (condition, rate), found in results.items()]
    settings = {name: getattr(chosen, name) for name in ("seconds", "runs", "rates")}
    report = Report("submit", (__doc__ or "").splitlines()[0], machine, settings, rows, claims)
    report.show(table(results))
    report.save(chosen.json)
    if chosen.plot:
        draw(results, chosen.plot)


if __name__ == "__main__":
    main()
