"""`info`, `ls`, `get`: what is in a store of each kind, and not a byte of it changed."""

from __future__ import annotations

import io
import json
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bgsuper import Supervisor
from bgsuper.cli.main import main
from bgsuper.key import Key, Seq
from bgsuper.store.api import Entry

from ...store.views import DictView
from .conftest import Run
from .stores import GRAPH, LONG, MANAGER, RECORDS, SNAPSHOTS, UPDATE, Place, files, fill


def test_info_says_which_store_it_is(place: Place, run: Run) -> None:
    """Identity, numbers and counts of each namespace; the same for a person and for a program."""
    fill(place.url(), times=3)
    ran = run("info", place.url(), "--json")
    assert ran.status == 0, ran.err
    told = ran.json
    assert told["url"] == place.url()
    assert told["identity"]["epoch"] == 3
    assert told["identity"]["last_commit"] == 1
    assert told["identity"]["last_snapshot"] == 4
    assert told["identity"]["sealed"] is ("sealed" in place.kind)
    assert len(bytes.fromhex(told["identity"]["store_id"])) == 16
    assert told["damage"] == []
    namespaces = {(row["primary"], row["secondary"]): row for row in told["namespaces"]}
    assert namespaces.keys() == {key[:2] for key in RECORDS}
    assert namespaces["channels", ""]["records"] == 10
    assert namespaces["", ""]["records"] + namespaces["", ""]["snapshots"] == 3
    if "sealed" not in place.kind:
        assert namespaces["monitors", ""]["bytes"] == len(RECORDS[Key("monitors", "", "one")])
    assert told["facts"]
    for_a_person = run("info", place.url())
    assert for_a_person.status == 0
    assert told["identity"]["store_id"] in for_a_person.out
    assert "channels" in for_a_person.out
    assert for_a_person.err == ""


def test_ls_lists_every_key_in_order(place: Place, run: Run) -> None:
    """With length and lane; each key as `get` takes it."""
    fill(place.url())
    ran = run("ls", place.url(), "--json")
    assert ran.status == 0, ran.err
    lines = [json.loads(line) for line in ran.out.splitlines()]
    keys = [Key(line["primary"], line["secondary"], line["name"]) for line in lines]
    assert keys == sorted({**RECORDS, **SNAPSHOTS})
    assert [line["key"] for line in lines] == [str(key) for key in keys]
    if place.kind in ("sqlite", "file"):
        assert [line["length"] for line in lines] == [len({**RECORDS, **SNAPSHOTS}[key]) for key in keys]
    if place.kind.startswith("sqlite"):
        assert {line["key"]: line["snapshot"] for line in lines if line["snapshot"]} == {
            "network_graph": 2,
            "scorer": 4,
        }
    plain = run("ls", place.url())
    assert [line.split()[-1] for line in plain.out.splitlines()] == [str(key) for key in keys]


@pytest.mark.parametrize(
    ("namespace", "names"),
    [
        ("/", {"manager", "network_graph", "scorer"}),
        ("monitor_updates", {"7"}),
        ("monitor_updates/one", {"7"}),
        ("monitor_updates/", set()),
        ("monitor_updates/two", set()),
        ("channels/", {f"{i:03}" for i in range(10)}),
        ("channel", set()),
        ("zzz", set()),
    ],
)
def test_ls_of_a_namespace(place: Place, run: Run, namespace: str, names: set[str]) -> None:
    """That one alone; one that is not there is empty, as in LDK."""
    fill(place.url())
    ran = run("ls", place.url(), namespace, "--json")
    assert ran.status == 0, ran.err
    assert {json.loads(line)["name"] for line in ran.out.splitlines()} == names


class _Counting(io.TextIOBase):
    """Standard output that keeps nothing."""

    def __init__(self) -> None:
        self.lines = 0

    def write(self, text: str) -> int:
        self.lines += text.count("\n")
        return len(text)


class _Many(DictView):
    """A hundred thousand records, made as they are asked for; `behind` is how many were ever waiting for `out`."""

    def __init__(self, out: _Counting) -> None:
        super().__init__({})
        self.out = out
        self.given = self.behind = 0

    def entries(self) -> Iterator[Entry]:
        for number in range(100_000):
            self.behind = max(self.behind, self.given - self.out.lines)
            self.given += 1
            yield Entry(Key("n", "", f"{number:06}"), 100, Seq(number) if number % 2 else None)


def _list_many(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> _Many:
    view = _Many(_Counting())
    with monkeypatch.context() as patched:
        patched.setattr("bgsuper.cli.store.ls.open_source", lambda _url: view)
        patched.setattr("sys.stdout", view.out)
        assert main(["store", "ls", "sqlite:any", *arguments]) == 0
    return view


@pytest.mark.parametrize("arguments", [[], ["--json"], ["n"]])
def test_a_list_of_100_000_is_never_held(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    """Each line is written before the next value is looked at: nothing grows with the store."""
    view = _list_many(monkeypatch, *arguments)
    assert view.out.lines == 100_000
    assert view.behind == 0


def test_a_namespace_before_the_others_ends_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after it is not asked for."""
    view = _list_many(monkeypatch, "a")
    assert (view.given, view.out.lines) == (1, 0)


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    """`bgsuper store ls ... | head`: no traceback."""
    place = Place(tmp_path, "sqlite")
    fill(place.url(), {Key("n", "", f"{number:05}"): b"" for number in range(20_000)}, {})
    command = [sys.executable, "-m", "bgsuper.cli", "store", "ls", place.url()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().endswith(b"n/00000\n")
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 1


@pytest.mark.parametrize("key", [MANAGER, UPDATE, GRAPH, LONG], ids=str)
def test_get_gives_the_bytes(place: Place, key: Key, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """All of them and no others, of records and snapshots, empty ones included."""
    fill(place.url())
    capsysbinary.readouterr()
    assert main(["store", "get", place.url(), str(key)]) == 0
    assert capsysbinary.readouterr() == ({**RECORDS, **SNAPSHOTS}[key], b"")


def test_get_into_a_file(place: Place, run: Run) -> None:
    """A private one; never over one that is there, unless asked."""
    fill(place.url())
    output = place.directory / "value"
    ran = run("get", place.url(), GRAPH, "--output", output)
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert output.read_bytes() == SNAPSHOTS[GRAPH]
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    again = run("get", place.url(), MANAGER, "--output", output)
    assert again.status == 2
    assert "--force" in again.refusal
    assert output.read_bytes() == SNAPSHOTS[GRAPH]
    output.chmod(0o644)
    assert run("get", place.url(), MANAGER, "--output", output, "--force").status == 0
    assert output.read_bytes() == RECORDS[MANAGER]
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert [path.name for path in place.directory.iterdir() if "value" in path.name] == ["value"]


def test_a_key_that_is_absent_is_one_line_and_exit_status_1(place: Place, run: Run) -> None:
    """Not 2: the store could be read. No file is made."""
    fill(place.url())
    ran = run("get", place.url(), "monitors/two", "--output", place.directory / "value")
    assert ran.status == 1
    assert "there is no monitors/two" in ran.refusal
    assert not (place.directory / "value").exists()


@pytest.mark.parametrize("content", [b"\x00\x01", b"\xff", b"\x1b[31mred", "\x9b31m".encode(), "\u202e".encode()])
def test_binary_is_not_printed_on_a_terminal(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """Nor anything that a terminal would act on; what to do instead is said."""
    place = Place(tmp_path, "sqlite")
    fill(place.url(), {MANAGER: content})
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    ran = run("get", place.url(), "manager")
    assert ran.status == 2
    assert f"{len(content)} bytes of binary: add --output FILE" in ran.refusal


def test_text_is_printed_on_a_terminal(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a line's end, so that the prompt stands below it."""
    place = Place(tmp_path, "sqlite")
    fill(place.url(), {MANAGER: "grüße\n\tJSON {}".encode()})
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run("get", place.url(), "manager").out == "grüße\n\tJSON {}\n"


def test_a_file_that_cannot_be_written_is_left_out(tmp_path: Path, run: Run) -> None:
    """One line, and nothing half-written."""
    place = Place(tmp_path, "sqlite")
    fill(place.url())
    ran = run("get", place.url(), "manager", "--output", tmp_path / "none" / "value")
    assert ran.status == 2
    assert "none" in ran.refusal


@pytest.mark.parametrize(
    "arguments",
    [["info"], ["info", "--json"], ["ls"], ["get", "manager"], ["verify"], ["verify", "--json"]],
    ids=" ".join,
)
def test_looking_changes_nothing(place: Place, run: Run, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a byte, not a file, whatever the command."""
    fill(place.url())
    store = place.directory / "store"
    before = files(store)
    command, *rest = arguments
    for _ in range(2):
        assert run(command, place.url(), *rest).status == 0
    assert files(store) == before


def test_info_of_a_damaged_identity_says_the_rest(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Exit status 1, with what can be told and what to do."""
    view = DictView({MANAGER: (None, b"123")}, identity=None)
    monkeypatch.setattr("bgsuper.cli.store.info.open_source", lambda _url: view)
    ran = run("info", "sqlite:any")
    assert ran.status == 1
    assert "the identity is damaged" in ran.words
    assert "bgsuper store salvage" in ran.words
    told = run("info", "sqlite:any", "--json").json
    assert told["identity"] is None
    assert told["namespaces"] == [{"primary": "", "secondary": "", "records": 1, "snapshots": 0, "bytes": 3}]
    assert told["damage"] == ["the identity is damaged"]


def test_a_view_is_closed_whatever_happens(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """It holds the writer lock: a node could not start beside it."""
    closed: list[str] = []

    class View(DictView):
        def close(self) -> None:
            closed.append("closed")

        def facts(self) -> dict[str, object]:
            raise OSError(5, "the disk is gone")

    commands: dict[str, Callable[[], View]] = {
        "info": lambda: View({}),
        "ls": lambda: View({}),
        "get": lambda: View({}),
    }
    for command, view in commands.items():
        monkeypatch.setattr(f"bgsuper.cli.store.{command}.open_source", lambda _url, view=view: view())
        run(command, "sqlite:any", *(["manager"] if command == "get" else []))
    assert closed == ["closed"] * 3


def test_info_shows_the_high_water_mark(tmp_path: Path, run: Run) -> None:
    """What it says, that none was made yet, or why it cannot be read; a URL that names none shows none."""
    url, mark = f"sqlite:{tmp_path}/store", tmp_path / "mark"
    marked = f"{url}?high-water={mark}"
    for _ in range(2):
        with Supervisor(marked) as supervisor:
            supervisor.wait(supervisor.commit({Key("a", "", "b"): b"c"}))
    assert "high-water mark 2" in run("info", marked).words
    with Supervisor(marked) as supervisor:
        supervisor.wait(supervisor.snapshot(Key("a", "", "b"), [b"c"], critical=True))
    assert "high-water mark 2, and snapshot 3" in run("info", marked).words
    assert "high-water" not in run("info", url).out
    mark.write_bytes(bytes(8192))
    assert "damaged" in run("info", marked).words
    mark.unlink()
    assert "none was made yet" in run("info", marked).words
