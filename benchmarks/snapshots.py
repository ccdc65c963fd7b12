"""What does a large snapshot cost the commits beside it, and how soon is it durable?

beside     commits of 1 KiB, 200 a second or 64 in flight, while snapshots of 30 MiB are written one after the other: of
           the commits that were submitted meanwhile, how long each took to be acknowledged; and the same without
alone      critical snapshots of 20 MiB, each submitted when the one before is durable, at so many milliseconds more a
           sync (a sleep before each, the same for every way)

The commits always go to bgsuper's worker. The snapshots are written

bgsuper    as its snapshots: by the worker's second thread, in paced and synced slices
file       by a thread in the host, at once: tmp + fsync + rename + directory fsync
record     as a record of a commit: in SQLite, through the WAL

Runs are interleaved, medians of runs. Beside the times stand counts: the bytes of blocks that the kernel must write
(/proc/PID/io of whoever writes) for each byte of a snapshot, and its syncs.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Final, NamedTuple

import psutil
from rich.progress import track
from rich.table import Table

from bgsuper import Key, Limits, Supervisor
from bgsuper.faults.plan import Plan
from bgsuper.faults.vfs import faulty_fsync
from bgsuper.key import MANAGER, NETWORK_GRAPH

from .approaches import Fsync, Pieces, replace_file
from .harness import Claim, Figures, Report, at_most, in_fresh_host, medians, parser, percentile, scratch
from .machine import facts

MODULE: Final = "benchmarks.snapshots"
MIB: Final = 1024 * 1024
PIECE_BYTES: Final = 64 * 1024
GRAPH_BYTES: Final = 30 * MIB
MANAGER_BYTES: Final = 20 * MIB
COMMIT_BYTES: Final = 1024
KEYS: Final = 1000
RATE: Final = 200
WRITERS: Final = 64
DELAYS_MS: Final = (0, 300)
WARM_UP_S: Final = 0.3
PATIENCE_S: Final = 60.0
#: The promises of the design.
TIMES_LIMIT: Final = 2.0
DONE_LIMIT_MS: Final = 2000.0

#: Makes a value durable, on return.
Write = Callable[[Pieces], None]

# -- in the host under measurement ------------------------------------------------------------------------------------


def by_snapshot(supervisor: Supervisor, key: Key) -> Write:
    critical = key == MANAGER
    return lambda pieces: supervisor.wait(supervisor.snapshot(key, pieces, critical=critical), PATIENCE_S)


def by_file(directory: Path, fsync: Fsync = os.fsync) -> Write:
    return lambda pieces: replace_file(directory, "snapshot", pieces, fsync)


def by_record(supervisor: Supervisor, key: Key) -> Write:
    return lambda pieces: supervisor.wait(supervisor.commit({key: b"".join(pieces)}), PATIENCE_S)


def content(size: int, number: int) -> Pieces:
    """In pieces, all unlike those of another number: SQLite leaves alone what is as it was."""
    return [random.Random(number).randbytes(PIECE_BYTES)] * (size // PIECE_BYTES)


def connected(url: str) -> Supervisor:
    # An offered load, not a polite one.
    return Supervisor(url, limits=Limits(soft_bytes=1 << 30, hard_bytes=1 << 31))


class Commits:
    """Commits under way, and when each was submitted and how long it took to be acknowledged."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._filling = random.Random(2).randbytes(COMMIT_BYTES - 8)
        self._number = 0
        self.submitted, self.took_s = array("d"), array("d")

    async def one(self) -> None:
        """Submit one, and wait for it."""
        key, value = Key("channels", "", str(self._number % KEYS)), self._number.to_bytes(8) + self._filling
        self._number += 1
        before = time.perf_counter()
        await self._supervisor.durable(self._supervisor.commit({key: value}))
        self.submitted.append(before)
        self.took_s.append(time.perf_counter() - before)

    async def paced(self, until: float) -> None:
        """`RATE` a second, whatever was acknowledged."""
        begin, under_way = time.perf_counter(), set[asyncio.Task[None]]()
        number = 0
        while (due := begin + number / RATE) < until:
            await asyncio.sleep(due - time.perf_counter())
            task = asyncio.create_task(self.one())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1
        await asyncio.gather(*under_way)

    async def in_flight(self, until: float) -> None:
        """Always `WRITERS`."""

        async def writer() -> None:
            while time.perf_counter() < until:
                await self.one()

        await asyncio.gather(*(writer() for _ in range(WRITERS)))


LOADS: Final = {f"{RATE} a second": Commits.paced, f"{WRITERS} in flight": Commits.in_flight}


class Stream:
    """Snapshots one after the other, from a thread; when each was begun and done."""

    def __init__(self, write: Write) -> None:
        self._write, self._over = write, Event()
        self.begun, self.done = array("d"), array("d")
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            pieces = content(GRAPH_BYTES, len(self.done))
            self.begun.append(time.perf_counter())
            self._write(pieces)
            self.done.append(time.perf_counter())

    def stop(self) -> None:
        """When the one under way is done."""
        self._over.set()
        self._thread.join()

    def during(self, moment: float) -> bool:
        """Whether one was under way."""
        last = bisect_right(self.begun, moment) - 1
        return last >= 0 and moment <= self.done[last]


def measure_beside(directory: Path, way: str, load: str, seconds: float) -> Figures:
    """Acknowledgements of the commits that were submitted while a snapshot was written; all of them if none are."""
    with scratch(directory) as path, connected(f"sqlite://{path}/store") as supervisor:
        commits = Commits(supervisor)
        asyncio.run(LOADS[load](commits, time.perf_counter() + min(WARM_UP_S, seconds)))
        del commits.submitted[:], commits.took_s[:]
        ways = {
            "bgsuper": by_snapshot(supervisor, NETWORK_GRAPH),
            "file": by_file(path),
            "record": by_record(supervisor, NETWORK_GRAPH),
        }
        stream = Stream(ways[way]) if way in ways else None
        asyncio.run(LOADS[load](commits, time.perf_counter() + seconds))
        if stream:
            stream.stop()
    pairs = zip(commits.submitted, commits.took_s, strict=True)
    taken = sorted(took for moment, took in pairs if stream is None or stream.during(moment))
    done = sorted(end - begin for begin, end in zip(stream.begun, stream.done, strict=True)) if stream else []
    return {
        "commits": len(taken),
        "p50_ms": percentile(taken, 0.5) * 1e3,
        "p99_ms": percentile(taken, 0.99) * 1e3,
        "max_ms": taken[-1] * 1e3,
        "snapshots": len(done),
        "snapshot_p50_ms": percentile(done, 0.5) * 1e3 if done else 0.0,
        "snapshot_max_ms": done[-1] * 1e3 if done else 0.0,
    }


def measure_alone(directory: Path, way: str, delay_ms: int, amount: int) -> Figures:
    """Critical snapshots, one after the other; a first one is not counted."""
    with (
        scratch(directory) as path,
        Plan.create(path / "plan") as plan,
        connected(f"sqlite://{path}/store?faults={path}/plan") as supervisor,
    ):
        ways = {
            "bgsuper": by_snapshot(supervisor, MANAGER),
            "file": by_file(path, faulty_fsync(plan)),
            "record": by_record(supervisor, MANAGER),
        }
        pid = os.getpid() if way == "file" else supervisor.health().pid
        writer, write = psutil.Process(pid), ways[way]
        write(content(MANAGER_BYTES, 0))
        plan.sync_delay_s = delay_ms / 1e3
        taken, syncs, blocks = [], plan.syncs + plan.snapshot_syncs, writer.io_counters().write_bytes
        for number in range(amount):
            pieces, before = content(MANAGER_BYTES, number + 1), time.perf_counter()
            write(pieces)
            taken.append(time.perf_counter() - before)
        syncs = plan.syncs + plan.snapshot_syncs - syncs
        blocks = writer.io_counters().write_bytes - blocks
        plan.sync_delay_s = 0
    return {
        "a_second": amount / sum(taken),
        "p50_ms": percentile(sorted(taken), 0.5) * 1e3,
        "max_ms": max(taken) * 1e3,
        "syncs": syncs / amount,
        "blocks": blocks / (amount * MANAGER_BYTES),
    }


MEASURES: Final[dict[str, Callable[..., Figures]]] = {"beside": measure_beside, "alone": measure_alone}

# -- all cells --------------------------------------------------------------------------------------------------------

WAYS: Final = ("bgsuper", "file", "record")
NONE: Final = "none"

Beside = tuple[str, str]  # load, way
Alone = tuple[int, str]  # delay in ms, way


class Amounts(NamedTuple):
    """How much is measured."""

    runs: int
    seconds: float  #: of a load
    amount: int  #: snapshots without added delay


class Found(NamedTuple):
    """Medians of runs."""

    beside: dict[Beside, Figures]
    alone: dict[Alone, Figures]


def take(directory: Path, amounts: Amounts, delays: Sequence[int]) -> Found:
    """All runs, interleaved."""

    def run(what: str, **settings: object) -> Figures:
        timeout = 2 * PATIENCE_S + 10 * amounts.seconds
        return in_fresh_host(MODULE, {"what": what, **settings}, directory=directory, timeout=timeout)

    quiet = not sys.stderr.isatty()
    besides = [(load, way) for load in LOADS for way in (NONE, *WAYS)]
    beside: defaultdict[Beside, list[Figures]] = defaultdict(list)
    for load, way in track(besides * amounts.runs, "beside commits", disable=quiet):
        beside[load, way].append(run("beside", way=way, load=load, seconds=amounts.seconds))
    alone: defaultdict[Alone, list[Figures]] = defaultdict(list)
    for delay, way in track([(delay, way) for delay in delays for way in WAYS] * amounts.runs, "alone", disable=quiet):
        amount = max(1, amounts.amount if delay == 0 else amounts.amount // 4)
        alone[delay, way].append(run("alone", way=way, delay_ms=delay, amount=amount))
    return Found({at: medians(runs) for at, runs in beside.items()}, {at: medians(runs) for at, runs in alone.items()})


def judge(found: Found) -> list[Claim]:
    """The promises about snapshots."""
    claims = []
    for load in LOADS:
        times = found.beside[load, "bgsuper"]["p99_ms"] / found.beside[load, NONE]["p99_ms"]
        text = f"ack p99 of commits, {load}, beside a 30 MiB snapshot: times its value without"
        claims.append(at_most(text, times, TIMES_LIMIT, "x"))
        longest = found.beside[load, "bgsuper"]["snapshot_max_ms"]
        claims.append(at_most(f"longest 30 MiB snapshot beside commits, {load}", longest, DONE_LIMIT_MS, "ms"))
    blocks = found.alone[0, "bgsuper"]["blocks"]
    claims.append(at_most("blocks written for each byte of a 20 MiB snapshot", blocks, 1.05, "bytes", "count"))
    return claims


# -- what is shown ----------------------------------------------------------------------------------------------------


def beside_table(found: Found) -> Table:
    made = Table(title="Commits of 1 KiB beside snapshots of 30 MiB (medians of runs; ms)")
    for column in ("commits", "snapshots by", "ack p50", "p99", "max", "p99 beside none's"):
        made.add_column(column, justify="left" if column in ("commits", "snapshots by") else "right")
    for column in ("snapshots", "a snapshot p50", "longest"):
        made.add_column(column, justify="right")
    for (load, way), figures in found.beside.items():
        row = [f"{figures[name]:.2f}" for name in ("p50_ms", "p99_ms", "max_ms")]
        row.append(f"{figures['p99_ms'] / found.beside[load, NONE]['p99_ms']:.1f} x")
        if way != NONE:
            row += [f"{figures[name]:.0f}" for name in ("snapshots", "snapshot_p50_ms", "snapshot_max_ms")]
        made.add_row(load, way, *row)
    return made


def alone_table(found: Found) -> Table:
    made = Table(title="Critical snapshots of 20 MiB, one after the other (medians of runs)")
    for column in ("a sync", "snapshots by", "a second", "p50 ms", "max ms", "syncs each", "blocks a byte"):
        made.add_column(column, justify="left" if column == "snapshots by" else "right")
    for (delay, way), figures in found.alone.items():
        row = [f"{figures['a_second']:.2f}", f"{figures['p50_ms']:.0f}", f"{figures['max_ms']:.0f}"]
        made.add_row(f"+{delay} ms", way, *row, f"{figures['syncs']:.1f}", f"{figures['blocks']:.2f}")
    return made


def draw(found: Found, path: Path) -> None:
    """Ack latencies beside snapshots, and snapshots a second."""
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, (acks, rates) = pyplot.subplots(1, 2, figsize=(10.5, 3.8), width_ratios=(3, 2))
    rows = range(len(found.beside))
    for name, marker, colour in (("p50", "o", "#1b7837"), ("p99", "D", "#2166ac"), ("max", "|", "#888888")):
        values = [figures[f"{name}_ms"] for figures in found.beside.values()]
        acks.plot(values, rows, marker, color=colour, label=name, markersize=6 if marker != "|" else 12)
    acks.set(xscale="log", title="acknowledgement of a commit (ms)", yticks=rows)
    acks.set_yticklabels([f"{load}, {'no snapshots' if way == NONE else way}" for load, way in found.beside])
    acks.invert_yaxis()
    acks.legend(frameon=False, fontsize=8)
    delays = sorted({delay for delay, _ in found.alone})
    colours = {"bgsuper": "#1b7837", "file": "#2166ac", "record": "#b2182b"}
    for number, way in enumerate(WAYS):
        places = [place + 0.25 * (number - 1) for place in range(len(delays))]
        values = [found.alone[delay, way]["a_second"] for delay in delays]
        rates.bar(places, values, 0.23, color=colours[way], label=way)
    rates.set(yscale="log", title="20 MiB critical snapshots a second", xticks=range(len(delays)))
    rates.set_xticklabels([f"+{delay} ms a sync" for delay in delays])
    rates.legend(frameon=False, fontsize=8)
    for axis, values_axis in ((acks, acks.xaxis), (rates, rates.yaxis)):
        values_axis.set_major_formatter("{x:g}")
        axis.grid(axis="x" if axis is acks else "y", alpha=0.25)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=2.5, help="how long commits are measured beside snapshots")
    options.add_argument("--runs", type=int, default=3, help="interleaved runs")
    options.add_argument("--amount", type=int, default=8, help="snapshots alone at +0 ms; with a delay a quarter")
    chosen = options.parse_args()
    if chosen.cell:
        spec = json.loads(chosen.cell)
        print(json.dumps(MEASURES[spec.pop("what")](chosen.dir, **spec)))
        return
    amounts, delays = Amounts(chosen.runs, chosen.seconds, chosen.amount), DELAYS_MS
    if chosen.quick:
        amounts, delays = Amounts(1, 0.3, 1), (0, 20)
    machine = facts(chosen.dir)
    found = take(chosen.dir, amounts, delays)
    figures = {
        "beside": [{"load": load, "way": way} | figures for (load, way), figures in found.beside.items()],
        "alone": [{"delay_ms": delay, "way": way} | figures for (delay, way), figures in found.alone.items()],
    }
    question = (__doc__ or "").splitlines()[0]
    report = Report("snapshots", question, machine, amounts._asdict(), figures, judge(found))
    report.show(beside_table(found), alone_table(found))
    report.save(chosen.json)
    if chosen.plot:
        draw(found, chosen.plot)


if __name__ == "__main__":
    main()
