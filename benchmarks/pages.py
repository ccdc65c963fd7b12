"""Which page size should SQLite have?

On `SQLiteStore` itself, in this process, one transaction after the other, values that never repeat, to keys picked at
random: commits of one record of 64 B, 1 KiB or 16 KiB, of 1 KiB and a new record of 200 B (a channel's head and its
history), and groups of 64 commits of 1 KiB. Runs are interleaved, medians of runs.

Beside the times stand counts, from a run of their own: bytes that SQLite writes, and bytes of the blocks that the
kernel must then write (/proc/self/io), for each byte of a value that changed, a last checkpoint included; syncs; and
the database's size for each byte in it. CPU time says what a page size costs where the disk is fast.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final
from unittest.mock import patch

import psutil
from rich.progress import track
from rich.table import Table

from bgsuper.faults.plan import Plan
from bgsuper.faults.vfs import install
from bgsuper.store import connection
from bgsuper.store.api import CopyTarget
from bgsuper.store.connection import PAGE_BYTES
from bgsuper.store.sqlite import SQLiteStore

from .harness import Claim, Figures, Report, at_most, in_fresh_host, medians, parser, percentile, scratch
from .machine import facts
from .transactions import Workload, filled, settle, transactions

MODULE: Final = "benchmarks.pages"
PAGES: Final = (1024, 2048, 4096, 8192, 16384, 32768)
LONE: Final = "1 KiB"
WORKLOADS: Final = {
    "64 B": Workload(1, 64, 20_000),
    LONE: Workload(1, 1024, 20_000),
    "1 KiB and 200 B": Workload(1, 1024, 20_000, new_bytes=200),
    "16 KiB": Workload(1, 16 * 1024, 2_000),
    "64 x 1 KiB": Workload(64, 1024, 20_000),
}
#: A transaction of a workload is worth so many bytes of values at least: where they are large, fewer do.
_WORTH: Final = 4096

# -- in the process under measurement ---------------------------------------------------------------------------------


def measure(directory: Path, page_bytes: int, amount: int) -> Figures:
    """By workload: milliseconds and CPU microseconds of a transaction."""
    found: Figures = {}
    make = partial(SQLiteStore, host_pid=os.getpid())
    for name, workload in WORKLOADS.items():
        with scratch(directory) as path, paged(page_bytes), filled(make, path / "store", workload) as store:
            found[name] = _times(store, workload, of(workload, amount))
    return found


def _times(store: CopyTarget, workload: Workload, amount: int) -> Figures:
    source, taken, cpu = transactions(workload), [], 0.0
    for _ in range(amount):
        group = next(source)
        cpu_before, before = time.process_time(), time.perf_counter()
        store.apply(group)
        taken.append(time.perf_counter() - before)
        cpu += time.process_time() - cpu_before
    taken.sort()
    return {
        "p50_ms": percentile(taken, 0.5) * 1e3,
        "p99_ms": percentile(taken, 0.99) * 1e3,
        "cpu_us": cpu / amount * 1e6,
    }


def count(directory: Path, page_bytes: int, amount: int) -> Figures:
    """By workload: syncs a transaction, bytes written for each byte that changed, bytes stored for each byte kept."""
    found: Figures = {}
    with scratch(directory) as path, Plan.create(path / "plan") as plan, paged(page_bytes):
        vfs, fsync = install(str(path / "plan"))
        make = partial(SQLiteStore, host_pid=os.getpid(), vfs=vfs, fsync=fsync)
        for number, (name, workload) in enumerate(WORKLOADS.items()):
            with filled(make, path / str(number), workload) as store:
                size = (path / str(number) / "bgsuper.sqlite3").stat().st_size
                found[name] = _counts(store, plan, workload, of(workload, amount))
            found[name]["stored"] = size / (workload.keys * workload.value_bytes)
    return found


def _counts(store: CopyTarget, plan: Plan, workload: Workload, amount: int) -> Figures:
    blocks, written, syncs = psutil.Process().io_counters().write_bytes, plan.bytes_written, plan.syncs
    source = transactions(workload)
    for _ in range(amount):
        store.apply(next(source))
    syncs, log = plan.syncs - syncs, plan.bytes_written - written
    settle(store)
    changed = amount * workload.changed_bytes
    return {
        "syncs": syncs / amount,
        "log": log / changed,
        "written": (plan.bytes_written - written) / changed,
        "blocks": (psutil.Process().io_counters().write_bytes - blocks) / changed,
    }


def of(workload: Workload, amount: int) -> int:
    """How many transactions of that workload."""
    return max(1, round(amount * min(1.0, _WORTH / workload.changed_bytes)))


@contextmanager
def paged(page_bytes: int) -> Iterator[None]:
    """New databases have pages of this size."""
    with patch.object(connection, "PAGE_BYTES", page_bytes):
        yield


MEASURES: Final[dict[str, Callable[..., Figures]]] = {"times": measure, "counts": count}

# -- all cells --------------------------------------------------------------------------------------------------------

Found = dict[int, dict[str, Figures]]  # by page size and workload


def take(directory: Path, sizes: Sequence[int], amount: int, runs: int) -> Found:
    """All runs, interleaved."""
    quiet = not sys.stderr.isatty()

    def run(what: str, size: int) -> Figures:
        spec = {"what": what, "page_bytes": size, "amount": amount}
        return in_fresh_host(MODULE, spec, directory=directory, timeout=120 + amount)

    times: defaultdict[int, list[Figures]] = defaultdict(list)
    for size in track(list(sizes) * runs, "times", disable=quiet):
        times[size].append(run("times", size))
    counts = {size: run("counts", size) for size in track(sizes, "counts", disable=quiet)}
    return {
        size: {name: medians([figures[name] for figures in times[size]]) | counts[size][name] for name in WORKLOADS}
        for size in sizes
    }


def judge(found: Found) -> list[Claim]:
    """That the page size in use is still right."""
    taken, blocks = (max(beside_best(found, name, figure) for name in WORKLOADS) for figure in ("p50_ms", "blocks"))
    syncs = found[PAGE_BYTES][LONE]["syncs"]
    return [
        at_most("syncs of a lone commit", syncs, 1.1, "", "count"),
        at_most("blocks written beside the best page size, worst workload", blocks, 2, "x", "count"),
        at_most("p50 of a commit beside the best page size, worst workload", taken, 1.5, "x"),
    ]


def beside_best(found: Found, workload: str, figure: str) -> float:
    """The page size in use beside the best one."""
    best: float = min(by_name[workload][figure] for by_name in found.values())
    return float(found[PAGE_BYTES][workload][figure] / best)


# -- what is shown ----------------------------------------------------------------------------------------------------

COLUMNS: Final = {
    "log": "to the WAL",
    "written": "written",
    "blocks": "in blocks",
    "stored": "stored",
    "syncs": "syncs",
    "cpu_us": "CPU us",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
}


def table(found: Found) -> Table:
    made = Table(title="Bytes for each byte that changed; a transaction's syncs and times (medians of runs); *: in use")
    made.add_column("commits of")
    for column in ("page", *COLUMNS.values()):
        made.add_column(column, justify="right")
    for name in WORKLOADS:
        for size, by_workload in found.items():
            row = [f"{by_workload[name][column]:.2f}" for column in COLUMNS]
            made.add_row(name, f"{size:,}" + ("*" if size == PAGE_BYTES else ""), *row)
        made.add_section()
    return made


def draw(found: Found, path: Path) -> None:
    """Bytes and time over the page size."""
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = pyplot.subplots(1, 2, figsize=(9.5, 3.8))
    sizes = list(found)
    panels = {"blocks": "blocks written for each byte that changed", "p50_ms": "a transaction (ms), p50"}
    for axis, (name, title) in zip(axes, panels.items(), strict=True):
        for workload in WORKLOADS:
            axis.plot(sizes, [found[size][workload][name] for size in sizes], "o-", label=workload)
        axis.set(title=title, xscale="log", yscale="log", xlabel="page (KiB); dotted: in use")
        axis.set_xticks(sizes, [f"{size / 1024:g}" for size in sizes])
        axis.minorticks_off()
        axis.yaxis.set_major_formatter("{x:g}")
        axis.axvline(PAGE_BYTES, color="grey", linewidth=0.8, linestyle=":")
        axis.grid(alpha=0.25)
    axes[0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=3, help="interleaved runs")
    options.add_argument("--amount", type=int, default=800, help="transactions of small commits in each run")
    chosen = options.parse_args()
    if chosen.cell:
        spec = json.loads(chosen.cell)
        print(json.dumps(MEASURES[spec.pop("what")](chosen.dir, **spec)))
        return
    sizes: Sequence[int] = PAGES
    if chosen.quick:
        chosen.runs, chosen.amount, sizes = 1, 20, (1024, PAGE_BYTES)
    machine = facts(chosen.dir)
    found = take(chosen.dir, sizes, chosen.amount, chosen.runs)
    rows = [
        {"page_bytes": size, "commits": name} | figures
        for size, by_workload in found.items()
        for name, figures in by_workload.items()
    ]
    settings = {name: getattr(chosen, name) for name in ("runs", "amount")}
    report = Report("pages", (__doc__ or "").splitlines()[0], machine, settings, rows, judge(found))
    report.show(table(found))
    report.save(chosen.json)
    if chosen.plot:
        draw(found, chosen.plot)


if __name__ == "__main__":
    main()
