"""Funding outputs: at once or later, once a channel, bounded; what waits meanwhile is not lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bgsuper.lightning.chain_hash import REGTEST
from bgsuper.lightning.errors import (
    AlreadyAnnounced,
    BadSignature,
    FundingMismatch,
    FundingNotFound,
    LookupsPending,
    UnknownChannel,
    UnknownNode,
)
from bgsuper.lightning.routing import utxo as module
from bgsuper.lightning.routing.gossip import NetworkGraph
from bgsuper.lightning.routing.sync import P2PGossipSync
from bgsuper.lightning.routing.utxo import PATIENCE_S, Utxo, UtxoFuture, funding_script_pubkey
from tests.lightning import gossip_network as net
from tests.lightning.gossip_network import NODES, NOW


def output(scid: int, sats: int = 1_000_000) -> Utxo:
    """What funds the channel `scid` between nodes 0 and 1."""
    announcement = net.announcement(scid)
    return Utxo(sats, funding_script_pubkey(announcement.bitcoin_key_1, announcement.bitcoin_key_2))


class Chain:
    """Answers at once if `prompt`, else when it is told to."""

    def __init__(self, *, prompt: bool = False, outputs: dict[int, Utxo] | None = None) -> None:
        self.prompt = prompt
        self.outputs = outputs or {}
        self.asked: list[int] = []
        self.open: dict[int, UtxoFuture] = {}

    def get_utxo(self, short_channel_id: int, future: UtxoFuture) -> None:
        self.asked.append(short_channel_id)
        self.open[short_channel_id] = future
        if self.prompt:
            self.answer(short_channel_id)

    def answer(self, scid: int) -> None:
        self.open[scid].resolve(self.outputs.get(scid))


def node(chain: Chain) -> P2PGossipSync:
    return P2PGossipSync(NetworkGraph(REGTEST), utxo_lookup=chain)


def test_the_funding_script_of_bolt_3() -> None:
    """BOLT 3, appendix B: its two funding keys, in either order, and the output's script."""
    local = bytes.fromhex("023da092f6980e58d2c037173180e9a465476026ee50f96695963e8efe436f54eb")
    remote = bytes.fromhex("030e9f7b623d2ccc7c9bd44d66d5ce21ce504c0acf6385a132cec6d3c39fa711c1")
    expected = "0020c015c4a6be010e21657068fc2e6a9d02b27ebe4d490a25846f7237f104d1a3cd"
    assert funding_script_pubkey(local, remote).hex() == expected
    assert funding_script_pubkey(remote, local).hex() == expected


def test_an_answer_at_once() -> None:
    """The channel has its capacity from the chain, and is relayed."""
    sync = node(Chain(prompt=True, outputs={1: output(1)}))
    assert sync.handle_message(net.announcement(1).encode(), NOW)
    assert sync.network_graph.channels[1].capacity_sats == 1_000_000


def test_no_such_output() -> None:
    """Nor one that pays to others: refused. The one that is there is not asked for again; the one that is not is, for
    a block may have brought it, and who announced it before that has kept nobody from it."""
    chain = Chain(prompt=True, outputs={2: Utxo(5, b"\x00\x14" + bytes(20))})
    sync = node(chain)
    for scid, error in ((1, FundingNotFound), (2, FundingMismatch)) * 2:
        with pytest.raises(error):
            sync.handle_message(net.announcement(scid, 2, 3).encode(), NOW)
    assert chain.asked == [1, 2, 1]
    assert not sync.network_graph.channels
    chain.outputs[1] = output(1)
    assert sync.handle_message(net.announcement(1).encode(), NOW + 86400)


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("outputs", [{}, dict.fromkeys(range(500), Utxo(5, b"\x00\x14" + bytes(20)))])
def test_channels_that_are_not_on_the_chain_are_dear(prompt: bool, outputs: dict[int, Utxo]) -> None:
    """Whenever the answer comes, who sent them pays, more than for good ones and less than for forgeries."""
    chain = Chain(prompt=prompt, outputs=outputs)
    sync = node(chain)
    peer = sync.connect(float(NOW), queries=True)
    count = 0
    while not peer.wait_s(NOW):
        try:
            peer.handle_message(net.announcement(count).encode(), NOW)
        except (FundingNotFound, FundingMismatch):
            pass
        if not prompt:
            chain.answer(count)
            sync.apply_lookups(NOW)
        count += 1
    assert 300 < count < 500


def test_nobody_occupies_a_channel() -> None:
    """Another's announcement is looked up already: the right one waits beside it, with what its nodes say, and is
    taken; who sent the other pays."""
    chain = Chain(outputs={1: output(1)})
    sync = node(chain)
    squatter, honest = (sync.connect(float(NOW), queries=True) for _ in range(2))
    squatter.handle_message(net.announcement(1, 2, 3).encode(), NOW)
    squatter.handle_message(net.update(1, 2, 0, NOW + 5).encode(), NOW)
    for message in (net.announcement(1), net.update(1, 0, 0), net.node(0)):
        honest.handle_message(message.encode(), NOW)
    with pytest.raises(LookupsPending):
        honest.handle_message(net.announcement(1).encode(), NOW)
    chain.answer(1)
    before = squatter._checks._left
    sync.apply_lookups(NOW)
    assert squatter._checks._left < before
    channel = sync.network_graph.channels[1]
    assert (channel.node_one, channel.node_two) == (NODES[0].public, NODES[1].public)
    assert channel.one_to_two is not None
    assert channel.one_to_two.last_update == NOW
    assert set(sync.network_graph.nodes) == {NODES[0].public, NODES[1].public}
    assert sync.refused == {LookupsPending: 1, FundingMismatch: 1}


def test_only_the_newest_of_each_node_waits() -> None:
    """Where two announcements wait, one's newer update does not keep the other's out; an older one replaces nothing.
    What is too large to be relayed does not wait."""
    chain = Chain(outputs={1: output(1)})
    sync = node(chain)
    for message in (net.announcement(1, 2, 3), net.announcement(1), net.update(1, 0, 0, NOW + 2)):
        sync.handle_message(message.encode(), NOW)
    sync.handle_message(net.update(1, 0, 0, NOW + 1).encode(), NOW)
    with pytest.raises(UnknownChannel):
        sync.handle_message(net.update(1, 1, 1, excess=bytes(1025)).encode(), NOW)
    chain.answer(1)
    sync.apply_lookups(NOW)
    channel = sync.network_graph.channels[1]
    assert channel.one_to_two is not None
    assert (channel.one_to_two.last_update, channel.two_to_one) == (NOW + 2, None)


def test_announcements_of_one_channel_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some wait side by side. Where there was no room for more, a signature that fits none is nobody's fault."""
    monkeypatch.setattr(module, "MAX_RIVALS", 2)
    sync = node(Chain(outputs={1: output(1)}))
    for pair in ((1, 2), (1, 3)):
        sync.handle_message(net.announcement(1, *pair).encode(), NOW)
    with pytest.raises(LookupsPending, match="wait"):
        sync.handle_message(net.announcement(1).encode(), NOW)
    with pytest.raises(UnknownChannel):
        sync.handle_message(net.update(1, 0, 0).encode(), NOW)


def test_a_proven_channel_replaces_an_unproven_one() -> None:
    """LDK: whom a server told us of a channel is no reason not to look; its terms stay if they fit and its nodes are
    the same. Others' updates wait for the answer. One that was proven is not looked up again."""
    for pair in ((0, 1), (2, 3)):
        chain = Chain(outputs={1: output(1)})
        sync = node(chain)
        graph = sync.network_graph
        one, two = (NODES[number].public for number in pair)
        graph.add_channel_from_partial_announcement(1, None, NOW, b"", one, two)
        graph.update_channel_unsigned(net.update(1, pair[0], 0), NOW)
        graph.update_channel_unsigned(net.update(1, pair[1], 1, htlc_maximum_msat=1_000_000_001), NOW)
        assert not sync.handle_message(net.announcement(1).encode(), NOW)
        if pair == (2, 3):
            assert not sync.handle_message(net.update(1, 0, 0, NOW + 1).encode(), NOW)
        chain.answer(1)
        sync.apply_lookups(NOW)
        channel = graph.channels[1]
        assert (channel.node_one, channel.node_two) == (NODES[0].public, NODES[1].public)
        assert (channel.capacity_sats, channel.two_to_one) == (1_000_000, None)
        assert channel.one_to_two is not None
        assert channel.one_to_two.last_update == NOW + (pair == (2, 3))
        with pytest.raises(AlreadyAnnounced):
            sync.handle_message(net.announcement(1).encode(), NOW)


def test_signatures_come_first() -> None:
    """Nobody makes us look at the chain with a forged announcement."""
    chain = Chain(prompt=True)
    raw = bytearray(net.announcement(1).encode())
    raw[100] ^= 1
    with pytest.raises(BadSignature):
        node(chain).handle_message(bytes(raw), NOW)
    assert chain.asked == []


def test_what_comes_meanwhile_waits() -> None:
    """The newest update of each direction and the newest word of each node; all applied, in order, and relayed."""
    chain = Chain(outputs={1: output(1)})
    sync = node(chain)
    other = sync.connect(float(NOW), queries=False)
    assert not sync.handle_message(net.announcement(1).encode(), NOW)
    for later in (1, 3, 2):
        assert not sync.handle_message(net.update(1, 0, 0, NOW + later).encode(), NOW)
        assert not sync.handle_message(net.node(1, NOW + later).encode(), NOW)
    with pytest.raises(LookupsPending):
        sync.handle_message(net.announcement(1).encode(), NOW)
    assert not sync.network_graph.channels
    chain.answer(1)
    sync.apply_lookups(NOW)
    channel = sync.network_graph.channels[1]
    assert (channel.capacity_sats, channel.two_to_one) == (1_000_000, None)
    assert channel.one_to_two is not None
    assert channel.one_to_two.last_update == NOW + 3
    info = sync.network_graph.nodes[NODES[1].public].announcement_info
    assert info is not None
    assert info.last_update == NOW + 3
    assert len(other._news) == 3
    with pytest.raises(AlreadyAnnounced):
        sync.handle_message(net.announcement(1).encode(), NOW)
    assert chain.asked == [1]


def test_what_waits_for_nothing_is_refused() -> None:
    """An update and a node that no open lookup is about."""
    sync = node(Chain())
    sync.handle_message(net.announcement(1).encode(), NOW)
    with pytest.raises(UnknownChannel):
        sync.handle_message(net.update(2, 0, 0).encode(), NOW)
    with pytest.raises(UnknownNode):
        sync.handle_message(net.node(3).encode(), NOW)


def test_a_bad_answer_later() -> None:
    """The announcement and what waited with it are gone, and counted."""
    chain = Chain()
    sync = node(chain)
    sync.handle_message(net.announcement(1).encode(), NOW)
    sync.handle_message(net.update(1, 0, 0).encode(), NOW)
    chain.answer(1)
    sync.apply_lookups(NOW)
    assert not sync.network_graph.channels
    assert dict(sync.refused) == {FundingNotFound: 1}
    chain.open[1].resolve(output(1))
    sync.apply_lookups(NOW)
    assert not sync.network_graph.channels


def test_a_forgery_does_not_wait() -> None:
    """It is refused at once, and does not take the place of an earlier good one."""
    chain = Chain(outputs={1: output(1)})
    sync = node(chain)
    for message in (net.announcement(1), net.update(1, 0, 0), net.node(1)):
        sync.handle_message(message.encode(), NOW)
    forged_node = replace(net.node(1, NOW + 9), signature=net.node(0, NOW + 9).signature)
    for forged in (net.update(1, 3, 0, NOW + 9), forged_node):
        with pytest.raises(BadSignature):
            sync.handle_message(forged.encode(), NOW)
    chain.answer(1)
    sync.apply_lookups(NOW)
    terms = sync.network_graph.channels[1].one_to_two
    assert terms is not None
    assert terms.last_update == NOW
    info = sync.network_graph.nodes[NODES[1].public].announcement_info
    assert info is not None
    assert info.last_update == NOW
    assert dict(sync.refused) == {BadSignature: 2}


def test_an_output_spent_while_it_is_looked_up() -> None:
    """What waited for it is gone, whatever the answer says."""
    chain = Chain(outputs={1: output(1), 2: output(2)})
    sync = node(chain)
    for scid in (1, 2):
        sync.handle_message(net.announcement(scid).encode(), NOW)
    chain.answer(1)
    for scid in (1, 2):
        sync.funding_spent(scid, NOW)
    chain.answer(2)
    sync.apply_lookups(NOW)
    assert not sync.network_graph.channels
    with pytest.raises(FundingNotFound):
        sync.handle_message(net.announcement(2).encode(), NOW)


def test_lookups_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many at once: then gossip should not be read, and who sends some all the same is told to come back."""
    monkeypatch.setattr(module, "MAX_PENDING", 2)
    chain = Chain(outputs={scid: output(scid) for scid in (1, 2, 3)})
    sync = node(chain)
    for scid in (1, 2):
        assert not sync.busy
        sync.handle_message(net.announcement(scid).encode(), NOW)
    assert sync.busy
    with pytest.raises(LookupsPending):
        sync.handle_message(net.announcement(3).encode(), NOW)
    chain.answer(1)
    sync.apply_lookups(NOW)
    sync.handle_message(net.announcement(3).encode(), NOW)
    assert chain.asked == [1, 2, 3]


def test_what_is_never_answered_is_forgotten() -> None:
    """It takes no room for ever, and may be asked for again; an answer that comes too late is for nobody."""
    chain = Chain(outputs={1: output(1)})
    sync = node(chain)
    sync.handle_message(net.announcement(1).encode(), NOW)
    sync.apply_lookups(NOW + PATIENCE_S)
    with pytest.raises(LookupsPending):
        sync.handle_message(net.announcement(1).encode(), NOW)
    sync.apply_lookups(NOW + PATIENCE_S + 1)
    late = chain.open[1]
    sync.handle_message(net.announcement(1).encode(), NOW)
    assert chain.asked == [1, 1]
    late.resolve(output(1))
    sync.apply_lookups(NOW)
    assert list(sync.network_graph.channels) == [1]


def test_answers_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was not needed for longest is asked for again."""
    monkeypatch.setattr(module, "MAX_REMEMBERED", 2)
    chain = Chain(prompt=True, outputs=dict.fromkeys((1, 2, 3), Utxo(5, b"\x00\x14" + bytes(20))))
    sync = node(chain)
    for scid in (1, 2, 1, 3, 1, 2):
        with pytest.raises(FundingMismatch):
            sync.handle_message(net.announcement(scid).encode(), NOW)
    assert chain.asked == [1, 2, 3, 2]


def test_a_spent_output() -> None:
    """Whoever watches the chain says so: its channel is not taken again."""
    chain = Chain(prompt=True, outputs={1: output(1)})
    sync = node(chain)
    sync.funding_spent(1, NOW)
    with pytest.raises(FundingNotFound):
        sync.handle_message(net.announcement(1).encode(), NOW)
    sync = node(chain)
    sync.handle_message(net.announcement(1).encode(), NOW)
    sync.funding_spent(1, NOW)
    assert not sync.network_graph.channels
    P2PGossipSync(NetworkGraph(REGTEST)).funding_spent(1, NOW)
