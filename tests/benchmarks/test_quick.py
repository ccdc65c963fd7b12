"""Every benchmark runs, and what it counts (not what it times) is as promised."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import syscalls
from benchmarks.harness import ROOT, Figures
from benchmarks.run_all import BENCHMARKS, summary
from bgsuper.torture.power.frozen import mounted
from bgsuper.torture.power.loopmount import NoDisk

#: How many claims of kind "count" each makes by itself, and how many more with strace.
COUNTS = {
    "lateness": (0, 2),
    "submit": (0, 0),
    "throughput": (0, 1),
    "recovery": (0, 0),
    "unkillable": (1, 0),
    "detection": (3, 0),
    "pages": (2, 0),
    "checkpoints": (1, 0),
    "snapshots": (1, 0),
    "stores": (1, 3),
    "gossip": (1, 0),
    "gossip_slices": (1, 0),
    "gossip_threads": (0, 0),
}


def test_every_benchmark_is_tested() -> None:
    """What `run_all` runs is run here."""
    assert set(BENCHMARKS) <= COUNTS.keys()


def quick(name: str, directory: Path) -> Figures:
    """The report of a quick run."""
    report = directory / "report.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--json", str(report), "--dir", str(directory)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stderr
    loaded: Figures = json.loads(report.read_text())
    return loaded


def needs_a_disk_to_freeze(directory: Path) -> None:
    """Skip where there is none."""
    (directory / "trial").mkdir()
    try:
        with mounted(directory / "trial"):
            pass
    except NoDisk as reason:
        pytest.skip(str(reason))
    finally:
        shutil.rmtree(directory / "trial")


@pytest.mark.parametrize("name", COUNTS)
def test_a_quick_run_reports_its_claims(name: str, tmp_path: Path) -> None:
    """A report names its machine and its question, judges at least one claim, and every count holds on any machine."""
    if name == "unkillable":
        needs_a_disk_to_freeze(tmp_path)
    report = quick(name, tmp_path)
    assert report["benchmark"] == name
    assert report["question"].endswith("?")
    assert report["machine"]["sync p50 ms"] > 0
    assert report["claims"]
    counts = [claim for claim in report["claims"] if claim["kind"] == "count"]
    alone, traced = COUNTS[name]
    assert len(counts) == alone + (traced if syscalls.available() else 0)
    assert [claim for claim in counts if not claim["holds"]] == []
    assert name in summary([report])
    assert list(tmp_path.iterdir()) == [tmp_path / "report.json"], "a benchmark left files behind"
