"""Which chain a graph is of: LDK's bytes and snapshots say it, the records of a store do not.

What is known of a store's records, the first that there is:
1. the messages that the first channels keep, as they came from peers, name their chain;
2. the snapshot beside the records, LDK's bytes, names its own;
3. whoever asks says it (`--chain`);
4. mainnet is assumed, and that is said.

Rule: whatever says it must say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from ...errors import ConfigError, DecodeError
from ...lightning.chain_hash import MAINNET, REGTEST, SIGNET, TESTNET
from ...lightning.routing.records import ChannelInfo
from ...lightning.routing.serialization import decode_channel
from ...lightning.wire.gossip import ChannelAnnouncement, ChannelUpdate

NAMES: Final[Mapping[str, bytes]] = {"mainnet": MAINNET, "testnet": TESTNET, "signet": SIGNET, "regtest": REGTEST}
DEFAULT: Final = "mainnet"
#: Where LDK's bytes of a graph have the chain's hash.
_IN_GRAPH: Final = slice(2, 34)


class Chain(NamedTuple):
    """A chain, and who says so."""

    chain_hash: bytes
    said_by: str

    @property
    def name(self) -> str:
        """Its name, or its hash in hex if it is none that we know."""
        return chain_name(self.chain_hash)


def chain_name(chain_hash: bytes) -> str:
    """The name of a chain, or the hash in hex if it is none that we know."""
    return next((name for name, known in NAMES.items() if known == chain_hash), chain_hash.hex())


def asked(name: str | None) -> list[Chain]:
    """What `--chain` says, if it is given."""
    return [] if name is None else [Chain(NAMES[name], "--chain")]


def of_graph_bytes(data: bytes | None, said_by: str) -> list[Chain]:
    """What LDK's bytes say, if there are any."""
    return [] if data is None else [Chain(data[_IN_GRAPH], said_by)]


def of_records(records: Iterable[bytes]) -> list[Chain]:
    """What the messages that channels' records keep say; records that cannot be decoded say nothing."""
    for record in records:
        try:
            chain_hash = _of_channel(decode_channel(record))
        except DecodeError:
            continue
        if chain_hash is not None:
            return [Chain(chain_hash, "its messages")]
    return []


def agreed(said: Iterable[Chain]) -> Chain:
    """The first of those that say it, or the default. Raises `ConfigError` if one says otherwise."""
    first, *others = (*said, Chain(NAMES[DEFAULT], "nobody, so it is assumed"))
    for other in others[:-1]:
        if other.chain_hash != first.chain_hash:
            raise ConfigError(
                f"expected one chain, but {first.said_by} says {first.name}, and {other.said_by} says {other.name}: "
                "look which graph you mean"
            )
    return first


def _of_channel(channel: ChannelInfo) -> bytes | None:
    if channel.announcement_message is not None:
        return ChannelAnnouncement.decode(channel.announcement_message).chain_hash
    for terms in (channel.one_to_two, channel.two_to_one):
        if terms is not None and terms.last_update_message is not None:
            return ChannelUpdate.decode(terms.last_update_message).chain_hash
    return None
