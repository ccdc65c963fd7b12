"""Real power cuts under a filesystem store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from . import loop_disks

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_nothing_acknowledged_is_lost_when_the_power_goes(tmp_path: Path, kind: str) -> None:
    """Whatever the moment: all acknowledged groups are there, whole, with their checksums; at most one more is; and
    what an open claims survives the next cut."""
    done = subprocess.run(
        [sys.executable, "-m", loop_disks.__name__, str(tmp_path), kind, "8"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    if done.returncode == 2:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
