"""`salvage`: what is whole becomes a store of its own, what is not is named, and nobody takes the one for all."""

from __future__ import annotations

import json
import os
import stat

import pytest

from bgsuper.key import Key
from bgsuper.store.schemes import Opening, make_store, open_view
from bgsuper.store.url import parse

from ...store.views import DictView
from .conftest import Run
from .damage import flip
from .stores import GRAPH, MANAGER, MONITOR, RECORDS, SNAPSHOTS, Place, files, fill, held

ALL = {**RECORDS, **SNAPSHOTS}


@pytest.mark.parametrize("kind", ["sqlite", "file sealed"])
def test_a_whole_store_is_saved_whole(place: Place, run: Run, kind: str) -> None:
    """From any kind into any kind; exit status 0; it is the same store."""
    target = Place(place.directory, kind)
    fill(place.url(), times=3)
    ran = run("salvage", place.url(), target.url("saved"), "--json")
    assert ran.status == 0, ran.err
    assert ran.json["lost"] is False
    assert held(target.url("saved")) == ALL
    view = open_view(place.url())
    assert ran.json["identity"]["store_id"] == view.identity.store_id.hex()
    view.close()
    store = make_store(parse(target.url("saved")), Opening(os.getpid()))
    assert store.open().epoch > 3
    store.close()


def test_the_rest_of_a_damaged_store_is_saved(place: Place, run: Run) -> None:
    """Flipped bytes in a record, in another and in a snapshot: these are named, everything else comes out."""
    fill(place.url())
    damaged = [MANAGER, MONITOR, GRAPH]
    for key in damaged:
        flip(place, key)
    before = files(place.directory / "store")
    report = place.directory / "lost.jsonl"
    ran = run("salvage", place.url(), place.url("saved"), "--json", "--report", report)
    assert ran.status == 1, ran.err
    assert ran.json["lost"] is True
    assert {finding["key"] for finding in ran.json["damage"]} == {str(key) for key in damaged}
    assert [json.loads(line) for line in report.read_text().splitlines()] == ran.json["damage"]
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    assert held(place.url("saved")) == {key: value for key, value in ALL.items() if key not in damaged}
    assert files(place.directory / "store") == before
    assert run("verify", place.url("saved")).status == 0


def test_a_person_is_told_what_it_means(place: Place, run: Run) -> None:
    """What was lost, and what to do before a node is started on the rest."""
    fill(place.url())
    flip(place, MONITOR)
    ran = run("salvage", place.url(), place.url("saved"))
    assert ran.status == 1
    assert "monitors/one" in ran.words
    assert "Not whole: 1 finding." in ran.words
    assert "funds are at risk" in ran.words


def test_an_unreadable_identity_is_a_plain_warning(place: Place, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new store is another one, and what that means is said."""
    view = DictView({MANAGER: (None, b"1")}, identity=None)
    monkeypatch.setattr("bgsuper.cli.store.salvage.open_source", lambda _url: view)
    ran = run("salvage", place.url(), place.url("saved"))
    assert ran.status == 1
    assert "numbers start anew" in ran.words
    assert "high-water mark" in ran.words
    assert held(place.url("saved")) == {MANAGER: b"1"}
    assert run("salvage", place.url(), place.url("again"), "--json").json["identity"] is None


def test_nothing_whole_makes_no_store(place: Place, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node would take an empty store for a new one."""
    view = DictView({MANAGER: (None, b"1")}, damaged=[MANAGER])
    monkeypatch.setattr("bgsuper.cli.store.salvage.open_source", lambda _url: view)
    ran = run("salvage", place.url(), place.url("saved"))
    assert ran.status == 2
    assert "nothing whole was found" in ran.refusal
    assert not list(place.directory.glob("saved*"))


def test_an_empty_store_is_saved_as_one(place: Place, run: Run) -> None:
    """Nothing was in it, nothing was lost."""
    fill(place.url(), {}, {})
    assert run("salvage", place.url(), place.url("saved")).status == 0
    assert held(place.url("saved")) == {}


def test_a_report_takes_the_place_of_nothing(place: Place, run: Run) -> None:
    """A file that is there stays, and no store is made."""
    fill(place.url())
    report = place.directory / "report"
    report.write_text("precious")
    ran = run("salvage", place.url(), place.url("saved"), "--report", report)
    assert ran.status == 2
    assert "--report" in ran.refusal
    assert report.read_text() == "precious"
    assert not list(place.directory.glob("saved*"))


def test_a_store_that_was_lost_whole(place: Place, run: Run) -> None:
    """Its database or its identity overwritten: one line, or what can be saved; never a traceback, never an empty
    store."""
    fill(place.url())
    for path in (place.directory / "store").iterdir():
        if path.is_file():
            path.write_bytes(os.urandom(path.stat().st_size))
    ran = run("salvage", place.url(), place.url("saved"), "--json")
    assert ran.status in (1, 2)
    if ran.status == 2:
        assert not list(place.directory.glob("saved*"))
    else:
        assert all(ALL[key] == value for key, value in held(place.url("saved")).items())


def test_a_cut_database_gives_what_is_left(run: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    """SQLite, its last pages gone: whatever comes out is as it was written, and the loss is not denied."""
    place = Place(tmp_path_factory.mktemp("cut"), "sqlite")
    records = {Key("n", "", f"{number:05}"): os.urandom(200) for number in range(2000)}
    fill(place.url(), records, {})
    path = place.directory / "store" / "bgsuper.sqlite3"
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)
    ran = run("salvage", place.url(), place.url("saved"), "--json")
    assert ran.status == 1, ran.err
    saved = held(place.url("saved"))
    assert saved
    assert all(records[key] == value for key, value in saved.items())
    assert len(saved) < len(records)
