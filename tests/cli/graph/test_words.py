"""The pure parts: aliases made harmless, addresses and features read, ids and times as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.cli.graph.addresses import Address, addresses
from bgsuper.cli.graph.reports import features_text
from bgsuper.cli.graph.spelling import parse_moment, parse_scid
from bgsuper.cli.graph.words import age_text, alias_text, feature_bits, moment_text, sats_text
from bgsuper.errors import ConfigError
from bgsuper.lightning.errors import MalformedMessage
from bgsuper.lightning.wire.addresses import known_length
from bgsuper.lightning.wire.gossip import scid_text

from .graphs import DNS, HOSTILE, HOSTILE_TEXT, IPV4, IPV6, TOR_V3


@given(st.binary(max_size=32))
def test_any_alias_is_harmless(alias: bytes) -> None:
    """Whatever a stranger puts into 32 bytes can be printed."""
    assert alias_text(alias).isprintable()


@given(st.binary(max_size=32), st.binary(max_size=32))
def test_no_two_aliases_look_alike(one: bytes, two: bytes) -> None:
    """What is shown is told apart, but for the padding."""
    assert (alias_text(one) == alias_text(two)) is (one.rstrip(b"\0") == two.rstrip(b"\0"))


@pytest.mark.parametrize(
    ("alias", "shown"),
    [
        (b"Alice".ljust(32, b"\0"), "Alice"),
        ("Zürich ⚡ 日本".encode(), "Zürich ⚡ 日本"),
        (HOSTILE, HOSTILE_TEXT),
        (b"\xff\xfe\x80", "\\xff\\xfe\\x80"),
        (b"a\nb\tc\0d", "a\\nb\\tc\\x00d"),
        ("\u200b\u2066\ufeff\x9b".encode(), "\\u200b\\u2066\\ufeff\\x9b"),
        (b"\\x1b", "\\\\x1b"),
        ("\U000e0001".encode(), "\\U000e0001"),
        (b"\xed\xb2\x80", "\\xed\\xb2\\x80"),
        (bytes(32), ""),
    ],
)
def test_aliases(alias: bytes, shown: str) -> None:
    """Names stay as they are, everything else is escaped as Python does it."""
    assert alias_text(alias) == shown


def test_addresses_of_every_kind() -> None:
    """BOLT 7's descriptors, the deprecated Tor v2 included."""
    tor_v2 = bytes([3]) + bytes(10) + (81).to_bytes(2, "big")
    assert list(addresses(IPV4 + IPV6 + tor_v2 + TOR_V3 + DNS)) == [
        Address("IPv4", "203.0.113.7", 9735),
        Address("IPv6", "2001:db8::1", 9736),
        Address("Tor v2", "aaaaaaaaaaaaaaaa.onion", 81),
        Address("Tor v3", "aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypsaijc.onion", 80),
        Address("DNS", "example.com", 9737),
    ]


@given(st.lists(st.sampled_from([IPV4, IPV6, TOR_V3, DNS, b"\x05\x00\x00\x01", b"\x09junk", b"\x01\x02"])))
def test_addresses_are_those_that_were_taken(descriptors: list[bytes]) -> None:
    """All that a graph keeps can be read, in printable words."""
    raw = b"".join(descriptors)
    try:
        kept = raw[: known_length(raw)]
    except MalformedMessage:
        return
    for address in addresses(kept):
        assert str(address).isprintable()


def test_feature_bits() -> None:
    """Bit 0 is the last byte's lowest; a stranger's eight thousand are cut."""
    assert list(feature_bits(b"\x80\x02\x01")) == [0, 9, 23]
    assert list(feature_bits(b"")) == []
    assert features_text(b"") == "none"
    assert features_text(b"\x02\x00") == "bits 9 (hex 0200)"
    assert len(features_text(b"\xff" * 1000)) < 300
    assert sum(feature_bits(b"\xff" * 65535)) == sum(range(8 * 65535))


@given(st.integers(0, (1 << 64) - 1))
def test_short_channel_ids(scid: int) -> None:
    """Either spelling of each one means it."""
    assert parse_scid(scid_text(scid)) == parse_scid(str(scid)) == scid


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("1697749200", 1697749200),
        ("2023-10-19T21:00:00Z", 1697749200),
        ("2023-10-19 21:00", 1697749200),
        ("2023-10-19T23:00:00+02:00", 1697749200),
        ("2023-10-19", 1697673600),
    ],
)
def test_moments(text: str, seconds: int) -> None:
    """UTC where no other zone is named."""
    assert parse_moment(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "-1", str(1 << 32), "1969-12-31", "9999-12-31", "2023-13-01", "0001-01-01T00:00+14:00"]
)
def test_moments_that_are_none(text: str) -> None:
    """Nor times that no message can have."""
    with pytest.raises(ConfigError, match="expected a time"):
        parse_moment(text)


def test_ages() -> None:
    """In the unit that people would use; clocks differ, and 64 bits go far."""
    now = 1_700_000_000.0
    assert age_text(1_700_000_000, now) == "0 s ago"
    assert age_text(1_699_999_000, now) == "16.7 minutes ago"
    assert age_text(1_699_990_000, now) == "2.8 hours ago"
    assert age_text(1_690_000_000, now) == "115.7 days ago"
    assert age_text(1_700_000_030, now) == "in 30 s"
    assert moment_text(1_700_000_000) == "2023-11-14 22:13:20Z"
    assert moment_text((1 << 64) - 1) == "18,446,744,073,709,551,615 s after 1970"


def test_amounts() -> None:
    """In bitcoin only where there is one."""
    assert sats_text(50_000) == "50,000 sat"
    assert sats_text(123_456_789) == "123,456,789 sat (1.23456789 BTC)"
