"""What the explorer found in bgsuper: each defect's shortest schedule, kept so that it cannot come back."""

from __future__ import annotations

from bgsuper.torture.explorer.real import RealWorld
from bgsuper.torture.explorer.scenario import Scenario
from bgsuper.torture.explorer.schedules import play
from bgsuper.torture.explorer.world import World


def test_a_new_host_distrusts_the_cache_as_well() -> None:
    """A sync fails twice, the host gives up (`SyncFailed`) and is started again: its successor's HELLO must not claim
    what only the page cache holds. (Who learned of a failed sync may have died with that knowledge.)"""
    choices = ["boot", "step", "hear", "submit", "take", "deliver", "serve eio 1", "kill host"]
    run = play(Scenario("c", deaths=1, failed_syncs=1, deaths_first=False, reduced=False, world="sqlite"), choices)
    assert run.choices == choices
    assert run.violation is None, run.violation


def test_a_death_between_making_the_directory_and_syncing_its_name() -> None:
    """The next open finds the directory there, and must sync its name all the same: else a power cut takes the whole
    store, with all that was acknowledged."""
    with RealWorld(Scenario("c", reduced=False, world="sqlite")) as world:
        world.do("boot die 1")
        world.leave_in_peace(lambda _, __: None)


def test_a_worker_that_never_said_hello_convicts_no_commit() -> None:
    """Workers that fail by their own doing before HELLO were given nothing: nothing that was submitted ended them."""
    world = World(Scenario("c", deaths=9, reduced=False))
    for choice in ["boot", "step", "step", "step", "hear", "submit", "take", *(["hang", "reap", "boot"] * 4)]:
        world.do(choice)
    world.leave_in_peace(lambda _, __: None)
