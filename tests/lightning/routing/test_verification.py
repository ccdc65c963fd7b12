"""Signatures of gossip messages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bgsuper.lightning.errors import BadSignature
from bgsuper.lightning.routing.verification import (
    verify_channel_announcement,
    verify_channel_update,
    verify_node_announcement,
)
from tests.lightning import gossip_network as net

POSITIONS = ["node_signature_1", "node_signature_2", "bitcoin_signature_1", "bitcoin_signature_2"]
KEYS = ["node_id_1", "node_id_2", "bitcoin_key_1", "bitcoin_key_2"]


def test_good_ones() -> None:
    """What the right keys signed passes, fields that we do not know included."""
    verify_channel_announcement(net.announcement(1, features=b"\1", excess=b"later fields"))
    verify_node_announcement(net.node(0, excess=b"later fields"))
    verify_channel_update(net.update(1, 0, 0, excess=b"later fields"), net.NODES[0].public)


@pytest.mark.parametrize("position", POSITIONS)
def test_each_of_the_four_signatures_counts(position: str) -> None:
    """One wrong signature of the four refuses an announcement, and the error names it."""
    good = net.announcement(1)
    stranger = net.Signer(77).sign(good.signed_part())
    with pytest.raises(BadSignature, match=f"expected {position} in a channel_announcement of 0x0x1"):
        verify_channel_announcement(replace(good, **{position: stranger}))  # type: ignore[arg-type]


@pytest.mark.parametrize(("position", "key"), list(zip(POSITIONS, KEYS, strict=True)))
def test_each_of_the_four_keys_must_be_a_point(position: str, key: str) -> None:
    """A key off the curve refuses the announcement, though all else is signed anew."""
    message = net.resign(replace(net.announcement(1), **{key: b"\x02" + b"\xff" * 32}))  # type: ignore[arg-type]
    with pytest.raises(BadSignature, match=position):
        verify_channel_announcement(message)


def test_signatures_cover_everything_behind_them() -> None:
    """Each byte of the signed part counts, appended fields included (BOLT 7: up to the end of the message)."""
    node, update = net.node(0, excess=b"x"), net.update(1, 0, 0, excess=b"x")
    with pytest.raises(BadSignature, match="expected signature in a node_announcement"):
        verify_node_announcement(replace(node, excess=b"y"))
    with pytest.raises(BadSignature, match="channel_update for 0x0x1"):
        verify_channel_update(replace(update, excess=b""), net.NODES[0].public)
    with pytest.raises(BadSignature):
        verify_channel_announcement(replace(net.announcement(1, excess=b"x"), excess=b"xx"))


def test_an_update_belongs_to_the_node_asked_for() -> None:
    """An update signed by the channel's other node is refused."""
    with pytest.raises(BadSignature, match=net.NODES[1].public.hex()):
        verify_channel_update(net.update(1, 0, 0), net.NODES[1].public)
