"""The command line of `bgsuper torture`: exit status, what is printed, what is left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bgsuper.cli.main import main
from bgsuper.torture.run.account import Account, Violation
from bgsuper.torture.run.watch import Watch

pytestmark = pytest.mark.usefixtures("no_leaks")

PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command's own directories go, for a look at what it leaves."""
    made = tmp_path / "temporary"
    made.mkdir()
    monkeypatch.setenv("TMPDIR", str(made))
    monkeypatch.setattr("tempfile.tempdir", None)
    return made


def test_a_good_run_says_so_and_leaves_nothing(temporary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 0; the store is removed."""
    status = main(["torture", "--kills", "3", "--seed", "5"])
    captured = capsys.readouterr()
    assert status == 0, captured.out
    assert "Nothing was lost" in captured.out
    assert captured.err == ""
    assert list(temporary.iterdir()) == []


def test_json_on_standard_output_is_all_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that it can be piped; a person's report goes to standard error. The timeline has what was asked for."""
    status = main(["torture", "--kills", "2", "--json", "-", "--store", f"sqlite://{tmp_path}/store"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    report = json.loads(captured.out)
    assert report["summary"]["ok"] is True
    assert report["summary"]["kills"] >= 2
    assert {"sample", "blow", "recovery", "look", "host", "worker"} <= {line["what"] for line in report["timeline"]}
    assert "Nothing was lost" in captured.err
    assert not (tmp_path / "store").exists()


def test_a_loss_is_exit_status_1_and_keeps_the_evidence(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store as it was found, the timeline, and the command to see it again; the report's file as well."""
    greet = Account.greet
    monkeypatch.setattr(
        Account, "greet", lambda self, epoch: greet(self, epoch) if epoch < 3 else [Violation("fencing", "planted")]
    )
    report = tmp_path / "report.json"
    assert main(["torture", "--kills", "30", "--seed", "3", "--json", str(report)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "fencing: planted" in out
    [kept] = temporary.iterdir()
    assert (kept / "evidence" / "store" / "bgsuper.sqlite3").exists()
    assert "bgsuper torture --kills 30 --seed 3" in (kept / "evidence" / "README").read_text()
    assert json.loads(report.read_text())["summary"]["violations"] == [{"kind": "fencing", "text": "planted"}]


def test_keep_keeps(temporary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After a good run, and says where."""
    status = main(["torture", "--kills", "1", "--keep"])
    out = capsys.readouterr().out
    assert status == 0, out
    [kept] = temporary.iterdir()
    assert (kept / "store" / "bgsuper.sqlite3").exists()
    assert str(kept) in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--store", "sqlite://{used}"], "expected a new or an empty directory"),
        (["--store", "sqlite://{used}/file/x"], "expected a directory to write in"),
        (["--store", "postgres://x"], "expected a store URL that starts with file or memory or sqlite"),
        (["--minutes", "0"], "see bgsuper torture --help"),
        (["--kills", "0"], "see bgsuper torture --help"),
        (["--json", "{used}/none/report.json"], "name another with --json"),
    ],
)
def test_what_cannot_begin_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was expected, what came, what to do; exit status 2; nothing is made or changed."""
    used = tmp_path / "used"
    used.mkdir()
    (used / "file").write_text("precious")
    assert main(["torture", "--kills", "1", *(each.format(used=used) for each in arguments)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert (used / "file").read_text() == "precious"
    assert [path.name for path in used.iterdir()] == ["file"]
    assert list(temporary.iterdir()) == []


def test_ctrl_c_ends_it_in_good_order(temporary: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """With the last look, the report of what was found, and nothing left behind."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bgsuper.cli", "torture", "--minutes", "10", "--json", str(tmp_path / "report.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    request.addfinalizer(process.kill)
    # Its first line comes before the handlers stand; its second with the first pass.
    assert "bgsuper torture: seed 1" in process.stdout.readline()
    assert "0 kills" in process.stdout.readline()
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, out
    assert "Nothing was lost" in out
    assert "interrupted" in out
    assert json.loads((tmp_path / "report.json").read_text())["summary"]["interrupted"] is True
    assert list(temporary.iterdir()) == []


def test_a_run_ends_when_its_time_is_up(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever was done until then; the last recovery and the last look come on top."""
    began = time.monotonic()
    status = main(["torture", "--minutes", "0.03"])
    out = capsys.readouterr().out
    assert status == 0, out
    assert time.monotonic() - began < PATIENCE_S
    assert "Nothing was lost" in out


def test_a_picture_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Instead of lines."""
    told: list[float] = []
    hear = Watch._hear

    def listen(watch: Watch) -> None:
        told.append(watch.now)
        hear(watch)

    monkeypatch.setattr(Watch, "_hear", listen)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    status = main(["torture", "--kills", "1"])
    out = capsys.readouterr().out
    assert status == 0, out
    assert told
    assert "╭─" in out
    assert "elapsed" in out
