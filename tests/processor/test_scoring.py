"""What the scorer learns, and when it is saved."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from bgsuper.key import SCORER
from bgsuper.processor.clock import suspended
from bgsuper.processor.scoring import update_scorer

from .fake_store import FakeStore
from .ldk_events import PaymentPathFailed, PaymentPathSuccessful, ProbeFailed, ProbeSuccessful
from .stand_ins import Calls, Scores, Setup

NOW = 1_700_000_000.5


@pytest.mark.parametrize(
    ("event", "lesson"),
    [
        (PaymentPathFailed("p", 42), ("payment_path_failed", "p", 42, NOW)),
        (PaymentPathFailed("p", 42, True), ("payment_path_failed", "p", 42, NOW)),
        (PaymentPathFailed("p", 0), ("payment_path_failed", "p", 0, NOW)),
        (PaymentPathFailed("p", None, True), ("probe_successful", "p", NOW)),
        (PaymentPathFailed("p", None, False), None),
        (PaymentPathSuccessful("p"), ("payment_path_successful", "p", NOW)),
        (ProbeFailed("p", 42), ("probe_failed", "p", 42, NOW)),
        (ProbeFailed("p", None), None),
        (ProbeSuccessful("p"), ("probe_successful", "p", NOW)),
        ("an event of another kind", None),
        (None, None),
    ],
)
def test_what_an_event_teaches(event: object, lesson: tuple[object, ...] | None) -> None:
    """LDK's update_scorer, case by case; whether it taught anything is what decides on a save."""
    scorer = Scores(Calls())
    assert update_scorer(scorer, event, NOW) is (lesson is not None)
    assert scorer.learned == ([] if lesson is None else [lesson])


def test_an_event_of_that_name_without_the_fields_is_an_error() -> None:
    """Better than a scorer that silently learns nothing."""

    @dataclass
    class ProbeFailed:
        route: str = "p"

    with pytest.raises(AttributeError, match="short_channel_id"):
        update_scorer(Scores(Calls()), ProbeFailed(), NOW)


def saves(store: FakeStore) -> list[bytes]:
    return [entry.puts[SCORER] for entry in store.history if SCORER in entry.puts]


def test_it_is_saved_after_each_update() -> None:
    """At the end of the turn, with the update in it; an event that teaches nothing saves nothing."""
    setup = Setup(scorer=True, store=FakeStore(prompt=True))
    turns = setup.turns()
    for event in [ProbeSuccessful(), "other", ProbeFailed(), PaymentPathSuccessful(), PaymentPathFailed("p", 42)]:
        setup.manager.events = [event]
        turns.turn()
    assert saves(setup.store) == [b"scores 2", b"scores 3", b"scores 4"]
    assert setup.scorer.learned[-1] == ("payment_path_failed", "p", 42, setup.clock.time())


def test_what_it_learns_while_a_save_is_under_way_goes_into_the_next() -> None:
    """A large scorer is not serialised again for each payment; the last lesson is never left out."""
    setup = Setup(scorer=True, gossip=False)
    turns = setup.turns()
    for _ in range(100):
        setup.manager.events = [ProbeSuccessful()] * 3
        turns.turn()
    assert saves(setup.store) == [b"scores 4"]
    setup.store.ack()
    turns.turn()
    setup.store.ack()
    turns.turn()
    assert saves(setup.store) == [b"scores 4", b"scores 301"]


def test_it_learns_before_the_users_handler_sees_the_event() -> None:
    """LDK's decorated handler: the graph, the scorer, the user."""
    setup = Setup(scorer=True)
    turns = setup.turns()
    seen: list[int] = []
    setup.handler = lambda event: seen.append(len(setup.scorer.learned))
    setup.manager.events = [ProbeSuccessful()]
    turns.turn()
    assert seen == [2]


def test_it_decays_at_the_start_and_before_each_timed_save() -> None:
    """LDK #2656; the time is the time of day."""
    setup = Setup(scorer=True, asleep=suspended, store=FakeStore(prompt=True))
    turns = setup.turns()
    start = setup.clock.time()
    for seconds in (30.0, 300.0):
        setup.clock.now += seconds
        turns.turn()
    assert setup.scorer.learned == [("time_passed", start + seconds) for seconds in (0.0, 30.0, 330.0)]
    assert saves(setup.store) == [b"scores 2", b"scores 3"]
