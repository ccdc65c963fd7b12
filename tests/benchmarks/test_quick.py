"""Every benchmark runs, and what it counts (not what it times) is as promised."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import syscalls
from benchmarks.harness import ROOT, Figures
from benchmarks.run_all import BENCHMARKS, summary

#: How many claims of kind "count" each makes.
COUNTS = {"lateness": 2, "submit": 0, "throughput": 1, "recovery": 0}


def quick(name: str, directory: Path) -> Figures:
    """The report of a quick run."""
    report = directory / "report.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--json", str(report), "--dir", str(directory)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stderr
    loaded: Figures = json.loads(report.read_text())
    return loaded


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_quick_run_reports_its_claims(name: str, tmp_path: Path) -> None:
    """A report names its machine and its question, judges at least one claim, and every count holds on any machine."""
    report = quick(name, tmp_path)
    assert report["benchmark"] == name
    assert report["question"].endswith("?")
    assert report["machine"]["sync p50 ms"] > 0
    assert report["claims"]
    counts = [claim for claim in report["claims"] if claim["kind"] == "count"]
    assert len(counts) == (COUNTS[name] if syscalls.available() else 0)
    assert [claim for claim in counts if not claim["holds"]] == []
    assert name in summary([report])
    assert list(tmp_path.iterdir()) == [tmp_path / "report.json"], "a benchmark left files behind"
