"""The bounds of a channel's liquidity: LDK's rules, and that they never contradict each other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bgsuper.lightning.routing.liquidity import (
    BUCKET_STARTS,
    BUCKETS,
    HISTORY_HALF_LIFE,
    NS_PER_S,
    OFFSET_HALF_LIFE,
    ChannelLiquidity,
)

NOW = 1_700_000_000 * NS_PER_S
CAPACITY = 1_000_000
amounts = st.integers(0, CAPACITY)


def new() -> ChannelLiquidity:
    return ChannelLiquidity(NOW, history_updated=NOW)


def test_what_a_failure_here_says() -> None:
    """It cannot send that much: the upper bound comes down to it, and never up."""
    liquidity = new()
    there, back = liquidity.directed(True, CAPACITY), liquidity.directed(False, CAPACITY)
    assert (there.min_msat, there.max_msat) == (0, CAPACITY)
    there.failed_at_channel(600_000, NOW)
    there.failed_at_channel(700_000, NOW)
    assert (there.min_msat, there.max_msat) == (0, 600_000)
    assert (back.min_msat, back.max_msat) == (400_000, CAPACITY)


def test_what_a_failure_further_on_says() -> None:
    """It can send that much: the lower bound goes up to it, and never down."""
    liquidity = new()
    there, back = liquidity.directed(True, CAPACITY), liquidity.directed(False, CAPACITY)
    there.failed_downstream(300_000, NOW)
    there.failed_downstream(200_000, NOW)
    assert (there.min_msat, there.max_msat) == (300_000, CAPACITY)
    assert (back.min_msat, back.max_msat) == (0, 700_000)


def test_what_a_success_says() -> None:
    """The amount is on the other side: less can be sent, and more comes back."""
    liquidity = new()
    there, back = liquidity.directed(True, CAPACITY), liquidity.directed(False, CAPACITY)
    there.successful(250_000, NOW)
    assert (there.min_msat, there.max_msat) == (0, 750_000)
    assert (back.min_msat, back.max_msat) == (250_000, CAPACITY)


def test_a_bound_that_contradicts_the_other_one_ends_it() -> None:
    """The newer word counts."""
    there = new().directed(True, CAPACITY)
    there.failed_downstream(500_000, NOW)
    there.failed_at_channel(200_000, NOW)
    assert (there.min_msat, there.max_msat) == (0, 200_000)
    there.failed_downstream(900_000, NOW)
    assert (there.min_msat, there.max_msat) == (900_000, CAPACITY)


@given(st.lists(st.tuples(st.sampled_from(["here", "downstream", "paid"]), st.booleans(), amounts), max_size=20))
def test_bounds_always_leave_room(lessons: list[tuple[str, bool, int]]) -> None:
    """0 <= lower <= upper <= capacity in both directions, and what is lower there is missing from the upper back."""
    liquidity = new()
    for kind, straight, amount in lessons:
        directed = liquidity.directed(straight, CAPACITY)
        if kind == "here":
            directed.failed_at_channel(amount, NOW)
        elif kind == "downstream":
            directed.failed_downstream(amount, NOW)
        else:
            directed.successful(amount, NOW)
        there, back = liquidity.directed(True, CAPACITY), liquidity.directed(False, CAPACITY)
        for side in (there, back):
            assert 0 <= side.min_msat <= side.max_msat <= CAPACITY
        assert there.min_msat + back.max_msat == CAPACITY
        assert back.min_msat + there.max_msat == CAPACITY


def test_offsets_halve() -> None:
    """Each half hour; time that runs backwards changes nothing."""
    liquidity = new()
    liquidity.directed(True, CAPACITY).failed_at_channel(200_000, NOW)
    liquidity.directed(True, CAPACITY).failed_downstream(100_000, NOW)
    liquidity.decay(NOW - NS_PER_S)
    assert (liquidity.min_offset_msat, liquidity.max_offset_msat) == (100_000, 800_000)
    liquidity.decay(NOW - NS_PER_S + OFFSET_HALF_LIFE)
    assert (liquidity.min_offset_msat, liquidity.max_offset_msat) == (50_000, 400_000)
    liquidity.decay(NOW - NS_PER_S + 3 * OFFSET_HALF_LIFE)
    assert (liquidity.min_offset_msat, liquidity.max_offset_msat) == (12_500, 100_000)


def test_a_history_fades_only_where_there_is_no_news() -> None:
    """For two weeks it stays as it is; after that its weights go down, and in the end nothing is worth keeping."""
    liquidity = new()
    liquidity.directed(True, CAPACITY).failed_at_channel(500_000, NOW)
    before = (liquidity.min_history[:], liquidity.max_history[:])
    liquidity.decay(NOW + HISTORY_HALF_LIFE)
    assert (liquidity.min_history, liquidity.max_history) == before
    liquidity.decay(NOW + HISTORY_HALF_LIFE + 1)
    assert (sum(liquidity.min_history), sum(liquidity.max_history)) == (15, 15)  # 32 x 511 // 1024
    assert liquidity.is_worth_keeping()
    liquidity.decay(NOW + 20 * HISTORY_HALF_LIFE)
    assert not liquidity.is_worth_keeping()


def test_where_a_datum_is_counted() -> None:
    """In the part of the capacity where the offset was; the others leak by 1/2048."""
    liquidity = new()
    there = liquidity.directed(True, CAPACITY)
    there.failed_at_channel(CAPACITY // 2, NOW)
    assert liquidity.min_history[0] == 32
    middle = next(bucket for bucket in range(BUCKETS) if liquidity.max_history[bucket])
    assert BUCKET_STARTS[middle] <= 8191 < BUCKET_STARTS[middle + 1]
    there.failed_at_channel(0, NOW)
    assert liquidity.max_history[middle] == 31  # 32 x 2047 // 2048
    assert liquidity.max_history[BUCKETS - 1] == 32


def test_the_history_shows_what_was_before_the_payment() -> None:
    """A success moves liquidity, and does not count the move."""
    liquidity = new()
    liquidity.directed(True, CAPACITY).successful(400_000, NOW)
    assert liquidity.max_history[0] == 32
    assert liquidity.max_offset_msat == 400_000


def test_seen_from_the_other_side_the_histories_change_places() -> None:
    """The same lesson in both directions leaves mirror images."""
    one, two = new(), new()
    one.directed(True, CAPACITY).failed_at_channel(300_000, NOW)
    two.directed(False, CAPACITY).failed_at_channel(300_000, NOW)
    assert (one.min_history, one.max_history) == (two.max_history, two.min_history)
    assert (one.min_offset_msat, one.max_offset_msat) == (two.max_offset_msat, two.min_offset_msat)


def test_a_bucket_never_overflows() -> None:
    """Leak and gain meet below 16 bits; a stored one that is full stays so."""
    liquidity = new()
    liquidity.min_history[0] = 0xFFFF
    for _ in range(3):
        liquidity.directed(True, CAPACITY).failed_at_channel(0, NOW)
    assert liquidity.min_history[0] <= 0xFFFF


def test_an_offset_beyond_the_capacity_counts_for_nothing() -> None:
    """A channel_update may have made it smaller meanwhile."""
    liquidity = new()
    liquidity.min_offset_msat = 10 * CAPACITY
    liquidity.directed(True, CAPACITY).failed_downstream(5, NOW)
    assert not any(liquidity.min_history)
