"""The explorer's own parts: a disk that loses what it may and nothing else, states that are known again, schedules that
are kept, told and shortened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from bgsuper.errors import ConfigError
from bgsuper.key import Key
from bgsuper.torture.explorer.__main__ import explorer
from bgsuper.torture.explorer.disk import Disk, Entry, Write
from bgsuper.torture.explorer.scenario import Scenario
from bgsuper.torture.explorer.schedules import choose, fault_of, run_seed
from bgsuper.torture.explorer.states import COUNTED, IGNORED, fingerprint, restore, save
from bgsuper.torture.explorer.story import tell
from bgsuper.torture.explorer.trace import load_run, save_run
from bgsuper.torture.explorer.world import World

from .bugs import BUGS

KEY = Key("app", "", "a")

# -- the disk ----------------------------------------------------------------------------------------------------------


def appended(disk: Disk, number: int) -> Entry:
    """The next entry of `disk`, written and not synced."""
    at = disk.readable()
    entry = Entry(at.checksum, 1, 1, number, 0, (Write(KEY, number, b"%d" % number),))
    disk.write(at.length, entry)
    return entry


def test_what_is_synced_survives_a_power_cut_and_nothing_else_must() -> None:
    """Read back before the cut, an entry is there; after it, only if it was synced."""
    disk = Disk()
    appended(disk, 1)
    disk.sync()
    appended(disk, 2)
    assert (disk.readable().last_commit, disk.certain().last_commit) == (2, 1)
    disk.cut("d")
    assert disk.readable().last_commit == disk.certain().last_commit == 1


@pytest.mark.parametrize(("fates", "left"), [("kk", 2), ("kd", 1), ("kt", 1), ("dk", 0), ("tk", 0), ("dd", 0)])
def test_an_entry_counts_only_behind_those_before_it(fates: str, left: int) -> None:
    """Entries may reach the platter in any order, or in part: what does not follow a whole one is not there."""
    disk = Disk()
    appended(disk, 1)
    appended(disk, 2)
    assert disk.unsynced() == 2
    disk.cut(fates)
    assert disk.readable().last_commit == left
    assert disk.unsynced() == 0


def test_what_a_cut_left_behind_does_not_come_back() -> None:
    """The first of two entries is lost, and another written in its place: the second, still on the platter, does not
    follow that one."""
    disk = Disk()
    appended(disk, 1)
    appended(disk, 2)
    disk.cut("dk")
    appended(disk, 3)
    disk.sync()
    assert disk.certain().last_commit == 3


def test_after_a_failed_sync_the_next_one_lies() -> None:
    """fsyncgate: the pages can be read, are clean, and are not on the platter; dropping the cache shows it."""
    disk = Disk()
    appended(disk, 1)
    disk.sync_fails("d")
    disk.sync()
    assert (disk.readable().last_commit, disk.certain().last_commit) == (1, 0)
    disk.drop_cache()
    assert disk.readable().last_commit == 0


def test_dropping_the_cache_keeps_what_is_dirty() -> None:
    """A dead worker's write that nobody tried to sync is not lost by that."""
    disk = Disk()
    appended(disk, 1)
    disk.drop_cache()
    disk.sync()
    assert disk.certain().last_commit == 1


def test_a_file_needs_its_own_sync_and_its_directorys() -> None:
    """Either alone is not enough."""
    disk = Disk()
    disk.write_file("a", b"1")
    disk.write_file("b", b"2")
    disk.sync_file("a")
    assert not disk.is_certain("a")
    disk.sync_directory()
    assert disk.is_certain("a")
    assert not disk.is_certain("b")
    disk.cut("")
    assert set(disk.files) == {"a"}


# -- states ------------------------------------------------------------------------------------------------------------


def worlds() -> Iterator[World]:
    """Worlds in the midst of their schedules."""
    for seed in range(40):
        dice = Random(seed)
        world = World(Scenario("cSkqrLxs", 3, 2, 1, 1, 1, deaths_first=False, reduced=seed % 2 == 0))
        for step, choice in enumerate(choose(world, dice)):
            world.do(choice)
            if step % 7 == 0:
                yield world


def test_every_attribute_has_its_place_in_the_fingerprint() -> None:
    """What is new in a part of bgsuper must be looked at: it counts, or there is a reason why it does not."""
    seen: set[type] = set()

    def look(value: object) -> None:
        kind = type(value)
        names = COUNTED.get(kind)
        if names is None:
            if isinstance(value, dict):
                look(list(value.values()))
            elif isinstance(value, list | tuple | set) or kind.__name__ == "deque":
                for item in value:  # type: ignore[attr-defined]
                    look(item)
            return
        attributes = {*getattr(value, "__dict__", {}), *getattr(kind, "__slots__", ())}
        properties = {name for name in names if isinstance(getattr(kind, name, None), property)}
        assert attributes | properties == {*names} | {*IGNORED.get(kind, {})}, kind
        seen.add(kind)
        for name in names:
            look(getattr(value, name))

    for world in worlds():
        look(world)
    assert seen == COUNTED.keys()


def test_a_restored_world_goes_on_as_the_one_that_was_saved() -> None:
    """Same fingerprint, same choices, and the same after each of them."""
    for world in worlds():
        copy = restore(save(world))
        assert fingerprint(copy) == fingerprint(world)
        assert copy.choices() == world.choices()
        for choice in world.choices()[:3]:
            one, other = restore(save(world)), restore(save(world))
            one.do(choice)
            other.do(choice)
            assert fingerprint(one) == fingerprint(other) != fingerprint(world)


# -- schedules in files ------------------------------------------------------------------------------------------------


def test_a_schedule_survives_its_file(tmp_path: Path) -> None:
    """Scenario, choices and seed; and no file is overwritten."""
    run = run_seed(3)
    first, second = save_run(run, tmp_path / "new"), save_run(run, tmp_path / "new")
    assert first != second
    found = load_run(first)
    assert (found.scenario, found.choices, found.seed) == (run.scenario, run.choices, 3)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": 2, "seed": 1, "scenario": {"script": "c"}, "choices": []}',
        '{"format": 1, "seed": 1, "scenario": {"script": "?"}, "choices": []}',
        '{"format": 1, "seed": 1, "scenario": {"script": "c", "more": 1}, "choices": []}',
        '{"format": 1, "seed": 1, "scenario": 7, "choices": []}',
        '{"format": 1, "seed": 1, "scenario": {"script": "c"}, "choices": [7]}',
    ],
)
def test_a_file_that_holds_no_schedule_is_refused(tmp_path: Path, content: str) -> None:
    """With a word of what was expected."""
    path = tmp_path / "schedule.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="expected"):
        load_run(path)


def test_every_step_can_be_told() -> None:
    """In one line, which begins with the choice itself."""
    for seed in range(60):
        dice = Random(seed)
        world = World(Scenario("cSkqrLxs", 3, 2, 1, 1, 1, deaths_first=False, reduced=seed % 2 == 0))
        for choice in choose(world, dice):
            told = tell(world, choice)
            assert told.startswith(choice)
            assert "\n" not in told
            world.do(choice)


def test_faults_are_counted_by_their_kind() -> None:
    """What simply goes on is none."""
    assert [fault_of(choice) for choice in ("step", "space in", "submit", "orphan step")] == [None] * 4
    assert fault_of("power kd") == "power cut"
    assert fault_of("serve eio d") == "sync failed"
    assert fault_of("serve die 3") == "worker killed in a serve"


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_reports_what_it_searched() -> None:
    """Exit status 0, and the counts as JSON."""
    result = CliRunner().invoke(explorer, ["exhaust", "--script", "c", "--json"], standalone_mode=False)
    assert result.return_value == 0
    report = json.loads(result.stdout)
    assert report["violations"] == 0
    assert report["schedules"] > report["states"] > 500


def test_the_command_runs_schedules() -> None:
    """In two processes as in one."""
    result = CliRunner().invoke(
        explorer, ["random", "--schedules", "600", "--jobs", "2", "--json"], standalone_mode=False
    )
    assert result.return_value == 0
    assert json.loads(result.stdout)["schedules"] == 600


@pytest.mark.parametrize("how", [["random", "--schedules", "50"], ["exhaust", "--script", "c"]])
def test_the_command_keeps_what_broke(how: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 1, and a file with which `replay` shows the same, and status 0 once it is mended."""
    next(bug for bug in BUGS if bug.name == "ack before the sync").plant(monkeypatch)
    result = CliRunner().invoke(explorer, [*how, "--keep", str(tmp_path), "--json"], standalone_mode=False)
    assert result.return_value == 1
    report = json.loads(result.stdout)
    assert report["violation"].startswith("acked: ")
    again = CliRunner().invoke(explorer, ["replay", report["kept"]], standalone_mode=False)
    assert again.return_value == 1
    assert "Broken: acked: " in again.stdout
    monkeypatch.undo()
    mended = CliRunner().invoke(explorer, ["replay", report["kept"]], standalone_mode=False)
    assert mended.return_value == 0


def test_a_script_of_other_letters_is_refused() -> None:
    """With the letters that there are."""
    with pytest.raises(ConfigError, match="letters"):
        Scenario("c?")
    with pytest.raises(ConfigError, match="letters"):
        Scenario("")
