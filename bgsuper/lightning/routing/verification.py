"""Checks the signatures of gossip messages (BOLT 7): each raises `BadSignature` that names the field, or returns.

They are checked where they come in, on the loop: about 0.05 ms a signature. libsecp256k1 runs with the GIL released,
but so shortly that threads gain nothing: on two cores, batches of 1 to 64 on one or two threads came to 0.97 (channels)
and 0.94 times (nodes) the loop's rate at best (`benchmarks/gossip_threads.py`). So there is no queue of messages.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ecdsa import ParsedKey, parse_key, parse_node_key, sha256d, verify
from ..errors import BadSignature
from ..wire.gossip import ChannelAnnouncement, ChannelUpdate, NodeAnnouncement, scid_text


def verify_channel_announcement(message: ChannelAnnouncement) -> None:
    """All four signatures: both nodes and both bitcoin keys sign the whole message."""
    digest = sha256d(message.signed_part())
    for name, signature, public_key, parse in (
        ("node_signature_1", message.node_signature_1, message.node_id_1, parse_node_key),
        ("node_signature_2", message.node_signature_2, message.node_id_2, parse_node_key),
        ("bitcoin_signature_1", message.bitcoin_signature_1, message.bitcoin_key_1, parse_key),
        ("bitcoin_signature_2", message.bitcoin_signature_2, message.bitcoin_key_2, parse_key),
    ):
        if not _signed(signature, digest, public_key, parse):
            raise _refusal(name, f"channel_announcement of {scid_text(message.short_channel_id)}", public_key)


def verify_node_announcement(message: NodeAnnouncement) -> None:
    """The node's own signature."""
    if not _signed(message.signature, sha256d(message.signed_part()), message.node_id, parse_node_key):
        raise _refusal("signature", "node_announcement", message.node_id)


def verify_channel_update(message: ChannelUpdate, node_id: bytes) -> None:
    """The signature of `node_id`, the node from which the update's direction starts."""
    if not _signed(message.signature, sha256d(message.signed_part()), node_id, parse_node_key):
        raise _refusal("signature", f"channel_update for {scid_text(message.short_channel_id)}", node_id)


def _signed(signature: bytes, digest: bytes, public_key: bytes, parse: Callable[[bytes], ParsedKey]) -> bool:
    try:
        return verify(signature, digest, parse(public_key))
    except ValueError:
        return False


def _refusal(field: str, what: str, public_key: bytes) -> BadSignature:
    return BadSignature(
        f"expected {field} in a {what} to be one by the key {public_key.hex()}, it is not: "
        "warn the peer that sent it, drop the message"
    )
