"""How many signed gossip messages a second are verified and applied?

Takes files of gossip: xz of repeated {u16 big-endian length, BOLT 7 message with its type}, channels first. All of a
file's messages go through `P2PGossipSync.handle_message` on one core, as they would when a peer sends them, with `now`
set to the newest timestamp in the file. A channel's bitcoin keys are parsed each time, node keys are cached, as for
any peer's gossip; so a file whose channels reuse their nodes' keys as bitcoin keys is no easier. Beside that rate stand

- libsecp256k1 alone: bare `secp256k1_ecdsa_verify` calls on the same signatures, hashes and keys, all parsed before.
  No program that checks these signatures one by one on one core can be faster;
- the same messages decoded and applied without a look at the signatures;
- write() (first: every record is encoded; again: they are joined), take_changes() of everything, and read();
- memory for each channel: what tracemalloc counts after all messages and one write(), the graph's encoded records and
  the cache of parsed node keys included.

Usage: python benchmarks/gossip.py FILE.lnmsg.xz ... [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import lzma
import platform
import struct
import time
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coincurve._libsecp256k1 import ffi, lib

from bgsuper.errors import BgsuperError, DecodeError
from bgsuper.lightning.chain_hash import MAINNET
from bgsuper.lightning.ecdsa import parse_key, parse_node_key, sha256d
from bgsuper.lightning.errors import GossipRefused
from bgsuper.lightning.routing.gossip import NetworkGraph
from bgsuper.lightning.routing.sync import P2PGossipSync
from bgsuper.lightning.wire.gossip import ChannelAnnouncement, ChannelUpdate, NodeAnnouncement, decode_gossip

Figures = dict[str, Any]


def messages(path: Path) -> list[bytes]:
    """The messages of a file, in its order."""
    data, offset, found = lzma.decompress(path.read_bytes()), 0, []
    while offset < len(data):
        (length,) = struct.unpack_from(">H", data, offset)
        found.append(data[offset + 2 : offset + 2 + length])
        offset += 2 + length
    return found


def newest(raws: list[bytes]) -> int:
    """The newest timestamp of the updates in `raws`."""
    return max(update.timestamp for update in map(decode_gossip, raws) if isinstance(update, ChannelUpdate))


def chain_of(raws: list[bytes]) -> bytes:
    """The chain of the first announcement in `raws`."""
    return next((m.chain_hash for m in map(decode_gossip, raws) if isinstance(m, ChannelAnnouncement)), MAINNET)


def signed(raws: list[bytes], now: int) -> tuple[Figures, NetworkGraph]:
    """Verify and apply everything; seconds in all and for each kind of message."""
    parse_node_key.cache_clear()
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
    first, data = _timed(graph.write)
    again, _ = _timed(graph.write)
    return {
        "unsigned_seconds": seconds,
        "unsigned_messages_per_second": len(raws) / seconds,
        "unsigned_graph_bytes": len(data),
        "unsigned_write_first_seconds": first,
        "unsigned_write_seconds": again,
    }


def persistence(graph: NetworkGraph) -> Figures:
    """write(), take_changes() and read() of the whole graph."""
    first, data = _timed(graph.write)
    again, _ = _timed(graph.write)
    changes, _ = _timed(graph.take_changes)
    reading, copy = _timed(lambda: NetworkGraph.read(data))
    if copy.write() != data:
        raise SystemExit("read() of write() does not write the same bytes: the figures are void")
    return {
        "channels": len(graph.channels),
        "nodes": len(graph.nodes),
        "graph_bytes": len(data),
        "write_first_seconds": first,
        "write_seconds": again,
        "take_changes_seconds": changes,
        "read_seconds": reading,
    }


def _timed(call: Any) -> tuple[float, Any]:
    before = time.perf_counter()
    result = call()
    return time.perf_counter() - before, result


def memory(path: Path, now: int) -> Figures:
    """Bytes for each channel, counted in a run of its own because counting slows it down."""
    parse_node_key.cache_clear()
    raws = messages(path)
    sync = P2PGossipSync(NetworkGraph(chain_of(raws)))
    tracemalloc.start()
    for raw in raws:
        try:
            # A copy, as a connection would hand it over: what the graph keeps is counted, what it drops is not.
            sync.handle_message(bytes(bytearray(raw)), now)
        except (DecodeError, GossipRefused):
            pass
    sync.network_graph.write()
    current, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"memory_bytes": current, "memory_bytes_per_channel": current / max(1, len(sync.network_graph.channels))}


def measure(path: Path) -> Figures:
    """All figures for one file."""
    raws = messages(path)
    now = newest(raws)
    figures, graph = signed(raws, now)
    figures |= bare_verify(raws, graph)
    figures["verify_share"] = figures["verify_seconds"] / figures["signed_seconds"]
    figures |= persistence(graph)
    del graph
    figures |= unsigned(raws, now)
    del raws
    figures |= memory(path, now)
    return {"file": path.name, "now": now} | figures


def table(figures: Figures) -> str:
    """The figures, one a line."""
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict):
            value = (
                ", ".join(f"{k} {v:.1f}" if isinstance(v, float) else f"{k} {v}" for k, v in value.items()) or "none"
            )
        elif isinstance(value, float):
            value = f"{value:,.3f}" if value < 100 else f"{value:,.0f}"
        lines.append(f"  {name:<32} {value}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.lnmsg.xz")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    results = []
    for path in arguments.files:
        figures = measure(path)
        results.append(figures)
        print(table(figures), end="\n\n")
    if arguments.json:
        host = {"python": platform.python_version(), "machine": platform.machine()}
        arguments.json.write_text(json.dumps({"host": host, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
