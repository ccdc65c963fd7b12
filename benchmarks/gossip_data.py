"""The gossip that `gossip` and `gossip_slices` measure with.

Full runs want a directory with real gossip beside the checkout (``--data``): a file of messages, xz of repeated {u16
big-endian length, BOLT 7 message with its type}, channels first, and a snapshot of rapid gossip sync, xz. Quick runs
make do with the 523 messages that ship with bgsuper.
"""

from __future__ import annotations

import argparse
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bgsuper.lightning.chain_hash import MAINNET
from bgsuper.lightning.routing import sample
from bgsuper.lightning.wire.gossip import ChannelAnnouncement, ChannelUpdate, decode_gossip

from .harness import ROOT

MESSAGES: Final = "mainnet_topology_2026-02-03_resigned.lnmsg.xz"
SNAPSHOT: Final = "mainnet_rgs_2023-10-19.bin.xz"


def add_options(options: argparse.ArgumentParser) -> None:
    """Where the data lies."""
    beside = ROOT.parent / "shared" / "data" / "gossip"
    options.add_argument("--data", type=Path, default=beside, help=f"the directory with {MESSAGES} and {SNAPSHOT}")


def stored_messages(directory: Path, *, quick: bool) -> bytes:
    """All messages in one piece: {u16 big-endian length, message} each."""
    if quick:
        return b"".join(len(raw).to_bytes(2, "big") + raw for raw in sample.messages())
    return lzma.decompress(_path(directory, MESSAGES).read_bytes())


def each_message(stored: bytes) -> Iterator[bytes]:
    """One after the other, each a copy, as a connection hands them over."""
    offset = 0
    while offset < len(stored):
        start = offset + 2
        offset = start + int.from_bytes(stored[offset:start], "big")
        yield stored[start:offset]


def messages(directory: Path, *, quick: bool) -> list[bytes]:
    """The messages, in their order."""
    return list(each_message(stored_messages(directory, quick=quick)))


def rapid_snapshot(directory: Path) -> bytes:
    """The snapshot of rapid gossip sync."""
    return lzma.decompress(_path(directory, SNAPSHOT).read_bytes())


def newest(raws: list[bytes]) -> int:
    """The newest timestamp of the updates in `raws`: as `now`, it makes none too new and few too old."""
    return max(update.timestamp for update in map(decode_gossip, raws) if isinstance(update, ChannelUpdate))


def chain_of(raws: list[bytes]) -> bytes:
    """The chain of the first announcement in `raws`."""
    return next((m.chain_hash for m in map(decode_gossip, raws) if isinstance(m, ChannelAnnouncement)), MAINNET)


def _path(directory: Path, name: str) -> Path:
    path = directory / name
    if not path.exists():
        raise SystemExit(f"there is no {path}: pass --data with a directory that holds it, or --quick")
    return path
