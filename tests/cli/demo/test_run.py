"""Whole runs: the promised one, one that lost a record, one that was interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

from bgsuper.cli.demo import scenario
from bgsuper.cli.demo.verify import read_store
from bgsuper.cli.main import main

pytestmark = pytest.mark.usefixtures("no_leaks")

DEMO = [sys.executable, "-m", "bgsuper.cli", "demo", "--json"]


def test_nothing_is_lost(tmp_path: Path) -> None:
    """The shortest run with all its faults: exit status 0, six deaths, every figure in the JSON, the directory gone."""
    directory, picture = tmp_path / "demo", tmp_path / "picture.svg"
    done = subprocess.run(
        [*DEMO, "--seconds", "8", "--directory", directory, "--svg", picture], capture_output=True, timeout=90
    )
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"], report["problems"]) == (0, True, []), done.stderr.decode()
    assert report["worker"]["restarts"] >= 6
    assert report["store"]["submitted_seq"] == report["store"]["durable_seq"]
    assert report["store"]["refused"] >= 2
    assert report["gate"]["released"] == report["payments"]["made"] > 100
    assert report["gate"]["too_early"] == []
    assert report["gate"]["held_most"] > 1
    assert report["gossip"]["taken"] > 400
    assert report["check"]["records"] > report["payments"]["made"]
    assert [act["title"] for act in report["acts"]] == [act.title for act in scenario.FAULTS]
    slower = next(act for act in report["acts"] if act["title"] == "slower disk")
    assert slower["unacked_most_s"] > 0.9
    # The loop did not wait for that disk; half of it would be a stall, whatever else this machine does.
    assert slower["loop_lateness"]["p99_ms"] < 500
    assert not directory.exists()
    assert picture.read_text().startswith("<svg")
    assert "SIGKILL" in done.stderr.decode()


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a second, without faults."""
    monkeypatch.setattr(scenario, "SHORTEST_S", 0.5)


@pytest.mark.usefixtures("brief")
def test_a_planted_loss_is_found_and_kept_as_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record deleted between the stop and the comparison: exit status 1, its name, and the directory stays."""

    def lossy(url: str, namespaces: list[tuple[str, str]]) -> object:
        database = apsw.Connection(str(tmp_path / "demo" / "store" / "bgsuper.sqlite3"))
        database.execute("DELETE FROM record WHERE secondary_namespace = 'history' AND name = '00000007'")
        database.close()
        return read_store(url, namespaces)

    monkeypatch.setattr("bgsuper.cli.demo.run.read_store", lossy)
    assert main(["demo", "--seconds", "1", "--no-faults", "--directory", str(tmp_path / "demo")]) == 1
    said = capsys.readouterr().out
    assert "demo/history/00000007: put by commit" in said
    assert str(tmp_path / "demo") in said.replace("\n", "")
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert report["ok"] is False
    assert report["check"]["lost"][0].startswith("demo/history/00000007")


@pytest.mark.usefixtures("brief")
def test_a_good_run_in_a_directory_that_was_there_leaves_it_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The person's own directory stays, whatever its name; with --keep, so does what is in it."""
    directory = tmp_path / "what a #?% name"
    directory.mkdir()
    arguments = ["demo", "--seconds", "1", "--no-faults", "--json", "--directory", str(directory)]
    assert main(arguments) == 0
    assert list(directory.iterdir()) == []
    assert json.loads(capsys.readouterr().out)["kept"] is False
    assert main([*arguments, "--keep"]) == 0
    assert {path.name for path in directory.iterdir()} == {"store", "faults", "demo.log", "report.json"}
    assert json.loads(capsys.readouterr().out)["kept"] is True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_cleanly_with_a_report_of_its_part(number: int, tmp_path: Path) -> None:
    """Ctrl-C while the disk is slow: what ran is compared, the exit status is the signal's, no process is left."""
    demo = subprocess.Popen(
        [*DEMO, "--seconds", "20", "--directory", tmp_path / "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert demo.stderr is not None
    for line in demo.stderr:
        if "slow disk" in line:
            break
    time.sleep(0.2)
    os.kill(demo.pid, number)
    out, err = demo.communicate(timeout=30)
    assert demo.returncode == 128 + number, err
    report = json.loads(out)
    assert (report["ok"], report["interrupted_by"], report["error"]) == (True, number, None)
    assert report["ran_s"] < 15
    assert report["check"]["records"] > 100
    assert "Traceback" not in err
    assert not (tmp_path / "demo").exists()
