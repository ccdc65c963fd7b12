"""What the commands print of channels and nodes: tables for a person, JSON for a program. Pure.

Amounts are msat unless a name says sats; times are seconds since 1970 in JSON, and ages for a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from ...lightning.routing.gossip import NetworkGraph
from ...lightning.routing.records import ChannelInfo, ChannelUpdateInfo, NodeAnnouncementInfo
from ...lightning.wire.gossip import scid_text
from .addresses import addresses
from .words import age_text, alias_of, alias_text, dated, feature_bits, node_text, sats_text

#: How many addresses and feature bits a person is shown: a node may announce thousands.
SHOWN: Final = 24
#: How many hex digits of features.
_SHOWN_DIGITS: Final = 64
#: Of what is not known.
_NONE: Final = "-"


# -- JSON -------------------------------------------------------------------------------------------------------------


def channel_to_json(graph: NetworkGraph, scid: int) -> dict[str, object]:
    """A channel of the graph."""
    channel = graph.channels[scid]
    return {
        "short_channel_id": scid_text(scid),
        "node_one": channel.node_one.hex(),
        "node_one_alias": alias_of(graph, channel.node_one),
        "node_two": channel.node_two.hex(),
        "node_two_alias": alias_of(graph, channel.node_two),
        "capacity_sats": channel.capacity_sats,
        "features": channel.features.hex(),
        "feature_bits": list(feature_bits(channel.features)),
        "announcement_received": channel.announcement_received_time,
        "announcement_kept": channel.announcement_message is not None,
        "one_to_two": _terms_to_json(channel.one_to_two),
        "two_to_one": _terms_to_json(channel.two_to_one),
    }


def _terms_to_json(terms: ChannelUpdateInfo | None) -> dict[str, object] | None:
    if terms is None:
        return None
    return {
        "enabled": terms.enabled,
        "last_update": terms.last_update,
        "cltv_expiry_delta": terms.cltv_expiry_delta,
        "htlc_minimum_msat": terms.htlc_minimum_msat,
        "htlc_maximum_msat": terms.htlc_maximum_msat,
        "fee_base_msat": terms.fee_base_msat,
        "fee_proportional_millionths": terms.fee_proportional_millionths,
        "update_kept": terms.last_update_message is not None,
    }


def announcement_to_json(info: NodeAnnouncementInfo | None) -> dict[str, object] | None:
    """What a node says of itself. The alias is escaped as for a person; `alias_hex` has its 32 bytes."""
    if info is None:
        return None
    return {
        "alias": alias_text(info.alias),
        "alias_hex": info.alias.hex(),
        "color": f"#{info.rgb.hex()}",
        "addresses": [address._asdict() for address in addresses(info.addresses)],
        "features": info.features.hex(),
        "feature_bits": list(feature_bits(info.features)),
        "last_update": info.last_update,
        "announcement_kept": info.announcement_message is not None,
    }


# -- for a person -----------------------------------------------------------------------------------------------------


def announcement_facts(info: NodeAnnouncementInfo | None, now: float) -> Mapping[str, object]:
    """What a node says of itself."""
    if info is None:
        return {"says": "nothing of itself"}
    return {
        "alias": alias_text(info.alias) or "(none)",
        "color": f"#{info.rgb.hex()}",
        "addresses": _some("\n", map(str, addresses(info.addresses))),
        "features": features_text(info.features),
        "said": dated(info.last_update, now),
    }


def channel_facts(graph: NetworkGraph, scid: int, now: float) -> Mapping[str, object]:
    """What is known of a channel beside its terms."""
    channel = graph.channels[scid]
    return {
        "channel": f"{scid_text(scid)} ({scid})",
        "node one": _node(graph, channel.node_one),
        "node two": _node(graph, channel.node_two),
        "capacity": "not known" if channel.capacity_sats is None else sats_text(channel.capacity_sats),
        "features": features_text(channel.features),
        "received": dated(channel.announcement_received_time, now),
        "announcement": "kept" if channel.announcement_message is not None else "not kept",
    }


def terms_table(channel: ChannelInfo, now: float) -> Table:
    """A channel's terms in both directions, side by side."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("terms", "one to two", "two to one"):
        table.add_column(name, justify="left" if name == "terms" else "right", overflow="fold")
    columns = [_terms_facts(terms, now) for terms in (channel.one_to_two, channel.two_to_one)]
    for name in _terms_facts(None, now):
        table.add_row(name, *(column[name] for column in columns))
    return table


def _terms_facts(terms: ChannelUpdateInfo | None, now: float) -> Mapping[str, str]:
    if terms is None:
        return dict.fromkeys(("state", "base fee", "proportional", "least", "most", "expiry", "said"), _NONE) | {
            "state": "not known"
        }
    return {
        "state": "enabled" if terms.enabled else "disabled",
        "base fee": f"{terms.fee_base_msat:,} msat",
        "proportional": f"{terms.fee_proportional_millionths:,} ppm",
        "least": f"{terms.htlc_minimum_msat:,} msat",
        "most": f"{terms.htlc_maximum_msat:,} msat",
        "expiry": f"{terms.cltv_expiry_delta:,} blocks",
        "said": age_text(terms.last_update, now),
    }


def channels_table(graph: NetworkGraph, node_id: bytes, now: float) -> Table:
    """A row for each channel of a node. Aliases stand last, where those that are written from right to left can turn
    nothing around."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("channel", no_wrap=True)
    for name in ("capacity in sat", "its fee", "their fee", "last said"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("with", overflow="fold")
    for scid in sorted(graph.nodes[node_id].channels):
        table.add_row(*map(Text, _row(graph, scid, node_id, now)))
    return table


def _row(graph: NetworkGraph, scid: int, node_id: bytes, now: float) -> Iterable[str]:
    channel = graph.channels[scid]
    ours, theirs, other = channel.one_to_two, channel.two_to_one, channel.node_two
    if node_id != channel.node_one:
        ours, theirs, other = theirs, ours, channel.node_one
    said = [terms.last_update for terms in (ours, theirs) if terms is not None]
    return (
        scid_text(scid),
        _NONE if channel.capacity_sats is None else f"{channel.capacity_sats:,}",
        _fee(ours),
        _fee(theirs),
        age_text(max(said), now) if said else _NONE,
        node_text(graph, other),
    )


def _fee(terms: ChannelUpdateInfo | None) -> str:
    if terms is None:
        return _NONE
    if not terms.enabled:
        return "disabled"
    return f"{terms.fee_base_msat:,} + {terms.fee_proportional_millionths:,} ppm"


def _node(graph: NetworkGraph, node_id: bytes) -> str:
    return f"{node_id.hex()} {alias_of(graph, node_id) or ''}".rstrip()


def features_text(features: bytes) -> str:
    """Feature bits by number, and the bytes in hex."""
    if not features:
        return "none"
    digits = features.hex()
    if len(digits) > _SHOWN_DIGITS:
        digits = f"{digits[:_SHOWN_DIGITS]}… ({len(features):,} bytes)"
    return f"bits {_some(', ', map(str, feature_bits(features)))} (hex {digits})"


def _some(separator: str, items: Iterator[str]) -> str:
    listed = list(items)
    if len(listed) > SHOWN:
        listed[SHOWN:] = [f"and {len(listed) - SHOWN:,} more"]
    return separator.join(listed) or "none"
