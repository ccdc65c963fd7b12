"""What does a backend write for a commit, what does sealing cost, and how soon is a store open or verified?

On the stores themselves, as a worker makes them from their URLs, in this process, without a pipe:

commits    of 1 KiB to keys picked at random among 1,000, in transactions of 1 and of 64 (what a worker makes of so many
           in flight), one after the other
snapshot   a value of 20 MiB written and adopted
sizes      stores of 1 MiB, 100 MiB and 1 GiB of records of 32 KiB: `open()` after a clean end, and `examine()`, which
           is what ``bgsuper store verify`` does, with what was just written still in the page cache

Half of each value is random, as keys and signatures are, and half is text that repeats: compression has half to gain.
Runs are interleaved, medians of runs; of 1 GiB there is one run. Beside the times stand counts, from a run of their
own: bytes that the process writes to files for each byte of a value that changed, and its syncs (strace); and, as root,
bytes that reach the disk, the file system's own journal included (an ext4 of its own on a loop device).
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import psutil
from rich.progress import track
from rich.table import Table

from bgsuper.key import NETWORK_GRAPH, Seq
from bgsuper.store.api import CopyTarget, Value
from bgsuper.store.filesystem.syncing import kernel_syncfs
from bgsuper.store.schemes import Opening, make_store, open_view
from bgsuper.store.url import parse
from bgsuper.torture.power.frozen import mounted
from bgsuper.torture.power.loopmount import NoDisk

from . import syscalls
from .harness import Claim, Figures, Report, at_most, in_fresh_host, medians, parser, percentile, scratch
from .machine import facts
from .transactions import Workload, fill, settle, transactions, value

MODULE: Final = "benchmarks.stores"
MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB
#: URLs, with the directory that they are in.
BACKENDS: Final = {
    "sqlite": "sqlite://{0}/store",
    "sqlite, sealed": "sqlite://{0}/store?key-file={0}/key",
    "sqlite, sealed, zstd": "sqlite://{0}/store?key-file={0}/key&compress=zstd",
    "file": "file://{0}/store",
    "file, sealed": "file://{0}/store?key-file={0}/key",
}
#: What each is compared with.
PLAIN: Final = {name: name.partition(",")[0] for name in BACKENDS}
GROUPS: Final = (1, 64)
COMMIT_BYTES: Final = 1024
KEYS: Final = 1000
RECORD_BYTES: Final = 32 * 1024
SNAPSHOT_BYTES: Final = 20 * MIB
SIZES: Final = (1 * MIB, 100 * MIB, GIB)
#: What of SIGKILL-to-first-ack's 500 ms (see `recovery`) is left to open().
OPEN_LIMIT_MS: Final = 300

# -- in the process under measurement ---------------------------------------------------------------------------------


def url_of(backend: str, directory: Path) -> str:
    """Of a store in `directory`, whose key is made if it is the first time."""
    key = directory / "key"
    if not key.exists():
        key.write_bytes(os.urandom(32))
        key.chmod(0o600)
    return BACKENDS[backend].format(directory)


@contextmanager
def opened(backend: str, directory: Path) -> Iterator[CopyTarget]:
    store = make_store(parse(url_of(backend, directory)), Opening(os.getpid()))
    store.open()
    try:
        yield store
    finally:
        store.close()


@contextmanager
def ready(backend: str, directory: Path, group: int) -> Iterator[tuple[CopyTarget, Workload]]:
    """A store that holds a value for every key."""
    workload = Workload(group, COMMIT_BYTES, KEYS)
    with scratch(directory) as path:
        with opened(backend, path) as store:
            fill(store, workload)
        with opened(backend, path) as store:
            yield store, workload


def measure_commits(directory: Path, backend: str, group: int, amount: int) -> Figures:
    """Transactions one after the other."""
    with ready(backend, directory, group) as (store, workload):
        source, taken = transactions(workload), []
        for _ in range(amount):
            commits, before = next(source), time.perf_counter()
            store.apply(commits)
            taken.append(time.perf_counter() - before)
    taken.sort()
    return {
        "a_second": amount * group / sum(taken),
        "p50_ms": percentile(taken, 0.5) * 1e3,
        "p99_ms": percentile(taken, 0.99) * 1e3,
    }


def count_commits(directory: Path, backend: str, group: int, amount: int) -> Figures:
    """Bytes for each byte that changed, the chores of the end included."""
    with ready(backend, directory, group) as (store, workload):
        source = transactions(workload)
        device, written = device_bytes(directory), psutil.Process().io_counters().write_chars
        with syscalls.marked():
            for _ in range(amount):
                store.apply(next(source))
        settle(store)
        written = psutil.Process().io_counters().write_chars - written
        device = device_bytes(directory) - device
    changed = amount * workload.changed_bytes
    return {"written": written / changed, "device": device / changed}


def device_bytes(path: Path) -> int:
    """How much was ever written to the device that `path` lies on, once all is (Documentation/block/stat.rst); 0 where
    that cannot be known."""
    number, syncfs = os.stat(path).st_dev, kernel_syncfs()
    stat = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat")
    if syncfs is None or not stat.exists():
        return 0
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        syncfs(fd)
    finally:
        os.close(fd)
    return int(stat.read_text().split()[6]) * 512


def measure_snapshot(directory: Path, backend: str) -> Figures:
    """Milliseconds of a large value, written and adopted."""
    content = value(random.Random(1), SNAPSHOT_BYTES)
    with scratch(directory) as path, opened(backend, path) as store:
        before = time.perf_counter()
        store.adopt_snapshot(store.write_snapshot(NETWORK_GRAPH, Seq(1), content))
        return {"snapshot_ms": (time.perf_counter() - before) * 1e3}


def build(directory: Path, backend: str, size: int) -> Figures:
    """A store of `size` bytes of values, in `directory`."""
    before = time.perf_counter()
    with opened(backend, directory) as store:
        fill(store, Workload(1, RECORD_BYTES, size // RECORD_BYTES))
    taken = time.perf_counter() - before
    used = sum(path.stat().st_blocks for path in (directory / "store").rglob("*")) * 512
    return {"build_s": taken, "stored": used / size}


def measure_open(directory: Path, backend: str) -> Figures:
    """Milliseconds until the store in `directory` is open."""
    before = time.perf_counter()
    with opened(backend, directory):
        return {"open_ms": (time.perf_counter() - before) * 1e3}


def measure_verify(directory: Path, backend: str) -> Figures:
    """Milliseconds until all that is in `directory` was read, and how many values were whole."""
    before = time.perf_counter()
    view = open_view(url_of(backend, directory))
    whole = sum(isinstance(found, Value) for found in view.examine())
    view.close()
    return {"verify_ms": (time.perf_counter() - before) * 1e3, "whole": whole}


MEASURES: Final[dict[str, Callable[..., Figures]]] = {
    "commits": measure_commits,
    "count": count_commits,
    "snapshot": measure_snapshot,
    "build": build,
    "open": measure_open,
    "verify": measure_verify,
}

# -- all cells --------------------------------------------------------------------------------------------------------

Cell = tuple[str, int]  # a backend, and a group's or a store's size


class Amounts(NamedTuple):
    """How much is measured."""

    runs: int
    commits: int  #: lone ones in each run; groups are a tenth as many
    sizes: Sequence[int]  #: of stores, in bytes


class Found(NamedTuple):
    """Medians of runs, and counts."""

    commits: dict[Cell, Figures]
    snapshots: dict[str, Figures]
    sizes: dict[Cell, Figures]


def run(what: str, directory: Path, under: Sequence[str] = (), **settings: object) -> Figures:
    return in_fresh_host(MODULE, {"what": what, **settings}, directory=directory, timeout=600, under=under)


def take_commits(directory: Path, amounts: Amounts) -> dict[Cell, Figures]:
    quiet, taken = not sys.stderr.isatty(), defaultdict[Cell, list[Figures]](list)
    cells = [(backend, group) for group in GROUPS for backend in BACKENDS]

    def spec(backend: str, group: int) -> Figures:
        return {"backend": backend, "group": group, "amount": amounts.commits if group == 1 else amounts.commits // 10}

    for cell in track(cells * amounts.runs, "commits", disable=quiet):
        taken[cell].append(run("commits", directory, **spec(*cell)))
    found = {cell: medians(runs) for cell, runs in taken.items()}
    with scratch(directory) as path, own_disk(path) as disk:
        for cell in track(cells, "counts", disable=quiet):
            counts = run(
                "count", disk or path, syscalls.command(path / "trace") if syscalls.available() else (), **spec(*cell)
            )
            if disk is None:
                # Others write to that device, too.
                del counts["device"]
            if syscalls.available():
                calls = syscalls.Counts(path / "trace").disk
                counts["syncs"] = sum(calls[call] for call in syscalls.SYNCS) / spec(*cell)["amount"]
            found[cell] |= counts
    return found


@contextmanager
def own_disk(directory: Path) -> Iterator[Path | None]:
    """A file system that nobody else writes to; None if there can be none."""
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(mounted(directory)).path
        except NoDisk:
            disk = None
        yield disk


def take_snapshots(directory: Path, runs: int) -> dict[str, Figures]:
    taken: defaultdict[str, list[Figures]] = defaultdict(list)
    for backend in track(list(BACKENDS) * runs, "snapshots", disable=not sys.stderr.isatty()):
        taken[backend].append(run("snapshot", directory, backend=backend))
    return {backend: medians(figures) for backend, figures in taken.items()}


def take_sizes(directory: Path, amounts: Amounts) -> dict[Cell, Figures]:
    found: dict[Cell, Figures] = {}
    for size in track(amounts.sizes, "sizes", disable=not sys.stderr.isatty()):
        with scratch(directory) as path:
            places = {backend: path / str(number) for number, backend in enumerate(BACKENDS)}
            for backend, place in places.items():
                place.mkdir()
                found[backend, size] = run("build", place, backend=backend, size=size)
            taken: defaultdict[str, list[Figures]] = defaultdict(list)
            for backend, place in list(places.items()) * (1 if size >= GIB else amounts.runs):
                opening, verifying = (run(what, place, backend=backend) for what in ("open", "verify"))
                taken[backend].append(opening | verifying)
            for backend, figures in taken.items():
                found[backend, size] |= medians(figures)
    return found


def judge(found: Found) -> list[Claim]:
    """The promises about backends."""
    largest = max(size for _, size in found.sizes)
    lacking = sum(abs(size // RECORD_BYTES - found.sizes[backend, size]["whole"]) for backend, size in found.sizes)
    claims = [at_most("values that verify does not find whole", lacking, 0, "", "count")]
    claims += [
        at_most(
            f"open() of {size_text(largest)}, {scheme}", found.sizes[scheme, largest]["open_ms"], OPEN_LIMIT_MS, "ms"
        )
        for scheme in dict.fromkeys(PLAIN.values())
    ]
    for backend, plain in PLAIN.items():
        if backend != plain and "syncs" in found.commits[plain, 1]:
            more = found.commits[backend, 1]["syncs"] - found.commits[plain, 1]["syncs"]
            claims.append(at_most(f"syncs of a lone commit more than unsealed, {backend}", more, 0.01, "", "count"))
    return claims


# -- what is shown ----------------------------------------------------------------------------------------------------


def commits_table(found: Found) -> Table:
    made = Table(
        title="Commits of 1 KiB, in transactions of so many (medians of runs; bytes for each byte that changed)"
    )
    shown = ("commits/s", "beside unsealed", "p50 ms", "p99 ms", "bytes written", "reach the disk", "syncs")
    for column in ("group", "backend", *shown):
        made.add_column(column, justify="left" if column == "backend" else "right")
    for (backend, group), figures in found.commits.items():
        share = figures["a_second"] / found.commits[PLAIN[backend], group]["a_second"]
        row = [
            f"{figures['a_second']:,.0f}",
            f"{100 * share:.0f} %",
            f"{figures['p50_ms']:.2f}",
            f"{figures['p99_ms']:.2f}",
        ]
        row += [f"{figures[name]:.2f}" if name in figures else "" for name in ("written", "device", "syncs")]
        made.add_row(str(group), backend, *row)
    return made


def sizes_table(found: Found) -> Table:
    made = Table(title="Stores of records of 32 KiB, and a snapshot of 20 MiB (medians of runs)")
    for column in ("backend", "of values", "on disk", "build s", "open ms", "verify ms", "MiB/s", "snapshot ms"):
        made.add_column(column, justify="left" if column == "backend" else "right")
    for (backend, size), figures in found.sizes.items():
        rate = size / MIB / (figures["verify_ms"] / 1e3)
        row = [size_text(size), f"x {figures['stored']:.2f}", f"{figures['build_s']:.1f}", f"{figures['open_ms']:.1f}"]
        snapshot = f"{found.snapshots[backend]['snapshot_ms']:.0f}"
        made.add_row(backend, *row, f"{figures['verify_ms']:,.0f}", f"{rate:,.0f}", snapshot)
    return made


def size_text(size: int) -> str:
    return f"{size // GIB} GiB" if size >= GIB else f"{size // MIB} MiB"


def draw(found: Found, path: Path) -> None:
    """Commits a second, and times over the size."""
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, (rates, opens, verifies) = pyplot.subplots(1, 3, figsize=(13, 3.8))
    for number, group in enumerate(GROUPS):
        places = [place + 0.35 * (number - 0.5) for place in range(len(BACKENDS))]
        values = [found.commits[backend, group]["a_second"] for backend in BACKENDS]
        rates.barh(places, values, 0.33, label=f"{group} a transaction")
    rates.set(title="commits of 1 KiB a second", xscale="log", yticks=range(len(BACKENDS)))
    rates.set_yticklabels(BACKENDS)
    rates.invert_yaxis()
    rates.legend(frameon=False, fontsize=8)
    sizes = sorted({size for _, size in found.sizes})
    for axis, name, title in ((opens, "open_ms", "open() (ms)"), (verifies, "verify_ms", "verify (ms)")):
        for backend in BACKENDS:
            axis.plot(sizes, [found.sizes[backend, size][name] for size in sizes], "o-", label=backend)
        axis.set(title=title, xscale="log", yscale="log", xlabel="bytes of values")
        axis.set_xticks(sizes, [size_text(size) for size in sizes])
        axis.minorticks_off()
        axis.yaxis.set_major_formatter("{x:g}")
    opens.legend(frameon=False, fontsize=8)
    for axis in (rates, opens, verifies):
        axis.grid(alpha=0.25)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=3, help="interleaved runs")
    options.add_argument("--commits", type=int, default=400, help="lone commits in each run; a tenth as many groups")
    chosen = options.parse_args()
    if chosen.cell:
        spec = json.loads(chosen.cell)
        print(json.dumps(MEASURES[spec.pop("what")](chosen.dir, **spec)))
        return
    amounts = Amounts(chosen.runs, chosen.commits, SIZES)
    if chosen.quick:
        amounts = Amounts(1, 10, SIZES[:1])
    machine = facts(chosen.dir)
    found = Found(
        take_commits(chosen.dir, amounts), take_snapshots(chosen.dir, amounts.runs), take_sizes(chosen.dir, amounts)
    )
    figures = {
        "commits": [{"backend": backend, "group": group} | row for (backend, group), row in found.commits.items()],
        "snapshots": found.snapshots,
        "sizes": [{"backend": backend, "bytes": size} | row for (backend, size), row in found.sizes.items()],
    }
    report = Report("stores", (__doc__ or "").splitlines()[0], machine, amounts._asdict(), figures, judge(found))
    report.show(commits_table(found), sizes_table(found))
    report.save(chosen.json)
    if chosen.plot:
        draw(found, chosen.plot)


if __name__ == "__main__":
    main()
