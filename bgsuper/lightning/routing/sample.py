"""A slice of mainnet's real gossip that ships with bgsuper, for demos and tests: see ``data/README.md`` beside it."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from importlib.resources import files
from typing import Final

#: The newest timestamp in the slice (2025-11-18): pass it as `now`, and updates of the two weeks before it are taken
#: while older ones are refused as stale.
NOW: Final = 1_763_470_636


def messages() -> Iterator[bytes]:
    """The 523 messages, types included: announcements of channels first, then nodes and updates as they were made."""
    packed = files(__package__).joinpath("data", "mainnet_2018-2025.lnmsg.xz").read_bytes()
    data, offset = lzma.decompress(packed), 0
    while offset < len(data):
        start = offset + 2
        offset = start + int.from_bytes(data[offset:start], "big")
        yield data[start:offset]
