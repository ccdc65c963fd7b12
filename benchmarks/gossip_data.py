"""The gossip that `gossip` and `gossip_slices` measure with.

Full runs want a directory with real gossip beside the checkout (``--data``): a file of messages, xz of repeated {u16
big-endian length, BOLT 7 message with its type}, channels first, and a snapshot of rapid gossip sync, xz. Quick runs
make do with the 523 messages that ship with bgsuper.
"""

from __future__ import annotations

import argparse
import lzma
import struct
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


def messages(directory: Path, *, quick: bool) -> list[bytes]:
    """The messages, in their order."""
    if quick:
        return list(sample.messages())
    data, offset, found = lzma.decompress(_path(directory, MESSAGES).read_bytes()), 0, []
    while offset < len(data):
        (length,) = struct.unpack_from(">H", data, offset)
        found.append(data[offset + 2 : offset + 2 + length])
        offset += 2 + length
    return found


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
