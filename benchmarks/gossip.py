"""How many gossip messages a second are verified and applied, and what does the graph of them cost?

All messages of a mainnet-sized network go through `P2PGossipSync.handle_message` on one core, as they would when a peer
sends them, with `now` set to their newest timestamp. A channel's bitcoin keys are parsed each time, node keys are
cached, as for any peer's gossip; so messages whose channels reuse their nodes' keys as bitcoin keys are no easier.
Beside that rate stand

- libsecp256k1 alone: bare `secp256k1_ecdsa_verify` calls on the same signatures, hashes and keys, all parsed before.
  No program that checks these signatures one by one on one core can be faster;
- the same messages decoded and applied without a look at the signatures;
- a snapshot of rapid gossip sync, decoded and applied;
- write(), take_changes() of everything, and read(), for both graphs;
- memory for each channel: what tracemalloc counts after all messages and one write(), the cache of parsed node keys
  included; and objects for each channel that Python's cyclic collector has to look at;
- LDK 0.1 in WebAssembly on the same data (`ldk_wasm`).

The host's event loop is `gossip_slices`'s question.
"""

from __future__ import annotations

import gc
import json
import time
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from coincurve._libsecp256k1 import ffi, lib
from rich.table import Table

from bgsuper.errors import BgsuperError, DecodeError
from bgsuper.lightning import ecdsa
from bgsuper.lightning.chain_hash import MAINNET
from bgsuper.lightning.ecdsa import parse_key, sha256d
from bgsuper.lightning.errors import GossipRefused
from bgsuper.lightning.routing.gossip import NetworkGraph
from bgsuper.lightning.routing.rapid import RapidGossipSync
from bgsuper.lightning.routing.sync import P2PGossipSync
from bgsuper.lightning.wire.gossip import ChannelAnnouncement, ChannelUpdate, NodeAnnouncement, decode_gossip

from . import ldk_wasm
from .gossip_data import add_options, chain_of, each_message, messages, newest, rapid_snapshot, stored_messages
from .harness import ROOT, Claim, Figures, Report, at_least, at_most, in_fresh_host, parser, scratch
from .machine import facts

MODULE: Final = "benchmarks.gossip"
#: The issue's promises.
TIMES_LDK: Final = 4.0
WRITE_MS: Final = 300.0
CHANNEL_BYTES: Final = 4096
#: Fewer channels say nothing of the memory of one.
ENOUGH_CHANNELS: Final = 1000

T = TypeVar("T")


def signed(raws: list[bytes], now: int) -> tuple[Figures, NetworkGraph]:
    """Verify and apply everything; seconds in all and for each kind of message."""
    ecdsa._parsed.clear()
    sync = P2PGossipSync(NetworkGraph(chain_of(raws)))
    seconds: defaultdict[str, float] = defaultdict(float)
    counts: Counter[str] = Counter()
    cpu, before = time.process_time(), time.perf_counter()
    for raw in raws:
        try:
            sync.handle_message(raw, now)
        except (DecodeError, GossipRefused):
            pass
        after = time.perf_counter()
        kind = str(int.from_bytes(raw[:2], "big"))
        seconds[kind] += after - before
        counts[kind] += 1
        before = after
    total = sum(seconds.values())
    figures: Figures = {
        "messages": len(raws),
        "applied": {kind.__name__: count for kind, count in sync.applied.items()},
        "refused": {kind.__name__: count for kind, count in sync.refused.items()},
        "signed_seconds": total,
        "signed_cpu_seconds": time.process_time() - cpu,
        "signed_messages_per_second": len(raws) / total,
        "signed_microseconds_by_type": {kind: seconds[kind] / counts[kind] * 1e6 for kind in sorted(counts)},
    }
    return figures, sync.network_graph


def bare_verify(raws: list[bytes], graph: NetworkGraph) -> Figures:
    """libsecp256k1's share: verify calls alone, on every signature whose key is known."""
    verify, context = lib.secp256k1_ecdsa_verify, lib.secp256k1_context_static
    calls, good, seconds = 0, 0, 0.0
    for start in range(0, len(raws), 1000):
        batch = [
            (_parsed(s), d, parse_key(k)) for raw in raws[start : start + 1000] for s, d, k in _triples(raw, graph)
        ]
        before = time.perf_counter()
        for signature, digest, key in batch:
            good += verify(context, signature, digest, key)
        seconds += time.perf_counter() - before
        calls += len(batch)
    return {"verify_calls": calls, "verify_good": good, "verify_seconds": seconds}


def _parsed(signature: bytes) -> object:
    parsed = ffi.new("secp256k1_ecdsa_signature *")
    lib.secp256k1_ecdsa_signature_parse_compact(lib.secp256k1_context_static, parsed, signature)
    return parsed


def _triples(raw: bytes, graph: NetworkGraph) -> Iterator[tuple[bytes, bytes, bytes]]:
    message = decode_gossip(raw)
    digest = sha256d(message.signed_part())
    if isinstance(message, ChannelAnnouncement):
        yield message.node_signature_1, digest, message.node_id_1
        yield message.node_signature_2, digest, message.node_id_2
        yield message.bitcoin_signature_1, digest, message.bitcoin_key_1
        yield message.bitcoin_signature_2, digest, message.bitcoin_key_2
    elif isinstance(message, NodeAnnouncement):
        yield message.signature, digest, message.node_id
    elif channel := graph.channels.get(message.short_channel_id):
        yield message.signature, digest, channel.node_two if message.direction else channel.node_one


def unsigned(raws: list[bytes], now: int) -> Figures:
    """Decode and apply everything without a look at the signatures."""
    graph = NetworkGraph(chain_of(raws))
    before = time.perf_counter()
    for raw in raws:
        message = decode_gossip(raw)
        try:
            if isinstance(message, ChannelUpdate):
                graph.update_channel_unsigned(message, now)
            elif isinstance(message, ChannelAnnouncement):
                graph.update_channel_from_unsigned_announcement(message, now)
            else:
                graph.update_node_from_unsigned_announcement(message)
        except BgsuperError:
            pass
    seconds = time.perf_counter() - before
    return {"unsigned_seconds": seconds, "unsigned_messages_per_second": len(raws) / seconds}


def rapid(snapshot: bytes) -> tuple[Figures, NetworkGraph]:
    """Decode and apply a snapshot of rapid gossip sync."""
    sync = RapidGossipSync(NetworkGraph(MAINNET))
    seconds, _ = _timed(lambda: sync.update_network_graph(snapshot, None))
    return {"rapid_seconds": seconds, "rapid_applied": sync.applied}, sync.network_graph


def persistence(graph: NetworkGraph, name: str) -> Figures:
    """write(), take_changes() and read() of the whole graph."""
    writing, data = _timed(graph.write)
    changes, _ = _timed(graph.take_changes)
    reading, copy = _timed(lambda: NetworkGraph.read(data))
    if copy.write() != data:
        raise SystemExit("read() of write() does not write the same bytes: the figures are void")
    return {
        f"{name}_channels": len(graph.channels),
        f"{name}_nodes": len(graph.nodes),
        f"{name}_bytes": len(data),
        f"{name}_write_seconds": writing,
        f"{name}_take_changes_seconds": changes,
        f"{name}_read_seconds": reading,
    }


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    before = time.perf_counter()
    result = call()
    return time.perf_counter() - before, result


def memory(stored: bytes, now: int) -> Figures:
    """What each channel takes, counted in a run of its own because counting slows it down."""
    ecdsa._parsed.clear()
    sync = P2PGossipSync(NetworkGraph(MAINNET))
    gc.collect()
    objects = len(gc.get_objects())
    tracemalloc.start()
    for raw in each_message(stored):
        try:
            sync.handle_message(raw, now)
        except (DecodeError, GossipRefused):
            pass
    sync.network_graph.write()
    current, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    channels = max(1, len(sync.network_graph.channels))
    gc.collect()
    return {
        "memory_bytes": current,
        "memory_bytes_per_channel": current / channels,
        "collector_objects_per_channel": max(0, len(gc.get_objects()) - objects) / channels,
    }


def measure(data: Path, *, quick: bool) -> Figures:
    """All of our figures."""
    raws = messages(data, quick=quick)
    now = newest(raws)
    figures, graph = signed(raws, now)
    figures |= bare_verify(raws, graph)
    figures["verify_share"] = figures["verify_seconds"] / figures["signed_seconds"]
    figures |= persistence(graph, "graph")
    figures |= unsigned(raws, now)
    del graph, raws
    if not quick:
        found, graph = rapid(rapid_snapshot(data))
        figures |= found | persistence(graph, "rapid")
        del graph
    return figures | memory(stored_messages(data, quick=quick), now)


def judge(figures: Figures, beside: Figures, *, quick: bool) -> list[Claim]:
    """The promises."""
    times = figures["signed_messages_per_second"] / beside["signed_messages_per_second"]
    claims = [
        at_least("signed messages verified and applied a second, beside LDK in WebAssembly", times, TIMES_LDK, "x"),
        at_most(
            "objects a channel for the cyclic collector", figures["collector_objects_per_channel"], 0.1, "", "count"
        ),
    ]
    for name in ("graph", *(() if quick else ("rapid",))):
        text = f"write() of {figures[f'{name}_channels']:,} channels, {figures[f'{name}_bytes'] / 1e6:.1f} MB"
        claims.append(at_most(text, figures[f"{name}_write_seconds"] * 1e3, WRITE_MS, "ms"))
    if figures["graph_channels"] >= ENOUGH_CHANNELS:
        each = figures["memory_bytes_per_channel"]
        claims.append(at_most("memory a channel", each, CHANNEL_BYTES, "bytes", "count"))
    return claims


def table(figures: Figures, beside: Figures, source: str) -> Table:
    shown = Table(title="Gossip of a whole network")
    shown.add_column("figure")
    shown.add_column("bgsuper", justify="right")
    shown.add_column(f"LDK wasm ({source})", justify="right")
    for name, value in figures.items():
        if isinstance(value, dict):
            pairs = (f"{key} {each:.1f}" if isinstance(each, float) else f"{key} {each}" for key, each in value.items())
            shown.add_row(name, ", ".join(pairs) or "none", "")
        else:
            shown.add_row(name, _short(value), _short(beside[name]) if name in beside else "")
    return shown


def _short(value: float) -> str:
    return f"{value:,.3f}" if isinstance(value, float) and value < 100 else f"{value:,.0f}"


def draw(figures: Figures, beside: Figures, path: Path) -> None:
    """How many times as fast as LDK in WebAssembly, figure by figure."""
    from matplotlib import pyplot

    names = [name for name in beside if name in figures]
    times = [
        figures[name] / beside[name] if name.endswith("per_second") else beside[name] / figures[name] for name in names
    ]
    figure, axis = pyplot.subplots(figsize=(8, 0.5 * len(names) + 1.2))
    axis.barh(range(len(names)), times, color="#1b7837")
    axis.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axis.set_xscale("log")
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xlabel("times as fast as LDK in WebAssembly")
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    options = parser(__doc__)
    add_options(options)
    beside = ROOT.parent / "shared" / "ldk_peer"
    options.add_argument("--ldk-peer", type=Path, default=beside, help="the directory with ldk_peer.mjs")
    options.add_argument("--recorded", action="store_true", help="do not measure LDK, though it is installed")
    chosen = options.parse_args()
    if chosen.cell:
        spec = json.loads(chosen.cell)
        print(json.dumps(measure(Path(spec["data"]), quick=spec["quick"])))
        return
    machine = facts(chosen.dir)
    spec = {"quick": chosen.quick, "data": str(chosen.data)}
    figures = in_fresh_host(MODULE, spec, directory=chosen.dir, timeout=600)
    source, ldk = "recorded", ldk_wasm.RECORDED
    if not (chosen.quick or chosen.recorded) and ldk_wasm.installed(chosen.ldk_peer):
        with scratch(chosen.dir) as directory:
            raws, snapshot = messages(chosen.data, quick=False), rapid_snapshot(chosen.data)
            source, ldk = "measured", ldk_wasm.measure(chosen.ldk_peer, raws, snapshot, directory)
    report = Report(
        "gossip",
        (__doc__ or "").splitlines()[0],
        machine,
        {"quick": chosen.quick, "LDK": source},
        {"bgsuper": figures, "LDK in WebAssembly": ldk},
        judge(figures, ldk, quick=chosen.quick),
    )
    report.show(table(figures, ldk, source))
    report.save(chosen.json)
    if chosen.plot:
        draw(figures, ldk, chosen.plot)


if __name__ == "__main__":
    main()
