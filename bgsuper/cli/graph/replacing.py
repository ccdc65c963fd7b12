"""Making the records of a graph in a store equal to another graph.

Rules:
1. The store is the caller's, open for writing; what is there is read under that lock, so nobody changes it meanwhile.
2. Only the namespaces of channels and nodes are read, and only what differs is written: putting the same graph again
   costs no commit. Whatever is there and not in the graph goes, also what never was a graph's record.
3. Numbers go on from the store's last. One commit is atomic, all of them together are not: what an interruption leaves
   is some of both graphs, which a node can go on with, and the same import makes good.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from ...ipc.messages import Commit
from ...key import Key, Seq
from ...lightning.routing.gossip import NetworkGraph, channel_key, node_key
from ...lightning.routing.serialization import encode_channel, encode_node
from ...store.api import Opened, Store
from ...store.copying import BATCH_BYTES, BATCH_RECORDS, Advance
from .stored import NAMESPACES

#: How much of the store is read at a time.
_PAGE_BYTES: Final = 1 << 20


class Changes(NamedTuple):
    """What makes a store's records equal to a graph's."""

    puts: dict[Key, bytes]
    removes: list[Key]
    unchanged: int

    def batches(self) -> Iterator[tuple[list[tuple[Key, bytes]], list[Key]]]:
        """The changes in pieces that one commit each takes, removals first."""
        for start in range(0, len(self.removes), BATCH_RECORDS):
            yield [], self.removes[start : start + BATCH_RECORDS]
        batch: list[tuple[Key, bytes]] = []
        room = BATCH_BYTES
        for key, record in self.puts.items():
            if batch and (len(record) > room or len(batch) >= BATCH_RECORDS):
                yield batch, []
                batch, room = [], BATCH_BYTES
            batch.append((key, record))
            room -= len(record)
        if batch:
            yield batch, []


def records_of(graph: NetworkGraph) -> dict[Key, bytes]:
    """The records that a store holds of `graph`."""
    channels = {channel_key(scid): encode_channel(channel) for scid, channel in graph.channels.items()}
    return channels | {node_key(node_id): encode_node(node) for node_id, node in graph.nodes.items()}


def changes(store: Store, records: dict[Key, bytes]) -> Changes:
    """What to change in `store`. Raises `StoreError`s."""
    puts, removes = dict(records), []
    for key, content in _scan(store):
        if key not in puts:
            removes.append(key)
        elif puts[key] == content:
            del puts[key]
    return Changes(puts, removes, len(records) - len(puts))


def write(store: Store, opened: Opened, wanted: Changes, advance: Advance) -> tuple[Seq, Seq] | None:
    """Commit all of it, durable on return; the first and the last number, None if there was nothing to do. Raises
    `StoreError`s."""
    seq, before, first = opened.last_seq, opened.last_commit, None
    for puts, removes in wanted.batches():
        seq = Seq(seq + 1)
        store.apply([Commit(seq, before, tuple(puts), tuple(removes))])
        before, first = seq, seq if first is None else first
        for key in removes:
            advance(key, 0)
        for key, record in puts:
            advance(key, len(record))
    return None if first is None else (first, seq)


def _scan(store: Store) -> Iterator[tuple[Key, bytes]]:
    for primary, secondary in NAMESPACES:
        after = ""
        while page := store.scan(primary, secondary, after, _PAGE_BYTES):
            yield from page
            after = page[-1][0].name
