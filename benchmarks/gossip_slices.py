"""How long does gossip hold up the loop?

Each cell is a fresh host process: an asyncio loop with a schedule of one tick a millisecond, and beside it, in the same
loop, a processor that persists a network graph of mainnet's size to a store of its own, by what changed (graph_records)
and whole (side writes):

idle       nothing happens to the graph
persist    the whole graph is written, as it is after each prune; nothing is stale
prune      every channel is stale: all of it goes, from the graph and from the store, and what is left is written
stream     all messages come in from one peer, for a millisecond at a time, are verified, applied, committed, and passed
           on to two other peers, whose clocks run ten times as fast, so that news is flushed every six seconds
answers    three peers ask for everything at once: a range of all channels, the gossip of 2,000 of them, a backlog

A slice is one turn of the processor, one millisecond of messages, or one call of `next_messages`: what the loop cannot
interrupt. Its CPU time (time.thread_time) is what it takes on any machine; its wall time includes what other threads
and processes took meanwhile, the supervisor's thread with its part of the GIL among them. Lateness is of the ticks, as
in `lateness`. Python's cyclic collector runs in slices as well: its longest pause stands beside them. The host calls
gc.freeze() once it is set up, since a full collection takes several milliseconds in any program that has imported this
much; what comes later, all of the stream's graph, is not frozen. With --no-freeze it does not.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.progress import track
from rich.table import Table

from bgsuper import Supervisor
from bgsuper.errors import BgsuperError
from bgsuper.lightning.chain_hash import MAINNET
from bgsuper.lightning.routing.gossip import NetworkGraph
from bgsuper.lightning.routing.gossip_peer import GossipPeer
from bgsuper.lightning.routing.rapid import RapidGossipSync
from bgsuper.lightning.routing.sync import P2PGossipSync
from bgsuper.lightning.wire.gossip_queries import GossipTimestampFilter, QueryChannelRange, QueryShortChannelIds
from bgsuper.processor.clock import SystemClock, suspended
from bgsuper.processor.interfaces import Node
from bgsuper.processor.lifetime import Lifetime
from bgsuper.processor.timers import Timers

from .gossip_data import add_options, chain_of, each_message, messages, newest, rapid_snapshot, stored_messages
from .harness import Claim, Figures, Report, at_most, in_fresh_host, parser, percentile, scratch
from .lateness import LATE_S, TICK_S
from .machine import facts

MODULE: Final = "benchmarks.gossip_slices"
LOADS: Final = ("idle", "persist", "prune", "stream", "answers")
#: The issue's promise.
LIMIT_MS: Final = 5.0
FIRST_PRUNE_S: Final = 1.0
BATCH_S: Final = 0.001
ROOM: Final = 64 * 1024
NEWS_CLOCK: Final = 10.0
IDLE_S: Final = 5.0
QUICK_S: Final = 0.5
STALE_S: Final = 40 * 24 * 3600


class Cell(NamedTuple):
    """What one host process measures."""

    load: str
    graph: str  #: messages or rapid: what the graph was made from


# -- in the host under measurement ------------------------------------------------------------------------------------


class Stopwatch:
    """How long slices took, by kind, in CPU time and in wall time."""

    def __init__(self) -> None:
        self.cpu: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
        self.wall: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))

    @contextmanager
    def slice(self, kind: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self.cpu[kind].append(time.thread_time() - cpu)
            self.wall[kind].append(time.perf_counter() - wall)

    def clear(self) -> None:
        """Forget what was before."""
        self.cpu.clear()
        self.wall.clear()

    def figures(self) -> Figures:
        """Of each kind."""
        return {
            kind: {
                "slices": len(cpu),
                "over": sum(1 for seconds in cpu if seconds * 1e3 > LIMIT_MS),
                "cpu_longest_ms": max(cpu) * 1e3,
                "cpu_p999_ms": percentile(sorted(cpu), 0.999) * 1e3,
                "wall_longest_ms": max(self.wall[kind]) * 1e3,
                "wall_p999_ms": percentile(sorted(self.wall[kind]), 0.999) * 1e3,
            }
            for kind, cpu in self.cpu.items()
        }


class Ticks:
    """One tick a millisecond until it is stopped, and how late each ran; missed ones count with all their lateness."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.lateness = array("d")
        self._begin = self._loop.time() + TICK_S
        self._timer = self._loop.call_at(self._begin, self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        while (due := self._begin + len(self.lateness) * TICK_S) <= now:
            self.lateness.append(now - due)
        self._timer = self._loop.call_at(due, self._tick)

    def stop(self) -> Figures:
        self._timer.cancel()
        ordered = sorted(self.lateness)
        return {
            "ticks": len(ordered),
            "late": sum(1 for seconds in ordered if seconds > LATE_S),
            "p50_ms": percentile(ordered, 0.5) * 1e3,
            "p99_ms": percentile(ordered, 0.99) * 1e3,
            "p999_ms": percentile(ordered, 0.999) * 1e3,
            "max_ms": percentile(ordered, 1.0) * 1e3,
        }


class Collector:
    """What Python's cyclic collector did meanwhile."""

    def __init__(self) -> None:
        self.collections: Counter[int] = Counter()
        self.longest_s = self._began = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.thread_time()
        else:
            self.collections[info["generation"]] += 1
            self.longest_s = max(self.longest_s, time.thread_time() - self._began)

    def figures(self) -> Figures:
        return {
            "collections": [self.collections[generation] for generation in range(3)],
            "collection_longest_ms": self.longest_s * 1e3,
        }


class Quiet:
    """Every node object but the graph: nothing to say, nothing to persist."""

    def process_pending_events(self, _: object) -> None: ...
    def timer_tick_occurred(self) -> None: ...
    def process_events(self) -> None: ...
    def disconnect_all_peers(self) -> None: ...
    def on_persistable_update(self, _: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def take_changes(self) -> tuple[dict[Any, bytes], set[Any]]:
        return {}, set()


class Shifted(SystemClock):
    """The machine's clocks, with the time of the data."""

    def __init__(self, now: int) -> None:
        self._ahead = now - time.time()

    def time(self) -> float:
        return time.time() + self._ahead


class Counted(NetworkGraph):
    """A graph that counts its copies."""

    copies = 0

    def pieces(self) -> Iterator[bytes]:
        self.copies += 1
        return super().pieces()


class Host:
    """The asyncio face of a processor, with a stopwatch."""

    def __init__(self, sync: P2PGossipSync, store: Supervisor, timers: Timers, now: int, watch: Stopwatch) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._watch = watch
        self._store = store
        quiet = Quiet()
        node = Node(lambda _: None, quiet, quiet, sync, quiet)
        logger = logging.getLogger("bgsuper.benchmark")
        self._lifetime = Lifetime(
            node, store, self._wake, timers=timers, clock=Shifted(now), asleep=suspended, logger=logger
        )
        #: Whether the last turn left nothing to do at once.
        self.resting = False

    def _wake(self) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._woken.set)

    async def run(self) -> None:
        steps = self._lifetime.steps()
        while True:
            with self._watch.slice("turn"):
                seconds = next(steps)
            self.resting = seconds > 0
            alarm = self._loop.call_later(seconds, self._woken.set)
            await self._woken.wait()
            alarm.cancel()
            self._woken.clear()

    async def settled(self) -> None:
        """All that changed is durable."""
        for _ in range(3):
            await asyncio.sleep(0.05)
            while not (self.resting and self._store.writable):
                await asyncio.sleep(0.01)


async def measure(cell: Cell, path: Path, chosen: Figures, disk: Path) -> Figures:
    """One cell, in this process; the graph lies in `path`."""
    quick, data = chosen["quick"], Path(chosen["data"])
    stored = stored_messages(data, quick=quick) if cell.load == "stream" else b""
    graph = Counted(MAINNET) if stored else Counted.read(path.read_bytes())
    sync = P2PGossipSync(graph)
    now = chosen["now"][cell.graph] + (STALE_S if cell.load == "prune" else 0)
    timers = Timers(first_prune=FIRST_PRUNE_S if cell.load in ("persist", "prune") else 3600.0)
    watch, collector = Stopwatch(), Collector()
    with scratch(disk) as directory:
        store = Supervisor(f"sqlite:{directory / 'store'}")
        store.start()
        host = Host(sync, store, timers, now, watch)
        running = asyncio.get_running_loop().create_task(host.run())
        await host.settled()
        if chosen["freeze"]:
            gc.collect()
            gc.freeze()
        gc.callbacks.append(collector)
        watch.clear()
        ticks, began = Ticks(), time.perf_counter()
        figures: Figures = {"channels_before": len(graph.channels), "nodes_before": len(graph.nodes)}
        await _load(cell.load, sync, stored, now, host, watch, QUICK_S if quick else IDLE_S)
        figures |= {"seconds": time.perf_counter() - began, "lateness": ticks.stop()} | collector.figures()
        gc.callbacks.remove(collector)
        running.cancel()
        store.stop()
    return figures | {"channels_after": len(graph.channels), "copies": graph.copies, "slices": watch.figures()}


async def _load(
    load: str, sync: P2PGossipSync, stored: bytes, now: int, host: Host, watch: Stopwatch, idle_s: float
) -> None:
    graph = sync.network_graph
    assert isinstance(graph, Counted)
    if load == "idle":
        await asyncio.sleep(idle_s)
    elif load in ("persist", "prune"):
        while graph.copies < 1:
            await asyncio.sleep(0.01)
    elif load == "stream":
        await _stream(sync, each_message(stored), now, watch)
    else:
        await _answers(sync, now, watch)
    await host.settled()


async def _stream(sync: P2PGossipSync, raws: Iterator[bytes], now: int, watch: Stopwatch) -> None:
    source, *others = (sync.connect(now, queries=True) for _ in range(3))
    for peer in others:
        peer.handle_message(GossipTimestampFilter(sync.network_graph.chain_hash, 0, 0xFFFF_FFFF).encode(), now)
    began, raw = time.monotonic(), next(raws, None)
    while raw is not None:
        with watch.slice("messages"):
            until = time.perf_counter() + BATCH_S
            while raw is not None and time.perf_counter() < until:
                with suppress(BgsuperError):
                    sync.handle_message(raw, now, origin=source)
                raw = next(raws, None)
        await asyncio.sleep(0)
        for peer in others:
            with watch.slice("relay"):
                peer.next_messages(now + (time.monotonic() - began) * NEWS_CLOCK, ROOM)
            await asyncio.sleep(0)


async def _answers(sync: P2PGossipSync, now: int, watch: Stopwatch) -> None:
    chain, scids = sync.network_graph.chain_hash, tuple(sync.network_graph.channel_ids_after(None, 2000))
    peers: list[GossipPeer] = []
    for query in (
        QueryChannelRange(chain, 0, 0xFFFF_FFFF, 3),
        QueryShortChannelIds(chain, scids),
        GossipTimestampFilter(chain, 0, 0xFFFF_FFFF),
    ):
        peers.append(sync.connect(now, queries=True))
        peers[-1].handle_message(query.encode(), now)
    later = float(now)
    while any(peer.more(later) for peer in peers):
        later += 3600.0  # the allowance of a peer is not what is measured
        for peer in peers:
            with watch.slice("relay"):
                peer.next_messages(later, ROOM)
            await asyncio.sleep(0)


# -- all cells ----------------------------------------------------------------------------------------------------


def graphs(chosen: Any, directory: Path) -> tuple[dict[str, Path], dict[str, int]]:
    """The graphs' bytes by what they were made from, and the time at which each is up to date."""
    raws = messages(chosen.data, quick=chosen.quick)
    now = {"messages": newest(raws)}
    sync = P2PGossipSync(NetworkGraph(chain_of(raws)))
    for raw in track(raws, "the graph of the messages", disable=not sys.stderr.isatty()):
        with suppress(BgsuperError):
            sync.handle_message(raw, now["messages"])
    made = {"messages": sync.network_graph}
    if not chosen.quick:
        rapid = RapidGossipSync(NetworkGraph(chain_of(raws)))
        now["rapid"] = rapid.update_network_graph(rapid_snapshot(chosen.data), None)
        made["rapid"] = rapid.network_graph
    paths = {}
    for name, graph in made.items():
        paths[name] = directory / name
        paths[name].write_bytes(graph.write())
    return paths, now


def judge(figures: dict[Cell, Figures]) -> list[Claim]:
    """The promise: no slice over 5 ms; and, which no noise touches, that the collector never walks through a graph."""
    claims = []
    for cell, found in figures.items():
        longest = max(each["cpu_longest_ms"] for each in found["slices"].values())
        where = f"{cell.load}, {max(found['channels_before'], found['channels_after']):,} channels"
        claims.append(at_most(f"longest slice of the loop, CPU time: {where}", longest, LIMIT_MS, "ms"))
    for cell, found in figures.items():
        if cell.load == "stream":
            claims.append(
                at_most("full collections while a network streams in", found["collections"][2], 1, "", "count")
            )
    return claims


def table(figures: dict[Cell, Figures]) -> Table:
    shown = Table(title="Slices of the loop, and lateness of a 1 ms schedule beside them (ms)")
    for column in ("load", "graph of", "slices of", "count", ">5 ms", "CPU p99.9", "CPU max", "wall max"):
        shown.add_column(column, justify="left" if column in ("load", "graph of", "slices of") else "right")
    for column in ("late p99", "p99.9", "max", "collector max", "seconds"):
        shown.add_column(column, justify="right")
    for cell, found in figures.items():
        late = found["lateness"]
        beside = [f"{late[name]:.1f}" for name in ("p99_ms", "p999_ms", "max_ms")]
        beside += [f"{found['collection_longest_ms']:.1f}", f"{found['seconds']:.1f}"]
        for kind, each in found["slices"].items():
            times = [f"{each[name]:.2f}" for name in ("cpu_p999_ms", "cpu_longest_ms", "wall_longest_ms")]
            shown.add_row(*cell, kind, f"{each['slices']:,}", f"{each['over']}", *times, *beside)
            beside = [""] * len(beside)
    return shown


def draw(figures: dict[Cell, Figures], path: Path) -> None:
    """The longest slice of each cell, beside the limit."""
    from matplotlib import pyplot

    names = [f"{cell.load}, {cell.graph}" for cell in figures]
    longest = [max(each["cpu_longest_ms"] for each in found["slices"].values()) for found in figures.values()]
    late = [found["lateness"]["p999_ms"] for found in figures.values()]
    figure, axis = pyplot.subplots(figsize=(8, 0.5 * len(names) + 1.5))
    places = range(len(names))
    axis.barh([place + 0.2 for place in places], longest, 0.4, label="longest slice, CPU time", color="#1b7837")
    axis.barh([place - 0.2 for place in places], late, 0.4, label="p99.9 lateness of a tick", color="#a6dba0")
    axis.axvline(LIMIT_MS, color="grey", linewidth=0.8)
    axis.set_yticks(list(places), names)
    axis.set_xlabel("ms")
    axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    options = parser(__doc__)
    add_options(options)
    options.add_argument("--no-freeze", dest="freeze", action="store_false", help="leave the collector as it is")
    options.add_argument("--loads", nargs="+", choices=LOADS, default=list(LOADS))
    chosen = options.parse_args()
    if chosen.cell:
        spec = json.loads(chosen.cell)
        print(json.dumps(asyncio.run(measure(Cell(*spec["cell"]), Path(spec["path"]), spec, chosen.dir))))
        return
    machine, figures = facts(chosen.dir), {}
    with scratch(chosen.dir) as directory:
        paths, now = graphs(chosen, directory)
        cells = [Cell(load, graph) for load in chosen.loads for graph in paths]
        cells = [cell for cell in cells if cell.load != "stream" or cell.graph == "messages"]
        for cell in track(cells, "gossip_slices", disable=not sys.stderr.isatty()):
            spec = {"cell": list(cell), "path": str(paths[cell.graph]), "now": now}
            spec |= {"quick": chosen.quick, "data": str(chosen.data), "freeze": chosen.freeze}
            figures[cell] = in_fresh_host(MODULE, spec, directory=chosen.dir, timeout=180)
    report = Report(
        "gossip_slices",
        (__doc__ or "").splitlines()[0],
        machine,
        {"quick": chosen.quick, "loads": chosen.loads, "freeze": chosen.freeze},
        {"cells": [dict(cell._asdict()) | found for cell, found in figures.items()]},
        judge(figures),
    )
    report.show(table(figures))
    report.save(chosen.json)
    if chosen.plot:
        draw(figures, chosen.plot)


if __name__ == "__main__":
    main()
