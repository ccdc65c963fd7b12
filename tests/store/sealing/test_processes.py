"""Sealed stores under real supervisors and workers: killed, replaced, opened again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgsuper import Key, Supervisor
from bgsuper.errors import BgsuperError, ConfigError, StoreSealed
from bgsuper.key import NETWORK_GRAPH

from ...supervisor.hosts import PATIENCE_S, QUICK, eventually, pid_of, send
from .keys import MATERIAL, OTHER, key_file, shows

pytestmark = pytest.mark.usefixtures("no_leaks")

#: Found nowhere by chance.
SECRET = b"a distinctive plaintext"
QUERIES = ("?key-file={0}/key", "?key-env=BGSUPER_TEST_KEY", "?key-file={0}/key&compress=zstd")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the same key in a file and in the environment, and others."""
    key_file(tmp_path / "key")
    key_file(tmp_path / "other", OTHER)
    monkeypatch.setenv("BGSUPER_TEST_KEY", MATERIAL.hex())
    monkeypatch.setenv("BGSUPER_OTHER_KEY", OTHER.hex())
    return tmp_path


def supervisor(place: Path, query: str) -> Supervisor:
    return Supervisor(f"sqlite:{place}/store{query.format(place)}", restart=QUICK)


def name(number: int) -> Key:
    return Key("app", "", f"k{number:03}")


def files(place: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file of the store."""
    for path in (place / "store").rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


def show_secret(place: Path) -> list[Path]:
    return [path for path, content in files(place) if SECRET in content]


@pytest.mark.parametrize("query", QUERIES)
def test_a_life_with_deaths(place: Path, query: str) -> None:
    """Commits, snapshots, reads; the worker is killed between, and its successor finds the key again. Nobody who looks
    at the files sees a value, at any moment looked at."""
    with supervisor(place, query) as alive:
        for number in range(30):
            if number % 10 == 5:
                send(alive, signal.SIGKILL)
            seq = alive.commit({name(number): SECRET + b"%d" % number})
            if number % 7 == 0:
                alive.snapshot(NETWORK_GRAPH, [SECRET * 20_000])
            if number % 10 == 4:
                alive.wait(seq, PATIENCE_S)
        alive.wait(alive.snapshot(NETWORK_GRAPH, [SECRET * 20_000]), PATIENCE_S)
        assert show_secret(place) == []
        assert any("wal" in path.name for path, _ in files(place))
        assert dict(alive.scan("app")) == {name(number): SECRET + b"%d" % number for number in range(30)}
        assert alive.read(NETWORK_GRAPH) == SECRET * 20_000
        eventually(lambda: alive.health().restarts == 3)
    assert show_secret(place) == []
    with supervisor(place, query) as again:
        assert again.read(name(29)) == SECRET + b"29"
        assert again.read(NETWORK_GRAPH) == SECRET * 20_000


def test_what_is_killed_before_its_ack_is_sealed_as_well(place: Path) -> None:
    """What was submitted before the death is replayed to the successor and sealed there, under a salt of its own."""
    with supervisor(place, QUERIES[0]) as alive:
        os.kill(pid_of(alive), signal.SIGSTOP)
        for number in range(10):
            seq = alive.commit({name(number): SECRET})
        send(alive, signal.SIGKILL)
        alive.wait(seq, PATIENCE_S)
        assert len(dict(alive.scan("app"))) == 10
    assert show_secret(place) == []


@pytest.mark.parametrize(
    ("before", "after", "hint"),
    [
        (QUERIES[0], "", "no key was given"),
        (QUERIES[0], "?key-file={0}/other", "another key"),
        (QUERIES[0], "?key-env=BGSUPER_OTHER_KEY", "another key"),
        ("", QUERIES[0], "is not sealed"),
    ],
)
def test_the_wrong_key(place: Path, before: str, after: str, hint: str) -> None:
    """StoreSealed out of start(), and not a byte of the store changed."""
    with supervisor(place, before) as one:
        one.commit({name(1): SECRET})
        one.snapshot(NETWORK_GRAPH, [SECRET])
    was = {path: content for path, content in files(place) if path.name != "lock"}
    with pytest.raises(StoreSealed, match=hint) as caught:
        supervisor(place, after).start(PATIENCE_S)
    assert not shows(repr(caught.value) + str(caught.value.__cause__))
    assert {path: content for path, content in files(place) if path.name != "lock"} == was
    with supervisor(place, before) as again:
        assert again.read(name(1)) == SECRET


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("?key-file={0}/readable", "chmod 600"),
        ("?key-file={0}/missing", "cannot be read"),
        ("?key-file={0}/short", "it has 30 bytes"),
        ("?key-env=BGSUPER_NO_SUCH_KEY", "not set"),
        ("?key-env=" + MATERIAL.hex(), "takes the name"),
        ("?key-file={0}/key&key-env=BGSUPER_TEST_KEY", "leave one of them out"),
        ("?compress=zstd", "goes with a key"),
    ],
)
def test_a_key_that_is_none(place: Path, query: str, hint: str) -> None:
    """ConfigError out of start(), at once; nothing is made at the store's place, and no word, no report and no log
    shows a key."""
    key_file(place / "readable", mode=0o644)
    key_file(place / "short", MATERIAL[:30])
    one = supervisor(place, query)
    with pytest.raises(ConfigError, match=hint) as caught:
        one.start(PATIENCE_S)
    said = (caught.value, caught.value.__cause__, caught.value.args, one.health_log())
    assert not any(shows(f"{thing!r} {thing}") for thing in said)
    assert not (place / "store").exists()


@pytest.mark.parametrize("query", QUERIES)
def test_health_shows_no_key(place: Path, query: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the report, nor its log, nor what was logged, nor the repr, a death included."""
    caplog.set_level(1)
    with supervisor(place, query) as alive:
        send(alive, signal.SIGKILL)
        alive.wait(alive.commit({name(1): SECRET}), PATIENCE_S)
        eventually(lambda: alive.health().restarts == 1)
        told = f"{alive.health()!r} {alive.health()} {alive.health_log()!r} {alive!r} {caplog.text}"
    assert not shows(told)
    assert "BGSUPER_TEST_KEY" not in told or "key-env" in query


def test_a_key_that_is_gone_when_a_successor_needs_it(place: Path) -> None:
    """It must stay where it is: the error says which file is missing, and what was acknowledged is there once it is
    back."""
    alive = supervisor(place, QUERIES[0])
    alive.start(PATIENCE_S)
    alive.wait(alive.commit({name(1): SECRET}), PATIENCE_S)
    (place / "key").rename(place / "away")
    send(alive, signal.SIGKILL)
    with pytest.raises(ConfigError, match="key"):
        alive.wait(alive.commit({name(2): SECRET}), PATIENCE_S)
    with pytest.raises(BgsuperError):
        alive.stop(PATIENCE_S)
    (place / "away").rename(place / "key")
    with supervisor(place, QUERIES[0]) as again:
        assert again.read(name(1)) == SECRET
