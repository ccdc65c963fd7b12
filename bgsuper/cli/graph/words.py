"""What a graph holds, in words: for people, on a terminal.

Rule: aliases are whatever a stranger put into 32 bytes. They are shown with everything escaped that is not plainly
printable, the backslash included, so that no terminal acts on one, and no two aliases look alike by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from ...lightning.routing.gossip import NetworkGraph

#: What undecodable bytes become under `surrogateescape`.
_UNDECODABLE: Final = range(0xDC80, 0xDD00)
#: The end of the years that `datetime` knows.
_LAST_MOMENT: Final = 253_402_300_799
_UNITS: Final = (("days", 86_400), ("hours", 3600), ("minutes", 60))
#: How much of a node's id stands for it beside its alias.
_ID_DIGITS: Final = 16
_SATS_A_BITCOIN: Final = 100_000_000


def alias_text(alias: bytes) -> str:
    """An alias, harmless: what is not printable, or not UTF-8, is escaped as in Python."""
    text = alias.rstrip(b"\0").decode("utf-8", "surrogateescape")
    return "".join(map(_harmless, text))


def _harmless(character: str) -> str:
    if ord(character) in _UNDECODABLE:
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character.isprintable() and character != "\\":
        return character
    return character.encode("unicode_escape").decode()


def alias_of(graph: NetworkGraph, node_id: bytes) -> str | None:
    """The node's alias, harmless; None if it said nothing of itself."""
    info = graph.nodes[node_id].announcement_info
    return None if info is None else alias_text(info.alias)


def node_text(graph: NetworkGraph, node_id: bytes) -> str:
    """A node in one line of a table: the start of its id, and its alias."""
    return f"{node_id.hex()[:_ID_DIGITS]}… {alias_of(graph, node_id) or ''}".rstrip()


def feature_bits(features: bytes) -> Iterator[int]:
    """The numbers of the bits that are set, rising (BOLT 9)."""
    for number, byte in enumerate(reversed(features)):
        yield from (number * 8 + bit for bit in range(8) if byte >> bit & 1)


def moment_text(seconds: int) -> str:
    """A time in seconds since 1970, in UTC."""
    if seconds > _LAST_MOMENT:
        return f"{seconds:,} s after 1970"
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}Z"


def age_text(seconds: int, now: float) -> str:
    """How long ago a time in seconds since 1970 was."""
    distance = abs(now - seconds)
    length = next((f"{distance / size:,.1f} {unit}" for unit, size in _UNITS if distance >= size), f"{distance:.0f} s")
    return f"{length} ago" if seconds <= now else f"in {length}"


def dated(seconds: int, now: float) -> str:
    """A time, and how long ago that was."""
    return f"{moment_text(seconds)} ({age_text(seconds, now)})"


def sats_text(sats: int) -> str:
    """An amount as people read it."""
    return f"{sats:,} sat ({sats / _SATS_A_BITCOIN:,.8f} BTC)" if sats >= _SATS_A_BITCOIN else f"{sats:,} sat"
