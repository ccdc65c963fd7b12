"""Which store this is and how far it has come: what a backend keeps once, beside its records.

Rules:
1. It is one blob with its own checksum, the same for every backend, so that no number in it can flip unnoticed.
2. A copy and a backup keep the store's id: they are the same node's truth, at another place or an earlier time, and
   whoever remembers how far it had come (`high_water`) can tell which.
3. A store is sealed, with one key, from its first record on, or never: `check_seal` comes before anything is written.
"""

from __future__ import annotations

import os
import struct
from typing import Final, NamedTuple, Self
from zlib import crc32

from ..errors import StoreCorrupt, StoreSealed, StoreTooNew
from ..key import Seq

STORE_ID_BYTES: Final = 16
#: What `Sealer.fingerprint` gives: enough to tell two keys apart, nothing of either.
SEAL_BYTES: Final = 16
_UNSEALED: Final = bytes(SEAL_BYTES)
#: Version, store id, epoch, newest commit, newest snapshot, seal; then the CRC-32 of all of it.
_LAYOUT: Final = struct.Struct(f">B{STORE_ID_BYTES}sQQQ{SEAL_BYTES}s")
_CHECKSUM: Final = struct.Struct(">I")
_VERSION: Final = 1
#: Far more than there will be.
_NUMBERS: Final = range(1 << 62)


class Identity(NamedTuple):
    """A store's id, its newest numbers, and the fingerprint of the key that seals it (empty: not sealed)."""

    store_id: bytes
    epoch: int = 0
    last_commit: Seq = Seq(0)
    last_snapshot: Seq = Seq(0)
    seal: bytes = b""

    @classmethod
    def new(cls, seal: bytes) -> Self:
        """That of a store which is just being made."""
        return cls(os.urandom(STORE_ID_BYTES), seal=seal)

    @property
    def last_seq(self) -> Seq:
        """The newest commit or snapshot."""
        return max(self.last_commit, self.last_snapshot)

    def facts(self) -> dict[str, object]:
        """All of it for an operator, but for the seal's fingerprint: that says whether two stores have one key."""
        return {
            "store_id": self.store_id.hex(),
            "epoch": self.epoch,
            "last_commit": self.last_commit,
            "last_snapshot": self.last_snapshot,
            "sealed": bool(self.seal),
        }

    def pack(self) -> bytes:
        """All of it, with its checksum."""
        packed = _LAYOUT.pack(_VERSION, *self[:4], self.seal or _UNSEALED)
        return packed + _CHECKSUM.pack(crc32(packed))

    @classmethod
    def unpack(cls, packed: object, where: str) -> Self:
        """The identity that `packed` holds. Raises `StoreCorrupt`, or `StoreTooNew` for a later form of it."""
        if isinstance(packed, bytes) and len(packed) > _CHECKSUM.size:
            content, checksum = packed[: -_CHECKSUM.size], packed[-_CHECKSUM.size :]
            if _CHECKSUM.pack(crc32(content)) == checksum:
                if content[0] > _VERSION:
                    raise StoreTooNew(f"a later bgsuper wrote {where}; upgrade bgsuper")
                if len(content) == _LAYOUT.size:
                    _, store_id, epoch, commit, snapshot, seal = _LAYOUT.unpack(content)
                    if all(number in _NUMBERS for number in (epoch, commit, snapshot)):
                        return cls(store_id, epoch, Seq(commit), Seq(snapshot), b"" if seal == _UNSEALED else seal)
        raise StoreCorrupt(f"which store {where} is, and how far it had come, is damaged; restore it from a backup")


def check_seal(recorded: bytes, given: bytes, where: str) -> None:
    """Raise `StoreSealed` unless `given`, the fingerprint of the key in hand, is the `recorded` one."""
    if recorded == given:
        return
    if not given:
        raise StoreSealed(f"{where} is sealed, and no key was given: add ?key-file=PATH or ?key-env=NAME to its URL")
    if not recorded:
        raise StoreSealed(
            f"{where} is not sealed, but a key was given: leave the key out, or seal it by `bgsuper store copy`"
        )
    raise StoreSealed(f"{where} is sealed with another key than the one that was given: look for the right one")
