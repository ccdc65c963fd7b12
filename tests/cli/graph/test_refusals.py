"""Bad input: one line that says what was expected, what came and what to do; exit status 2."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgsuper.cli.graph.files import MOST_BYTES, read_graph
from bgsuper.errors import BgsuperError
from bgsuper.key import NETWORK_GRAPH
from tests.cli.store.conftest import Run
from tests.cli.store.damage import flip
from tests.cli.store.stores import Place, fill
from tests.lightning.routing.test_rapid import FULL

from .graphs import ALICE, NETWORK, OTHERS, SCID, records

GRAPH = NETWORK.write()


def every_command(run: Run, source: str | Path, said: str, status: int = 2) -> None:
    """All of them refuse `source`."""
    for command, *rest in (["info"], ["node", ALICE], ["channel", SCID], ["export", "-"]):
        ran = run(command, source, *rest)
        assert ran.status == status, (command, ran)
        assert said in ran.refusal, command


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "begins with nothing"),
        (b"precious letter", "begins with 7072656369"),
        (b"\xfd7zXZ\0" + GRAPH, "if it is compressed, expand it first"),
        (b"LD", "begins with 4c44"),
        (b"LDK", "got 4c444b"),
        (FULL[:4], "in the middle"),
        (b"LDK\x02" + FULL[4:], "version 1, got 2"),
        (FULL[:-1], "fetch it again"),
        (FULL[:20], "fetch it again"),
        (b"\x01", "version"),
        (b"\x01\x02" + GRAPH[2:], "upgrade"),
        (GRAPH[:-1], "damaged"),
        (GRAPH[:100], "announces"),
        (GRAPH[:20], "ends at byte"),
        (GRAPH + b"\0", "announces"),
    ],
)
def test_files_that_hold_no_graph(tmp_path: Path, run: Run, content: bytes, said: str) -> None:
    """Foreign, cut short, of a later version, with more behind it."""
    path = tmp_path / "file"
    path.write_bytes(content)
    every_command(run, path, said)
    place = Place(tmp_path, "sqlite")
    fill(place.url(), OTHERS, {})
    assert said in run("import", path, place.url()).refusal


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40), st.integers(0, len(GRAPH)), st.integers(0, 40), st.booleans())
def test_any_file_is_a_graph_or_an_error_of_ours(tmp_path: Path, junk: bytes, at: int, cut: int, rapid: bool) -> None:
    """Whatever a disk made of it."""
    whole = FULL if rapid else GRAPH
    path = tmp_path / "file"
    path.write_bytes(whole[:at] + junk + whole[at + cut :])
    try:
        read_graph(str(path))
    except BgsuperError:
        pass


def test_what_is_no_file(tmp_path: Path, run: Run) -> None:
    """Nothing, a directory (which may be a store's), an endless device."""
    every_command(run, tmp_path / "none", "look at the path")
    every_command(run, tmp_path, f"write sqlite:{tmp_path} or file:{tmp_path}")
    every_command(run, "/dev/zero", "begins with 0000")


def test_a_file_that_does_not_end(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read as far as a graph could go."""
    assert MOST_BYTES == 1 << 30
    monkeypatch.setattr("bgsuper.cli.graph.files.MOST_BYTES", len(GRAPH) - 1)
    path = tmp_path / "graph.bin"
    path.write_bytes(GRAPH)
    every_command(run, path, "at most")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:", "names no directory"),
        ("SQLITE:", "names no directory"),
        ("postgres://host/db", "expected a store URL that starts with"),
        ("sqlite:x?nothing=1", "take the option"),
        ("memory:", "nothing to look into"),
    ],
)
def test_urls_that_mean_nothing(run: Run, url: str, said: str) -> None:
    """As in every command of bgsuper."""
    every_command(run, url, said)


def test_a_file_whose_name_looks_like_a_url(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a path it can be named, and a colon alone makes no URL."""
    monkeypatch.chdir(tmp_path)
    for name in ("./sqlite:graph", "graph-12:30:00.bin", "odd.name://x"):
        Path(name.replace("//", "")).write_bytes(GRAPH)
        assert run("info", name.replace("//", "")).status == 0
    every_command(run, "sqlite:graph", "expected a store at")


def test_stores_without_a_graph(place: Place, run: Run) -> None:
    """Exit status 1: it could be read. No store and an empty directory are another matter."""
    fill(place.url(), OTHERS, {})
    every_command(run, place.url(), "there is no network graph in", status=1)
    every_command(run, place.url("none"), "none")
    (place.directory / "empty").mkdir()
    every_command(run, place.url("empty"), "empty")


def test_damaged_stores(place: Place, run: Run) -> None:
    """A record that is not whole, and a snapshot that is not, both by their checksums."""
    key = next(iter(records()))
    fill(place.url("records"), records(), {})
    flip(place, key, "records")
    every_command(run, place.url("records"), str(key))
    fill(place.url("snapshot"), OTHERS, {NETWORK_GRAPH: GRAPH})
    flip(place, NETWORK_GRAPH, "snapshot")
    every_command(run, place.url("snapshot"), "network_graph")


def test_a_snapshot_that_is_no_graph(place: Place, run: Run) -> None:
    """Whole by its checksum, and nothing that LDK wrote."""
    fill(place.url(), OTHERS, {NETWORK_GRAPH: b"nothing that LDK wrote"})
    every_command(run, place.url(), "sync anew")


def test_a_store_in_use(place: Place, run: Run) -> None:
    """Whoever holds it is named, with the next step."""
    fill(place.url(), records(), {})
    code = (
        "import os, sys\n"
        "from bgsuper.store.schemes import Opening, make_store\n"
        "from bgsuper.store.url import parse\n"
        "store = make_store(parse(sys.argv[1]), Opening(os.getpid()))\n"
        "print(store.open().epoch, flush=True)\n"
        "sys.stdin.read()\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, place.url()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    try:
        writer.stdout.readline()
        every_command(run, place.url(), f"process {writer.pid} holds it")
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdin.close()
        writer.stdout.close()
    assert run("info", place.url()).status == 0


@pytest.mark.parametrize(
    "node_id", ["", "alice", ALICE[:-1], ALICE + "0", "04" + ALICE[2:], ALICE[:-1] + "g", "02" * 34]
)
def test_ids_that_no_node_has(run: Run, node_id: str) -> None:
    """Said before the source is looked for."""
    ran = run("node", "none", "--", node_id)
    assert ran.status == 2
    assert "expected a node's id" in ran.refusal


@pytest.mark.parametrize(
    "scid",
    ["", "x", "1x2", "1x2x3x4", "16777216x0x0", "0x16777216x0", "0x0x65536", str(1 << 64), "-1", "1:2:3", "٣x1x1"],
)
def test_ids_that_no_channel_has(run: Run, scid: str) -> None:
    """Said before the source is looked for."""
    ran = run("channel", "none", "--", scid)
    assert ran.status == 2
    assert "expected a short channel id" in ran.refusal


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["info"], "Missing argument"),
        (["node", "graph.bin"], "Missing argument"),
        (["export", "graph.bin"], "Missing argument"),
        (["import", "graph.bin"], "Missing argument"),
        (["info", "x", "y"], "unexpected extra argument"),
        (["info", "--chain", "testnet9", "x"], "--chain"),
        (["fly"], "No such command"),
    ],
)
def test_arguments_that_mean_nothing(run: Run, arguments: list[str], said: str) -> None:
    """As every command of bgsuper."""
    ran = run(*arguments)
    assert ran.status == 2
    assert said in ran.refusal


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    """`bgsuper graph export ... - | head`: no traceback."""
    path = tmp_path / "graph.bin"
    path.write_bytes(GRAPH)
    command = [sys.executable, "-m", "bgsuper.cli", "graph", "export", str(path), "-"]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    finally:
        os.close(writer)
    assert b"Traceback" not in done.stderr
    assert done.returncode == 1
