"""Bad input: one line that says what was expected, what came and what to do; exit status 2; nothing changed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from bgsuper.key import Key
from bgsuper.store.filesystem.view import FilesystemView
from bgsuper.store.sealing.view import SealedView
from bgsuper.store.sqlite_view import SQLiteView

from .conftest import Run
from .stores import RECORDS, Place, files, fill

#: Each command on one store, and on two.
READING = (["info"], ["ls"], ["get", "manager"], ["verify"])
COPYING = ("copy", "salvage")


def every_command(run: Run, url: str, other: str, said: str) -> None:
    """All of them refuse `url`."""
    for command, *rest in READING:
        ran = run(command, url, *rest)
        assert ran.status == 2, (command, ran)
        assert said in ran.refusal, command
    for command in COPYING:
        ran = run(command, url, other)
        assert ran.status == 2, (command, ran)
        assert said in ran.refusal, command


def test_no_such_store(place: Place, run: Run) -> None:
    """It is named, and not made."""
    url, other = place.url("none"), place.url("other")
    before = sorted(place.directory.iterdir())
    every_command(run, url, other, "none")
    assert sorted(place.directory.iterdir()) == before


def test_an_empty_directory_is_no_store(place: Place, run: Run) -> None:
    """Nor does looking make it one."""
    url, other = place.url("empty"), place.url("other")
    (place.directory / "empty").mkdir()
    every_command(run, url, other, "empty")
    assert list((place.directory / "empty").iterdir()) == []


def test_a_directory_that_is_something_else(place: Place, run: Run) -> None:
    """Its files are nobody's business."""
    url, other = place.url("home"), place.url("other")
    home = place.directory / "home"
    home.mkdir()
    (home / "letter.txt").write_text("precious")
    every_command(run, url, other, "home")
    assert files(home) == {"letter.txt": b"precious"}


def test_a_file_in_the_place_of_a_directory(place: Place, run: Run) -> None:
    """Named, and left."""
    url, other = place.url("file"), place.url("other")
    (place.directory / "file").write_text("precious")
    every_command(run, url, other, "file")
    assert (place.directory / "file").read_text() == "precious"


def test_another_programs_database(tmp_path: Path, run: Run) -> None:
    """SQLite, but not ours."""
    place = Place(tmp_path, "sqlite")
    (tmp_path / "store").mkdir()
    database = sqlite3.connect(tmp_path / "store" / "bgsuper.sqlite3")
    database.execute("CREATE TABLE theirs(x)")
    database.close()
    every_command(run, place.url(), place.url("other"), "another program")


def test_a_later_version(tmp_path: Path, run: Run) -> None:
    """Upgrade, rather than guess."""
    place = Place(tmp_path, "sqlite")
    fill(place.url())
    database = sqlite3.connect(tmp_path / "store" / "bgsuper.sqlite3")
    database.executescript("CREATE TABLE later(x); PRAGMA user_version = 99")
    database.close()
    before = files(tmp_path / "store")
    every_command(run, place.url(), place.url("other"), "upgrade bgsuper")
    assert files(tmp_path / "store") == before


@pytest.fixture
def writer(place: Place) -> subprocess.Popen[str]:
    """Another process that has the store open."""
    fill(place.url())
    code = (
        "import os, sys\n"
        "from bgsuper.store.schemes import Opening, make_store\n"
        "from bgsuper.store.url import parse\n"
        "store = make_store(parse(sys.argv[1]), Opening(os.getpid()))\n"
        "print(store.open().epoch, flush=True)\n"
        "sys.stdin.read()\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, place.url()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_store_in_use(place: Place, run: Run, writer: subprocess.Popen[str]) -> None:
    """Whoever holds it is named, by process and epoch, with the next step; afterwards it can be looked into."""
    assert writer.stdin is not None
    assert writer.stdout is not None
    try:
        epoch = writer.stdout.readline().strip()
        every_command(run, place.url(), place.url("other"), f"process {writer.pid} holds it at epoch {epoch}; stop it")
        assert not list(place.directory.glob("other*"))
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdin.close()
        writer.stdout.close()
    assert run("verify", place.url()).status == 0


def test_the_wrong_key_is_told_from_damage(tmp_path: Path, run: Run) -> None:
    """No key, another one, and one for a store that has none."""
    sealed, plain = Place(tmp_path, "sqlite sealed"), Place(tmp_path, "sqlite")
    fill(sealed.url("sealed"))
    fill(plain.url("plain"))
    every_command(run, plain.url("sealed"), plain.url("other"), "no key was given")
    every_command(run, sealed.url("sealed", "wrong"), plain.url("other"), "another key")
    every_command(run, sealed.url("plain"), plain.url("other"), "is not sealed")


@pytest.mark.parametrize(
    "key",
    ["x" * 121, "a/" + "x" * 121, "x" * 121 + "/a", "a b", "a/b/c/d", "a//b", "/a", "a/", "../etc/passwd", "é", ""],
)
def test_names_that_ldk_would_refuse(tmp_path: Path, run: Run, key: str) -> None:
    """Said before the store is looked for."""
    ran = run("get", f"sqlite://{tmp_path}/none", "--", key)
    assert ran.status == 2
    assert "expected a" in ran.refusal
    assert "none" not in ran.refusal


def test_names_as_long_as_ldk_allows(place: Place, run: Run) -> None:
    """120 characters a part."""
    key = Key("p" * 120, "s" * 120, "n" * 120)
    fill(place.url(), {key: b"text"}, {})
    assert run("get", place.url(), key).out == "text"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument"),
        (["sqlite"], "expected a store URL such as"),
        (["postgres://host/db"], "expected a store URL that starts with"),
        (["sqlite:"], "names no directory"),
        (["sqlite:x?nothing=1"], "take the option"),
        (["sqlite:x", "more", "and more", "yet more"], "unexpected extra argument"),
        (["--fly"], "No such option"),
        (["memory:"], "nothing to look into"),
    ],
)
@pytest.mark.parametrize("command", ["info", "verify"])
def test_arguments_that_mean_nothing(run: Run, command: str, arguments: list[str], said: str) -> None:
    """As every command of bgsuper."""
    ran = run(command, *arguments)
    assert ran.status == 2
    assert said in ran.refusal


@pytest.mark.parametrize("options", [["--force"], ["--output"]])
def test_options_that_need_each_other(tmp_path: Path, run: Run, options: list[str]) -> None:
    """--force without a file, --output without a name."""
    ran = run("get", f"sqlite://{tmp_path}/none", "manager", *options)
    assert ran.status == 2
    assert "--output" in ran.refusal


def test_faults_are_not_for_a_new_store(tmp_path: Path, run: Run) -> None:
    """A plan of faults would be left out silently."""
    place = Place(tmp_path, "sqlite")
    fill(place.url())
    ran = run("copy", place.url(), f"{place.url('other')}?faults=/tmp/plan")
    assert ran.status == 2
    assert "faults" in ran.refusal


def test_a_name_that_a_foreign_hand_put_there(tmp_path: Path, run: Run) -> None:
    """A key in the database that would be a path goes nowhere."""
    place, file = Place(tmp_path, "sqlite"), Place(tmp_path, "file")
    fill(place.url(), dict(list(RECORDS.items())[:2]), {})
    database = sqlite3.connect(tmp_path / "store" / "bgsuper.sqlite3")
    database.execute("UPDATE record SET name = '../../escaped' WHERE name = 'manager'")
    database.commit()
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    ran = run("copy", place.url(), file.url("files"))
    assert ran.status == 2
    assert ran.refusal
    assert run("salvage", place.url(), file.url("files")).status in (1, 2)
    assert not any(path.name == "escaped" for path in tmp_path.rglob("*"))
    assert not os.path.exists(tmp_path.parent / "escaped")


def test_what_memory_does_not_hold(place: Place, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, whatever was being read."""
    fill(place.url())

    def fails(*_: object) -> bytes:
        raise MemoryError

    for view in (SQLiteView, FilesystemView, SealedView):
        monkeypatch.setattr(view, "read", fails)
    ran = run("get", place.url(), "manager")
    assert ran.status == 2
    assert "does not fit into memory" in ran.refusal
