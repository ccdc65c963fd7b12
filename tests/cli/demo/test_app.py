"""The demo's application: what it hands to the processor, and that it notices an output that leaves too early."""

from __future__ import annotations

from collections.abc import Collection
from random import Random

from bgsuper.cli.demo.app import App
from bgsuper.cli.demo.load import Load
from bgsuper.cli.demo.peers import Peers, SampleSync
from bgsuper.key import Key
from bgsuper.lightning import chain_hash
from bgsuper.lightning.routing import sample
from bgsuper.lightning.routing.gossip import NetworkGraph
from bgsuper.processor.interfaces import BackPressure, ChannelManager, GossipSync, Outbox, PeerManager, RecordChanges


def _app(durable: bool = True, seed: int = 1) -> App:
    def is_durable(records: Collection[Key]) -> bool:
        return durable

    return App(Random(seed), NetworkGraph(chain_hash.MAINNET), is_durable)


def test_the_processor_takes_it_for_what_it_is() -> None:
    """By records, and with an outbox; the type checker sees the rest."""
    app = _app()
    manager: ChannelManager = app
    peers: PeerManager = Peers()
    sync: GossipSync = SampleSync(NetworkGraph(chain_hash.MAINNET))
    assert isinstance(manager, RecordChanges)
    assert isinstance(manager, Outbox)
    assert isinstance(peers, BackPressure)
    assert sync.network_graph.pieces() != ()


def test_a_payment_goes_its_way() -> None:
    """Three records and a receipt; after its release an event; after that the pending record goes."""
    app = _app()
    app.pay()
    (receipt,) = app.take_outputs()
    puts, removes = app.take_changes()
    assert set(puts) == set(receipt.records)
    assert not removes
    assert app.held == 1
    app.release(receipt)
    assert (app.held, app.released, app.too_early) == (0, 1, [])
    app.process_pending_events(app.settle)
    puts, removes = app.take_changes()
    assert not puts
    assert removes == {key for key in receipt.records if key.secondary == "pending"}
    assert app.settled == 1
    assert app.take_changes() == ({}, set())


def test_an_output_that_leaves_too_early_is_noticed() -> None:
    """The gate is not believed: the model is asked at each release."""
    app = _app(durable=False)
    app.pay()
    app.release(*app.take_outputs())
    assert app.too_early == [0]


def test_the_same_seed_makes_the_same_payments() -> None:
    """And another seed others."""

    def puts(seed: int) -> dict[Key, bytes]:
        app = _app(seed=seed)
        for _ in range(5):
            app.pay()
        return app.take_changes()[0]

    assert puts(1) == puts(1)
    assert puts(1) != puts(2)


def test_the_load_paces_the_gossip_and_goes_on_without_it() -> None:
    """Half of the time brings half of the messages; when they are used up payments still come."""
    app, peers = _app(), Peers()
    sync = SampleSync(NetworkGraph(chain_hash.MAINNET))
    messages = list(sample.messages())[:100]
    load = Load(app, sync, peers, messages, seconds=10 / 0.9)
    for _ in range(10):
        load.slice(0.5, until=float("inf"))
    assert sync.taken + sync.refused == 50
    for _ in range(11):
        load.slice(0.5, until=float("inf"))
    assert sync.taken + sync.refused == 100
    assert app.payments == 21


def test_a_slice_ends_in_time() -> None:
    """What is due then waits for the next."""
    sync = SampleSync(NetworkGraph(chain_hash.MAINNET))
    load = Load(_app(), sync, Peers(), sample.messages(), seconds=1)
    load.slice(1.0, until=0.0)
    assert sync.taken == 0
    load.slice(0.0, until=float("inf"))
    assert sync.taken > 100


def test_the_graph_is_pruned_at_the_samples_own_date() -> None:
    """By today's date all of it would be stale."""
    sync = SampleSync(NetworkGraph(chain_hash.MAINNET))
    for raw in list(sample.messages())[:20]:
        sync.sync.handle_message(raw, sample.NOW)
    channels = len(sync.graph.channels)
    sync.network_graph.remove_stale_channels_and_tracking(sample.NOW + 10**9)
    assert len(sync.graph.channels) == channels > 0
