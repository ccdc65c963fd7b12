"""`bgsuper store backup`, and `info` of a store that a node has open: through its worker, or without one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from bgsuper import Key, Supervisor
from bgsuper.cli.store import live
from bgsuper.faults.plan import Plan
from bgsuper.store.schemes import open_view
from tests.supervisor.hosts import freeze, thaw

from .conftest import Run

pytestmark = pytest.mark.usefixtures("no_leaks")

PATIENCE_S = 30.0
RECORDS = {Key("app", "", f"k{number}"): b"v%d" % number for number in range(100)}


@contextmanager
def node(url: str) -> Iterator[Supervisor]:
    """A host with `RECORDS` in its store."""
    with Supervisor(url) as supervisor:
        supervisor.wait(supervisor.commit(RECORDS), PATIENCE_S)
        yield supervisor


def records(url: str) -> dict[Key, bytes]:
    view = open_view(url)
    try:
        return {entry.key: view.read(entry.key) for entry in view.entries()}
    finally:
        view.close()


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def pid_of(supervisor: Supervisor) -> int:
    pid = supervisor.health().pid
    assert pid is not None
    return pid


# -- backup -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("running", [True, False], ids=["in use", "closed"])
def test_a_backup(tmp_path: Path, run: Run, running: bool) -> None:
    """The node's worker makes it, or this command where there is none; the same comes out."""
    with node(f"sqlite://{tmp_path}/store") as supervisor:
        if running:
            ran = run("backup", "--json", f"sqlite://{tmp_path}/store", tmp_path / "backup")
            assert supervisor.health().restarts == 0
    if not running:
        ran = run("backup", "--json", f"sqlite://{tmp_path}/store", tmp_path / "backup")
    assert (ran.status, ran.err) == (0, "")
    report = ran.json
    assert (report["running"], report["last_commit"]) == (running, 1)
    assert report["size"] == (tmp_path / "backup" / "bgsuper.sqlite3").stat().st_size
    assert records(f"sqlite://{tmp_path}/backup") == RECORDS == records(f"sqlite://{tmp_path}/store")
    assert run("verify", f"sqlite://{tmp_path}/backup").status == 0


def test_in_words(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it holds; relative places are relative to where the command runs."""
    with node(f"sqlite://{tmp_path}/store"):
        monkeypatch.chdir(tmp_path)
        ran = run("backup", "sqlite:store", "backup")
    assert ran.status == 0
    assert "Backed up to" in ran.words
    assert "commit 1," in ran.words
    assert records("sqlite:backup") == RECORDS


@pytest.mark.parametrize("running", [True, False], ids=["in use", "closed"])
@pytest.mark.parametrize(
    ("dest", "says"),
    [
        ("full", "holds 'letters'|'letters' in it"),
        ("store/backup", "outside of the store"),
        ("no/where", "mount it first"),
    ],
)
def test_where_it_cannot_be(tmp_path: Path, run: Run, running: bool, dest: str, says: str) -> None:
    """One line, status 2, and nothing is made."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letters").write_text("mine")
    url = f"sqlite://{tmp_path}/store"
    with node(url):
        ran = run("backup", url, tmp_path / dest) if running else None
    ran = ran or run("backup", url, tmp_path / dest)
    assert ran.status == 2
    assert any(said in ran.refusal for said in says.split("|"))
    assert sorted(os.listdir(tmp_path)) == ["full", "store"]
    assert os.listdir(tmp_path / "full") == ["letters"]


def test_no_store_there(tmp_path: Path, run: Run) -> None:
    """A typing error is no new store."""
    ran = run("backup", f"sqlite://{tmp_path}/stroe", tmp_path / "backup")
    assert ran.status == 2
    assert ran.refusal
    assert os.listdir(tmp_path) == []


def test_no_backend_for_it(tmp_path: Path, run: Run) -> None:
    """What to do instead, in use or not."""
    url = f"file://{tmp_path}/store"
    with node(url):
        assert "bgsuper store copy" in run("backup", url, tmp_path / "backup").refusal
    assert "bgsuper store copy" in run("backup", url, tmp_path / "backup").refusal
    assert "memory" in run("backup", "memory:", tmp_path / "backup").refusal
    assert os.listdir(tmp_path) == ["store"]


@pytest.mark.parametrize("running", [True, False], ids=["in use", "closed"])
def test_a_sealed_store(tmp_path: Path, run: Run, running: bool) -> None:
    """Its values stay sealed; the same key opens the backup, and no other."""
    key_file = tmp_path / "key"
    key_file.write_bytes(os.urandom(32))
    key_file.chmod(0o600)
    url = f"sqlite://{tmp_path}/store?key-file={key_file}"
    with node(url):
        # The worker has the key: whoever asks for a backup needs none.
        ran = run("backup", f"sqlite://{tmp_path}/store", tmp_path / "backup") if running else None
    ran = ran or run("backup", url, tmp_path / "backup")
    assert ran.status == 0, ran
    assert records(f"sqlite://{tmp_path}/backup?key-file={key_file}") == RECORDS
    assert "sealed" in run("verify", f"sqlite://{tmp_path}/backup").refusal
    assert b"v99" not in (tmp_path / "backup" / "bgsuper.sqlite3").read_bytes()


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Plan]:
    """A plan of faults, by which the store at `sqlite://tmp_path/store?faults=tmp_path/plan` is slow to sync."""
    with Plan.create(tmp_path / "plan") as plan:
        yield plan


def begin_slowly(url: str, tmp_path: Path, supervisor: Supervisor, plan: Plan) -> subprocess.Popen[str]:
    """The command, on a store of some size with slow syncs; its backup has begun, and will not end soon."""
    for number in range(8):
        supervisor.commit({Key("app", "", f"large{number}"): os.urandom(1 << 20)})
    supervisor.wait(supervisor.health().submitted, PATIENCE_S)
    plan.sync_delay_ns = 50_000_000
    command = subprocess.Popen(
        [sys.executable, "-m", "bgsuper.cli", "store", "backup", url, str(tmp_path / "backup")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    file = tmp_path / "backup.partial" / "bgsuper.sqlite3.partial"
    eventually(lambda: file.exists() and file.stat().st_size)
    return command


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_the_worker_ends_meanwhile(tmp_path: Path, run: Run, slow: Plan, how: str) -> None:
    """One line; the next backup to the same place removes what a killed one left."""
    url = f"sqlite://{tmp_path}/store?faults={tmp_path}/plan"
    with node(url) as supervisor:
        command = begin_slowly(url, tmp_path, supervisor, slow)
        if how == "killed":
            os.kill(pid_of(supervisor), signal.SIGKILL)
        else:
            supervisor.stop(PATIENCE_S)
        _, said = command.communicate(timeout=PATIENCE_S)
        assert command.returncode == 2
        assert "hung up" in said
        assert said.count("\n") == 1
        slow.sync_delay_ns = 0
        assert (tmp_path / "backup.partial").exists() is (how == "killed")
        if how == "killed":
            supervisor.wait(supervisor.commit({}), PATIENCE_S)
            assert run("backup", url, tmp_path / "backup").status == 0
            assert not (tmp_path / "backup.partial").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_who_asked_is_gone(tmp_path: Path, slow: Plan, number: signal.Signals) -> None:
    """Ctrl-C at the command, or worse: the worker gives the backup up, leaves nothing of it, and lives on."""
    url = f"sqlite://{tmp_path}/store?faults={tmp_path}/plan"
    with node(url) as supervisor:
        command = begin_slowly(url, tmp_path, supervisor, slow)
        command.send_signal(number)
        command.communicate(timeout=PATIENCE_S)
        assert command.returncode == (130 if number is signal.SIGINT else -number)
        eventually(lambda: not (tmp_path / "backup.partial").exists())
        assert supervisor.health().restarts == 0
    assert not (tmp_path / "backup").exists()


def test_ctrl_c_without_a_node(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 130, nothing is left, and the store is closed."""
    url = f"sqlite://{tmp_path}/store"
    with node(url):
        pass

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bgsuper.cli.store.backup.time.sleep", interrupted)
    ran = run("backup", url, tmp_path / "backup")
    assert ran.status == 130
    assert os.listdir(tmp_path) == ["store"]
    assert records(url) == RECORDS


# -- info of a store in use ------------------------------------------------------------------------------------------


def test_info_through_the_worker(tmp_path: Path, run: Run) -> None:
    """Which store, how far, whose, and what it does."""
    url = f"sqlite://{tmp_path}/store"
    with node(url) as supervisor:
        told = run("info", "--json", url).json
        health = supervisor.health()
        assert (told["pid"], told["host"]) == (health.pid, os.getpid())
        assert (told["epoch"], told["last_commit"], told["sealed"]) == (health.epoch, 1, False)
        assert told["phase"] in ("idle", "checkpoint")  # it may just be doing its chores
        assert told["wal_bytes"] >= 0
        assert 0 < told["uptime_s"] < 60
        assert run("info", url).status == 0
    view = open_view(url)
    assert view.identity.store_id.hex() == told["store_id"]
    view.close()


def test_info_of_a_running_file_store(tmp_path: Path, run: Run) -> None:
    """The same, but for what only SQLite has."""
    url = f"file://{tmp_path}/store"
    with node(url) as supervisor:
        told = run("info", "--json", url).json
        assert (told["pid"], told["epoch"], told["last_commit"]) == (supervisor.health().pid, 1, 1)
        assert "last commit" in run("info", url).out


def test_info_of_a_sealed_one_needs_no_key(tmp_path: Path, run: Run) -> None:
    """Nothing that it says is a secret."""
    key_file = tmp_path / "key"
    key_file.write_bytes(os.urandom(32))
    key_file.chmod(0o600)
    with node(f"sqlite://{tmp_path}/store?key-file={key_file}"):
        told = run("info", "--json", f"sqlite://{tmp_path}/store").json
    assert (told["sealed"], told["last_commit"]) == (True, 1)


def test_a_worker_that_does_not_answer(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line in bounded time."""
    monkeypatch.setattr(live, "ANSWER_S", 0.2)
    url = f"sqlite://{tmp_path}/store"
    with node(url) as supervisor:
        freeze(supervisor)
        try:
            ran = run("info", url)
        finally:
            thaw(supervisor)
        assert (ran.status, "did not answer within 0.2 s" in ran.refusal) == (2, True)


def test_without_a_socket_the_lock_says_who(tmp_path: Path, run: Run) -> None:
    """Somebody removed it, or it could not be made."""
    url = f"sqlite://{tmp_path}/store"
    with node(url) as supervisor:
        (tmp_path / "store" / "control").unlink()
        for ran in (run("info", url), run("backup", url, tmp_path / "backup")):
            assert ran.status == 2
            assert str(pid_of(supervisor)) in ran.refusal
        assert not (tmp_path / "backup").exists()


def test_a_directory_with_a_long_name(tmp_path: Path, run: Run) -> None:
    """Longer than any address of a socket."""
    directory = tmp_path.joinpath(*["d" * 60] * 4)
    directory.mkdir(parents=True)
    url = f"sqlite://{directory}/store"
    with node(url):
        assert run("info", "--json", url).json["last_commit"] == 1
        assert run("backup", "--json", url, directory / "backup").json["running"] is True


def test_what_is_no_worker(tmp_path: Path, run: Run) -> None:
    """Whatever listens there and answers nonsense is one line."""
    url = f"sqlite://{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "control"))
        listener.listen()

        def answer() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(100)
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n")

        thread = Thread(target=answer)
        thread.start()
        ran = run("backup", url, tmp_path / "backup")
        thread.join()
    assert (ran.status, "magic" in ran.refusal) == (2, True)
