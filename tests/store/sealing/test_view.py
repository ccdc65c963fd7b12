"""A sealed store looked into: values come out opened, tampering is told apart from damage."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bgsuper.errors import ConfigError, NotFound, StoreCorrupt, StoreSealed, StoreTampered
from bgsuper.key import Key, Seq
from bgsuper.store.api import Damage, Entry, StoreView, Value
from bgsuper.store.copying import copy_values, prove_equal
from bgsuper.store.filesystem.store import FilesystemStore
from bgsuper.store.identity import Identity
from bgsuper.store.schemes import Opening, make_store, open_view
from bgsuper.store.sealed_form import OVERHEAD_BYTES, looks_sealed
from bgsuper.store.sealing import sealer as module
from bgsuper.store.sealing.sealer import Sealer
from bgsuper.store.sealing.view import SealedView
from bgsuper.store.sqlite import SQLiteStore
from bgsuper.store.url import parse

from ..stores import GRAPH, MANAGER, commit, key
from .keys import OTHER, key_file, sealer

IDENTITY = Identity(b"i" * 16, 3, Seq(7), Seq(8), sealer().fingerprint)


class Backend:
    """A `StoreView` of what it is given; a Damage in a value's place is damage."""

    identity = IDENTITY

    def __init__(self, *held: Value | Damage) -> None:
        self._held = held
        self.closed = False

    def facts(self) -> Mapping[str, object]:
        return {"path": "/x"}

    def entries(self) -> Iterator[Entry]:
        for value in self._held:
            if isinstance(value, Damage):
                raise StoreCorrupt(value.text)
            yield Entry(value.key, len(value.content), value.seq)

    def read(self, key: Key) -> bytes:
        for value in self._held:
            if value.key == key:
                if isinstance(value, Damage):
                    raise StoreCorrupt(value.text)
                return value.content
        raise NotFound(f"there is no record {key}")

    def examine(self) -> Iterator[Value | Damage]:
        yield from self._held

    def close(self) -> None:
        self.closed = True


def sealed(name: Key, content: bytes, seq: int | None = None) -> Value:
    return Value(name, None if seq is None else Seq(seq), sealer().seal(name, content))


def test_values_come_out_opened() -> None:
    """By read and by examine, with the numbers of snapshots."""
    view: StoreView = SealedView(Backend(sealed(MANAGER, b"m"), sealed(GRAPH, b"g", 8)), sealer())
    assert view.read(MANAGER) == b"m"
    assert list(view.examine()) == [Value(MANAGER, None, b"m"), Value(GRAPH, Seq(8), b"g")]
    with pytest.raises(NotFound):
        view.read(key("none"))


def test_all_else_is_the_backends() -> None:
    """Identity, entries with the lengths as stored, facts, the end."""
    value, backend = sealed(GRAPH, b"g", 8), Backend(sealed(GRAPH, b"g", 8))
    view = SealedView(backend, sealer())
    assert view.identity == IDENTITY
    assert list(view.entries()) == [Entry(GRAPH, len(value.content), Seq(8))]
    assert view.facts() == {"path": "/x", "sealing": "ChaCha20-Poly1305"}
    view.close()
    assert backend.closed


def test_examine_goes_on_after_tampering_and_damage() -> None:
    """Each is told in its own words: what the backend found damaged is the disk's doing, the rest is somebody's."""
    held = [
        sealed(key("a"), b"a"),
        Damage(key("b"), "the record channels/b does not match its checksum"),
        sealed(key("a"), b"moved")._replace(key=key("c")),
        Value(key("d"), None, b"plain"),
        Value(key("e"), None, sealer(OTHER).seal(key("e"), b"other key")),
        Value(key("f"), None, b"\xb5\x09" + bytes(100)),
        sealed(key("g"), b"g"),
    ]
    found = list(SealedView(Backend(*held), sealer()).examine())
    assert [thing.key for thing in found] == [key(name) for name in "abcdefg"]
    whole = {thing.key.name: thing.content for thing in found if isinstance(thing, Value)}
    assert whole == {"a": b"a", "g": b"g"}
    texts = {str(thing.key.name): thing.text for thing in found if isinstance(thing, Damage) and thing.key}
    assert texts["b"] == "the record channels/b does not match its checksum"
    for name in "cde":
        assert texts[name].startswith(f"tampered with: the value of channels/{name} is not what")
    assert "upgrade bgsuper" in texts["f"]


def test_reading_what_was_tampered_with() -> None:
    """StoreTampered, with the key; damage stays StoreCorrupt."""
    view = SealedView(Backend(Value(key("a"), None, b"plain"), Damage(key("b"), "gone")), sealer())
    with pytest.raises(StoreTampered, match="channels/a"):
        view.read(key("a"))
    with pytest.raises(StoreCorrupt, match="gone"):
        view.read(key("b"))


def test_a_missing_package_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a salvage without zstandard would give up every compressed value."""

    def missing() -> None:
        raise ConfigError("pip install 'bgsuper[seal]'")

    value = sealer(compress=True).seal(MANAGER, bytes(1000))
    monkeypatch.setattr(module, "_zstd", missing)
    with pytest.raises(ConfigError):
        list(SealedView(Backend(Value(MANAGER, None, value)), sealer()).examine())


# -- on a disk ---------------------------------------------------------------------------------------------------------

CONTENT = {key("a"): b"a" * 2000, key("b"): b"b" * 2000, MANAGER: b"m", GRAPH: b"g" * 600_000}
MAKES = {"sqlite": SQLiteStore, "file": FilesystemStore}


@pytest.fixture(params=["sqlite", "file"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def location(directory: Path, scheme: str, which: str = "key", place: str = "store") -> str:
    """The URL of a store sealed with one of two keys."""
    key_file(directory / "key")
    key_file(directory / "new", OTHER)
    return f"{scheme}:{directory}/{place}?key-file={directory}/{which}"


def written(url: str) -> None:
    """A store with `CONTENT`, the graph as a snapshot."""
    store = make_store(parse(url), Opening(os.getpid()))
    store.open()
    store.apply([commit(1, {name: content for name, content in CONTENT.items() if name != GRAPH})])
    store.adopt_snapshot(store.write_snapshot(GRAPH, Seq(2), CONTENT[GRAPH]))
    store.close()


def test_whoever_writes_without_the_key_is_found_out(tmp_path: Path, scheme: str) -> None:
    """They know the format, and the fingerprint, which is no secret, and give the backend what it takes for whole: a
    value under another name, a plain one, one under a key of their own. Each is told, by its name, as tampering."""
    url = location(tmp_path, scheme)
    written(url)
    forger = MAKES[scheme](tmp_path / "store", host_pid=os.getpid(), seal=sealer().fingerprint)
    forger.open()
    forger.apply([commit(3, {key("b"): forger.read(key("a")), MANAGER: b"plain"})])
    forger.adopt_snapshot(forger.write_snapshot(GRAPH, Seq(4), sealer(OTHER).seal(GRAPH, b"theirs")))
    forger.close()
    view = open_view(url)
    assert view.read(key("a")) == CONTENT[key("a")]
    found = list(view.examine())
    assert [thing for thing in found if isinstance(thing, Value)] == [Value(key("a"), None, CONTENT[key("a")])]
    told = {thing.key: thing.text for thing in found if isinstance(thing, Damage)}
    assert set(told) == {key("b"), MANAGER, GRAPH}
    assert all("tampered with" in text for text in told.values())
    view.close()
    store = make_store(parse(url), Opening(os.getpid()))
    store.open()
    for name in told:
        with pytest.raises(StoreTampered, match=name.name):
            store.read(name)
    store.close()


def test_a_flipped_byte_on_the_disk_is_damage(tmp_path: Path, scheme: str) -> None:
    """Of a snapshot, of a record: nobody is accused."""
    url = location(tmp_path, scheme)
    written(url)
    for path in (tmp_path / "store").rglob("*"):
        content = bytearray(path.read_bytes()) if path.is_file() else bytearray()
        if len(content) > 500_000:
            content[1000] ^= 1
            path.write_bytes(content)
    view = open_view(url)
    told = [thing for thing in view.examine() if isinstance(thing, Damage)]
    assert [thing.key for thing in told] == [GRAPH]
    assert "tampered" not in told[0].text
    with pytest.raises(StoreCorrupt):
        view.read(GRAPH)
    view.close()


def lose_identity(directory: Path, scheme: str) -> None:
    if scheme == "file":
        path = directory / "bgsuper.redo.tmp"
        path.write_bytes(path.read_bytes()[:-1])
        return
    database = sqlite3.connect(directory / "bgsuper.sqlite3")
    database.execute("UPDATE meta SET identity = zeroblob(50)")
    database.commit()
    database.close()


def test_a_lost_identity_does_not_unseal(tmp_path: Path, scheme: str) -> None:
    """Without the key every sealed value is damage that says what is missing, and nothing is read; with the key each
    proves itself."""
    url = location(tmp_path, scheme)
    written(url)
    lose_identity(tmp_path / "store", scheme)
    view = open_view(f"{scheme}:{tmp_path}/store")
    found = list(view.examine())
    assert not [thing for thing in found if isinstance(thing, Value)]
    told = {thing.key: thing.text for thing in found if isinstance(thing, Damage) and thing.key}
    assert told.keys() == CONTENT.keys()
    assert all("seems to be sealed" in text and "key-file" in text for text in told.values())
    with pytest.raises(StoreCorrupt):
        view.read(MANAGER)
    with pytest.raises(StoreCorrupt):
        list(view.entries())
    view.close()
    with_key = open_view(url)
    assert {thing.key: thing.content for thing in with_key.examine() if isinstance(thing, Value)} == CONTENT
    with_key.close()


def test_sealed_files_that_nothing_belongs_to(tmp_path: Path) -> None:
    """Copied without their attributes, the lock and the redo file, they lie as LDK's would: they are no values."""
    (tmp_path / "manager").write_bytes(sealer().seal(MANAGER, b"m"))
    (tmp_path / "scorer").write_bytes(b"LDK wrote this")
    view = open_view(f"file:{tmp_path}")
    assert [type(thing) for thing in view.examine()] == [Damage, Value]
    with pytest.raises(StoreSealed, match="seems to be sealed"):
        view.read(MANAGER)
    view.close()


@pytest.mark.parametrize("size", [0, 1, 1000, 300_000])
def test_what_looks_sealed(size: int) -> None:
    """Whatever was sealed, compressed or not, and by a later version; nothing shorter, and no bytes that merely begin
    like it."""
    for compress in (False, True):
        value = sealer(compress=compress).seal(MANAGER, bytes(size))
        assert looks_sealed(value)
        assert looks_sealed(value[:1] + b"\x09" + value[2:])
        assert not looks_sealed(value[: OVERHEAD_BYTES - 1])
        assert not looks_sealed(b"\xb4" + value[1:])
    assert not looks_sealed(b"\xb5" * (size + 100))


def test_what_memory_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened, or as it lies: that value is a finding, and the next one comes."""
    held, opening = [sealed(key("a"), b"a"), sealed(key("b"), b"b")], Sealer.open

    def fails_once(self: Sealer, name: Key, content: bytes) -> bytes:
        if name == key("a"):
            raise MemoryError
        return opening(self, name, content)

    monkeypatch.setattr(Sealer, "open", fails_once)
    damage, value = SealedView(Backend(*held), sealer()).examine()
    assert value == Value(key("b"), None, b"b")
    assert isinstance(damage, Damage)
    assert damage.key == key("a")
    assert "does not fit into memory" in damage.text


def test_another_key_by_copy(tmp_path: Path, scheme: str) -> None:
    """Rotation: a copy opens with the new key alone, is proved equal, and goes on as the same store."""
    written(location(tmp_path, scheme))
    source = open_view(location(tmp_path, scheme))
    new = location(tmp_path, "sqlite", "new", "copy")
    target = make_store(parse(new), Opening(os.getpid()))
    target.open()
    copy_values(source, target, lambda *_: None)
    target.close()
    copied = open_view(new)
    prove_equal(source, copied, lambda *_: None)
    assert copied.identity.store_id == source.identity.store_id
    assert copied.identity.seal == sealer(OTHER).fingerprint != source.identity.seal
    source.close()
    copied.close()
    with pytest.raises(StoreSealed, match="another key"):
        open_view(location(tmp_path, "sqlite", "key", "copy"))
