"""What the graph holds of each channel and node: LDK's ChannelInfo, ChannelUpdateInfo, NodeInfo, NodeAnnouncementInfo.

Amounts are msat unless a name says sats; times are seconds since 1970; node ids are compressed keys of 33 bytes.
Whole messages carry their two bytes of type, as they go over the wire; one with more than 1,024 bytes that we do not
understand is obeyed but not kept (None), since keeping and relaying it would let anybody use the network as a disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ..wire.addresses import known_length
from ..wire.gossip import ChannelUpdate, NodeAnnouncement


@dataclass(frozen=True, slots=True)
class ChannelUpdateInfo:
    """One direction of a channel: the terms on which its first node forwards to the other (LDK ChannelUpdateInfo)."""

    last_update: int
    enabled: bool
    cltv_expiry_delta: int  #: blocks
    htlc_minimum_msat: int
    htlc_maximum_msat: int
    fee_base_msat: int
    fee_proportional_millionths: int
    last_update_message: bytes | None

    @classmethod
    def of(cls, message: ChannelUpdate, kept: bytes | None) -> Self:
        """The terms in `message`; `kept` is the message's bytes if they are to be kept."""
        return cls(
            message.timestamp,
            not message.disabled,
            message.cltv_expiry_delta,
            message.htlc_minimum_msat,
            message.htlc_maximum_msat,
            message.fee_base_msat,
            message.fee_proportional_millionths,
            kept,
        )


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """A channel (LDK ChannelInfo). `node_one` is the lesser of the two ids."""

    features: bytes
    node_one: bytes
    node_two: bytes
    one_to_two: ChannelUpdateInfo | None
    two_to_one: ChannelUpdateInfo | None
    capacity_sats: int | None  #: known only where somebody looked up the funding output
    announcement_message: bytes | None
    announcement_received_time: int  #: our own clock, where the other times are the nodes' claims


@dataclass(frozen=True, slots=True)
class NodeAnnouncementInfo:
    """What a node says of itself (LDK NodeAnnouncementInfo)."""

    features: bytes
    last_update: int
    rgb: bytes
    alias: bytes  #: 32 bytes, hostile: escape it before showing it
    addresses: bytes  #: address descriptors of known types (BOLT 7)
    announcement_message: bytes | None

    @classmethod
    def of(cls, message: NodeAnnouncement, kept: bytes | None) -> Self:
        """What `message` says; `kept` is the message's bytes if they are to be kept."""
        return cls(
            message.features,
            message.timestamp,
            message.rgb_color,
            message.alias,
            message.addresses[: known_length(message.addresses)],
            kept,
        )


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node (LDK NodeInfo). `channels`, by their short ids, is never empty in a graph."""

    announcement_info: NodeAnnouncementInfo | None = None
    channels: frozenset[int] = frozenset()
