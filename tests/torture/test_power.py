"""Real power cuts by the documented command, a tenth of the full run; what it finds with the sync removed; and what it
leaves behind: nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from bgsuper.torture.power.scratch import PREFIX

pytestmark = pytest.mark.usefixtures("no_leaks")

COMMAND = [sys.executable, "-P", "-m", "bgsuper.torture.power"]
REFUSED = 2
#: Each cuts the power twice: a tenth of the 500 cuts that are asked of a full run, which has ten times as many.
ROUNDS = 25


def start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command, with its disks and its evidence below `directory`."""
    places = ("--directory", str(directory), "--evidence", str(directory / "evidence"))
    return subprocess.Popen(
        [*COMMAND, *places, *arguments, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def cut_power(directory: Path, **wanted: int | str) -> tuple[int, dict[str, Any]]:
    """Exit status and report of a run; whatever is not `wanted` is none. Skips where it cannot run."""
    wanted = {"ext4": 0, "xfs": 0, "block_log": 0, **wanted}
    arguments = [text for name, value in wanted.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    process = start(directory, *arguments)
    output, errors = process.communicate(timeout=300)
    if process.returncode == REFUSED:
        pytest.skip(errors.strip())
    assert output, errors
    assert left_behind(directory) == []
    return process.returncode, json.loads(output)


def left_behind(directory: Path) -> list[str]:
    """Disks, mounts and loop devices under `directory`."""
    loops = subprocess.run(["losetup", "--list", "--noheadings", "--output", "BACK-FILE"], capture_output=True)
    seen = [*loops.stdout.decode().splitlines(), *Path("/proc/self/mountinfo").read_text().splitlines()]
    return [*(line for line in seen if str(directory) in line), *map(str, directory.glob(f"{PREFIX}*"))]


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_nothing_acknowledged_is_lost_when_the_power_goes(tmp_path: Path, kind: str) -> None:
    """The shutdown ioctl at any moment of a host's life: every acknowledged commit is there, no batch is split, no
    snapshot goes backwards, and a second recovery, after a second cut, finds the same."""
    status, report = cut_power(tmp_path, **{kind: ROUNDS})
    (run,) = report["runs"]
    assert run["violations"] == []
    assert status == 0
    assert (run["recovered"], run["cuts"]) == (ROUNDS, 2 * ROUNDS)
    assert run["commits_acknowledged"] > 50
    assert run["commits_unacknowledged"] > 10


def test_nothing_acknowledged_is_lost_whatever_the_disk_makes_of_its_cache(tmp_path: Path) -> None:
    """Disks built from a block log: what was not flushed is lost, torn at any sector and re-ordered."""
    status, report = cut_power(tmp_path, block_log=30)
    (run,) = report["runs"]
    assert run["violations"] == []
    assert status == 0
    assert run["recovered"] == 30
    assert run["commits_acknowledged"] > 100


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        ("no-sync", {"ext4": 6}),
        ("no-sync", {"xfs": 6}),
        ("no-commit-sync", {"block_log": 8}),
        ("no-snapshot-sync", {"block_log": 8}),
    ],
)
def test_without_a_sync_the_same_run_finds_violations(tmp_path: Path, fault: str, wanted: dict[str, int]) -> None:
    """The check of the check. What violates is told, and kept: the store as it was before recovery, and the disk."""
    status, report = cut_power(tmp_path, plant=fault, **wanted)
    (run,) = report["runs"]
    assert status == 1
    first = run["violations"][0]
    kept = Path(first["evidence"])
    assert (kept / "problems.txt").read_text().splitlines() == first["problems"]
    assert (kept / "image").stat().st_size > 0
    if fault != "no-sync":  # which loses the whole store
        assert (kept / "store" / "bgsuper.sqlite3").is_file()


def test_a_killed_run_leaves_nothing_behind(tmp_path: Path) -> None:
    """No process, mount or loop device survives a SIGKILL; the next run removes the directory."""
    status, _ = cut_power(tmp_path, block_log=1)
    assert status == 0
    process = start(tmp_path, "--ext4", "0", "--xfs", "0", "--block-log", "300")
    try:
        deadline = time.monotonic() + 60
        while not _at_work(process.pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        family = psutil.Process(process.pid).children(recursive=True)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert family
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    deadline = time.monotonic() + 30
    while len(left_behind(tmp_path)) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left_behind(tmp_path) == list(map(str, tmp_path.glob(f"{PREFIX}*"))) != []
    cut_power(tmp_path, ext4=1)


def _at_work(pid: int) -> bool:
    """Whether the run's host has a worker, on disks that nobody else can see."""
    try:
        family = psutil.Process(pid).children(recursive=True)
        return any("bgsuper.worker" in " ".join(process.cmdline()) for process in family)
    except psutil.Error:
        return False  # one that was just starting or ending
