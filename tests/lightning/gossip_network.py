"""A small made-up network that signs real gossip: what the tests of wire and routing build their messages with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from coincurve import PrivateKey

from bgsuper.lightning.chain_hash import REGTEST
from bgsuper.lightning.ecdsa import sha256d
from bgsuper.lightning.wire.gossip import ChannelAnnouncement, ChannelUpdate, NodeAnnouncement

#: The tests' present (2023-11-14): far from both ends of what LDK's rules allow.
NOW = 1_700_000_000
NO_SIGNATURE = bytes(64)


@dataclass(frozen=True)
class Signer:
    """A secret key by number, and its public one."""

    number: int
    secret: PrivateKey = field(init=False, compare=False)
    public: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "secret", PrivateKey(self.number.to_bytes(32, "big")))
        object.__setattr__(self, "public", self.secret.public_key.format())

    def sign(self, signed_part: bytes) -> bytes:
        """64 bytes over the double SHA-256 of `signed_part`."""
        return self.secret.sign_recoverable(sha256d(signed_part), hasher=None)[:64]


#: Four nodes in the order of their ids, and as many bitcoin keys.
NODES = sorted(map(Signer, range(1, 5)), key=lambda signer: signer.public)
BITCOIN = [Signer(number) for number in range(101, 105)]


def announcement(
    scid: int, one: int = 0, two: int = 1, *, chain_hash: bytes = REGTEST, features: bytes = b"", excess: bytes = b""
) -> ChannelAnnouncement:
    """The signed announcement of a channel between nodes number `one` < `two`."""
    unsigned = ChannelAnnouncement(
        NO_SIGNATURE,
        NO_SIGNATURE,
        NO_SIGNATURE,
        NO_SIGNATURE,
        features=features,
        chain_hash=chain_hash,
        short_channel_id=scid,
        node_id_1=NODES[one].public,
        node_id_2=NODES[two].public,
        bitcoin_key_1=BITCOIN[one].public,
        bitcoin_key_2=BITCOIN[two].public,
        excess=excess,
    )
    return resign(unsigned, one, two)


def resign(message: ChannelAnnouncement, one: int = 0, two: int = 1) -> ChannelAnnouncement:
    """`message` signed by those nodes and bitcoin keys, whatever it says."""
    part = message.signed_part()
    return replace(
        message,
        node_signature_1=NODES[one].sign(part),
        node_signature_2=NODES[two].sign(part),
        bitcoin_signature_1=BITCOIN[one].sign(part),
        bitcoin_signature_2=BITCOIN[two].sign(part),
    )


def update(
    scid: int,
    signer: int,
    direction: int,
    timestamp: int = NOW,
    *,
    chain_hash: bytes = REGTEST,
    flags: int = 1,
    disable: bool = False,
    htlc_maximum_msat: int = 1_000_000,
    excess: bytes = b"",
) -> ChannelUpdate:
    """An update of the channel's `direction`, signed by node number `signer`."""
    unsigned = ChannelUpdate(
        NO_SIGNATURE,
        chain_hash=chain_hash,
        short_channel_id=scid,
        timestamp=timestamp,
        message_flags=flags,
        channel_flags=direction | disable << 1,
        cltv_expiry_delta=80,
        htlc_minimum_msat=1,
        fee_base_msat=1000,
        fee_proportional_millionths=100,
        htlc_maximum_msat=htlc_maximum_msat,
        excess=excess,
    )
    return replace(unsigned, signature=NODES[signer].sign(unsigned.signed_part()))


def node(
    signer: int, timestamp: int = NOW, *, alias: bytes = b"a node", addresses: bytes = b"", excess: bytes = b""
) -> NodeAnnouncement:
    """What node number `signer` says of itself."""
    unsigned = NodeAnnouncement(
        NO_SIGNATURE,
        features=b"\x02\x00",
        timestamp=timestamp,
        node_id=NODES[signer].public,
        rgb_color=b"\x01\x02\x03",
        alias=alias.ljust(32, b"\0"),
        addresses=addresses,
        excess=excess,
    )
    return replace(unsigned, signature=NODES[signer].sign(unsigned.signed_part()))
