"""The stamp on each value file: a checksum, since LDK's files carry none, kept beside the content.

It is an extended attribute of the file, so that the content stays what LDK reads. A file without one was written by
LDK, or lies on a file system that keeps no attributes, or was copied by a tool that loses them: it is read as it is.

    version, the snapshot's seq (0: a record), length, CRC-32 of key and content; then the CRC-32 of all that
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from typing import Final, NamedTuple, Self
from zlib import crc32

from ...errors import StoreCorrupt, StoreTooNew
from ...key import Key, Seq

ATTRIBUTE: Final = "user.bgsuper"

_LAYOUT: Final = struct.Struct(">BQQI")
_CHECKSUM: Final = struct.Struct(">I")
_VERSION: Final = 1
#: The file system keeps none, at all or for us.
_NO_ATTRIBUTES: Final = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.ENOSYS})


class Stamp(NamedTuple):
    """What a file is known by. `seq` is that of a snapshot, 0 for a record."""

    seq: Seq
    length: int
    checksum: int

    @classmethod
    def of(cls, key: Key, seq: Seq, content: bytes) -> Self:
        """The stamp for `content` as the value of `key`."""
        # The key as well: a file under another's name is not its value.
        return cls(seq, len(content), crc32(content, crc32("/".join(key).encode())))

    def pack(self) -> bytes:
        """All of it, with its checksum."""
        packed = _LAYOUT.pack(_VERSION, *self)
        return packed + _CHECKSUM.pack(crc32(packed))

    @classmethod
    def unpack(cls, packed: bytes, path: str) -> Self:
        """The stamp that `packed` holds. Raises `StoreCorrupt`, or `StoreTooNew` for a later form of it."""
        content, checksum = packed[: -_CHECKSUM.size], packed[-_CHECKSUM.size :]
        if content and _CHECKSUM.pack(crc32(content)) == checksum:
            if content[0] > _VERSION:
                raise StoreTooNew(f"a later bgsuper wrote {path}; upgrade bgsuper")
            if len(content) == _LAYOUT.size:
                _, seq, length, crc = _LAYOUT.unpack(content)
                return cls(Seq(seq), length, crc)
        raise StoreCorrupt(f"the checksum of {path} is damaged; restore a backup, or salvage the store")


if sys.platform == "linux":

    def write_stamp(fd: int, stamp: Stamp) -> bool:
        """Put `stamp` on the file `fd`; False if the file system keeps none. Raises `OSError`."""
        try:
            os.setxattr(fd, ATTRIBUTE, stamp.pack())
        except OSError as error:
            if error.errno in _NO_ATTRIBUTES:
                return False
            raise
        return True

    def read_stamp(fd: int, path: str) -> Stamp | None:
        """The stamp on the file `fd`, None if it has none. Raises `OSError`, `StoreCorrupt`, `StoreTooNew`."""
        try:
            packed = os.getxattr(fd, ATTRIBUTE)
        except OSError as error:
            if error.errno == errno.ENODATA or error.errno in _NO_ATTRIBUTES:
                return None
            raise
        return Stamp.unpack(packed, path)
else:

    def write_stamp(fd: int, stamp: Stamp) -> bool:
        """False: Python reaches no extended attributes here."""
        return False

    def read_stamp(fd: int, path: str) -> Stamp | None:
        """None: Python reaches no extended attributes here."""
        return None
