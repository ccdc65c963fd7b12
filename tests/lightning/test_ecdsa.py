"""Signatures on secp256k1."""

from __future__ import annotations

import gc
import hashlib

import pytest
from coincurve import PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.lightning import ecdsa
from bgsuper.lightning.ecdsa import parse_key, parse_node_key, sha256d, verify

ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
secrets = st.integers(1, ORDER - 1).map(lambda n: PrivateKey(n.to_bytes(32, "big")))
digests = st.binary(min_size=32, max_size=32)


def sign(secret: PrivateKey, digest: bytes) -> bytes:
    return secret.sign_recoverable(digest, hasher=None)[:64]


def test_sha256d() -> None:
    """The digest is SHA-256 twice: Bitcoin's genesis header hashes to the chain hash of BOLT 7."""
    header = bytes.fromhex(
        "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3"
        "888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
    )
    assert sha256d(header).hex() == "6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000"
    assert sha256d(b"") == hashlib.sha256(hashlib.sha256(b"").digest()).digest()


@given(secrets, digests, digests)
def test_only_the_signer_and_the_digest_fit(secret: PrivateKey, digest: bytes, other: bytes) -> None:
    """A signature is good for its key and digest, and for no other digest."""
    key = parse_key(secret.public_key.format())
    signature = sign(secret, digest)
    assert verify(signature, digest, key)
    assert verify(signature, other, key) == (other == digest)


@given(secrets, digests)
def test_a_high_s_is_good(secret: PrivateKey, digest: bytes) -> None:
    """A relay may flip S to its negative (BOLT 7, rationale of channel_update); both forms are the node's word."""
    signature = sign(secret, digest)
    flipped = signature[:32] + (ORDER - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    assert flipped != signature
    assert verify(flipped, digest, parse_key(secret.public_key.format()))


@given(st.binary(min_size=64, max_size=64), digests)
def test_any_64_bytes_are_no_signature(signature: bytes, digest: bytes) -> None:
    """Bytes that nobody signed are refused, never an exception."""
    assert not verify(signature, digest, parse_key(PrivateKey(bytes(31) + b"\1").public_key.format()))


@pytest.mark.parametrize(
    "signature", [bytes(64), b"\xff" * 64, bytes(32) + b"\1" * 32], ids=["zero", "overflow", "r=0"]
)
def test_degenerate_signatures(signature: bytes) -> None:
    """Zero and out-of-range values are refused."""
    assert not verify(signature, bytes(32), parse_key(PrivateKey(bytes(31) + b"\1").public_key.format()))


@pytest.mark.parametrize(
    "public_key",
    [b"", bytes(33), b"\x02" + b"\xff" * 32, b"\x04" + bytes(32), b"\x02" + bytes(31) + b"\x05", b"\x02" + bytes(64)],
    ids=["empty", "zero", "beyond the field", "uncompressed", "off the curve", "long"],
)
def test_what_is_no_key(public_key: bytes) -> None:
    """33 bytes that are no curve point are a ValueError, each time they come: errors are not cached."""
    for parse in (parse_key, parse_node_key, parse_node_key):
        with pytest.raises(ValueError, match="compressed public key"):
            parse(public_key)


def test_node_keys_are_cached_and_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same node's key is parsed once; the cache cannot grow without end, and is none of the collector's."""
    monkeypatch.setattr(ecdsa, "_CACHED_KEYS", 3)
    monkeypatch.setattr(ecdsa, "_parsed", {})
    key = PrivateKey(bytes(31) + b"\2").public_key.format()
    assert parse_node_key(key) is parse_node_key(bytes(bytearray(key)))
    for secret in range(3, 10):
        parse_node_key(PrivateKey(bytes(31) + bytes([secret])).public_key.format())
        assert len(ecdsa._parsed) <= 3
    assert not gc.is_tracked(ecdsa._parsed)
