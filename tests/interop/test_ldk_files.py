"""LDK reads graph and scorer from a directory that we wrote, and we read and go on with one that LDK wrote.

Needs node and its `lightningdevkit`: run `npm install` in this directory, or set LDK_NODE_MODULES.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bgsuper.key import NETWORK_GRAPH, SCORER, Key, Seq
from bgsuper.lightning.routing.gossip import NetworkGraph
from bgsuper.store.filesystem.view import FilesystemView
from tests.store.filesystem.stores import commit, content, die, new_store, opened

HERE = Path(__file__).parent
MODULES = Path(os.environ.get("LDK_NODE_MODULES", HERE / "node_modules"))

#: As LDK v0.1 wrote it: see tests/vectors/README.md.
GRAPH = lzma.decompress(HERE.parent.joinpath("vectors", "ldk_mesh3x3_graph.xz").read_bytes())
UPDATE = Key("monitor_updates", "ab_0", "1")
MONITOR = Key("monitors", "", "ab_0")


def duration(seconds: int) -> bytes:
    return struct.pack(">QI", seconds, 0)


def tlv(*records: tuple[int, bytes]) -> bytes:
    """A TLV stream with its length, all sizes below 65536 (BOLT 1)."""
    body = b"".join(bytes([kind]) + bigsize(len(value)) + value for kind, value in records)
    return bigsize(len(body)) + body


def bigsize(number: int) -> bytes:
    return bytes([number]) if number < 0xFD else b"\xfd" + struct.pack(">H", number)


def scorer(scids: list[int]) -> bytes:
    """A `ProbabilisticScorer` of LDK v0.1 that knows something of `scids`."""
    history = tlv((0, struct.pack(">32H", *range(32))))
    liquidity = tlv(
        (0, struct.pack(">Q", 1000)),
        (2, struct.pack(">Q", 2000)),
        (4, duration(1_700_000_000)),
        (5, history),
        (7, history),
        (9, duration(1_700_000_001)),
    )
    entries = b"".join(struct.pack(">Q", scid) + liquidity for scid in scids)
    return tlv((0, struct.pack(">H", len(scids)) + entries))


def ldk(command: str, directory: Path) -> Mapping[str, Any]:
    """What LDK makes of `directory`. Skips where it is not installed."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node: install Node.js 18 or later")
    if not (MODULES / "lightningdevkit" / "index.mjs").exists():
        pytest.skip(
            f"there is no lightningdevkit in {MODULES}: run npm install in tests/interop, or set LDK_NODE_MODULES"
        )
    done = subprocess.run(
        [node, str(HERE / "ldk_files.mjs"), command, str(directory)],
        env=os.environ | {"LDK_NODE_MODULES": str(MODULES)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: Mapping[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("way", ["commit", "snapshot", "killed"])
def test_ldk_reads_what_we_wrote(tmp_path: Path, way: str) -> None:
    """LDK lists the keys and nothing else, and decodes graph and scorer to what they are, however they were written;
    also after a kill, as long as no group was under way."""
    graph = NetworkGraph.read(GRAPH)
    store = new_store(tmp_path)
    store.open()
    store.apply([commit(1, {MONITOR: b"ours", UPDATE: b"ours"})])
    values = {NETWORK_GRAPH: graph.write(), SCORER: scorer([1, 2])}
    if way == "snapshot":
        for seq, (key, value) in enumerate(values.items(), 2):
            store.adopt_snapshot(store.write_snapshot(key, Seq(seq), value))
    else:
        store.apply([commit(2, values)])
    if way == "killed":
        store.write_snapshot(NETWORK_GRAPH, Seq(3), b"never adopted")
        die(store)
    store.close()
    found = ldk("read", tmp_path)
    assert found["keys"] == ["monitor_updates/ab_0/1", "monitors/ab_0", "network_graph", "scorer"]
    assert len(found["channels"]) == 12
    assert found["nodes"] == 9
    # LDK writes maps in hash order, and keeps what it knows of each channel.
    assert len(bytes.fromhex(found["scorer"])) == len(values[SCORER])


def test_we_read_what_ldk_wrote(tmp_path: Path) -> None:
    """A directory of LDK's is taken over, its values are what LDK wrote; and one that went back to LDK and came again
    is not rolled back."""
    (tmp_path / "network_graph").write_bytes(GRAPH)
    (tmp_path / "scorer").write_bytes(scorer([7]))
    before = ldk("write", tmp_path)
    with opened(tmp_path) as store:
        assert store.read(SCORER).hex() == before["scorer"] == scorer([7]).hex()
        graph = NetworkGraph.read(store.read(NETWORK_GRAPH))
        assert graph.write() == NetworkGraph.read(GRAPH).write()
        there = content(store, ("", ""), ("monitors", ""), ("monitor_updates", "ab_0"))
        assert (there[MONITOR], there[UPDATE]) == (b"\1\2\3", b"")
        store.apply([commit(1, {SCORER: scorer([8]), MONITOR: b"ours"}, (UPDATE,))])
    between = ldk("write", tmp_path)
    assert between["scorer"] == scorer([8]).hex()
    again = new_store(tmp_path)
    assert again.open().last_commit == 1
    assert (again.read(MONITOR), again.read(UPDATE)) == (b"\1\2\3", b"")
    assert again.read(SCORER) == scorer([8])
    again.close()
    view = FilesystemView(tmp_path)
    assert view.facts()["unverified"] == 4
    view.close()
