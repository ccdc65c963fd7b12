"""How late does a host's event loop run while its state is made durable, on fast and on slow disks?

Each cell is a fresh host process: an asyncio loop with a fixed schedule of one tick a millisecond, and a load beside it
in the same loop. Lateness is when a tick ran minus when it was due; a tick that a blocked loop missed counts with all
its lateness (no coordinated omission). The loads:

commits   1 KiB commits, 500 a second, each acknowledged back into the loop
manager   a whole manager of 20 MiB, persisted 5 times a second, latest-wins

at so many milliseconds more a sync (a sleep before each, the same for every approach; see `approaches`). Runs are
interleaved, each with an idle loop of its own, and medians of runs are compared. Idle is not zero: epoll counts whole
milliseconds.

Beside the times stand counts that no noise can touch, made under strace: calls of the host that write, sync or rename
files (ours: none), bytes a send, and the longest submit in CPU time of its thread.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from array import array
from collections import defaultdict
from pathlib import Path
from typing import Final, NamedTuple

from rich.progress import track
from rich.table import Table

from bgsuper.faults.plan import Plan

from . import syscalls
from .approaches import APPROACHES, Approach
from .harness import Claim, Figures, Report, at_most, in_fresh_host, parser, percentile, scratch
from .machine import facts

MODULE: Final = "benchmarks.lateness"
TICK_S: Final = 0.001
COMMITS_A_SECOND: Final = 500
COMMIT_BYTES: Final = 1024
MANAGERS_A_SECOND: Final = 5
MANAGER_BYTES: Final = 20 * 1024 * 1024
PIECE_BYTES: Final = 64 * 1024
DELAYS_MS: Final = (0, 50, 300, 1000)
LATE_S: Final = 0.005
WARM_UP_S: Final = 0.5
#: What of the distribution a cell reports, for the plot: shares of ticks that are later, log-spaced.
SHARES: Final = tuple(10 ** (-i / 10) for i in range(51))


class Cell(NamedTuple):
    """What one host process measures."""

    load: str  #: idle, commits, manager
    approach: str = "none"
    delay_ms: int = 0

    def __str__(self) -> str:
        return "idle" if self.load == "idle" else f"{self.load}, {self.approach}, +{self.delay_ms} ms"


# -- in the host under measurement ------------------------------------------------------------------------------------


class Schedule:
    """Ticks of one millisecond on the running loop, and how late each ran."""

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._ticks = round(seconds / TICK_S)
        self.lateness = array("d")
        self.done = self._loop.create_future()
        self._begin = self._loop.time() + TICK_S
        self._loop.call_at(self._begin, self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        while (due := self._begin + len(self.lateness) * TICK_S) <= now:
            self.lateness.append(now - due)
            if len(self.lateness) == self._ticks:
                self.done.set_result(None)
                return
        self._loop.call_at(due, self._tick)


class Load:
    """Submits on a schedule of its own, and notes the CPU time that each submit took of the loop's thread."""

    def __init__(self, approach: Approach, kind: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._approach = approach
        self._filling = random.Random(1).randbytes(COMMIT_BYTES - 8)
        self._manager = [random.Random(2).randbytes(PIECE_BYTES)] * (MANAGER_BYTES // PIECE_BYTES)
        self._submit, a_second = (
            (self._commit, COMMITS_A_SECOND) if kind == "commits" else (self._persist, MANAGERS_A_SECOND)
        )
        self._period = 1 / a_second
        self._newest = self.released = 0
        self.slices = array("d")
        self._due = self._loop.time()
        self._timer = self._loop.call_soon(self._step)
        self._releasing = self._loop.create_task(self._release()) if kind == "commits" else None

    def _step(self) -> None:
        before = time.thread_time()
        self._submit()
        self.slices.append(time.thread_time() - before)
        # A saturated loop offers what it can.
        self._due = max(self._due + self._period, self._loop.time())
        self._timer = self._loop.call_at(self._due, self._step)

    def _commit(self) -> None:
        # Never the same value again: SQLite writes and syncs nothing where nothing changes.
        self._newest = self._approach.commit(f"{self._newest % 1000}", self._newest.to_bytes(8) + self._filling)

    def _persist(self) -> None:
        self._approach.persist_manager(self._manager)

    async def _release(self) -> None:
        """What a gate does: waits for the newest commit, then lets out what waited for it."""
        while True:
            newest = self._newest
            await self._approach.durable(newest)
            self.released = newest
            if newest == self._newest:
                await asyncio.sleep(self._period)

    def stop(self) -> None:
        self._timer.cancel()
        if self._releasing is not None:
            self._releasing.cancel()


async def measure(cell: Cell, seconds: float, disk: Path) -> Figures:
    """One cell, in this process."""
    with scratch(disk) as directory:
        if cell.load == "idle":
            return await _idle(seconds)
        with Plan.create(directory / "plan") as plan:
            plan.sync_delay_s = cell.delay_ms / 1e3
            store = directory / "store"
            store.mkdir()
            approach = APPROACHES[cell.approach](store, directory / "plan")
            load = Load(approach, cell.load)
            await asyncio.sleep(min(WARM_UP_S, seconds))
            del load.slices[:]
            with syscalls.marked():
                schedule = Schedule(seconds)
                await schedule.done
            load.stop()
            plan.sync_delay_s = 0
            approach.close()
            return _figures(schedule.lateness) | {
                "submits": len(load.slices),
                "released": load.released,
                "slice_longest_us": max(load.slices, default=0.0) * 1e6,
                "slice_p50_us": percentile(sorted(load.slices), 0.5) * 1e6,
            }


async def _idle(seconds: float) -> Figures:
    await asyncio.sleep(min(WARM_UP_S, seconds))
    schedule = Schedule(seconds)
    await schedule.done
    return _figures(schedule.lateness)


def _figures(lateness: array[float]) -> Figures:
    ordered = sorted(lateness)
    return {
        "ticks": len(ordered),
        "late": sum(1 for x in ordered if x > LATE_S),
        "p50_ms": percentile(ordered, 0.5) * 1e3,
        "p99_ms": percentile(ordered, 0.99) * 1e3,
        "p999_ms": percentile(ordered, 0.999) * 1e3,
        "max_ms": ordered[-1] * 1e3,
        "tail_ms": [percentile(ordered, 1 - share) * 1e3 for share in SHARES],
    }


# -- all cells ----------------------------------------------------------------------------------------------------


def cells(loads: list[str], delays: list[int], approach: str) -> list[Cell]:
    return [Cell(load, approach, delay) for load in loads for delay in delays]


def run(cell: Cell, seconds: float, directory: Path, trace: Path | None = None) -> Figures:
    spec = {"cell": list(cell), "seconds": seconds}
    under = syscalls.command(trace) if trace else ()
    return in_fresh_host(MODULE, spec, directory=directory, timeout=120 + 10 * seconds, under=under)


def combined(runs: list[Figures]) -> Figures:
    """Medians of the times, sums of the counts."""
    merged: Figures = {"runs": len(runs)}
    for name, value in runs[0].items():
        values = [figures[name] for figures in runs]
        if name in ("ticks", "late", "submits", "released"):
            merged[name] = sum(values)
        elif name == "slice_longest_us":
            merged[name] = max(values)
        elif isinstance(value, list):
            merged[name] = [statistics.median(column) for column in zip(*values, strict=True)]
        else:
            merged[name] = statistics.median(values)
    merged["p999_ms_of_each_run"] = [round(figures["p999_ms"], 3) for figures in runs]
    return merged


def counted(loads: list[str], seconds: float, directory: Path) -> Figures:
    """What each approach's host asks of the kernel, without injected delay."""
    found: Figures = {}
    for load in loads:
        for approach in APPROACHES:
            with scratch(directory) as traces:
                figures = run(Cell(load, approach), seconds, directory, traces / "trace")
                counts = syscalls.Counts(traces / "trace")
            found[f"{load}, {approach}"] = {
                "disk calls": dict(counts.disk),
                "submits": figures["submits"],
                "sends": len(counts.sends),
                "longest send": max(counts.sends, default=0),
                "bytes a send": statistics.fmean(counts.sends) if counts.sends else 0,
            }
    return found


def judge(figures: dict[Cell, Figures], counts: Figures) -> list[Claim]:
    """The promises about lateness."""
    claims = []
    idle = figures[Cell("idle")]
    ours = {cell: f for cell, f in figures.items() if cell.approach == "bgsuper"}
    for cell, found in ours.items():
        claims.append(at_most(f"p99.9 lateness, {cell}: idle's + 2 ms", found["p999_ms"], idle["p999_ms"] + 2, "ms"))
    for cell, found in ours.items():
        share = 1e4 * (found["late"] / found["ticks"] - idle["late"] / idle["ticks"])
        claims.append(at_most(f"ticks in 10,000 later than 5 ms beyond idle's share, {cell}", share, 1, ""))
    for load in dict.fromkeys(cell.load for cell in ours):
        delays = sorted(cell.delay_ms for cell in ours if cell.load == load)
        slow, fast = (figures[Cell(load, "bgsuper", delay)]["p999_ms"] for delay in (delays[-1], delays[0]))
        claims.append(at_most(f"p99.9 lateness, {load}: +{delays[-1]} ms beside +{delays[0]}", slow / fast, 1.2, "x"))
    for name, found in counts.items():
        if name.endswith("bgsuper"):
            calls = sum(found["disk calls"].values())
            claims.append(at_most(f"disk calls of the host, {name}", calls, 0, "", "count"))
    return claims


# -- what is shown ------------------------------------------------------------------------------------------------


def times_table(figures: dict[Cell, Figures]) -> Table:
    table = Table(title="Lateness of a 1 ms schedule (medians of runs; ms)")
    for column in ("load", "approach", "per sync", "p50", "p99", "p99.9", "max", ">5 ms in 10k", "submits", "slice us"):
        table.add_column(column, justify="left" if column in ("load", "approach") else "right")
    for cell, found in sorted(figures.items(), key=lambda item: (item[0].load, item[0].approach, item[0].delay_ms)):
        row = [cell.load, cell.approach, f"+{cell.delay_ms}" if cell.load != "idle" else ""]
        row += [f"{found[name]:.2f}" for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms")]
        row += [f"{1e4 * found['late'] / found['ticks']:.1f}"]
        row += [f"{found['submits']}", f"{found['slice_longest_us']:.0f}"] if "submits" in found else ["", ""]
        table.add_row(*row)
    return table


def counts_table(counts: Figures) -> Table:
    table = Table(title="System calls of the host (strace, the worker left out)")
    for column in ("load, approach", "submits", "disk calls", "sends", "bytes a send", "longest send"):
        table.add_column(column, justify="left" if column == "load, approach" else "right")
    for name, found in counts.items():
        calls = ", ".join(f"{count} {call}" for call, count in sorted(found["disk calls"].items())) or "none"
        sends = (f"{found['sends']}", f"{found['bytes a send']:,.0f}", f"{found['longest send']:,}")
        table.add_row(name, f"{found['submits']}", calls, *sends)
    return table


def draw(figures: dict[Cell, Figures], path: Path) -> None:
    """The tails: which share of ticks ran later than what."""
    from matplotlib import pyplot

    colours = {"bgsuper": "#1b7837", "thread": "#2166ac", "loop": "#b2182b"}
    loads = list(dict.fromkeys(cell.load for cell in figures if cell.load != "idle"))
    pyplot.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = pyplot.subplots(1, len(loads), figsize=(5.2 * len(loads), 4.8), sharey=True, squeeze=False)
    titles = {"commits": "1 KiB commits, 500/s", "manager": "20 MiB manager, 5/s"}
    for axis, load in zip(axes[0], loads, strict=True):
        axis.plot(figures[Cell("idle")]["tail_ms"], SHARES, color="black", linestyle=":", label="idle loop")
        for approach, colour in colours.items():
            delays = sorted(cell.delay_ms for cell in figures if cell[:2] == (load, approach))
            for delay in dict.fromkeys((*delays[:1], *delays[-1:])):
                style = "-" if delay == delays[0] else "--"
                tail = figures[Cell(load, approach, delay)]["tail_ms"]
                axis.plot(tail, SHARES, color=colour, linestyle=style, label=f"{approach}, +{delay} ms a sync")
        axis.set(
            xscale="log",
            yscale="log",
            xlim=(0.2, None),
            ylim=(1e-4, 1.1),
            title=titles[load],
            xlabel="lateness of a tick (ms)",
        )
        axis.axvline(LATE_S * 1e3, color="grey", linewidth=0.6)
        axis.grid(which="major", alpha=0.25)
    axes[0][0].set_ylabel("share of ticks that are later")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=10.0, help="how long a cell measures")
    options.add_argument("--runs", type=int, default=5, help="interleaved runs of idle and bgsuper")
    options.add_argument("--rival-runs", type=int, default=2, help="in how many of them the thread takes part")
    options.add_argument("--loop-runs", type=int, default=1, help="in how many of them the loop's own writes take part")
    options.add_argument("--loads", nargs="+", choices=("commits", "manager"), default=["commits", "manager"])
    options.add_argument("--delays", nargs="+", type=int, default=list(DELAYS_MS), metavar="MS", help="more a sync")
    chosen = options.parse_args()
    if chosen.cell:
        spec = json.loads(chosen.cell)
        print(json.dumps(asyncio.run(measure(Cell(*spec["cell"]), spec["seconds"], chosen.dir))))
        return
    if chosen.quick:
        chosen.seconds, chosen.runs, chosen.rival_runs, chosen.delays = 0.3, 1, 1, [0, 50]
    machine = facts(chosen.dir)
    rounds = []
    for number in range(chosen.runs):
        each = cells(chosen.loads, chosen.delays, "bgsuper")
        each += cells(chosen.loads, chosen.delays, "thread") if number < chosen.rival_runs else []
        each += cells(chosen.loads, chosen.delays, "loop") if number < chosen.loop_runs else []
        random.Random(number).shuffle(each)
        rounds += [Cell("idle"), *each]
    taken: defaultdict[Cell, list[Figures]] = defaultdict(list)
    for cell in track(rounds, "lateness", disable=not sys.stderr.isatty()):
        taken[cell].append(run(cell, chosen.seconds, chosen.dir))
    figures = {cell: combined(runs) for cell, runs in taken.items()}
    counts = counted(chosen.loads, min(2.0, chosen.seconds), chosen.dir) if syscalls.available() else {}
    settings = {name: getattr(chosen, name) for name in ("seconds", "runs", "rival_runs", "loop_runs", "delays")}
    report = Report(
        "lateness",
        (__doc__ or "").splitlines()[0],
        machine,
        settings,
        {"cells": [dict(cell._asdict()) | found for cell, found in figures.items()], "counts": counts},
        judge(figures, counts),
    )
    report.show(times_table(figures), counts_table(counts))
    report.save(chosen.json)
    if chosen.plot:
        draw(figures, chosen.plot)


if __name__ == "__main__":
    main()
