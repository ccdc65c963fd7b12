"""How many commits become durable a second, and how soon, beside bare SQLite?

Closed loop: N commits of 1 KiB are in flight; whenever some are acknowledged, as many are submitted.

bgsuper   one thread submits, waits for the oldest, and looks how far the store is: what a gate does
asyncio   N coroutines with bgsuper, each awaits durable() of its own commit
thread    N coroutines, and a thread with group commit into SQLite in the same process
bare      SQLite alone, same pragmas and checkpoints, N records a transaction, one transaction after the other: no
          hand-over and nobody who waits, so it bounds what can be had from SQLite with such batches

Runs are interleaved; medians of runs. Beside the times stand the counts of whoever writes: syncs, write calls and bytes
for each commit (/proc and strace, in a run of their own).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
from array import array
from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
from rich.progress import track
from rich.table import Table

from bgsuper import Seq

from . import syscalls
from .approaches import Approach, BareSQLite, Bgsuper, ThreadGroupCommit
from .harness import Claim, Figures, Report, at_least, at_most, in_fresh_host, medians, parser, percentile, scratch
from .machine import facts

MODULE: Final = "benchmarks.throughput"
IN_FLIGHT: Final = (1, 8, 64, 512)
COMMIT_BYTES: Final = 1024
KEYS: Final = 1000
WARM_UP: Final = 0.2  # of a cell's time

# -- in the host under measurement ------------------------------------------------------------------------------------


def records() -> Iterator[tuple[str, bytes]]:
    """Commits without end: a thousand keys in turn, and never the same value."""
    filling, number = random.Random(1).randbytes(COMMIT_BYTES - 8), 0
    while True:
        yield str(number % KEYS), number.to_bytes(8) + filling
        number += 1


class Clock:
    """Counts the acknowledged commits after the warm-up, and how long each took."""

    def __init__(self, seconds: float) -> None:
        self.begin = time.perf_counter() + WARM_UP * seconds
        self.end = self.begin + (1 - WARM_UP) * seconds
        self.latency = array("d")

    def note(self, submitted: float, acknowledged: float, commits: int = 1) -> bool:
        """Whether there is time for more."""
        if self.begin <= submitted:
            self.latency.extend([acknowledged - submitted] * commits)
        return acknowledged < self.end

    def figures(self) -> Figures:
        ordered = sorted(self.latency)
        return {
            "commits": len(ordered),
            "per_second": len(ordered) / (time.perf_counter() - self.begin),
            "p50_ms": percentile(ordered, 0.5) * 1e3,
            "p99_ms": percentile(ordered, 0.99) * 1e3,
            "max_ms": ordered[-1] * 1e3 if ordered else 0.0,
        }


async def closed_loop(approach: Approach, writers: int, clock: Clock) -> None:
    commits = records()

    async def writer() -> None:
        while True:
            before = time.perf_counter()
            await approach.durable(approach.commit(*next(commits)))
            if not clock.note(before, time.perf_counter()):
                return

    await asyncio.gather(*(writer() for _ in range(writers)))


def measure(name: str, writers: int, seconds: float, directory: Path, counting: bool) -> Figures:
    """One cell, in this process."""
    with scratch(directory) as path:
        return MEASURES[name](path, writers, seconds, counting)


def measure_bare(path: Path, writers: int, seconds: float, counting: bool) -> Figures:
    sqlite, commits = BareSQLite(path / "database"), records()
    clock = Clock(seconds)
    with Counted(os.getpid(), counting) as counted:
        while True:
            before = time.perf_counter()
            sqlite.write([next(commits) for _ in range(writers)])
            if not clock.note(before, time.perf_counter(), writers):
                break
            counted.commits += writers
    sqlite.close()
    return clock.figures() | counted.figures


def measure_asyncio(path: Path, writers: int, seconds: float, counting: bool) -> Figures:
    approach = Bgsuper(path / "store")
    pid = approach.supervisor.health().pid
    assert pid is not None
    before = approach.supervisor.durable_seq
    clock = Clock(seconds)
    with Counted(pid, counting) as counted:
        asyncio.run(closed_loop(approach, writers, clock))
        counted.commits = approach.supervisor.durable_seq - before
    figures = clock.figures() | counted.figures
    approach.close()
    return figures


def measure_bgsuper(path: Path, writers: int, seconds: float, counting: bool) -> Figures:
    approach = Bgsuper(path / "store")
    supervisor = approach.supervisor
    pid = supervisor.health().pid
    assert pid is not None
    before = durable = supervisor.durable_seq
    in_flight: deque[float] = deque()
    clock, commits = Clock(seconds), records()
    more = True
    with Counted(pid, counting) as counted:
        while more:
            while len(in_flight) < writers:
                in_flight.append(time.perf_counter())
                approach.commit(*next(commits))
            supervisor.wait(Seq(durable + 1))
            acknowledged, now = supervisor.durable_seq, time.perf_counter()
            for _ in range(acknowledged - durable):
                more = clock.note(in_flight.popleft(), now)
            durable = acknowledged
        counted.commits = durable - before
    figures = clock.figures() | counted.figures
    approach.close()
    return figures


def measure_thread(path: Path, writers: int, seconds: float, counting: bool) -> Figures:
    async def run() -> Figures:
        approach, clock = ThreadGroupCommit(path), Clock(seconds)
        with Counted(os.getpid(), counting) as counted:
            await closed_loop(approach, writers, clock)
            counted.commits = approach.submitted
        figures = clock.figures() | counted.figures
        approach.close()
        return figures

    return asyncio.run(run())


MEASURES: Final = {
    "bgsuper": measure_bgsuper,
    "asyncio": measure_asyncio,
    "thread": measure_thread,
    "bare": measure_bare,
}


class Counted:
    """What the process `pid` asks of the disk meanwhile, for each of `commits`."""

    def __init__(self, pid: int, counting: bool) -> None:
        self._pid, self._counting = pid, counting
        self.commits = 0
        self.figures: Figures = {}

    def __enter__(self) -> Counted:
        if self._counting:
            traced = ",".join(sorted(syscalls.SYNCS | syscalls.WRITES))
            self._strace = subprocess.Popen(
                ["strace", "-f", "-c", "-U", "calls,name", "-e", f"trace={traced}", "-p", str(self._pid)],
                stderr=subprocess.PIPE,
                text=True,
            )
            assert self._strace.stderr is not None
            self._strace.stderr.readline()  # "attached": from now on it counts
            self._written = psutil.Process(self._pid).io_counters().write_bytes
        return self

    def __exit__(self, *_: object) -> None:
        if not self._counting:
            return
        written = psutil.Process(self._pid).io_counters().write_bytes - self._written
        self._strace.terminate()
        summary = self._strace.communicate()[1]
        calls = {m[2]: int(m[1]) for m in re.finditer(r"^ *(\d+) +(\w+)$", summary, re.MULTILINE)}
        syncs = sum(count for call, count in calls.items() if call in syscalls.SYNCS)
        writes = sum(count for call, count in calls.items() if call in syscalls.WRITES and call.startswith("p"))
        self.figures = {
            "syncs_per_commit": syncs / self.commits,
            "writes_per_commit": writes / self.commits,
            "bytes_per_commit": written / self.commits,
        }


# -- what is promised -------------------------------------------------------------------------------------------------

Cell = tuple[str, int]


def judge(figures: dict[Cell, Figures], counts: dict[Cell, Figures]) -> list[Claim]:
    """The promises about throughput and acknowledgement."""
    claims = []
    for name in ("bgsuper", "asyncio"):
        percent = 100 * figures[name, 64]["per_second"] / figures["bare", 64]["per_second"]
        claims.append(
            at_least(f"durable commits a second at 64 in flight beside bare SQLite, {name}", percent, 60, "%")
        )
    for name in ("bgsuper", "asyncio"):
        more = figures[name, 1]["p50_ms"] - figures["bare", 1]["p50_ms"]
        claims.append(at_most(f"p50 of an ack at 1 in flight beyond bare SQLite's, {name}", more, 0.3, "ms"))
    if counts:
        syncs = counts["bgsuper", 1]["syncs_per_commit"]
        claims.append(at_most("syncs a commit at 1 in flight (its own, a rare checkpoint's)", syncs, 1.1, "", "count"))
    return claims


# -- what is shown ----------------------------------------------------------------------------------------------------


def table(figures: dict[Cell, Figures], counts: dict[Cell, Figures]) -> Table:
    made = Table(title="Durable commits of 1 KiB, closed loop (medians of runs)")
    for column in ("in flight", "approach", "a second", "ack p50 ms", "p99 ms", "max ms", "beside bare"):
        made.add_column(column, justify="left" if column == "approach" else "right")
    for column in ("syncs", "writes", "KiB written"):
        made.add_column(f"{column} a commit", justify="right")
    for (name, writers), found in figures.items():
        row = [str(writers), name, f"{found['per_second']:,.0f}"]
        row += [f"{found[column]:.2f}" for column in ("p50_ms", "p99_ms", "max_ms")]
        row += [f"{100 * found['per_second'] / figures['bare', writers]['per_second']:.0f} %"]
        if count := counts.get((name, writers)):
            row += [f"{count['syncs_per_commit']:.3f}", f"{count['writes_per_commit']:.1f}"]
            row += [f"{count['bytes_per_commit'] / 1024:.1f}"]
        made.add_row(*row)
    return made


def draw(figures: dict[Cell, Figures], path: Path) -> None:
    """Commits a second and ack latency over what is in flight."""
    from matplotlib import pyplot

    colours = {"bare": "black", "bgsuper": "#1b7837", "asyncio": "#7fbf7b", "thread": "#2166ac"}
    labels = {
        "bare": "bare SQLite, nobody waits",
        "bgsuper": "bgsuper",
        "asyncio": "bgsuper, a coroutine a commit",
        "thread": "a thread in the host, a coroutine a commit",
    }
    pyplot.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, (rate, latency) = pyplot.subplots(1, 2, figsize=(9.5, 3.8))
    for name, colour in colours.items():
        sizes = sorted(writers for cell, writers in figures if cell == name)
        rate.plot(sizes, [figures[name, n]["per_second"] for n in sizes], "o-", color=colour, label=labels[name])
        latency.plot(sizes, [figures[name, n]["p50_ms"] for n in sizes], "o-", color=colour, label="p50")
        latency.plot(sizes, [figures[name, n]["p99_ms"] for n in sizes], "o:", color=colour, markersize=3, label="p99")
    rate.set(title="durable commits a second", xscale="log", yscale="log")
    latency.set(title="acknowledged after (ms): p50, p99 dotted", xscale="log", yscale="log")
    for axis in (rate, latency):
        axis.set_xlabel("commits in flight")
        axis.set_xticks(sizes, [str(n) for n in sizes])
        axis.minorticks_off()
        axis.yaxis.set_major_formatter("{x:,g}")
        axis.grid(alpha=0.25)
    handles, names = rate.get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.legend(handles, names, loc="lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=3.0, help="how long a cell measures")
    options.add_argument("--runs", type=int, default=5, help="interleaved runs")
    options.add_argument("--in-flight", nargs="+", type=int, default=list(IN_FLIGHT), metavar="N", help="writers")
    chosen = options.parse_args()
    if chosen.cell:
        print(json.dumps(measure(**json.loads(chosen.cell), directory=chosen.dir)))
        return
    if chosen.quick:
        chosen.seconds, chosen.runs, chosen.in_flight = 0.3, 1, [1, 64]
    machine = facts(chosen.dir)
    cells = [(name, writers) for writers in chosen.in_flight for name in MEASURES]

    def run(cell: Cell, counting: bool = False) -> Figures:
        spec = {"name": cell[0], "writers": cell[1], "seconds": chosen.seconds, "counting": counting}
        return in_fresh_host(MODULE, spec, directory=chosen.dir, timeout=120 + 10 * chosen.seconds)

    taken: defaultdict[Cell, list[Figures]] = defaultdict(list)
    for cell in track(cells * chosen.runs, "throughput", disable=not sys.stderr.isatty()):
        taken[cell].append(run(cell))
    figures = {cell: medians(runs) for cell, runs in taken.items()}
    counts = {cell: run(cell, counting=True) for cell in cells} if syscalls.available() else {}
    claims = judge(figures, counts)
    rows = [
        {"approach": cell[0], "in_flight": cell[1]} | found | {"counts": counts.get(cell, {})}
        for cell, found in figures.items()
    ]
    settings = {"seconds": chosen.seconds, "runs": chosen.runs}
    report = Report("throughput", (__doc__ or "").splitlines()[0], machine, settings, rows, claims)
    report.show(table(figures, counts))
    report.save(chosen.json)
    if chosen.plot:
        draw(figures, chosen.plot)


if __name__ == "__main__":
    main()
