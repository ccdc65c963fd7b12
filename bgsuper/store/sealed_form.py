"""What a sealed value begins with, for whoever has no key, and must not import what `sealing` does.

Rule: a store's identity says whether it is sealed. Where that is lost and no key is in hand, what looks sealed is not
given out: sealed bytes would pass for a value, and a store that was salvaged from them for a node's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from ..errors import StoreSealed
from ..key import Key
from .api import Damage, Value

SALT_BYTES: Final = 16
TAG_BYTES: Final = 16
#: Magic, form, salt, counter, length of the content.
HEADER: Final = struct.Struct(f">BB{SALT_BYTES}sQQ")
MAGIC: Final = 0xB5
#: What a sealed value has more than what it seals, for one segment.
OVERHEAD_BYTES: Final = HEADER.size + TAG_BYTES

#: Of counters and lengths; both have room for far more. One in 2^56 values of other bytes seems to be sealed.
_LIMIT: Final = 1 << 40


def looks_sealed(content: bytes) -> bool:
    """Whether `content` begins as a sealed value does, of this version or a later one."""
    if len(content) < OVERHEAD_BYTES:
        return False
    magic, _, _, counter, length = HEADER.unpack_from(content)
    return bool(magic == MAGIC and 0 < counter < _LIMIT and length < _LIMIT)


def refuse_sealed(key: Key, content: bytes) -> None:
    """Raise `StoreSealed` if `content` looks sealed: the value of `key`, in a store that cannot tell."""
    if looks_sealed(content):
        raise StoreSealed(
            f"the value of {key} seems to be sealed, and no key was given: add ?key-file=PATH or ?key-env=NAME to the "
            "store's URL"
        )


def without_sealed(findings: Iterator[Value | Damage]) -> Iterator[Value | Damage]:
    """`findings`, in which a value that looks sealed is `Damage`."""
    for finding in findings:
        try:
            if isinstance(finding, Value):
                refuse_sealed(finding.key, finding.content)
        except StoreSealed as error:
            yield Damage(finding.key, str(error))
        else:
            yield finding
