"""Under a frozen disk, how long from SIGKILL of the host to its process gone and its TCP port free?

A host listens on a TCP port and commits 200 records a second to a file system of its own. That file system is frozen
(FIFREEZE): whoever writes to it is now in uninterruptible sleep, as with a disk or a network file system that does not
answer. Once somebody is, the host gets SIGKILL, as from an operator or a service manager that wants to fail over. A
process is gone when its last thread is, and only then are its descriptors, the listening socket among them, closed:

bgsuper   it is the worker that is stuck; it holds no descriptor of the host's
thread    a thread with group commit into SQLite, in the host
loop      the loop itself writes, the seed's way

Watched for `--limit` seconds; then the disk is thawed, and the clock begins anew. Runs are interleaved, medians shown.
Needs root and loop devices, and freezes nothing but the file system that it makes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import select
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

import psutil
from rich.progress import track
from rich.table import Table

from bgsuper.torture.power.frozen import mounted
from bgsuper.torture.power.loopmount import NoDisk

from .approaches import APPROACHES
from .harness import ROOT, Claim, Figures, Report, at_most, parser, scratch
from .machine import facts

MODULE: Final = "benchmarks.unkillable"
COMMIT_BYTES: Final = 1024
STREAM_S: Final = 1 / 200
#: How long commits stream before the disk is frozen, and how long somebody is stuck before the SIGKILL.
BEFORE_S: Final = 0.3
#: Between two looks, so also how exact a time is.
LOOK_S: Final = 0.0005
PATIENCE_S: Final = 30.0

# -- the host ---------------------------------------------------------------------------------------------------------


async def serve(name: str, directory: Path) -> None:
    """Listen, say where once a first commit is durable, and commit until killed."""
    filling, number = random.Random(1).randbytes(COMMIT_BYTES - 8), 0
    approach = APPROACHES[name](directory, None)
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    await approach.durable(approach.commit("first", filling))
    print(server.sockets[0].getsockname()[1], flush=True)
    while True:
        approach.commit(str(number % 1000), number.to_bytes(8) + filling)
        number += 1
        await asyncio.sleep(STREAM_S)


# -- the measurement --------------------------------------------------------------------------------------------------


def measure(name: str, directory: Path, limit: float) -> Figures:
    """One run. Milliseconds from SIGKILL, or None for what took longer than `limit` seconds; and from the thaw. Raises
    `NoDisk`."""
    with scratch(directory) as path, mounted(path) as disk:
        store = disk.path / "store"
        store.mkdir(mode=0o700)
        command = [
            sys.executable,
            "-m",
            MODULE,
            "--cell",
            json.dumps({"name": name}),
            "--dir",
            str(disk.path / "store"),
        ]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as host:
            try:
                assert host.stdout is not None
                port = int(host.stdout.readline())
                time.sleep(BEFORE_S)
                workers = [child.pid for child in psutil.Process(host.pid).children()]
                ends = [End(host.pid, port), *(End(pid) for pid in workers)]
                with disk.frozen():
                    _until_stuck([host.pid, *workers])
                    time.sleep(BEFORE_S)
                    killed = time.perf_counter()
                    host.send_signal(signal.SIGKILL)
                    watch(ends[:1], killed + limit)
                    found = ends[0].since(killed)
                thawed = time.perf_counter()
                watch(ends, thawed + PATIENCE_S)
                for end in ends:
                    end.close()
            finally:
                host.kill()
    after = [end.since(thawed)["gone_ms"] for end in ends]
    return {
        **found,
        "gone_after_thaw_ms": after[0] if found["gone_ms"] is None else None,
        "worker_after_thaw_ms": after[1] if workers else None,
    }


class End:
    """When a process was gone, by its pidfd, and when the port it listened on was free; infinity: not yet."""

    def __init__(self, pid: int, port: int | None = None) -> None:
        self._pidfd, self._port = os.pidfd_open(pid), port
        self._poll = select.poll()
        self._poll.register(self._pidfd, select.POLLIN)
        self._gone = math.inf
        self._free = -math.inf if port is None else math.inf

    def look(self) -> bool:
        """Whether there is something left to wait for."""
        if self._gone == math.inf and self._poll.poll(0):
            self._gone = time.perf_counter()
        if self._port is not None and self._free == math.inf and can_listen(self._port):
            self._free = time.perf_counter()
        return max(self._gone, self._free) == math.inf

    def since(self, start: float) -> Figures:
        """Milliseconds from `start`; None for what is still to come."""
        times = {"gone_ms": self._gone, "port_ms": self._free}
        return {name: 1e3 * (at - start) if at < math.inf else None for name, at in times.items()}

    def close(self) -> None:
        os.close(self._pidfd)


def watch(ends: list[End], deadline: float) -> None:
    """Until all have come, or until the deadline."""
    while time.perf_counter() < deadline and (ends := [end for end in ends if end.look()]):
        time.sleep(LOOK_S)


def can_listen(port: int) -> bool:
    """Whether nobody listens on it: what lingers of old connections is no obstacle to a server."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _until_stuck(pids: list[int]) -> None:
    """Wait until a thread of one of the processes is in uninterruptible sleep."""
    deadline = time.monotonic() + PATIENCE_S
    while not any(_state(task) == "D" for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()):
        if time.monotonic() > deadline:
            raise TimeoutError("nobody is stuck in the frozen disk")
        time.sleep(LOOK_S)


def _state(task: Path) -> str:
    return (task / "stat").read_text().rpartition(")")[2].split()[0]


# -- what is promised and shown ---------------------------------------------------------------------------------------


def median(runs: list[Figures], figure: str) -> float:
    """Of what was measured; infinity for what took longer than the limit."""
    return statistics.median(math.inf if run[figure] is None else run[figure] for run in runs)


def judge(taken: dict[str, list[Figures]], limit: float) -> list[Claim]:
    """The promise that the worker is there to keep."""
    ours = taken["bgsuper"]
    alive = sum(run["gone_ms"] is None or run["port_ms"] is None for run in ours)
    return [
        at_most(f"hosts of bgsuper not gone within {limit:g} s of SIGKILL, or their port not", alive, 0, "", "count"),
        at_most("SIGKILL to the host gone, bgsuper, p50", median(ours, "gone_ms"), 100, "ms"),
        at_most("SIGKILL to its port free, bgsuper, p50", median(ours, "port_ms"), 100, "ms"),
    ]


LABELS: Final = {
    "bgsuper": "bgsuper: a worker writes",
    "thread": "a thread in the host writes",
    "loop": "the loop writes (the seed's way)",
}


def table(taken: dict[str, list[Figures]], limit: float) -> Table:
    made = Table(title="From SIGKILL of the host, on a frozen disk (medians of runs)")
    for column in ("", "process gone", "port free", "gone after the thaw", "worker ended after the thaw"):
        made.add_column(column, justify="right" if column else "left")
    for name, runs in taken.items():
        gone, port = median(runs, "gone_ms"), median(runs, "port_ms")
        after, worker = median(runs, "gone_after_thaw_ms"), median(runs, "worker_after_thaw_ms")
        made.add_row(
            LABELS[name],
            f"{gone:.1f} ms" if gone < math.inf else f"[red]alive after {limit:g} s",
            f"{port:.1f} ms" if port < math.inf else f"[red]taken after {limit:g} s",
            f"{after:.1f} ms" if gone == math.inf else "",
            f"{worker:.1f} ms" if worker < math.inf else "",
        )
    return made


def draw(taken: dict[str, list[Figures]], limit: float, path: Path) -> None:
    """A bar an approach; what is still alive at the limit runs off the picture."""
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, axis = pyplot.subplots(figsize=(8, 2.4))
    end = limit * 1e3
    for row, runs in enumerate(taken.values()):
        found = max(median(runs, "gone_ms"), median(runs, "port_ms"))
        stuck = found == math.inf
        axis.barh(row, end if stuck else found, color="#b2182b" if stuck else "#1b7837", height=0.55)
        text = f"still alive, port taken, after {limit:g} s" if stuck else f"{found:.1f} ms"
        axis.annotate(
            text,
            (end if stuck else found, row),
            xytext=(-8 if stuck else 6, 0),
            textcoords="offset points",
            ha="right" if stuck else "left",
            va="center",
            color="white" if stuck else "black",
        )
    axis.set_yticks(range(len(taken)), [LABELS[name] for name in taken])
    axis.invert_yaxis()
    axis.set(xscale="log", xlim=(0.5, end), xlabel="ms from SIGKILL to process gone and port free, disk frozen")
    axis.xaxis.set_major_formatter("{x:,g}")
    axis.grid(axis="x", alpha=0.25)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def run(chosen: argparse.Namespace) -> dict[str, list[Figures]]:
    """All cells, interleaved."""
    taken: defaultdict[str, list[Figures]] = defaultdict(list)
    for name in track([*APPROACHES] * chosen.runs, "unkillable", disable=not sys.stderr.isatty()):
        taken[name].append(measure(name, chosen.dir, chosen.limit))
    return dict(taken)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--limit", type=float, default=10.0, help="how many seconds a host may take to be gone")
    options.add_argument("--runs", type=int, default=5, help="interleaved runs")
    chosen = options.parse_args()
    if chosen.cell:
        asyncio.run(serve(**json.loads(chosen.cell), directory=chosen.dir))
        return
    if chosen.quick:
        chosen.limit, chosen.runs = 1.0, 1
    machine = facts(chosen.dir)
    try:
        taken = run(chosen)
    except NoDisk as reason:
        sys.exit(f"unkillable: {reason}")
    settings = {"limit": chosen.limit, "runs": chosen.runs}
    claims = judge(taken, chosen.limit)
    report = Report("unkillable", (__doc__ or "").splitlines()[0], machine, settings, taken, claims)
    report.show(table(taken, chosen.limit))
    report.save(chosen.json)
    if chosen.plot:
        draw(taken, chosen.limit, chosen.plot)


if __name__ == "__main__":
    main()
