"""Every backend of ours keeps every rule of `Store`, and the suite that says so catches stores that do not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from unittest import SkipTest

import pytest

from bgsuper.errors import ConfigError
from bgsuper.store.conformance import CASES, Backend, Case, RuleBroken, copies, crashes
from bgsuper.store.conformance.__main__ import main
from bgsuper.store.conformance.rules import rule_of

from . import broken, pickled
from .broken import PLANTED

pytestmark = pytest.mark.usefixtures("no_leaks")

SOUND = f"{pickled.__name__}:PickledStore"
KEY = "key-env=CONFORMANCE_KEY&compress=zstd"
BACKENDS = ["sqlite:", f"sqlite:?{KEY}", "file:", f"file:?{KEY}", "memory:", SOUND]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """For those that are sealed, and for their child processes."""
    monkeypatch.setenv("CONFORMANCE_KEY", bytes(range(32)).hex())


@pytest.mark.parametrize("target", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_the_rules_are_kept(case: Case, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By each of ours, by memory as far as it claims to, and by a store as a user might write one."""
    monkeypatch.setattr(crashes, "SECONDS", 1.0)  # the command itself takes more time
    case(Backend(target, tmp_path))


@pytest.mark.parametrize(
    ("case", "bug"), [(case, bug) for case in CASES for bug in PLANTED[case.__name__]], ids=lambda each: each.__name__
)
def test_a_broken_rule_is_caught(case: Case, bug: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the case that is there for it, which says the rule and what it found."""
    monkeypatch.setattr(crashes, "KILLS", 400)  # however unlucky the moments
    monkeypatch.setattr(crashes, "SECONDS", 60.0)
    with pytest.raises(RuleBroken) as caught:
        case(Backend(f"{broken.__name__}:{bug.__name__}", tmp_path))
    assert caught.value.rule == rule_of(case)
    assert caught.value.finding
    assert str(caught.value) == f"{caught.value.rule} Found: {caught.value.finding}"


def test_a_sound_copy_target_is_not_caught(tmp_path: Path) -> None:
    """The bugs above are planted in one that keeps the rules."""
    for number, case in enumerate(copies.CASES):
        (tmp_path / str(number)).mkdir()
        case(Backend(f"{broken.__name__}:CopiesWell", tmp_path / str(number)))


def test_every_case_has_its_bugs() -> None:
    """A case that cannot fail is a defect."""
    assert PLANTED.keys() == {case.__name__ for case in CASES}


def test_every_case_says_its_rule() -> None:
    """One sentence or two, which a report can show."""
    for case in CASES:
        assert rule_of(case).endswith("."), case.__name__
        assert 40 < len(rule_of(case)) < 500, case.__name__


def test_what_is_not_claimed_is_skipped(tmp_path: Path) -> None:
    """And nothing else: a store without checksums may return damaged bytes, but it may not lose them."""
    [damage] = [case for case in CASES if case.__name__ == "damage_is_not_absence"]
    for name in "abc":
        (tmp_path / name).mkdir()
    damage(Backend(f"{broken.__name__}:HasNoChecksums", tmp_path / "a", checksums=False))
    with pytest.raises(RuleBroken, match="NotFound"):
        damage(Backend(f"{broken.__name__}:DamagedIsEmpty", tmp_path / "b", checksums=False))
    with pytest.raises(SkipTest, match="keeps nothing"):
        damage(Backend(SOUND, tmp_path / "c", volatile=True))


def test_a_store_without_atomic_batches_may_tear_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and is not held to what it does not claim; to everything else it is."""
    [kill] = [case for case in CASES if case.__name__ == "what_was_reported_survives_a_kill"]
    monkeypatch.setattr(crashes, "SECONDS", 3.0)
    for name in "ab":
        (tmp_path / name).mkdir()
    kill(Backend(f"{broken.__name__}:TearsBatchesAndSaysSo", tmp_path / "a"))
    with pytest.raises(RuleBroken):
        kill(Backend(f"{broken.__name__}:LosesRecordsAndIsNotAtomic", tmp_path / "b"))


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("nonsense", "or a store's factory as 'package.module:Name'"),
        ("no_such_module:Store", "cannot be imported: ModuleNotFoundError"),
        (f"{pickled.__name__}:Nothing", "cannot be imported: AttributeError"),
        (f"{pickled.__name__}:__name__", "that can be called"),
        ("sqlite:///somewhere", "write sqlite: without a path"),
        ("file:x?compress=zstd", "write file:?compress=zstd without a path"),
        ("memory:?x=y", "memory URLs take no options"),
        ("sqlite:?key-env=NOT_SET_ANYWHERE", "NOT_SET_ANYWHERE"),
    ],
)
def test_a_target_that_cannot_be_meant(target: str, hint: str, tmp_path: Path) -> None:
    """Is no broken rule, but a `ConfigError`."""
    with pytest.raises(ConfigError, match=re.escape(hint)):
        CASES[-1](Backend(target, tmp_path))


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_what_is_kept_and_broken(capsys: pytest.CaptureFixture[str]) -> None:
    """Each case on its line, a broken rule with what was found; the exit status says whether any was."""
    quick = ["--only", "removes_come_after_puts", "--only", "a removed key is absent"]
    assert main([SOUND, *quick]) == 0
    assert "2 kept" in capsys.readouterr().out
    assert main([f"{broken.__name__}:ForgetsRemoves", *quick]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "Rule: A key that was removed is absent" in out
    assert "Found: reading the removed app/a should raise NotFound, it returned b'1'" in out
    assert "2 broken" in out


def test_the_command_speaks_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One object, and nothing else; what was made is removed."""
    only = ["--only", "the_store_id_stays", "--only", "a_new_store_is_empty"]
    assert main(["memory:", "--json", "--directory", str(tmp_path), *only]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["target"], told["seed"]) == ("memory:", 0)
    assert [(result["case"], result["outcome"]) for result in told["results"]] == [
        ("the_store_id_stays", "skipped"),
        ("a_new_store_is_empty", "kept"),
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["memory:", "--only", "no such case"], ["memory:", "--directory", "nowhere"], [], ["-x"]],
)
def test_the_command_refuses_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, nothing on standard output."""
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out.replace("\n", "") == ""
    assert told.err


def test_it_runs_as_a_module() -> None:
    """In the directory of whoever has a store to test."""
    command = [sys.executable, "-m", "bgsuper.store.conformance", SOUND, "--only", "a second writer is locked out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 kept" in done.stdout


def test_no_worker_loads_it() -> None:
    """Nor does it need pytest."""
    code = "import sys, bgsuper.worker.__main__, bgsuper.store.schemes; print(*sys.modules)"
    assert "bgsuper.store.conformance" not in subprocess.check_output([sys.executable, "-c", code], text=True).split()
    code = "import sys, bgsuper.store.conformance.__main__; print(*sys.modules)"
    assert "pytest" not in subprocess.check_output([sys.executable, "-c", code], text=True).split()
