"""The redo file: which store this is, how far it has come, and what its newest group does to the tree.

A group of many files becomes one atomic step by it. The values are durable under temporary names first; then this
file, replaced as a whole, says which of them takes which key's place, and from that moment the group is there: whoever
opens the store after a crash does the rest. Nothing in it needs space that is not yet taken.

    magic, version, length of the identity, identity, number of operations, operations; then the CRC-32 of all that
    an operation: its kind; primary, secondary and name, each with its length;
                  ADOPT beside that: epoch and attempt of the temporary name, and the value's stamp

Rules: any bytes give a `Redo` or a `StoreError`. A redo file that is damaged or gone is never taken for a new store.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, NoReturn, Self
from zlib import crc32

from ...errors import ConfigError, StoreCorrupt, StoreTooNew
from ...key import Key, Seq, check_key
from ..identity import Identity
from .stamp import Stamp
from .tree import temporary_name

_MAGIC: Final = b"bgsRedo\0"
_VERSION: Final = 1
_HEAD: Final = struct.Struct(">8sBH")
_COUNT: Final = struct.Struct(">I")
_CHECKSUM: Final = struct.Struct(">I")
_OPERATION: Final = struct.Struct(">BBBB")
_ADOPT: Final = struct.Struct(">QQQQI")
_KIND_ADOPT: Final = 1
_KIND_REMOVE: Final = 2


class Adopt(NamedTuple):
    """The file with the temporary name of `epoch` and `attempt` becomes the value of `key`."""

    key: Key
    epoch: int
    attempt: int
    stamp: Stamp

    @property
    def temporary(self) -> str:
        """The file's name until then."""
        return temporary_name(self.key, self.epoch, self.attempt)

    def pack(self) -> bytes:
        """As it stands in the file."""
        return _pack_key(_KIND_ADOPT, self.key) + _ADOPT.pack(self.epoch, self.attempt, *self.stamp)


class Remove(NamedTuple):
    """The value of `key` goes."""

    key: Key

    def pack(self) -> bytes:
        """As it stands in the file."""
        return _pack_key(_KIND_REMOVE, self.key)


Operation = Adopt | Remove


class Redo(NamedTuple):
    """What the file holds. No key stands in two operations."""

    identity: Identity
    operations: tuple[Operation, ...] = ()

    def pack(self) -> bytes:
        """The whole file."""
        identity = self.identity.pack()
        head = _HEAD.pack(_MAGIC, _VERSION, len(identity))
        operations = (operation.pack() for operation in self.operations)
        packed = b"".join((head, identity, _COUNT.pack(len(self.operations)), *operations))
        return packed + _CHECKSUM.pack(crc32(packed))

    @classmethod
    def unpack(cls, packed: bytes, path: str) -> Self:
        """What the file `path` holds. Raises `StoreCorrupt`, or `StoreTooNew` for a later form of it."""
        content, checksum = packed[: -_CHECKSUM.size], packed[-_CHECKSUM.size :]
        if not content.startswith(_MAGIC) or _CHECKSUM.pack(crc32(content)) != checksum:
            _refuse(path)
        if content[len(_MAGIC) : len(_MAGIC) + 1] > bytes([_VERSION]):
            raise StoreTooNew(f"a later bgsuper wrote {path}; upgrade bgsuper")
        try:
            return cls._parse(content, path)
        except (struct.error, IndexError, UnicodeDecodeError, ConfigError):
            _refuse(path)

    @classmethod
    def _parse(cls, content: bytes, path: str) -> Self:
        _, _, length = _HEAD.unpack_from(content)
        at = _HEAD.size + length
        identity = Identity.unpack(content[_HEAD.size : at], path)
        (count,) = _COUNT.unpack_from(content, at)
        at += _COUNT.size
        operations: list[Operation] = []
        for _ in range(count):
            operation, at = _unpack_operation(content, at)
            operations.append(operation)
        if at != len(content) or len({operation.key for operation in operations}) != count:
            _refuse(path)
        return cls(identity, tuple(operations))


def _pack_key(kind: int, key: Key) -> bytes:
    return _OPERATION.pack(kind, *map(len, key)) + "".join(key).encode()


def _unpack_operation(content: bytes, at: int) -> tuple[Operation, int]:
    kind, *lengths = _OPERATION.unpack_from(content, at)
    at += _OPERATION.size
    parts = []
    for length in lengths:
        parts.append(content[at : at + length].decode())
        at += length
    key = check_key(Key(*parts))
    if kind == _KIND_REMOVE:
        return Remove(key), at
    if kind != _KIND_ADOPT:
        raise IndexError(kind)
    epoch, attempt, seq, length, checksum = _ADOPT.unpack_from(content, at)
    return Adopt(key, epoch, attempt, Stamp(Seq(seq), length, checksum)), at + _ADOPT.size


def _refuse(path: str) -> NoReturn:
    raise StoreCorrupt(
        f"{path}, which says how far the store had come, is damaged; restore a backup, or salvage the store"
    )
