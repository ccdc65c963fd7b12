"""What a person sees of a run, and what a program reads: the picture, the report, the timeline, the directories."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from rich.console import Console, RenderableType

from bgsuper.errors import ConfigError
from bgsuper.torture.run.account import Account, Violation
from bgsuper.torture.run.blows import CLEAR, Blow
from bgsuper.torture.run.overseer import Options, Overseer
from bgsuper.torture.run.screen import draw, line, minutes, summary
from bgsuper.torture.run.timeline import Outcome, Timeline, percentiles
from bgsuper.torture.run.workspace import Workspace


def timeline(*violations: Violation) -> Timeline:
    made = Timeline()
    made.blow(1.0, Blow.WORKER, 1)
    made.recovery(1.1, Blow.WORKER, 0.123, foul=False)
    made.blow(2.0, Blow.BOTH, 2)
    made.recovery(2.5, Blow.BOTH, 0.45, foul=True)
    made.drain(2.2, 0.06, 1.0)
    made.drain(3.2, 2.0, 1.0)
    made.look(2.4, 2, 1234, 10**6)
    for violation in violations:
        made.violation(3.0, violation)
    return made


def outcome(*violations: Violation, interrupted: bool = False) -> Outcome:
    return Outcome(
        seed=7,
        ran_s=83.2,
        commits=1000,
        snapshots=50,
        acked=1049,
        hosts=3,
        epochs=5,
        interrupted=interrupted,
        timeline=timeline(*violations),
    )


LOST = Violation("lost", "torture/records/07: expected that of 12, missing")


def text(*parts: RenderableType, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    for part in parts:
        console.print(part)
    return console.export_text()


def overseer(*violations: Violation) -> Overseer:
    """One that stands still, for its picture."""
    watch = SimpleNamespace(
        now=65.0, hosts=3, state="ready", weather=CLEAR, account=Account(), timeline=timeline(*violations)
    )
    workspace = SimpleNamespace(store=SimpleNamespace(path=Path("a-directory")))
    options = Options(seconds=120, kills=2000, seed=7)
    return cast(Overseer, SimpleNamespace(watch=watch, options=options, workspace=workspace, doing=Blow.WORKER.value))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_picture_shows_what_matters_at_any_width(width: int) -> None:
    """Elapsed, kills by kind, recoveries, what happens now, violations; no line is wider than the terminal."""
    drawn = text(draw(overseer(LOST)), width=width)
    assert all(len(each) <= width for each in drawn.splitlines())
    for words in (
        "1:05",
        "2 minutes",
        "2,000 kills",
        "worker, at random",
        "123 ms",
        "healthy disk",
        "violations",
        "seed 7",
    ):
        assert words in " ".join(drawn.replace("│", " ").split()), words


def test_a_line_says_the_same_where_there_is_no_terminal() -> None:
    """One line."""
    assert line(overseer(LOST)) == "1:05  3 kills, 0 commits, 1 looks, 1 violations; worker, at random"
    assert minutes(3725.9) == "62:05"


def test_the_report_of_a_good_run() -> None:
    """What was done, how long it took to recover, and that nothing was lost."""
    shown = text(*summary(outcome(interrupted=True), None))
    for words in ("Nothing was lost: 3 kills, 1,000 commits", "interrupted", "any, on a slow or full disk", "450 ms"):
        assert words in shown
    assert "1 orphans took longer than two syncs and a second" in shown


def test_the_report_of_a_bad_run() -> None:
    """Each violation in words, and where the evidence is."""
    shown = text(*summary(outcome(LOST), "the-evidence"))
    assert "lost: torture/records/07: expected that of 12, missing" in shown
    assert "the-evidence" in shown


def test_the_summary_is_plain_and_complete() -> None:
    """It survives JSON as it is, with its figures by kind."""
    made = outcome(LOST).summary()
    assert json.loads(json.dumps(made)) == made
    assert made["ok"] is False
    assert made["kills"] == 3
    assert made["kills_by_blow"] == {Blow.WORKER.value: 1, Blow.BOTH.value: 2}
    assert made["orphans_drained"] == {"count": 2, "p50_s": 1.03, "p95_s": 2.0, "max_s": 2.0, "late": 1}
    assert outcome().summary()["ok"] is True


def test_percentiles() -> None:
    """Of one value, of many, of none."""
    assert percentiles([]) == {}
    assert percentiles([0.5]) == {"count": 1, "p50_s": 0.5, "p95_s": 0.5, "max_s": 0.5}
    assert percentiles([number / 100 for number in range(100, 0, -1)])["p95_s"] == 0.96


# -- directories ------------------------------------------------------------------------------------------------------


def test_a_store_that_was_not_made_here_is_never_touched(tmp_path: Path) -> None:
    """A directory that holds anything is refused, and left as it is; so are options of our own."""
    (tmp_path / "precious").write_text("x")
    with pytest.raises(ConfigError, match=r"new or an empty directory.*'precious'.*--store"):
        Workspace.make(f"sqlite://{tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    with pytest.raises(ConfigError, match="without options"):
        Workspace.make(f"sqlite://{tmp_path}/new?faults=x")
    with pytest.raises(ConfigError, match="store URL"):
        Workspace.make("nowhere")


def test_what_was_made_goes_and_what_was_there_stays(tmp_path: Path) -> None:
    """A named directory that was there, empty, is empty again; one that was not is gone."""
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new"):
        workspace = Workspace.make(f"sqlite://{tmp_path}/{name}")
        (workspace.store.path / "lock").write_text("x")
        (workspace.store.path / "snapshots").mkdir()
        workspace.remove()
        assert not workspace.own.path.exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]
    assert not list((tmp_path / "empty").iterdir())


def test_a_path_with_odd_characters_is_one_url(tmp_path: Path) -> None:
    """Quoted, so that the worker opens that very directory."""
    workspace = Workspace.make(f"sqlite://{tmp_path}/a%20b%3Fc")
    try:
        assert workspace.store.path.name == "a b?c"
        assert "a%20b%3Fc?faults=" in workspace.url
    finally:
        workspace.remove()


def test_the_evidence_says_what_it_is_and_how_to_see_it_again(tmp_path: Path) -> None:
    """The store as it was found, the timeline, and a README."""
    workspace = Workspace.make(f"sqlite://{tmp_path}/store")
    try:
        (workspace.store.path / "lock").write_text("x")
        workspace.copy_store()
        workspace.explain(outcome(LOST), "bgsuper torture --seed 7")
        assert (workspace.evidence / "store" / "lock").read_text() == "x"
        assert json.loads((workspace.evidence / "report.json").read_text())["summary"]["ok"] is False
        readme = (workspace.evidence / "README").read_text()
        assert LOST.text in readme
        assert "bgsuper torture --seed 7" in readme
    finally:
        workspace.remove()
