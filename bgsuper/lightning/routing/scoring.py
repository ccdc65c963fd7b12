"""ProbabilisticScorer: what payments teach about the liquidity of other people's channels (LDK's, its learning half).

1. It learns from payments and probes, per channel of the network graph; channels that nobody announced, and those that
   lack a direction, teach nothing (LDK).
2. What was learnt fades: `time_passed`, or `time_passing` for a scorer so large that doing it at once would be
   noticed.
3. Its bytes are LDK's, sorted by short channel id: equal scorers have equal bytes.

Penalties for routes come with the router. Amounts are msat, `now` is in seconds since 1970.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol, Self

from ...key import Key
from .gossip import NetworkGraph
from .liquidity import NS_PER_S, ChannelLiquidity, DirectedLiquidity
from .rows import ChannelRow
from .scorer_serialization import decode_scorer, encode_header, encode_liquidity, liquidity_of
from .table import DecodedRecords, RecordTable, TableCopy

_log = logging.getLogger(__name__)

#: The namespace of the scorer's records.
LIQUIDITIES: Final = ("scores", "channels")
#: How many channels one step of fading looks at, and how many one piece of a snapshot has: about a millisecond's work.
STEP_CHANNELS: Final = 100
#: No channel has this id: whoever failed there failed nowhere.
_NOWHERE: Final = (1 << 64) - 1


class RouteHop(Protocol):
    """LDK `RouteHop`: the channel `short_channel_id` towards the node `pubkey`."""

    @property
    def pubkey(self) -> bytes: ...
    @property
    def short_channel_id(self) -> int: ...


class Path(Protocol):
    """LDK `Path`: the channels that a payment took, ours first."""

    @property
    def hops(self) -> Sequence[RouteHop]: ...
    def final_value_msat(self) -> int:
        """What the recipient was to get."""


class ProbabilisticScorer:
    """What is known of the channels of `network_graph`."""

    def __init__(self, network_graph: NetworkGraph) -> None:
        self._network_graph = network_graph
        self._channels: RecordTable[int] = RecordTable(liquidity_key)
        #: Every channel that something is known of, by its short channel id, read-only: decoded when it is asked for.
        self.channels: Final[Mapping[int, ChannelLiquidity]] = DecodedRecords(self._channels.records, liquidity_of)

    # -- learning -----------------------------------------------------------------------------------------------------

    def payment_path_failed(self, path: Path, short_channel_id: int, now: float) -> None:
        """It failed at that channel: those before it could carry the amount, that one could not."""
        amount_msat, at = path.final_value_msat(), _nanoseconds(now)
        for hop in path.hops:
            if hop.short_channel_id == short_channel_id:
                self._learn(hop, DirectedLiquidity.failed_at_channel, amount_msat, at)
                break
            self._learn(hop, DirectedLiquidity.failed_downstream, amount_msat, at)

    def payment_path_successful(self, path: Path, now: float) -> None:
        """It arrived: the amount is on the other side of every channel now."""
        amount_msat, at = path.final_value_msat(), _nanoseconds(now)
        for hop in path.hops:
            self._learn(hop, DirectedLiquidity.successful, amount_msat, at)

    def probe_failed(self, path: Path, short_channel_id: int, now: float) -> None:
        """As a payment's failure."""
        self.payment_path_failed(path, short_channel_id, now)

    def probe_successful(self, path: Path, now: float) -> None:
        """Every channel could have carried the amount, and nothing moved."""
        self.payment_path_failed(path, _NOWHERE, now)

    def _learn(
        self, hop: RouteHop, lesson: Callable[[DirectedLiquidity, int, int], None], amount_msat: int, at: int
    ) -> None:
        """What `lesson` makes of the hop's channel, in its direction."""
        scid = hop.short_channel_id
        channel = self._network_graph.channel(scid)
        capacity_msat = None if channel is None else _capacity_towards(channel, hop.pubkey)
        if channel is None or capacity_msat is None:
            _log.debug("Nothing is learnt of the channel %s, which the graph does not have whole.", scid)
            return
        liquidity = self.channels.get(scid) or ChannelLiquidity(at, history_updated=at)
        lesson(liquidity.directed(hop.pubkey == channel.node_two, capacity_msat), amount_msat, at)
        self._channels.put(scid, encode_liquidity(liquidity))

    # -- fading -------------------------------------------------------------------------------------------------------

    def time_passed(self, now: float) -> None:
        """`time_passing`, all of it at once."""
        for _ in self.time_passing(now):
            pass

    def time_passing(self, now: float) -> Iterator[None]:
        """What was learnt is less certain by `now`, and forgotten where nothing is left of it; some channels at each
        step."""
        at, passed = _nanoseconds(now), None
        while scids := self._channels.ids_after(passed, STEP_CHANNELS):
            for scid in scids:
                liquidity = self.channels[scid]
                liquidity.decay(at)
                if liquidity.is_worth_keeping():
                    self._channels.put(scid, encode_liquidity(liquidity))
                else:
                    self._channels.remove(scid)
            passed = scids[-1]
            yield

    # -- persistence --------------------------------------------------------------------------------------------------

    def pieces(self) -> Iterator[bytes]:
        """`write()` as it would be now, in pieces that are made one by one, whatever changes between them."""
        return _pieces(self._channels.copy())

    def write(self) -> bytes:
        """The scorer in LDK's format."""
        return b"".join(self.pieces())

    @classmethod
    def read(cls, data: bytes, network_graph: NetworkGraph) -> Self:
        """The scorer that `write()`, or LDK, wrote; raises `MalformedScorer`."""
        scorer = cls(network_graph)
        scorer._channels.load(decode_scorer(data).items())
        return scorer


def liquidity_key(short_channel_id: int) -> Key:
    """The name of a channel's liquidity in a store."""
    return Key(*LIQUIDITIES, f"{short_channel_id:016x}")


def _pieces(channels: TableCopy[int]) -> Iterator[bytes]:
    yield encode_header(channels.length)
    while channels.left:
        records = channels.step(STEP_CHANNELS)
        yield b"".join(part for scid, record in records for part in (scid.to_bytes(8, "big"), record))


def _capacity_towards(channel: ChannelRow, target: bytes) -> int | None:
    """What the channel can carry towards the node `target`, in msat, as far as is known (LDK `effective_capacity`)."""
    one_to_two, two_to_one = channel.terms(0), channel.terms(1)
    if one_to_two is None or two_to_one is None or target not in (channel.node_one, channel.node_two):
        return None
    terms = one_to_two if target == channel.node_two else two_to_one
    return terms.htlc_maximum_msat if channel.capacity_sats is None else channel.capacity_sats * 1000


def _nanoseconds(now: float) -> int:
    return int(now * NS_PER_S)
