"""Where nodes can be reached, read from the address descriptors of `node_announcement` (BOLT 7)."""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

_HOSTNAME: Final = 5
_PORT_BYTES: Final = 2


class Address(NamedTuple):
    """One address. Nothing in it is harmful to show: its parts are numbers, or checked when they were received."""

    kind: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if self.kind == "IPv6" else self.host
        return f"{host}:{self.port} ({self.kind})"


class _Form(NamedTuple):
    kind: str
    size: int  #: bytes of the host
    host: Callable[[bytes], str]


def _onion(host: bytes) -> str:
    return b32encode(host).decode().lower() + ".onion"


_FORMS: Final[Mapping[int, _Form]] = {
    1: _Form("IPv4", 4, lambda host: str(IPv4Address(host))),
    2: _Form("IPv6", 16, lambda host: str(IPv6Address(host))),
    3: _Form("Tor v2", 10, _onion),
    4: _Form("Tor v3", 35, _onion),
}


def addresses(descriptors: bytes) -> Iterator[Address]:
    """The addresses in `descriptors`, which are all of known types and whole (`wire.addresses.known_length`)."""
    offset = 0
    while offset < len(descriptors):
        number, offset = descriptors[offset], offset + 1
        if number == _HOSTNAME:
            size, offset = descriptors[offset], offset + 1
            form = _Form("DNS", size, bytes.decode)
        else:
            form = _FORMS[number]
        stop = offset + form.size
        host, port = descriptors[offset:stop], descriptors[stop : stop + _PORT_BYTES]
        yield Address(form.kind, form.host(host), int.from_bytes(port, "big"))
        offset = stop + _PORT_BYTES
