"""How nodes, channels and moments are written on the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from ...errors import ConfigError

_NODE_ID: Final = re.compile(r"0[23][0-9a-f]{64}")
_SCID: Final = re.compile(r"([0-9]{1,8})x([0-9]{1,8})x([0-9]{1,5})")
_NUMBER: Final = re.compile(r"[0-9]{1,20}")
#: Bits of block, transaction and output.
_SCID_BITS: Final = (24, 24, 16)


def parse_node_id(text: str) -> bytes:
    """The 33 bytes that `text` spells in hex. Raises `ConfigError`."""
    if _NODE_ID.fullmatch(text.lower()) is None:
        raise ConfigError(
            f"expected a node's id, 66 hexadecimal digits of which the first are 02 or 03, got {text!r:.100}"
        )
    return bytes.fromhex(text)


def parse_scid(text: str) -> int:
    """The short channel id that `text` spells, block x transaction x output or one integer. Raises `ConfigError`."""
    parts = _SCID.fullmatch(text)
    if parts is not None:
        scid, fits = 0, True
        for part, bits in zip(map(int, parts.groups()), _SCID_BITS, strict=True):
            scid, fits = scid << bits | part, fits and part < 1 << bits
        if fits:
            return scid
    elif _NUMBER.fullmatch(text) and int(text) < 1 << sum(_SCID_BITS):
        return int(text)
    raise ConfigError(
        f"expected a short channel id such as 811316x1023x1 (block, transaction, output) or one integer below 2^64, "
        f"got {text!r:.100}"
    )


def parse_moment(text: str) -> int:
    """The time that `text` spells, in seconds since 1970: such a number, or ISO 8601, in UTC if it names no other zone.

    Raises `ConfigError`.
    """
    try:
        if _NUMBER.fullmatch(text):
            seconds = int(text)
        else:
            moment = datetime.fromisoformat(text)
            seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
        if 0 <= seconds < 1 << 32:
            return seconds
    except (ValueError, OverflowError):
        pass
    raise ConfigError(
        "expected a time between 1970 and 2106 such as 2023-10-19T21:00:00Z, or in seconds since 1970, "
        f"got {text!r:.60}"
    )
