"""The workload: the same numbers make the same steps, and every kind of step comes."""

from __future__ import annotations

from bgsuper.ipc.messages import INLINE_BYTES
from bgsuper.key import Seq, check_key
from bgsuper.torture.run.values import MOST_BYTES, value_of
from bgsuper.torture.run.workload import FILLING, WINDOW, WORKING, Commit, Snapshot, step

STEPS = [step(1, 1, Seq(seq)) for seq in range(1, 3000)]


def test_seed_host_and_number_determine_a_step() -> None:
    """So the overseer knows what a host submits from its number alone, and two hosts never submit the same."""
    assert [step(1, 1, Seq(seq)) for seq in range(1, 3000)] == STEPS
    for other in ((2, 1), (1, 2)):
        assert all(step(*other, Seq(seq)) != STEPS[seq - 1] for seq in range(1, 100))


def test_every_kind_of_step_comes() -> None:
    """Single and many keys, removes, values that travel in chunks, snapshots critical and not, keys of both lanes."""
    commits = [each for each in STEPS if isinstance(each, Commit)]
    snapshots = [each for each in STEPS if isinstance(each, Snapshot)]
    assert {len(commit.puts) for commit in commits} >= {1, 2, 13}
    assert any(commit.removes for commit in commits)
    assert any(sum(origin.size for origin in commit.puts.values()) > INLINE_BYTES for commit in commits)
    assert any(each.value.size > INLINE_BYTES for each in snapshots)
    assert {each.critical for each in snapshots} == {True, False}
    both = {each.key for each in snapshots} & {key for commit in commits for key in (*commit.puts, *commit.removes)}
    assert both


def test_each_step_can_be_submitted_and_is_read_again() -> None:
    """Legal keys in namespaces that each new host reads; no key both put and removed; values that can be made."""
    for each in STEPS:
        keys = [each.key] if isinstance(each, Snapshot) else [*each.puts, *each.removes]
        assert len(set(keys)) == len(keys)
        assert all(check_key(key)[:2] in WORKING for key in keys)
        values = {each.key: each.value} if isinstance(each, Snapshot) else each.puts
        for key, origin in values.items():
            assert origin.size <= MOST_BYTES
            assert len(value_of(key, origin)) > origin.size


def test_history_is_bounded() -> None:
    """A record that is put is removed `WINDOW` numbers later, unless a snapshot has that number; and none before."""
    held = set()
    for each in STEPS:
        if isinstance(each, Commit):
            held |= {key for key in each.puts if key.secondary == "history"}
            held -= set(each.removes)
    assert WINDOW * 0.8 < len(held) < WINDOW * 1.2


def test_the_filling_comes_first_and_is_as_large_as_was_said() -> None:
    """A MiB a commit, under keys of its own."""
    for seq in (1, 2, 3):
        filling = step(1, 1, Seq(seq), filling=3)
        assert isinstance(filling, Commit)
        assert sum(origin.size for origin in filling.puts.values()) == 2**20
        assert all(key[:2] == FILLING and key.name.startswith(f"{seq:06d}") for key in filling.puts)
    assert step(1, 1, Seq(4), filling=3) == step(1, 1, Seq(4))
