"""Are gossip's signatures better checked on threads beside the loop?

libsecp256k1 is called with the GIL released, so that threads might check batches of messages on other cores while the
loop goes on. Each cell is a fresh host process: an asyncio loop with a schedule of one tick a millisecond, in which the
same announcements of channels (four signatures each) and of nodes (one) are checked

loop       in the loop, a batch at a time, other tasks in between
threads    on one or two threads, batches handed over and awaited, at most two a thread under way

and nothing else is done with them: they are decoded before, and not applied. Rates, the CPU time of the loop's own
thread, and lateness. bgsuper checks them in the loop; the claims say whether that is still right.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.progress import track
from rich.table import Table

from bgsuper.lightning.routing.verification import verify_channel_announcement, verify_node_announcement
from bgsuper.lightning.wire.gossip import ChannelAnnouncement, NodeAnnouncement, decode_gossip

from .gossip_data import add_options, each_message, stored_messages
from .gossip_slices import Ticks
from .harness import Claim, Figures, Report, at_most, in_fresh_host, medians, parser
from .machine import facts

MODULE: Final = "benchmarks.gossip_threads"
SIZES: Final = (1, 8, 64)
#: How many messages of each kind are checked: some seconds' work.
MESSAGES: Final = {"channels": 6_000, "nodes": 15_000}
#: Over this, a queue between loop and threads would be worth its keep.
WORTH_IT: Final = 1.3


class Cell(NamedTuple):
    """What one host process measures."""

    kind: str  #: channels or nodes
    threads: int  #: 0: in the loop
    size: int  #: messages a batch


def _check(verify: Callable[[Any], None], batch: Sequence[Any]) -> None:
    for message in batch:
        verify(message)


async def measure(cell: Cell, data: Path, *, quick: bool) -> Figures:
    """One cell, in this process."""
    kind, verify = (
        (ChannelAnnouncement, verify_channel_announcement)
        if cell.kind == "channels"
        else (NodeAnnouncement, verify_node_announcement)
    )
    decoded = map(decode_gossip, each_message(stored_messages(data, quick=quick)))
    messages = list(islice((each for each in decoded if isinstance(each, kind)), MESSAGES[cell.kind]))
    _check(verify, messages)  # node keys are parsed and cached, as they are after the first message of a node
    ticks, began, cpu = Ticks(), time.perf_counter(), time.thread_time()
    batches = [messages[at : at + cell.size] for at in range(0, len(messages), cell.size)]
    if cell.threads:
        await _on_threads(cell.threads, verify, batches)
    else:
        for batch in batches:
            _check(verify, batch)
            await asyncio.sleep(0)
    seconds, cpu = time.perf_counter() - began, time.thread_time() - cpu
    lateness = ticks.stop()
    return {
        "messages_per_second": len(messages) / seconds,
        "loop_cpu_share": cpu / seconds,
        "p50_ms": lateness["p50_ms"],
        "p99_ms": lateness["p99_ms"],
        "max_ms": lateness["max_ms"],
    }


async def _on_threads(threads: int, verify: Callable[[Any], None], batches: list[list[Any]]) -> None:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(threads) as executor:
        under_way: set[asyncio.Future[None]] = set()
        for batch in batches:
            if len(under_way) >= 2 * threads:
                _, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            under_way.add(loop.run_in_executor(executor, _check, verify, batch))
        await asyncio.wait(under_way)


def judge(figures: dict[Cell, Figures]) -> list[Claim]:
    """Whether the best way with threads is so little faster than the loop's best that it is not worth its keep."""
    claims = []
    for kind in dict.fromkeys(cell.kind for cell in figures):
        rates = {cell: found["messages_per_second"] for cell, found in figures.items() if cell.kind == kind}
        alone = max(rate for cell, rate in rates.items() if not cell.threads)
        best = max(rate for cell, rate in rates.items() if cell.threads)
        claims.append(at_most(f"announcements of {kind}: on threads beside in the loop", best / alone, WORTH_IT, "x"))
    return claims


def table(figures: dict[Cell, Figures]) -> Table:
    shown = Table(title="Signatures of gossip, checked in the loop and on threads (medians of runs)")
    for column in ("announcements of", "threads", "a batch", "a second", "loop's CPU", "late p50 ms", "p99", "max"):
        shown.add_column(column, justify="left" if column == "announcements of" else "right")
    for cell, found in figures.items():
        times = [f"{found[name]:.1f}" for name in ("p50_ms", "p99_ms", "max_ms")]
        rate, share = f"{found['messages_per_second']:,.0f}", f"{found['loop_cpu_share']:.0%}"
        shown.add_row(cell.kind, str(cell.threads or "loop"), str(cell.size), rate, share, *times)
    return shown


def main() -> None:
    options = parser(__doc__)
    add_options(options)
    options.add_argument("--runs", type=int, default=3, help="interleaved runs")
    chosen = options.parse_args()
    if chosen.cell:
        spec = json.loads(chosen.cell)
        print(json.dumps(asyncio.run(measure(Cell(*spec["cell"]), Path(spec["data"]), quick=spec["quick"]))))
        return
    machine = facts(chosen.dir)
    cells = [Cell(kind, threads, size) for kind in MESSAGES for threads in (0, 1, 2) for size in SIZES]
    rounds = cells * (1 if chosen.quick else chosen.runs)
    taken: dict[Cell, list[Figures]] = {cell: [] for cell in cells}
    for cell in track(rounds, "gossip_threads", disable=not sys.stderr.isatty()):
        spec = {"cell": list(cell), "data": str(chosen.data), "quick": chosen.quick}
        taken[cell].append(in_fresh_host(MODULE, spec, directory=chosen.dir, timeout=120))
    figures = {cell: medians(runs) for cell, runs in taken.items()}
    report = Report(
        "gossip_threads",
        (__doc__ or "").splitlines()[0],
        machine,
        {"quick": chosen.quick, "runs": chosen.runs},
        {"cells": [dict(cell._asdict()) | found for cell, found in figures.items()]},
        judge(figures),
    )
    report.show(table(figures))
    report.save(chosen.json)
    if chosen.plot:
        draw(figures, chosen.plot)


def draw(figures: dict[Cell, Figures], path: Path) -> None:
    """Rates by the size of a batch."""
    from matplotlib import pyplot

    kinds = list(dict.fromkeys(cell.kind for cell in figures))
    figure, axes = pyplot.subplots(1, len(kinds), figsize=(4.5 * len(kinds), 3.5), squeeze=False)
    for axis, kind in zip(axes[0], kinds, strict=True):
        for threads in dict.fromkeys(cell.threads for cell in figures):
            mine = [(cell.size, found) for cell, found in figures.items() if cell[:2] == (kind, threads)]
            rates = [found["messages_per_second"] for _, found in mine]
            axis.plot([size for size, _ in mine], rates, marker="o", label=f"{threads} threads" if threads else "loop")
        axis.set(xscale="log", title=f"announcements of {kind}", xlabel="messages a batch", ylim=(0, None))
    axes[0][0].set_ylabel("messages a second")
    axes[0][0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
