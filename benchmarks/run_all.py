"""Run every benchmark, keep reports and plots, and say in one table which promises hold.

    python -m benchmarks.run_all [--quick] [--results DIR] [--only NAME ...]

Takes about an hour on a quiet machine, as root, and needs one: nothing else may run beside it. Each benchmark writes
NAME.json and NAME.svg, and SUMMARY.md gathers the claims of all the reports that lie in the directory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from .harness import ROOT, Figures

BENCHMARKS: Final = (
    *("lateness", "submit", "throughput", "recovery", "unkillable", "detection"),
    *("pages", "checkpoints", "snapshots", "stores"),
)


def run(name: str, results: Path, *, quick: bool, disk: Path | None) -> bool:
    """Run one benchmark; whether it came to its end."""
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    command += ["--json", str(results / f"{name}.json"), "--plot", str(results / f"{name}.svg")]
    command += ["--quick"] if quick else []
    command += ["--dir", str(disk)] if disk else []
    began = time.monotonic()
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    print(f"{name}: {time.monotonic() - began:.0f} s, exit status {status}\n", flush=True)
    return status == 0


def summary(reports: list[Figures]) -> str:
    """The claims of all `reports`, as Markdown."""
    lines = ["# Promised and measured", "", "| benchmark | claim | limit | measured | verdict |", "|---" * 5 + "|"]
    for report in reports:
        for claim in report["claims"]:
            verdict = "holds" if claim["holds"] else "**fails**"
            row = (report["benchmark"], claim["text"], claim["limit"], claim["measured"], verdict)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    lines += ["", "Measured on:", ""]
    for report in reports:
        facts = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in report["machine"].items())
        settings = ", ".join(f"{name} {value}" for name, value in report["settings"].items())
        lines.append(f"- {report['benchmark']} ({settings}): {facts}")
    return "\n".join(lines) + "\n"


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--quick", action="store_true", help="short runs that show it works, and no time")
    options.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="where reports go")
    options.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), help="run these")
    options.add_argument("--dir", type=Path, help="the disk to measure on")
    chosen = options.parse_args()
    results = chosen.results.resolve()
    results.mkdir(parents=True, exist_ok=True)
    finished = [run(name, results, quick=chosen.quick, disk=chosen.dir) for name in chosen.only]
    reports = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    text = summary([report for report in reports if isinstance(report, dict) and "claims" in report])
    (results / "SUMMARY.md").write_text(text)
    print(text)
    return 0 if all(finished) else 1


if __name__ == "__main__":
    sys.exit(main())
