"""BOLT 7's gossip messages: `channel_announcement`, `node_announcement` and `channel_update`.

1. Decoding is total: any bytes give a message or `MalformedMessage`. Signatures are checked elsewhere
   (`routing.verification`), since a `channel_update` can be checked by whoever knows its channel alone.
2. ``decode(message.encode()) == message`` and ``decode(raw).encode() == raw``: fields that later BOLTs append (LND's
   inbound fees, TLV 55555, are on 40 % of mainnet's updates) are kept in `excess`, because signatures cover them and
   relays must pass them on.
3. Messages are immutable. One that was decoded keeps its bytes, so encoding it again is free; `dataclasses.replace`
   gives a new message that does not.

Integers are big-endian; `raw` starts with the two bytes of the message type.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self

from ..errors import MalformedMessage
from .addresses import known_length

CHANNEL_ANNOUNCEMENT: Final = 256
NODE_ANNOUNCEMENT: Final = 257
CHANNEL_UPDATE: Final = 258

_TYPE: Final = struct.Struct(">H")
#: Four signatures, the length of the features | chain, short channel id, four keys.
_ANNOUNCEMENT_HEAD: Final = struct.Struct(">H64s64s64s64sH")
_ANNOUNCEMENT_TAIL: Final = struct.Struct(">32sQ33s33s33s33s")
#: Signature, the length of the features | timestamp, node, colour, alias, the length of the addresses.
_NODE_HEAD: Final = struct.Struct(">H64sH")
_NODE_TAIL: Final = struct.Struct(">I33s3s32sH")
_UPDATE: Final = struct.Struct(">H64s32sQIBBHQIIQ")
#: Where the signed part begins, the message type counted.
_AFTER_FOUR_SIGNATURES: Final = 2 + 4 * 64
_AFTER_SIGNATURE: Final = 2 + 64

_MUST_BE_ONE: Final = 1
_DONT_FORWARD: Final = 2
_DIRECTION: Final = 1
_DISABLE: Final = 2


def scid_text(short_channel_id: int) -> str:
    """A short channel id as people write it: block x transaction x output (BOLT 7)."""
    return f"{short_channel_id >> 40}x{short_channel_id >> 16 & 0xFFFFFF}x{short_channel_id & 0xFFFF}"


@dataclass(frozen=True, slots=True)
class ChannelAnnouncement:
    """Type 256: two nodes prove that a funding output, whose keys are the bitcoin keys, is their channel."""

    node_signature_1: bytes
    node_signature_2: bytes
    bitcoin_signature_1: bytes
    bitcoin_signature_2: bytes
    features: bytes
    chain_hash: bytes
    short_channel_id: int
    node_id_1: bytes
    node_id_2: bytes
    bitcoin_key_1: bytes
    bitcoin_key_2: bytes
    excess: bytes = b""
    _raw: bytes | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """The message in `raw`; raises `MalformedMessage`."""
        try:
            kind, sig_1, sig_2, sig_3, sig_4, flen = _ANNOUNCEMENT_HEAD.unpack_from(raw)
            tail = _ANNOUNCEMENT_HEAD.size + flen
            chain, scid, node_1, node_2, key_1, key_2 = _ANNOUNCEMENT_TAIL.unpack_from(raw, tail)
        except struct.error:
            raise _too_short(raw, "channel_announcement", 432) from None
        _check_type(kind, CHANNEL_ANNOUNCEMENT)
        features = raw[_ANNOUNCEMENT_HEAD.size : tail]
        excess = raw[tail + _ANNOUNCEMENT_TAIL.size :]
        message = cls(sig_1, sig_2, sig_3, sig_4, features, chain, scid, node_1, node_2, key_1, key_2, excess)
        object.__setattr__(message, "_raw", raw)
        return message

    def encode(self) -> bytes:
        """The whole message, its type included."""
        if self._raw is not None:
            return self._raw
        head = _ANNOUNCEMENT_HEAD.pack(
            CHANNEL_ANNOUNCEMENT,
            self.node_signature_1,
            self.node_signature_2,
            self.bitcoin_signature_1,
            self.bitcoin_signature_2,
            len(self.features),
        )
        tail = _ANNOUNCEMENT_TAIL.pack(
            self.chain_hash,
            self.short_channel_id,
            self.node_id_1,
            self.node_id_2,
            self.bitcoin_key_1,
            self.bitcoin_key_2,
        )
        return head + self.features + tail + self.excess

    def signed_part(self) -> bytes:
        """What the four signatures sign, before its double SHA-256."""
        return self.encode()[_AFTER_FOUR_SIGNATURES:]


@dataclass(frozen=True, slots=True)
class NodeAnnouncement:
    """Type 257: a node's features, name, colour and addresses."""

    signature: bytes
    features: bytes
    timestamp: int  #: seconds since 1970, as the node claims
    node_id: bytes
    rgb_color: bytes
    alias: bytes  #: 32 bytes, zero-padded UTF-8 as the node claims: hostile, escape it before showing it
    addresses: bytes  #: address descriptors, those of unknown types included
    excess: bytes = b""
    _raw: bytes | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """The message in `raw`; raises `MalformedMessage`, also if an address of a known type is cut short."""
        try:
            kind, signature, flen = _NODE_HEAD.unpack_from(raw)
            tail = _NODE_HEAD.size + flen
            timestamp, node_id, rgb_color, alias, addrlen = _NODE_TAIL.unpack_from(raw, tail)
        except struct.error:
            raise _too_short(raw, "node_announcement", 142) from None
        _check_type(kind, NODE_ANNOUNCEMENT)
        start = tail + _NODE_TAIL.size
        stop = start + addrlen
        if stop > len(raw):
            raise _too_short(raw, "node_announcement", stop)
        addresses = raw[start:stop]
        known_length(addresses)
        features = raw[_NODE_HEAD.size : tail]
        message = cls(signature, features, timestamp, node_id, rgb_color, alias, addresses, raw[stop:])
        object.__setattr__(message, "_raw", raw)
        return message

    def encode(self) -> bytes:
        """The whole message, its type included."""
        if self._raw is not None:
            return self._raw
        head = _NODE_HEAD.pack(NODE_ANNOUNCEMENT, self.signature, len(self.features))
        tail = _NODE_TAIL.pack(self.timestamp, self.node_id, self.rgb_color, self.alias, len(self.addresses))
        return head + self.features + tail + self.addresses + self.excess

    def signed_part(self) -> bytes:
        """What the signature signs, before its double SHA-256."""
        return self.encode()[_AFTER_SIGNATURE:]


@dataclass(frozen=True, slots=True)
class ChannelUpdate:
    """Type 258: on what terms one end of a channel forwards payments."""

    signature: bytes
    chain_hash: bytes
    short_channel_id: int
    timestamp: int  #: seconds since 1970, as the node claims
    message_flags: int
    channel_flags: int
    cltv_expiry_delta: int  #: blocks
    htlc_minimum_msat: int
    fee_base_msat: int
    fee_proportional_millionths: int
    htlc_maximum_msat: int
    excess: bytes = b""
    _raw: bytes | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """The message in `raw`; raises `MalformedMessage`, also if `must_be_one` is zero, as LDK has it: until 2022
        such messages had no `htlc_maximum_msat`."""
        try:
            kind, signature, chain, scid, timestamp, flags, channel_flags, cltv, least, base, rate, most = (
                _UPDATE.unpack_from(raw)
            )
        except struct.error:
            raise _too_short(raw, "channel_update", _UPDATE.size) from None
        _check_type(kind, CHANNEL_UPDATE)
        if not flags & _MUST_BE_ONE:
            raise MalformedMessage(
                f"expected a channel_update with must_be_one set, got message_flags {flags:#04x}: "
                "warn the peer, drop the message"
            )
        excess = raw[_UPDATE.size :]
        message = cls(signature, chain, scid, timestamp, flags, channel_flags, cltv, least, base, rate, most, excess)
        object.__setattr__(message, "_raw", raw)
        return message

    def encode(self) -> bytes:
        """The whole message, its type included."""
        if self._raw is not None:
            return self._raw
        fixed = _UPDATE.pack(
            CHANNEL_UPDATE,
            self.signature,
            self.chain_hash,
            self.short_channel_id,
            self.timestamp,
            self.message_flags,
            self.channel_flags,
            self.cltv_expiry_delta,
            self.htlc_minimum_msat,
            self.fee_base_msat,
            self.fee_proportional_millionths,
            self.htlc_maximum_msat,
        )
        return fixed + self.excess

    def signed_part(self) -> bytes:
        """What the signature signs, before its double SHA-256."""
        return self.encode()[_AFTER_SIGNATURE:]

    @property
    def direction(self) -> int:
        """0: `node_id_1` forwards to `node_id_2` and signed this; 1: the other way round."""
        return self.channel_flags & _DIRECTION

    @property
    def disabled(self) -> bool:
        """The node forwards nothing in this direction for now."""
        return bool(self.channel_flags & _DISABLE)

    @property
    def dont_forward(self) -> bool:
        """It is meant for the channel's other end alone."""
        return bool(self.message_flags & _DONT_FORWARD)


GossipMessage = ChannelAnnouncement | NodeAnnouncement | ChannelUpdate

_DECODERS: Final[dict[int, Callable[[bytes], GossipMessage]]] = {
    CHANNEL_ANNOUNCEMENT: ChannelAnnouncement.decode,
    NODE_ANNOUNCEMENT: NodeAnnouncement.decode,
    CHANNEL_UPDATE: ChannelUpdate.decode,
}


def decode_gossip(raw: bytes) -> GossipMessage:
    """The gossip message in `raw`, whichever of the three it is; raises `MalformedMessage`."""
    kind = int.from_bytes(raw[:2], "big")
    decode = _DECODERS.get(kind)
    if decode is None or len(raw) < _TYPE.size:
        raise MalformedMessage(
            f"expected a gossip message of type 256, 257 or 258, got {raw[:2].hex() or 'nothing'}: it is none of ours"
        )
    return decode(raw)


def _check_type(kind: int, expected: int) -> None:
    if kind != expected:
        raise MalformedMessage(f"expected a message of type {expected}, got type {kind}")


def _too_short(raw: bytes, name: str, least: int) -> MalformedMessage:
    return MalformedMessage(
        f"expected a {name} of at least {least} bytes, got {len(raw)}: warn the peer, drop the message"
    )
