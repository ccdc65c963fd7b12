"""Checks ECDSA signatures on secp256k1, as fast as libsecp256k1 does it.

This goes below coincurve's own classes to the library it wraps: parsing and checking one signature takes half as
long, and a parsed key can be kept. A node signs for all its channels, so its key is parsed once and cached; a
channel's bitcoin keys are met once and are not.

A signature with a high S is good: BOLT 7 expects relays that flip it. libsecp256k1 takes low ones alone, so a
refused signature is normalised and tried once more; honest ones never pay for that.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, NewType

from coincurve._libsecp256k1 import ffi, lib

SIGNATURE_BYTES: Final = 64
PUBLIC_KEY_BYTES: Final = 33

#: A key that libsecp256k1 has found to be on the curve.
ParsedKey = NewType("ParsedKey", object)

_CONTEXT: Final[Any] = lib.secp256k1_context_static
_KEY: Final = ffi.typeof("secp256k1_pubkey *")
_SIGNATURE: Final = ffi.typeof("secp256k1_ecdsa_signature *")
#: About twice the nodes of today's network; some 10 MB when full. Then it begins anew.
_CACHED_KEYS: Final = 1 << 15
#: A dictionary, and not an `lru_cache`: in one of bytes and C data the cyclic collector has nothing to look at.
_parsed: Final[dict[bytes, ParsedKey]] = {}


def sha256d(data: bytes) -> bytes:
    """SHA-256 of the SHA-256: what BOLT 7's signatures sign."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def parse_key(public_key: bytes) -> ParsedKey:
    """The curve point of a compressed key of 33 bytes; `ValueError` if there is none."""
    parsed = ffi.new(_KEY)
    if len(public_key) != PUBLIC_KEY_BYTES or not lib.secp256k1_ec_pubkey_parse(
        _CONTEXT, parsed, public_key, PUBLIC_KEY_BYTES
    ):
        raise ValueError(f"expected a compressed public key on secp256k1, got {public_key.hex():.80}")
    return ParsedKey(parsed)


def parse_node_key(public_key: bytes) -> ParsedKey:
    """`parse_key` for keys that come again: those of nodes."""
    parsed = _parsed.get(public_key)
    if parsed is None:
        parsed = parse_key(public_key)
        if len(_parsed) >= _CACHED_KEYS:
            _parsed.clear()
        _parsed[public_key] = parsed
    return parsed


def verify(signature: bytes, digest: bytes, key: ParsedKey) -> bool:
    """Whether `signature` (64 bytes, r and s) over `digest` (32 bytes) was made with `key`'s secret."""
    parsed = ffi.new(_SIGNATURE)
    if not lib.secp256k1_ecdsa_signature_parse_compact(_CONTEXT, parsed, signature):
        return False
    if lib.secp256k1_ecdsa_verify(_CONTEXT, parsed, digest, key):
        return True
    flipped = lib.secp256k1_ecdsa_signature_normalize(_CONTEXT, parsed, parsed)
    return bool(flipped and lib.secp256k1_ecdsa_verify(_CONTEXT, parsed, digest, key))
