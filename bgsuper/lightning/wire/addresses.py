"""Where a node can be reached: the address descriptors of `node_announcement` (BOLT 7).

Descriptors stand in ascending order of their type, so the first unknown type ends what we can read; the bytes from
there on are kept as they are. A known type cut short makes the message malformed, as LDK has it.
"""

from __future__ import annotations

from typing import Final

from ..errors import MalformedMessage

#: Bytes behind the type: IPv4, IPv6, Tor v2 (deprecated), Tor v3, each with its port.
_FIXED_BYTES: Final = {1: 6, 2: 18, 3: 12, 4: 37}
_HOSTNAME: Final = 5
_HOSTNAME_BYTES: Final = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.-_")


def known_length(addresses: bytes) -> int:
    """How many bytes of `addresses` are descriptors of known types; raises `MalformedMessage`."""
    offset, end = 0, len(addresses)
    while offset < end:
        kind = addresses[offset]
        size = _FIXED_BYTES.get(kind)
        if size is None:
            if kind != _HOSTNAME:
                return offset
            size = _hostname_bytes(addresses, offset + 1)
        if offset + 1 + size > end:
            raise MalformedMessage(
                f"the address of type {kind} at byte {offset} needs {size} bytes, {end - offset - 1} are left: "
                "warn the peer, drop the message"
            )
        offset += 1 + size
    return end


def _hostname_bytes(addresses: bytes, offset: int) -> int:
    """The size of a hostname's descriptor behind its type: length byte, name, port."""
    length = addresses[offset] if offset < len(addresses) else 0
    if not _HOSTNAME_BYTES.issuperset(addresses[offset + 1 : offset + 1 + length]):
        raise MalformedMessage(
            f"the hostname at byte {offset} holds other characters than letters, digits, '.', '-' and '_': "
            "warn the peer, drop the message"
        )
    return 1 + length + 2
