"""The fault plan as a file that two processes share."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bgsuper.errors import ConfigError
from bgsuper.faults.plan import SIZE, Plan


def test_a_new_plan_does_nothing(tmp_path: Path) -> None:
    """Without commands every sync and write goes through, and is counted."""
    with Plan.create(tmp_path / "plan") as plan:
        for _ in range(3):
            plan.before_sync()
            plan.synced()
        plan.before_sync()
        plan.snapshot_synced()
        plan.before_write(100)
        plan.before_write(28)
        assert (plan.syncs, plan.snapshot_syncs, plan.writes, plan.bytes_written, plan.refused) == (3, 1, 2, 128, 0)
    assert (tmp_path / "plan").stat().st_size == SIZE


def test_syncs_fail_as_often_as_asked(tmp_path: Path) -> None:
    """fail_syncs is the next n, fail_sync_at the n-th next alone."""
    with Plan.create(tmp_path / "plan") as plan:

        def outcomes(count: int) -> str:
            result = ""
            for _ in range(count):
                try:
                    plan.before_sync()
                    result += "."
                except OSError as error:
                    result += "E" if error.errno == errno.EIO else "?"
            return result

        plan.fail_syncs = 2
        assert outcomes(4) == "EE.."
        plan.fail_sync_at = 3
        assert outcomes(5) == "..E.."
        assert plan.refused == 3
        assert plan.fail_syncs == plan.fail_sync_at == 0


def test_the_disk_is_full_until_it_is_not(tmp_path: Path) -> None:
    """`full` holds while it is set; full_at_write sets it."""
    with Plan.create(tmp_path / "plan") as plan:
        plan.full_at_write = 2
        plan.before_write(1)
        for _ in range(3):
            with pytest.raises(OSError, match="No space left"):
                plan.before_write(1)
        assert plan.full == 1
        plan.full = 0
        plan.before_write(1)
        assert (plan.writes, plan.refused) == (2, 3)


def test_syncs_are_slow(tmp_path: Path) -> None:
    """The delay is added to each sync, also to one that fails."""
    with Plan.create(tmp_path / "plan") as plan:
        plan.sync_delay_s = 0.05
        assert plan.sync_delay_s == 0.05
        began = time.monotonic()
        plan.before_sync()
        plan.fail_syncs = 1
        with pytest.raises(OSError, match="Input/output"):
            plan.before_sync()
        assert time.monotonic() - began >= 0.1


WORKER = """
import sys
from bgsuper.faults.plan import Plan
plan = Plan.open(sys.argv[1])
for line in sys.stdin:
    if line == "sync\\n":
        plan.before_sync()
        print("synced", flush=True)
        plan.synced()
    else:
        plan.before_write(1)
    print("went on", flush=True)
"""


@pytest.mark.parametrize(
    ("command", "step", "printed"),
    [
        ("kill_before_sync", "sync", b"synced\nwent on\n"),
        ("kill_after_sync", "sync", b"synced\nwent on\nsynced\n"),
        ("kill_before_write", "write", b"went on\n"),
    ],
)
def test_kill_points(tmp_path: Path, command: str, step: str, printed: bytes) -> None:
    """A command set by the host kills the worker at the second sync or write, and no other process after it."""
    with Plan.create(tmp_path / "plan") as plan:
        setattr(plan, command, 2)
        steps = f"{step}\n".encode() * 3
        for kills in (True, False):
            done = subprocess.run(
                [sys.executable, "-c", WORKER, str(tmp_path / "plan")], input=steps, capture_output=True, timeout=60
            )
            assert done.returncode == (-signal.SIGKILL if kills else 0)
            assert (done.stdout == printed) is kills
        assert getattr(plan, command) == 0


@pytest.mark.parametrize("content", [None, b"", b"x", b"x" * SIZE, b"bgsFlts1"])
def test_another_file_is_no_plan(tmp_path: Path, content: bytes | None) -> None:
    """Absent, empty, foreign or cut: ConfigError with the path."""
    path = tmp_path / "plan"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"expected a fault plan at .*plan"):
        Plan.open(path)


def test_create_replaces(tmp_path: Path) -> None:
    """A new plan takes an old one's place; whoever has the old one open keeps it."""
    with Plan.create(tmp_path / "plan") as old:
        old.fail_syncs = 1
        with Plan.create(tmp_path / "plan") as new:
            assert new.fail_syncs == 0
            assert old.fail_syncs == 1
    assert os.listdir(tmp_path) == ["plan"]


@pytest.mark.parametrize("value", [-1, 2**63])
def test_impossible_numbers_are_refused(tmp_path: Path, value: int) -> None:
    """A field is a count."""
    with Plan.create(tmp_path / "plan") as plan:
        with pytest.raises(ConfigError, match="expected a number from 0"):
            plan.fail_syncs = value
        with pytest.raises(ConfigError):
            plan.sync_delay_s = value
        assert plan.fail_syncs == plan.sync_delay_ns == 0


def test_counters_are_the_workers(tmp_path: Path) -> None:
    """The host cannot set what happened."""
    with Plan.create(tmp_path / "plan") as plan, pytest.raises(AttributeError):
        plan.syncs = 1  # type: ignore[misc]
