"""`verify`: all is read, what is damaged is named, and what cannot be told is said."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgsuper.errors import SyncFailed
from bgsuper.key import Key

from ...store.views import DictView
from .conftest import Run
from .damage import flip
from .stores import MANAGER, RECORDS, SNAPSHOTS, Place, fill

TOTAL = sum(map(len, {**RECORDS, **SNAPSHOTS}.values()))


def test_a_whole_store_is_whole(place: Place, run: Run) -> None:
    """Exit status 0; every value was read, and what no reading can tell is said."""
    fill(place.url())
    ran = run("verify", place.url())
    assert ran.status == 0, ran.out
    assert "Whole: " in ran.words
    assert "Not told by this" in ran.words
    told = run("verify", place.url(), "--json").json
    assert told["whole"] is True
    assert told["records"] + told["snapshots"] == len(RECORDS) + len(SNAPSHOTS)
    assert told["bytes"] == TOTAL
    assert told["damage"] == []
    assert told["identity"]["last_commit"] == 1
    assert any("commit 1" in each for each in told["cannot_tell"])


@pytest.mark.parametrize("key", [MANAGER, Key("monitors", "", "one"), Key("", "", "network_graph")], ids=str)
def test_a_flipped_byte_of_a_value_is_found_and_named(place: Place, run: Run, key: Key) -> None:
    """Exit status 1, the key, and what to do; the others are whole."""
    fill(place.url())
    flip(place, key)
    told = run("verify", place.url(), "--json")
    assert told.status == 1
    assert told.json["whole"] is False
    assert [finding["key"] for finding in told.json["damage"]] == [str(key)]
    assert told.json["records"] + told.json["snapshots"] == len(RECORDS) + len(SNAPSHOTS) - 1
    ran = run("verify", place.url())
    assert ran.status == 1
    assert str(key) in ran.words
    assert "bgsuper store salvage" in ran.words


def test_an_empty_store_is_whole(place: Place, run: Run) -> None:
    """Nothing in it is not damage."""
    fill(place.url(), {}, {})
    ran = run("verify", place.url(), "--json")
    assert ran.status == 0
    assert ran.json["bytes"] == 0


def test_values_without_a_checksum_are_said_to_be_so(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Whole is what could be read; that nothing verifies it is another matter."""

    class View(DictView):
        def facts(self) -> dict[str, object]:
            return {"unverified": 3}

    monkeypatch.setattr("bgsuper.cli.store.verify.open_source", lambda _url: View({MANAGER: (None, b"1")}))
    told = run("verify", "sqlite:any", "--json").json
    assert told["whole"] is True
    assert any("whether 3 files are" in each for each in told["cannot_tell"])


def test_a_bad_sector_does_not_end_it(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """What could be read is told, and that the rest could not."""
    view = DictView({MANAGER: (None, b"1")}, ends_with=SyncFailed("Input/output error"))
    monkeypatch.setattr("bgsuper.cli.store.verify.open_source", lambda _url: view)
    ran = run("verify", "sqlite:any", "--json")
    assert ran.status == 1
    assert ran.json["records"] == 1
    assert ran.json["damage"] == [{"key": None, "text": "Input/output error; what follows could not be read"}]


def test_a_million_findings_are_counted_not_kept(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """All are counted; so many are listed as memory is meant for."""
    keys = [Key("n", "", f"{number:04}") for number in range(3000)]
    view = DictView(dict.fromkeys(keys, (None, b"")), damaged=keys)
    monkeypatch.setattr("bgsuper.cli.store.verify.open_source", lambda _url: view)
    told = run("verify", "sqlite:any", "--json").json
    assert told["damaged"] == 3000
    assert len(told["damage"]) == 1000
    assert "and 2,980 more" in run("verify", "sqlite:any").words


def test_progress_is_shown_on_a_terminal_only(place: Place, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard error: standard output can be piped all the same."""
    fill(place.url())
    assert run("verify", place.url(), "--json").err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("bgsuper.cli.store.progress.FRAME_S", 0.0)
    ran = run("verify", place.url(), "--json")
    assert "verifying" in ran.err
    assert json.loads(ran.out)["whole"] is True


def test_progress_is_a_line_now_and_then_elsewhere(place: Place, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """For logs."""
    fill(place.url())
    monkeypatch.setattr("bgsuper.cli.store.progress.LINE_S", 0.0)
    lines = run("verify", place.url(), "--json").err.splitlines()
    assert len(lines) == len(RECORDS) + len(SNAPSHOTS)
    assert lines[-1].startswith(f"verifying: {len(lines)} of {len(lines)} values, ")


def test_any_flipped_byte_is_damage_or_nothing(place: Place, run: Run) -> None:
    """A bit flipped anywhere in any file: `verify` says so, or all values are what they were."""
    records = {key: value[:300] for key, value in RECORDS.items()}
    snapshots = {key: value[:3000] for key, value in SNAPSHOTS.items()}
    fill(place.url(), records, snapshots)
    paths = sorted(path for path in (place.directory / "store").rglob("*") if path.is_file() and path.stat().st_size)
    expected = (len(records) + len(snapshots), sum(map(len, {**records, **snapshots}.values())))

    @settings(max_examples=40)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(paths))
        content = path.read_bytes()
        at = data.draw(st.integers(0, len(content) - 1))
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << data.draw(st.integers(0, 7))]) + content[at + 1 :])
        ran = run("verify", place.url(), "--json")
        path.write_bytes(content)
        if ran.status == 0:
            assert (ran.json["records"] + ran.json["snapshots"], ran.json["bytes"]) == expected
        elif ran.status == 1:
            assert ran.json["damaged"] >= 1
        else:
            assert ran.refusal

    check()
