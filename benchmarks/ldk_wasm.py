"""LDK 0.1 in WebAssembly on the same gossip: measured where it is installed, else as it was recorded.

To measure it takes Node.js, a directory with the peer's program ldk_peer.mjs (``--ldk-peer``), and the npm packages
lightningdevkit and lightningdevkit-node-net below that directory or in LDK_NODE_MODULES. The program reads commands as
lines of JSON and says itself how many milliseconds each took, without the reading of files.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from .harness import Figures

PROGRAM: Final = "ldk_peer.mjs"
#: What a full run gave before, on two cores of an AMD EPYC: the same figures, in the same units.
RECORDED: Final[Figures] = {
    "signed_messages_per_second": 1_380.0,
    "unsigned_messages_per_second": 14_800.0,
    "rapid_seconds": 7.9,
    "graph_write_seconds": 11.4,
    "graph_read_seconds": 2.4,
    "rapid_write_seconds": 0.87,
    "rapid_read_seconds": 2.6,
}


def installed(directory: Path) -> bool:
    """Whether it can be measured."""
    modules = Path(os.environ.get("LDK_NODE_MODULES", directory / "node_modules"))
    return (
        shutil.which("node") is not None
        and (directory / PROGRAM).exists()
        and (modules / "lightningdevkit" / "index.mjs").exists()
    )


def measure(directory: Path, raws: Sequence[bytes], rapid: bytes | None, scratch: Path) -> Figures:
    """Its figures for these messages, and for the snapshot if there is one. Takes minutes for a whole network."""
    stored, snapshot = scratch / "messages", scratch / "rapid"
    stored.write_bytes(b"".join(len(raw).to_bytes(2, "big") + raw for raw in raws))
    figures: Figures = {}
    for via, name in (("graph", "signed"), ("unsigned", "unsigned")):
        with _Peer(directory) as peer:
            applied = peer.call("graph_apply", file=str(stored), via=via)
            figures[f"{name}_messages_per_second"] = applied["n"] / applied["ms"] * 1e3
            if via == "graph":
                figures |= _persistence(peer, "graph", scratch)
    if rapid is not None:
        snapshot.write_bytes(rapid)
        with _Peer(directory) as peer:
            figures["rapid_seconds"] = peer.call("rgs_apply", file=str(snapshot))["ms"] / 1e3
            figures |= _persistence(peer, "rapid", scratch)
    return figures


def _persistence(peer: _Peer, name: str, scratch: Path) -> Figures:
    written = peer.call("graph_hex", file=str(scratch / "graph"))
    read = peer.call("graph_load", file=str(scratch / "graph"))
    return {f"{name}_write_seconds": written["ms"] / 1e3, f"{name}_read_seconds": read["ms"] / 1e3}


class _Peer:
    """The program, running: one command after the other."""

    def __init__(self, directory: Path) -> None:
        options = json.dumps({"network": "bitcoin", "log_level": "off"})
        self._process = subprocess.Popen(
            ["node", PROGRAM, "--opts", options],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def call(self, command: str, **arguments: object) -> Any:
        """The command's result; raises `RuntimeError` with its error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"id": 1, "cmd": command, **arguments}) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            answer = json.loads(line)
            if "id" in answer:
                if not answer["ok"]:
                    raise RuntimeError(f"LDK refused {command}: {answer['error']}")
                return answer["result"]
        raise RuntimeError(f"LDK ended with status {self._process.wait()} during {command}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()
