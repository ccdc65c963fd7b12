"""The report: its verdict, and that tables and JSON say the same."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from bgsuper.cli.demo.meter import Lateness
from bgsuper.cli.demo.report import Report
from bgsuper.cli.demo.sampler import ActResult
from bgsuper.cli.demo.scenario import FAULTS
from bgsuper.cli.demo.series import Happening
from bgsuper.cli.demo.tables import tables
from bgsuper.cli.demo.verify import Findings

CLEAN = Findings(records=1234, bytes=99_999, lost=(), foreign=(), graph=())
LATE = Lateness(1000, 0.0006, 0.001, 0.0071, 0.0123)


@pytest.fixture
def good() -> Report:
    return Report(
        version="1",
        machine="a machine",
        directory="here",
        kept=False,
        seed=1,
        planned_s=30.0,
        ran_s=31.0,
        interrupted_by=None,
        error=None,
        findings=CLEAN,
        too_early=(),
        acts=tuple(ActResult(act, 0.0, 12.3, LATE, 2.04, 12345, 3) for act in FAULTS),
        lateness=LATE,
        commits_submitted=500,
        commits_durable=500,
        restarts=6,
        epoch=7,
        syncs=300,
        sync_p99_s=1.0,
        sync_most_s=1.01,
        refused=4,
        outputs_held_most=40,
        outputs_released=400,
        outputs_held=0,
        payments=400,
        settled=399,
        snapshots=2,
        gossip_taken=484,
        gossip_refused=39,
        channels=242,
        nodes=290,
        happenings=(Happening(1.0, "act", "idle"),),
    )


def _text(report: Report, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    for table in tables(report):
        console.print(table)
    return console.export_text()


def test_a_good_run_says_so(good: Report) -> None:
    """In words, in the table of acts, in JSON."""
    assert good.ok
    text = _text(good)
    assert "Nothing was lost: all 1,234 records are there, byte for byte." in text
    assert all(act.title in text for act in FAULTS)
    assert "Kept" not in text
    record = json.loads(json.dumps(good.to_json()))
    assert (record["ok"], record["problems"], record["check"]["records"]) == (True, [], 1234)
    assert record["loop_lateness"] == {"wakings": 1000, "p50_ms": 0.6, "p99_ms": 1.0, "p999_ms": 7.1, "max_ms": 12.3}


@pytest.mark.parametrize(
    ("bad", "verdict", "problem"),
    [
        ({"findings": replace(CLEAN, lost=("a/b: missing",))}, "LOST: 1 of 1234", "a/b: missing"),
        ({"findings": replace(CLEAN, foreign=("a/c: 3 bytes",))}, "nobody submitted", "a/c: 3 bytes"),
        ({"findings": replace(CLEAN, graph=("the graph differs",))}, "network graph", "the graph differs"),
        ({"too_early": (17,)}, "NOT SAFE", "receipt 17 left"),
        ({"outputs_held": 2}, "2 outputs never left", "2 receipts never left"),
        ({"error": "SyncFailed: twice"}, "ended with an error", "SyncFailed: twice"),
    ],
)
def test_whatever_is_wrong_is_in_the_verdict(good: Report, bad: dict[str, object], verdict: str, problem: str) -> None:
    """No single fault passes for a good run, and each is named."""
    report = replace(good, **bad).keep()  # type: ignore[arg-type]
    assert not report.ok
    assert verdict in report.verdict
    text = " ".join(_text(report).replace("│", " ").split())
    assert problem in text
    assert "report.json" in text
    assert report.to_json()["ok"] is False


def test_an_interrupted_run_says_how_far_it_came(good: Report) -> None:
    """It is judged by what ran, and still held outputs are fine after an error only."""
    report = replace(good, interrupted_by=2, ran_s=4.0)
    assert report.ok
    assert "Interrupted after 4.0 of 30 s" in _text(report)
    assert replace(good, error="x", outputs_held=2).stuck == 0


def test_many_problems_are_cut_short(good: Report) -> None:
    """Ten are listed; the rest is counted."""
    report = replace(good, findings=replace(CLEAN, lost=tuple(f"record {number}" for number in range(25))))
    assert "and 15 more" in _text(report)
    assert len(report.to_json()["problems"]) == 25


def test_the_tables_fit_80_columns(good: Report) -> None:
    """No figure of an act is cut or wrapped."""
    text = _text(good, 80)
    assert "…" not in text
    rows = [line for line in text.splitlines() if "12.3 s" in line]
    assert len(rows) == len(FAULTS)
    figures = "12.3 s 0.6 ms 7.1 ms 12.3 ms 2.0 s 12,345 3"
    assert all(" ".join(line.split()).endswith(figures) for line in rows)
