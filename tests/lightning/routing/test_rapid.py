"""Rapid gossip sync: LDK's tests of `lightning-rapid-gossip-sync` by name where they exist, hostile bytes, steps."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.lightning.chain_hash import MAINNET, REGTEST
from bgsuper.lightning.errors import (
    AlreadyAnnounced,
    GossipRefused,
    Implausible,
    MalformedSnapshot,
    MissingTerms,
    NotNewer,
    Stale,
    UnknownChannel,
    WrongChain,
)
from bgsuper.lightning.routing.gossip import STALE_SECONDS, NetworkGraph
from bgsuper.lightning.routing.network_update import ChannelFailure
from bgsuper.lightning.routing.rapid import APPLY_ENTRIES, BACKDATED_SECONDS, MAX_NODES, RapidGossipSync, Terms
from bgsuper.lightning.wire.bigsize import encode_bigsize

SEEN = 1_697_749_200
IDS = [b"\x02" + bytes([number] * 32) for number in range(1, 5)]
DEFAULTS = Terms(40, 1000, 1000, 100, 4_000_000)
FORMS = (">H", ">Q", ">I", ">I", ">Q")
BITS = (64, 32, 16, 8, 4)


class Update(NamedTuple):
    """One entry: flags beside those of its fields, and the fields that are sent."""

    scid: int
    flags: int = 0
    fields: tuple[int | None, ...] = (None,) * 5


def encode(
    channels: Iterable[tuple[int, int, int]] = ((100, 0, 1), (200, 1, 2)),
    updates: Iterable[Update] = (),
    *,
    seen: int = SEEN,
    chain_hash: bytes = REGTEST,
    version: int = 1,
) -> bytes:
    """A snapshot: channels as (scid, node, node)."""
    data = b"LDK" + bytes([version]) + chain_hash + struct.pack(">II", seen, len(IDS)) + b"".join(IDS)
    channels, updates, before = list(channels), list(updates), 0
    data += struct.pack(">I", len(channels))
    for scid, one, two in channels:
        data += b"\0\0" + encode_bigsize(scid - before) + encode_bigsize(one) + encode_bigsize(two)
        before = scid
    data += struct.pack(">I", len(updates))
    if updates:
        data += struct.pack(">HQIIQ", *DEFAULTS)
    before = 0
    for scid, flags, fields in updates:
        flags |= sum(bit for bit, value in zip(BITS, fields, strict=True) if value is not None)
        data += encode_bigsize(scid - before) + bytes([flags])
        data += b"".join(struct.pack(form, v) for form, v in zip(FORMS, fields, strict=True) if v is not None)
        before = scid
    return data


FULL = encode(updates=[Update(100), Update(100, 1, (50, None, 7, None, None)), Update(200, 2)])


def synced(*snapshots: bytes, now: int | None = None) -> RapidGossipSync:
    sync = RapidGossipSync(NetworkGraph(REGTEST))
    for snapshot in snapshots:
        sync.update_network_graph(snapshot, now)
    return sync


def terms(sync: RapidGossipSync, scid: int, direction: int) -> tuple[bool, Terms] | None:
    channel = sync.network_graph.channels[scid]
    info = channel.two_to_one if direction else channel.one_to_two
    if info is None:
        return None
    return info.enabled, Terms(*(getattr(info, name) for name in Terms._fields))


def test_full_update_succeeds() -> None:
    """Channels, nodes and terms are there; all of it dated a week before the snapshot's newest entry."""
    sync = RapidGossipSync(NetworkGraph(REGTEST))
    assert not sync.is_initial_sync_complete()
    assert sync.update_network_graph(FULL, SEEN) == SEEN
    assert sync.is_initial_sync_complete()
    graph = sync.network_graph
    assert sorted(graph.channels) == [100, 200]
    assert sorted(graph.nodes) == IDS[:3]
    assert graph.last_rapid_gossip_sync_timestamp == SEEN
    channel = graph.channels[100]
    assert channel.announcement_received_time == SEEN - BACKDATED_SECONDS
    assert channel.one_to_two is not None
    assert channel.one_to_two.last_update == SEEN - BACKDATED_SECONDS
    assert terms(sync, 100, 0) == (True, DEFAULTS)
    assert terms(sync, 100, 1) == (True, DEFAULTS._replace(cltv_expiry_delta=50, fee_base_msat=7))
    assert terms(sync, 200, 0) == (False, DEFAULTS)
    assert terms(sync, 200, 1) is None
    assert (sync.applied, sum(sync.refused.values())) == (5, 0)


def test_network_graph_fails_to_update_from_clipped_input() -> None:
    """Cut anywhere, a snapshot is refused, and the graph is as it was: LDK has half of it by then."""
    for length in range(len(FULL)):
        sync = RapidGossipSync(NetworkGraph(REGTEST))
        with pytest.raises(MalformedSnapshot):
            sync.update_network_graph(FULL[:length], None)
        assert not sync.network_graph.channels


def test_incremental_only_update_ignores_missing_channel() -> None:
    """What was never announced has no terms to change."""
    sync = synced(encode([], [Update(300, 128, (1, None, None, None, None)), Update(300)]))
    assert dict(sync.refused) == {MissingTerms: 1, UnknownChannel: 1}


def test_incremental_only_update_fails_without_prior_updates() -> None:
    """Nor has a direction without terms, though the channel is there: it is passed over."""
    sync = synced(encode(), encode([], [Update(100, 128, (1, None, None, None, None))]))
    assert dict(sync.refused) == {MissingTerms: 1}
    assert terms(sync, 100, 0) is None


def test_incremental_only_update_fails_without_prior_same_direction_updates() -> None:
    """The other direction's terms are no help."""
    sync = synced(encode(updates=[Update(100, 1)]), encode([], [Update(100, 128)], seen=SEEN + 1))
    assert dict(sync.refused) == {MissingTerms: 1}
    assert terms(sync, 100, 0) is None


def test_incremental_update_succeeds_with_prior_announcements_and_full_updates() -> None:
    """What follows changes, the rest stays as it was, whatever the defaults are now."""
    sync = synced(FULL, encode([], [Update(100, 128 | 1, (None, None, None, 9, None))], seen=SEEN + 60))
    expected = DEFAULTS._replace(cltv_expiry_delta=50, fee_base_msat=7, fee_proportional_millionths=9)
    assert terms(sync, 100, 1) == (True, expected)


def test_update_succeeds_when_duplicate_gossip_is_applied() -> None:
    """The same once more: every entry is refused, none is an error."""
    sync = synced(FULL, FULL)
    assert dict(sync.refused) == {AlreadyAnnounced: 2, NotNewer: 3}


def test_full_update_succeeds_at_the_beginning_of_the_unix_era() -> None:
    """Nothing is dated before 1970."""
    sync = synced(encode(updates=[Update(100)], seen=5))
    assert sync.network_graph.channels[100].announcement_received_time == 0


def test_prunes_after_update() -> None:
    """With a clock: channel 200 lacks a direction, and a week later all of it is too old."""
    now = SEEN + STALE_SECONDS - BACKDATED_SECONDS
    assert sorted(synced(FULL, now=now).network_graph.channels) == [100, 200]
    assert sorted(synced(FULL, now=now + 1).network_graph.channels) == []


def test_timestamp_edge_cases_are_handled_correctly() -> None:
    """A snapshot may be two weeks old, and not a second more."""
    RapidGossipSync(NetworkGraph(REGTEST)).update_network_graph(FULL, SEEN + STALE_SECONDS)
    with pytest.raises(Stale):
        RapidGossipSync(NetworkGraph(REGTEST)).update_network_graph(FULL, SEEN + STALE_SECONDS + 1)


def test_update_fails_with_unknown_version() -> None:
    """And with another prefix; the message names what came."""
    for data, said in ((encode(version=2), "got 2"), (b"XYZ" + FULL[3:], "58595a01"), (b"", "nothing")):
        with pytest.raises(MalformedSnapshot, match=said):
            synced(data)


def test_fails_early_on_chain_hash_mismatch() -> None:
    """Another network's snapshot changes nothing."""
    sync = RapidGossipSync(NetworkGraph(MAINNET))
    with pytest.raises(WrongChain):
        sync.update_network_graph(FULL, None)
    assert not sync.network_graph.channels


def test_an_empty_update_completes_nothing() -> None:
    """As in LDK: channels without a single update are no sync."""
    sync = synced(encode())
    assert not sync.is_initial_sync_complete()
    assert sync.network_graph.last_rapid_gossip_sync_timestamp is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (encode([(100, 0, 4)]), "node 4 of 4"),
        (FULL[:40] + struct.pack(">I", MAX_NODES + 1) + FULL[44:], "nodes"),
        (FULL[:40] + struct.pack(">I", MAX_NODES) + FULL[44:], "ends at byte"),
        (encode([(2**64 - 1, 0, 1), (2**64 + 99, 0, 1)]), "passes 8 bytes"),
    ],
)
def test_nonsense(data: bytes, said: str) -> None:
    """Counts, indexes and ids that cannot be: refused before anything is allocated for them or applied."""
    sync = RapidGossipSync(NetworkGraph(REGTEST))
    with pytest.raises(MalformedSnapshot, match=said):
        sync.update_network_graph(data, None)
    assert not sync.network_graph.channels


def test_nodes_in_the_wrong_order_are_one_entry_less() -> None:
    """The rest is applied."""
    sync = synced(encode([(100, 1, 0), (200, 1, 2)]))
    assert dict(sync.refused) == {Implausible: 1}
    assert list(sync.network_graph.channels) == [200]


@given(st.binary(max_size=60), st.integers(0, len(FULL)), st.integers(0, 20))
def test_total(junk: bytes, at: int, cut: int) -> None:
    """Any bytes give a synced graph or a typed error."""
    for data in (junk, b"LDK\1" + junk, FULL[:at] + junk + FULL[at + cut :]):
        try:
            synced(data)
        except (MalformedSnapshot, GossipRefused):
            pass


def test_it_goes_step_by_step() -> None:
    """A node is served between the steps, and what it learns meanwhile from a newer word stays."""
    many = range(1, 3 * APPLY_ENTRIES + 1)
    data = encode([(scid, 0, 1) for scid in many], [Update(scid) for scid in many])
    sync = RapidGossipSync(NetworkGraph(REGTEST))
    steps = sync.steps(data, None)
    count = sum(1 for _ in steps)
    assert count >= 6
    assert len(sync.network_graph.channels) == len(many)


def test_payments_teach_it() -> None:
    """The processor hands it the events of failed payments, as to P2PGossipSync."""

    class PaymentPathFailed(NamedTuple):
        network_update: object

    sync = synced(FULL)
    sync.handle_event(PaymentPathFailed(ChannelFailure(100, is_permanent=True)))
    assert list(sync.network_graph.channels) == [200]
    sync.handle_event(object())
