"""When should SQLite's WAL be moved into the database, and how large may it grow?

bounds      groups of 64 commits of 1 KiB, one after the other, on a store of 20 MiB whose WAL is moved whenever it has
            grown to so much; the groups that meet such a checkpoint are shown apart. "idle only" never moves it under
            load. What is then moved at idle, at once, is what a commit waits for that comes just at that moment
recovery    `open()` on a WAL of so many bytes that a dead writer left; cold, since open() drops it from the page cache

On `SQLiteStore` itself, in this process; runs are interleaved, medians of runs. Beside the times stand counts: the
largest size of the WAL's file, checkpoints, and the bytes of blocks that the kernel must write (/proc/self/io) for each
byte of a value that changed, the last checkpoint included.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final
from unittest.mock import patch

import psutil
from rich.progress import track
from rich.table import Table

from bgsuper.store import sqlite
from bgsuper.store.connection import Connection
from bgsuper.store.sqlite import CHECKPOINT_BYTES, SQLiteStore

from .harness import Claim, Figures, Report, at_most, in_fresh_host, medians, parser, percentile, scratch
from .machine import facts
from .transactions import Workload, filled, settle, transactions

MODULE: Final = "benchmarks.checkpoints"
MIB: Final = 1024 * 1024
BOUNDS: Final = (1 * MIB, 4 * MIB, 16 * MIB, 64 * MIB)
IDLE_ONLY: Final = 1 << 40
WORKLOAD: Final = Workload(64, 1024, 20_000)
#: What of SIGKILL-to-first-ack's 500 ms (see `recovery`) is left to a WAL.
OPEN_LIMIT_MS: Final = 300

# -- in the process under measurement ---------------------------------------------------------------------------------


def measure_bound(directory: Path, bound: int, amount: int) -> Figures:
    """Groups whose WAL is moved at `bound` bytes: milliseconds of those that met that, and of the others."""
    met: list[float] = []
    others: list[float] = []
    make = partial(SQLiteStore, host_pid=os.getpid())
    with scratch(directory) as path, ExitStack() as stack:
        store = stack.enter_context(filled(make, path / "store", WORKLOAD))
        checkpoints = stack.enter_context(counted_checkpoints())
        stack.enter_context(patch.object(sqlite, "CHECKPOINT_BYTES", bound))
        source, blocks = transactions(WORKLOAD), psutil.Process().io_counters().write_bytes
        for _ in range(amount):
            group, already, before = next(source), len(checkpoints), time.perf_counter()
            store.apply(group)
            (met if len(checkpoints) > already else others).append((time.perf_counter() - before) * 1e3)
        wal_bytes, before = wal_of(path / "store").stat().st_size, time.perf_counter()
        settle(store)
        idle_ms = (time.perf_counter() - before) * 1e3
        blocks = psutil.Process().io_counters().write_bytes - blocks
    return {
        "a_second": 1e3 * amount / sum(met + others),
        "checkpoints": len(met),
        **spread("all", met + others),
        **spread("others", others),
        **spread("met", met),
        "idle_ms": idle_ms,
        "wal_mib": wal_bytes / MIB,
        "blocks": blocks / (amount * WORKLOAD.changed_bytes),
    }


def spread(name: str, taken: list[float]) -> Figures:
    ordered = sorted(taken) or [0.0]
    return {f"{name}_{of}_ms": percentile(ordered, share) for of, share in SHARES.items()}


SHARES: Final = {"p50": 0.5, "p99": 0.99, "p999": 0.999}


@contextmanager
def counted_checkpoints() -> Iterator[list[None]]:
    """One entry for each checkpoint from now on."""
    seen: list[None] = []
    checkpoint = Connection.checkpoint

    def counted(self: Connection) -> None:
        seen.append(None)
        checkpoint(self)

    with patch.object(Connection, "checkpoint", counted):
        yield seen


def wal_of(store: Path) -> Path:
    return store / "bgsuper.sqlite3-wal"


def leave(directory: Path, bound: int) -> Figures:
    """End without closing a store at `directory` whose WAL has `bound` bytes."""
    store = SQLiteStore(directory, host_pid=os.getpid())
    store.open()
    with patch.object(sqlite, "CHECKPOINT_BYTES", IDLE_ONLY):
        for group in transactions(WORKLOAD):
            store.apply(group)
            if wal_of(directory).stat().st_size >= bound:
                break
    return {"wal_bytes": wal_of(directory).stat().st_size}


def measure_open(directory: Path) -> Figures:
    """Milliseconds of an `open()` there, and again no close: the next one finds the same WAL and a page more."""
    store = SQLiteStore(directory, host_pid=os.getpid())
    before = time.perf_counter()
    store.open()
    return {"open_ms": (time.perf_counter() - before) * 1e3}


MEASURES: Final[dict[str, Callable[..., Figures]]] = {"bound": measure_bound, "leave": leave, "open": measure_open}

# -- all cells --------------------------------------------------------------------------------------------------------


def take(directory: Path, bounds: Sequence[int], amount: int, runs: int) -> dict[int, Figures]:
    """By bound; all runs, interleaved."""
    quiet = not sys.stderr.isatty()

    def run(what: str, where: Path = directory, **settings: int) -> Figures:
        return in_fresh_host(MODULE, {"what": what, **settings}, directory=where, timeout=120 + amount)

    def recovery(bound: int) -> float:
        with scratch(directory) as path:
            run("leave", path, bound=bound)
            return float(medians([run("open", path) for _ in range(runs)])["open_ms"])

    taken: defaultdict[int, list[Figures]] = defaultdict(list)
    for bound in track(list(bounds) * runs, "bounds", disable=quiet):
        taken[bound].append(run("bound", bound=bound, amount=amount))
    found = {bound: medians(figures) for bound, figures in taken.items()}
    for bound, figures in track(found.items(), "recovery", disable=quiet):
        figures["open_ms"] = recovery(min(bound, round(figures["wal_mib"] * MIB)))
    return found


def judge(found: dict[int, Figures]) -> list[Claim]:
    """That the bound in use is still right."""
    used = found[CHECKPOINT_BYTES]
    return [
        at_most("the WAL's largest size under load", used["wal_mib"], CHECKPOINT_BYTES / MIB + 1, "MiB", "count"),
        at_most("open() on a WAL at its bound", used["open_ms"], OPEN_LIMIT_MS, "ms"),
    ]


# -- what is shown ----------------------------------------------------------------------------------------------------


def table(found: dict[int, Figures]) -> Table:
    made = Table(title="Groups of 64 commits of 1 KiB (ms; medians of runs; *: in use)")
    kinds = ("all", "others", "met")
    spreads = [f"{kind}_{share}_ms" for kind in kinds for share in SHARES]
    shown = [f"{kind} p50\np99\np99.9" for kind in ("all", "without a checkpoint", "with one")]
    for column in ("moved at", "groups/s", "check-\npoints", *shown, "at idle", "WAL MiB", "blocks\na byte", "open()"):
        made.add_column(column, justify="right")
    for bound, figures in found.items():
        cells = [f"{figures[name]:.1f}" for name in spreads]
        joined = [" / ".join(cells[first : first + 3]) for first in (0, 3, 6)]
        row = [f"{figures[name]:.3g}" for name in ("idle_ms", "wal_mib", "blocks", "open_ms")]
        made.add_row(label(bound), f"{figures['a_second']:.0f}", f"{figures['checkpoints']:.0f}", *joined, *row)
    return made


def label(bound: int) -> str:
    if bound == IDLE_ONLY:
        return "idle only"
    return f"{bound / MIB:g} MiB" + ("*" if bound == CHECKPOINT_BYTES else "")


def draw(found: dict[int, Figures], path: Path) -> None:
    """A group's time by the WAL's bound."""
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, axis = pyplot.subplots(figsize=(7, 3.6))
    rows = range(len(found))
    shown = {
        "all_p50_ms": ("o", "p50"),
        "others_p99_ms": ("D", "p99 without a checkpoint"),
        "all_p99_ms": ("x", "p99 of all"),
        "met_p50_ms": ("s", "p50 with a checkpoint"),
        "idle_ms": ("|", "what idle moves at once"),
        "open_ms": ("^", "open() after a crash"),
    }
    for name, (marker, text) in shown.items():
        axis.plot([figures[name] or float("nan") for figures in found.values()], rows, marker, label=text)
    axis.set(xscale="log", yticks=rows, xlabel="ms", ylabel="the WAL is moved at")
    axis.set_yticklabels([label(bound) for bound in found])
    axis.minorticks_off()
    axis.xaxis.set_major_formatter("{x:g}")
    axis.grid(alpha=0.25)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.legend(loc="lower center", ncols=3, frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=3, help="interleaved runs")
    options.add_argument("--amount", type=int, default=1000, help="groups in each run")
    chosen = options.parse_args()
    if chosen.cell:
        spec = json.loads(chosen.cell)
        print(json.dumps(MEASURES[spec.pop("what")](chosen.dir, **spec)))
        return
    bounds: Sequence[int] = (*BOUNDS, IDLE_ONLY)
    if chosen.quick:
        chosen.runs, chosen.amount, bounds = 1, 30, (1 * MIB, CHECKPOINT_BYTES)
    machine = facts(chosen.dir)
    found = take(chosen.dir, bounds, chosen.amount, chosen.runs)
    settings = {name: getattr(chosen, name) for name in ("runs", "amount")}
    rows = [{"bound": label(bound)} | figures for bound, figures in found.items()]
    report = Report("checkpoints", (__doc__ or "").splitlines()[0], machine, settings, rows, judge(found))
    report.show(table(found))
    report.save(chosen.json)
    if chosen.plot:
        draw(found, chosen.plot)


if __name__ == "__main__":
    main()
