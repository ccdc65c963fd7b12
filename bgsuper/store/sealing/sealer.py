"""One value, sealed: nobody without the key can read it, change it, or pass it off as the value of another name.

    value  = header, segments
    header = magic (1 byte), form (1), salt (16), counter (8), length of the content (8)
    subkey = HKDF-SHA256(master key, salt, "bgsuper sealing 1 values")
    segment i = ChaCha20-Poly1305(subkey, nonce = counter (8) | 2 * i + (1 if it is the last) (4),
                                  associated data = header | the key's three parts)

Rules:
1. A `Sealer` is one epoch: it draws a salt of its own, and numbers the values that it seals. So no nonce comes twice
   under one subkey, on however many threads (a lock), and a crash leaves no counter to remember. A process that forks
   must not seal on both sides, and a machine whose memory was saved must not be resumed twice.
2. A value stands alone: its header says all that the key's owner needs to open it.
3. Segments of 256 KiB cannot be cut off, swapped, dropped or mixed with another value's: the nonce tells the place and
   the last one (the STREAM construction; Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its
   Nonce-Reuse Misuse-Resistance", CRYPTO 2015). Between two of them other threads have their turn.
4. Any bytes open to their value or to a typed error.

What it does not hide: names, how long a value is (within zstd's doing: see `compression`), how often it changes. What
it cannot tell: that a whole value, or the whole store, is an older one of the same name; and that one is missing.

Why ChaCha20-Poly1305: AES-GCM is faster where the CPU helps, and many small boards' does not. Measured (AMD EPYC,
cryptography 50), sealing 1 KiB and MB/s at 256 KiB:

    ChaCha20-Poly1305                   1.7 us    1960 MB/s
    AES-256-GCM                         1.3 us    3530 MB/s
    AES-256-GCM without AES-NI          5.7 us     240 MB/s     (OPENSSL_ia32cap=~0x200000200000000:0)

A `Sealer` takes 3.0 us to seal 1 KiB and 3.7 us to open it, 29 ms for either with 30 MiB (1050 MB/s), where the new
memory costs as much as the cipher; a value grows by 50 bytes, and 16 for each segment after the first.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Iterator
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ...errors import StoreCorrupt, StoreTampered, StoreTooNew
from ...key import Key
from ..identity import SEAL_BYTES
from ..sealed_form import HEADER, MAGIC, OVERHEAD_BYTES, SALT_BYTES, TAG_BYTES
from .keys import KEY_BYTES, MasterKey

if TYPE_CHECKING:
    from .compression import Zstd

SEGMENT_BYTES: Final = 256 * 1024
#: Of earlier epochs; a store holds values of as many as ever wrote to it.
_SUBKEYS_KEPT: Final = 1024

_VALUES: Final = b"bgsuper sealing 1 values"
_FINGERPRINT: Final = b"bgsuper sealing 1 fingerprint"

_NONCE: Final = struct.Struct(">QI")
#: The content as it is, or a zstd frame of it. A form of a later version is a greater number.
_PLAIN, _ZSTD = 1, 2


class _Header(NamedTuple):
    magic: int
    form: int
    salt: bytes
    counter: int
    length: int


class Sealer:
    """Seals and opens values with `key`, on any thread. `compress`: by zstd before, where that makes a value smaller;
    what was compressed is opened either way.

    `fingerprint` tells keys apart: `SEAL_BYTES` derived from the key, which may be shown. Raises `ConfigError` if
    zstandard is missing.
    """

    def __init__(self, key: MasterKey, *, compress: bool = False) -> None:
        self.fingerprint: Final = key.derive(_FINGERPRINT, SEAL_BYTES)
        self._aead = lru_cache(_SUBKEYS_KEPT)(partial(_derived_aead, key))
        self._compression = _zstd() if compress else None
        self._salt = os.urandom(SALT_BYTES)
        self._sealing = self._aead(self._salt)
        self._counter = 0
        self._counting = threading.Lock()

    def seal(self, key: Key, value: bytes) -> bytes:
        """`value`, to be stored as that of `key`."""
        form, content = _PLAIN, value
        if self._compression is not None:
            compressed = self._compression.compress(value)
            if len(compressed) < len(value):
                form, content = _ZSTD, compressed
        with self._counting:
            self._counter = counter = self._counter + 1
        header = HEADER.pack(MAGIC, form, self._salt, counter, len(value))
        bound = _bound(header, key)
        encrypt = self._sealing.encrypt
        if len(content) <= SEGMENT_BYTES:
            return header + encrypt(_NONCE.pack(counter, 1), content, bound)
        sealed = [header]
        for place, segment in _segments(memoryview(content), SEGMENT_BYTES):
            sealed.append(encrypt(_NONCE.pack(counter, place), segment, bound))
            _give_way()
        return b"".join(sealed)

    def length(self, key: Key, sealed: bytes) -> int:
        """How many bytes `sealed` claims to open to: nobody vouches for it before it is opened."""
        return _header(key, sealed).length

    def open(self, key: Key, sealed: bytes) -> bytes:
        """What was sealed as the value of `key`.

        Raises `StoreTampered` if `sealed` is anything else, `StoreTooNew` for a later form of it, `ConfigError` if it
        is compressed and zstandard is missing.
        """
        header = _header(key, sealed)
        content = self._content(key, header, sealed)
        if header.form == _ZSTD:
            compression = self._compression or _zstd()
            try:
                return compression.decompress(content, header.length)
            except ValueError as error:
                raise StoreCorrupt(f"the value of {key} was sealed as what is no zstd frame of it: {error}") from error
        if len(content) != header.length:
            raise StoreCorrupt(f"the value of {key} was sealed as {header.length} bytes and has {len(content)}")
        return content

    def _content(self, key: Key, header: _Header, sealed: bytes) -> bytes:
        bound = _bound(sealed[: HEADER.size], key)
        decrypt = self._aead(header.salt).decrypt
        try:
            if len(sealed) <= SEGMENT_BYTES + OVERHEAD_BYTES:
                return decrypt(_NONCE.pack(header.counter, 1), sealed[HEADER.size :], bound)
            opened = []
            for place, segment in _segments(memoryview(sealed)[HEADER.size :], SEGMENT_BYTES + TAG_BYTES):
                opened.append(decrypt(_NONCE.pack(header.counter, place), segment, bound))
                _give_way()
            return b"".join(opened)
        except InvalidTag:
            raise _tampered(key) from None


def _derived_aead(key: MasterKey, salt: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(key.derive(_VALUES, KEY_BYTES, salt))


def _bound(header: bytes, key: Key) -> bytes:
    # No part of a key contains a slash.
    return header + "/".join(key).encode("utf-8", "surrogatepass")


def _header(key: Key, sealed: bytes) -> _Header:
    if len(sealed) < OVERHEAD_BYTES:
        raise _tampered(key)
    header = _Header._make(HEADER.unpack_from(sealed))
    if header.magic != MAGIC:
        raise _tampered(key)
    if header.form > _ZSTD:
        raise StoreTooNew(f"a later bgsuper sealed the value of {key} (form {header.form}); upgrade bgsuper")
    return header


def _segments(content: memoryview, size: int) -> Iterator[tuple[int, memoryview]]:
    """Segments of `size` bytes, the last of what is left; each with what the nonce says of its place."""
    last = (len(content) - 1) // size
    for index in range(last + 1):
        yield 2 * index + (index == last), content[index * size : (index + 1) * size]


def _tampered(key: Key) -> StoreTampered:
    return StoreTampered(
        f"the value of {key} is not what the key's owner sealed under that name: somebody without the key changed it, "
        "or put another in its place (or it is damaged, where the store keeps no checksum of it); restore a backup"
    )


def _give_way() -> None:
    """Let the commit lane have the GIL. cryptography 50 lets go of it while it works, 43 does not: beside large values
    whoever wanted it got it after 5 ms, the interpreter's switch interval, each time anew. Measured with 43 on segments
    of 256 KiB, three hand-overs: 15.7 ms without this, 0.6 ms with it; with 50: 0.2 ms."""
    time.sleep(0)


@cache
def _zstd() -> Zstd:
    """One for all; imported where it is used, since most stores are not compressed. Raises `ConfigError`."""
    from .compression import Zstd

    return Zstd()
