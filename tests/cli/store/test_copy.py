"""`copy`: from any kind into any kind, proved equal, and never half a store under the name that was asked for."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgsuper.errors import StoreFull
from bgsuper.key import Key
from bgsuper.store.schemes import Opening, make_store, open_view
from bgsuper.store.url import parse

from ...store.test_copying import KEYS
from .conftest import Run
from .damage import flip
from .stores import GRAPH, KINDS, MANAGER, RECORDS, SNAPSHOTS, Place, files, fill, held

ALL = {**RECORDS, **SNAPSHOTS}


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_into_any_kind(place: Place, run: Run, kind: str) -> None:
    """Every key and value, the store's id and its numbers; the source is left as it was."""
    target = Place(place.directory, kind)
    fill(place.url(), times=4)
    before = files(place.directory / "store")
    ran = run("copy", place.url(), target.url("copy", "other"), "--json")
    assert ran.status == 0, ran.err
    assert ran.json["equal"] is True
    assert ran.json["records"] + ran.json["snapshots"] == len(ALL)
    assert held(target.url("copy", "other")) == ALL
    assert files(place.directory / "store") == before
    view, copy = open_view(place.url()), open_view(target.url("copy", "other"))
    try:
        assert copy.identity[:1] + copy.identity[2:4] == view.identity[:1] + view.identity[2:4]
        assert bool(copy.identity.seal) == ("sealed" in kind)
    finally:
        view.close()
        copy.close()
    assert run("verify", target.url("copy", "other")).status == 0
    assert stat.S_IMODE((place.directory / "copy").stat().st_mode) == 0o700
    assert not (place.directory / "copy.partial").exists()
    # It goes on from the source's numbers, under an epoch greater than all that the source saw.
    store = make_store(parse(target.url("copy", "other")), Opening(os.getpid()))
    opened = store.open()
    store.close()
    assert opened.epoch > 4
    assert (opened.last_commit, opened.last_seq) == (1, 4)


def test_migration_there_and_back(tmp_path: Path, run: Run) -> None:
    """LDK's `migrate_kv_store_data` test, in both directions: after SQLite, files, SQLite all values are byte-equal,
    under names as long as LDK allows."""
    sqlite, file = Place(tmp_path, "sqlite"), Place(tmp_path, "file")
    fill(sqlite.url())
    assert run("copy", sqlite.url(), file.url("files")).status == 0
    assert run("copy", file.url("files"), sqlite.url("back")).status == 0
    assert held(file.url("files")) == ALL
    assert held(sqlite.url("back")) == ALL


def test_the_files_are_in_ldks_layout(tmp_path: Path, run: Run) -> None:
    """{dir}/[primary/[secondary/]]key, empty parts left out, and the values' own bytes."""
    sqlite, file = Place(tmp_path, "sqlite"), Place(tmp_path, "file")
    fill(sqlite.url())
    assert run("copy", sqlite.url(), file.url("files")).status == 0
    for key, value in ALL.items():
        assert (tmp_path / "files").joinpath(*filter(None, key)).read_bytes() == value


def test_a_key_is_rotated(tmp_path: Path, run: Run) -> None:
    """The copy opens with the new key, not with the old one."""
    place = Place(tmp_path, "sqlite sealed")
    fill(place.url())
    assert run("copy", place.url(key="key"), place.url("rotated", key="new")).status == 0
    assert held(place.url("rotated", key="new")) == ALL
    assert run("verify", place.url("rotated", key="key")).status == 2


def test_what_to_do_next_is_said(place: Place, run: Run) -> None:
    """Both are one node: the danger that an operator must know of."""
    fill(place.url())
    ran = run("copy", place.url(), place.url("copy"))
    assert ran.status == 0
    assert "never run it on both" in ran.words
    assert f"{len(RECORDS)} records" in ran.words or "records" in ran.words


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=15)
@given(
    records=st.dictionaries(KEYS, st.binary(max_size=200), max_size=20),
    snapshots=st.dictionaries(KEYS, st.binary(max_size=2000), max_size=4),
    data=st.data(),
)
def test_a_copy_of_any_store_is_equal_and_whole(
    tmp_path_factory: pytest.TempPathFactory,
    place: Place,
    run: Run,
    records: dict[Key, bytes],
    snapshots: dict[Key, bytes],
    data: st.DataObject,
) -> None:
    """Whatever is in it, and whatever kinds the two are of."""
    place = place._replace(directory=tmp_path_factory.mktemp("copied"))
    # A file cannot have the name of a directory: only LDK's layout knows such a clash.
    names = {key.primary for key in {**records, **snapshots}} | {key[:2] for key in {**records, **snapshots}}
    records = {key: value for key, value in records.items() if not _clashes(key, names)}
    snapshots = {key: value for key, value in snapshots.items() if not _clashes(key, names)}
    target = Place(place.directory, data.draw(st.sampled_from(KINDS)))
    fill(place.url(), records, snapshots)
    ran = run("copy", place.url(), target.url("copy"))
    assert ran.status == 0, ran.err
    assert held(target.url("copy")) == {**records, **snapshots} == held(place.url())
    assert run("verify", target.url("copy")).status == 0


def _clashes(key: Key, names: set[object]) -> bool:
    return (not key.primary and key.name in names) or (not key.secondary and (key.primary, key.name) in names)


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_damaged_value_stops_it(place: Place, run: Run) -> None:
    """One line that names it and the way out; nothing is left."""
    fill(place.url())
    flip(place, MANAGER)
    ran = run("copy", place.url(), place.url("copy"))
    assert ran.status == 2
    assert "manager" in ran.refusal
    assert "bgsuper store salvage" in ran.refusal
    assert not list(place.directory.glob("copy*"))


@pytest.mark.parametrize("of", ["import_records", "write_snapshot", "import_identity", "open"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    place: Place, run: Run, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    """Wherever it is met."""
    fill(place.url())
    make = make_store

    def full(*_: object) -> None:
        raise StoreFull("writing failed: No space left on device; free some space")

    def made(*arguments: object) -> object:
        store = make(*arguments)  # type: ignore[arg-type]
        setattr(store, of, full)
        return store

    monkeypatch.setattr("bgsuper.cli.store.destination.make_store", made)
    ran = run("copy", place.url(), place.url("copy"))
    if of == "write_snapshot" and place.kind.startswith("file") and ran.status == 0:
        pytest.skip("this backend gives snapshots back as records")
    assert ran.status == 2
    assert "free some space" in ran.refusal
    assert not list(place.directory.glob("copy*"))


def test_a_real_full_disk(place: Place, run: Run, tmp_path: Path) -> None:
    """A file system of 2 MiB, and a store that does not fit."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        fill(place.url(), {**RECORDS, Key("", "", "large"): os.urandom(4 * 1024 * 1024)})
        ran = run("copy", place.url(), Place(small, place.kind).url("copy"))
        assert ran.status == 2
        assert "free some space" in ran.refusal
        assert not list(small.glob("copy*"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_copy_that_differs_is_never_called_one(place: Place, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof is made on what the disk gives back."""
    fill(place.url())
    opened = open_view

    def other(url: str) -> object:
        view = opened(url)
        if ".partial" in url:
            read = view.read
            view.read = lambda key: read(key) + b"x" * (key == GRAPH)  # type: ignore[method-assign]
        return view

    monkeypatch.setattr("bgsuper.cli.store.copy.open_view", other)
    ran = run("copy", place.url(), place.url("copy"))
    assert ran.status == 2
    assert "value of network_graph is not the source's" in ran.refusal
    assert not list(place.directory.glob("copy*"))


@pytest.mark.parametrize("command", ["copy", "salvage"])
def test_ctrl_c_leaves_nothing(place: Place, command: str) -> None:
    """Exit status 130, one line, `DST.partial` removed; the source as it was."""
    fill(place.url(), {Key("n", "", f"{number:05}"): b"x" * 100 for number in range(500)}, {GRAPH: os.urandom(2**21)})
    before = files(place.directory / "store")
    code = (
        "import sys, time\n"
        "from bgsuper.store import copying\n"
        "put = copying.Importer.put\n"
        "def slow(self, value):\n"
        "    time.sleep(0.02)\n"
        "    put(self, value)\n"
        "copying.Importer.put = slow\n"
        "from bgsuper.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "store", command, place.url(), place.url("copy")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    partial = place.directory / "copy.partial"
    deadline = time.monotonic() + 30
    while not (partial.is_dir() and any(partial.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert out == ""
    assert err.strip() == f"bgsuper: interrupted: {partial} is removed, and the source is as it was"
    assert not list(place.directory.glob("copy*"))
    assert files(place.directory / "store") == before


# -- where it may not go ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("full", "holds 'mine' already"),
        ("file", "to name nothing, or an empty directory"),
        ("store", "already"),
        ("store/below", "outside of"),
        ("link-to-full", "holds 'mine' already"),
        ("link-into-store/below", "outside of"),
        ("none/below", "make it first"),
        ("taken", "taken.partial is there"),
    ],
)
@pytest.mark.parametrize("command", ["copy", "salvage"])
def test_nothing_that_is_there_is_touched(place: Place, run: Run, command: str, name: str, said: str) -> None:
    """One line, exit status 2, and every file as it was."""
    fill(place.url())
    for directory in ("full", "taken.partial"):
        (place.directory / directory).mkdir()
        (place.directory / directory / "mine").write_text("precious")
    (place.directory / "file").write_text("precious")
    (place.directory / "link-to-full").symlink_to("full")
    (place.directory / "link-into-store").symlink_to("store")
    place.url(name)  # a key is made at the first use
    before = files(place.directory)
    ran = run(command, place.url(), place.url(name))
    assert ran.status == 2
    assert said in ran.refusal
    assert files(place.directory) == before


def test_an_empty_directory_is_taken(place: Place, run: Run) -> None:
    """Also through a symbolic link, and relative, with a slash at its end."""
    fill(place.url())
    (place.directory / "empty").mkdir()
    (place.directory / "link").symlink_to("empty")
    ran = run("copy", place.url(), place.url("link/" if "sealed" not in place.kind else "link"))
    assert ran.status == 0, ran.err
    assert (place.directory / "link").is_symlink()
    assert held(place.url("empty")) == ALL


@pytest.mark.parametrize("name", ["with space", "per%25cent", "uml%C3%A4ut", "quest%3Fion", "ha%23sh"])
def test_odd_names_of_directories(tmp_path: Path, run: Run, name: str) -> None:
    """A URL's escapes hold for the directory that it is built in as well."""
    place = Place(tmp_path, "sqlite")
    fill(place.url())
    ran = run("copy", place.url(), place.url(name))
    assert ran.status == 0, ran.err
    assert held(place.url(name)) == ALL


@pytest.mark.parametrize("command", ["copy", "salvage"])
def test_a_store_in_memory_is_no_destination(tmp_path: Path, run: Run, command: str) -> None:
    """It would be gone with the command."""
    place = Place(tmp_path, "sqlite")
    fill(place.url())
    ran = run(command, place.url(), "memory:")
    assert ran.status == 2
    assert "would be gone" in ran.refusal


def test_a_mounted_directory_is_refused(place: Place, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be renamed to the root of a file system: that is said before hours of copying."""
    fill(place.url())
    (place.directory / "disk").mkdir()
    monkeypatch.setattr("os.path.ismount", lambda path: str(path).endswith("/disk"))
    ran = run("copy", place.url(), place.url("disk"))
    assert ran.status == 2
    assert "name a directory below it" in ran.refusal


def test_what_cannot_be_renamed_is_removed(place: Place, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody put something at DST meanwhile: it is theirs."""
    fill(place.url())
    rename = os.rename

    def refuse(source: str, target: str) -> None:
        if source.endswith("copy.partial"):
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        rename(source, target)

    monkeypatch.setattr("os.rename", refuse)
    ran = run("copy", place.url(), place.url("copy"))
    assert ran.status == 2
    assert "Directory not empty" in ran.refusal
    assert not list(place.directory.glob("copy*"))


def test_a_directory_that_ldk_wrote(tmp_path: Path, run: Run) -> None:
    """Its values, byte for byte, into a store of ours; as of a node that bgsuper has not run before."""
    ldk = tmp_path / "ldk"
    (ldk / "monitors").mkdir(parents=True)
    (ldk / "manager").write_bytes(b"LDK's manager")
    (ldk / "monitors" / "ab_0").write_bytes(b"a monitor")
    (ldk / "monitors" / "ab_0.3.tmp").write_bytes(b"never renamed")
    before = files(ldk)
    place = Place(tmp_path, "sqlite")
    ran = run("copy", f"file:{ldk}", place.url("ours"), "--json")
    assert ran.status == 0, ran.err
    assert held(place.url("ours")) == {MANAGER: b"LDK's manager", Key("monitors", "", "ab_0"): b"a monitor"}
    assert ran.json["identity"]["last_commit"] == 0
    assert files(ldk) == before
