"""A real host on disks that are full, read-only, failing or over quota: a typed error or a retry, nothing acknowledged
that is not durable, nothing acknowledged lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import power_disks

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.mark.parametrize("name", power_disks.SCENARIOS)
def test_a_disk_that_fails(tmp_path: Path, name: str) -> None:
    """Each scenario states its rule in `power_disks`."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount file systems")
    done = subprocess.run(
        [sys.executable, "-m", power_disks.__name__, name, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    if done.returncode == 2:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
