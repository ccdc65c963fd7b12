"""Cases: what was put is read, what was removed is not, and names are kept apart."""

from __future__ import annotations

from random import Random
from string import ascii_letters, digits
from typing import Final

from ...errors import NotFound
from ...key import Key
from .backend import Backend, found, listed, put
from .rules import case, expect, expect_raises, expect_same

MIB: Final = 1024 * 1024
A: Final = Key("app", "", "a")
B: Final = Key("app", "", "b")


@case
def an_absent_key_is_not_found(backend: Backend) -> None:
    """Reading a key that is absent raises `NotFound`."""
    with backend.store() as store:
        expect_raises(NotFound, lambda: store.read(A), "reading in an empty store")
        put(store, 1, (B, b"b"), (Key("app", "", "aa"), b"aa"), (Key("app", "sub", "a"), b"elsewhere"))
        for key in (A, Key("app", "", "a-"), Key("app", "other", "a"), Key("nowhere", "", "b"), Key("", "", "b")):
            expect_raises(NotFound, lambda key=key: store.read(key), f"reading the absent {key}")  # type: ignore[misc]


@case
def what_was_put_is_read(backend: Backend) -> None:
    """Each key of a batch has its value, byte for byte."""
    puts = {
        A: bytes(range(256)),
        B: b"\0",
        Key("", "", "top"): b"\r\n",
        Key("app", "sub", "a"): b"\xff\xfe",
        Key("app", "sub", "b"): "ä€".encode(),
        Key("other", "", "a"): b" ",
    }
    with backend.store() as store:
        put(store, 1, *puts.items())
        for key, value in puts.items():
            expect_same(f"the value of {key}", value, found(store, key))
        expect(isinstance(store.read(A), bytes), f"read() returned {type(store.read(A)).__name__}, not bytes")


@case
def a_later_put_replaces(backend: Backend) -> None:
    """A put of a key that is there replaces its value, whether that is longer, shorter, empty or the same."""
    with backend.store() as store:
        for seq, value in enumerate((b"first", b"", b"x" * 5000, b"y", b"y", b"second"), start=1):
            put(store, seq, (A, value))
            expect_same(f"the value of {A} after put {seq}", value, found(store, A))
            expect_same("the namespace", [(A, value)], listed(store, "app"))


@case
def a_removed_key_is_absent(backend: Backend) -> None:
    """A key that was removed is absent, for reads and scans alike, until it is put again."""
    with backend.store() as store:
        put(store, 1, (A, b"1"), (B, b"1"))
        put(store, 2, removes=[A])
        expect_raises(NotFound, lambda: store.read(A), f"reading the removed {A}")
        expect_same("the namespace", [(B, b"1")], listed(store, "app"))
        put(store, 3, (A, b"3"))
        expect_same(f"the value of {A}, put again", b"3", found(store, A))


@case
def removing_an_absent_key_is_nothing(backend: Backend) -> None:
    """Removing is idempotent: an absent key may be removed, beside whatever else is in the batch."""
    with backend.store() as store:
        put(store, 1, removes=[A])
        put(store, 2, (B, b"2"), removes=[A, Key("nowhere", "at-all", "x")])
        put(store, 3, removes=[B])
        put(store, 4, (A, b"4"), removes=[B])
        expect_same("what is left", [(A, b"4")], listed(store, "app"))


@case
def removes_come_after_puts(backend: Backend) -> None:
    """A key that one batch both puts and removes is absent afterwards."""
    with backend.store() as store:
        put(store, 1, (A, b"1"), (B, b"1"), removes=[A])
        expect_same(f"the value of {A}, put and removed by one batch", None, found(store, A))
        put(store, 2, (B, b"2"), removes=[B])
        expect_same(f"the value of {B}, there before, put and removed by one batch", None, found(store, B))
        expect_same("the namespace", [], listed(store, "app"))


@case
def an_empty_value_is_a_value(backend: Backend) -> None:
    """A value of no bytes is read as such; its key is not absent."""
    with backend.store() as store:
        put(store, 1, (A, b""))
        expect_same(f"the value of {A}", b"", found(store, A))
        expect_same("the namespace", [(A, b"")], listed(store, "app"))


@case
def a_large_value_is_whole(backend: Backend) -> None:
    """Values of several MiB come back whole, alone and beside small ones."""
    values = [Random(1).randbytes(5 * MIB), bytes(3 * MIB + 1)]
    with backend.store() as store:
        put(store, 1, (A, values[0]), (B, b"small"), (Key("app", "", "c"), values[1]))
        for key, value in ((A, values[0]), (B, b"small"), (Key("app", "", "c"), values[1])):
            expect_same(f"the value of {key}", value, found(store, key))
        put(store, 2, (A, values[1]))
        expect_same(f"the value of {A}, replaced", values[1], found(store, A))
        expect_same("the page that begins with it", [(A, values[1])], store.scan("app", "", "", 10)[:1])


@case
def names_may_have_120_characters(backend: Backend) -> None:
    """Each part of a key may have 120 characters, and the last of them counts."""
    long = "n" * 119
    keys = [
        Key(long + "x", long + "x", long + "x"),
        Key(long + "x", long + "x", long + "y"),
        Key(long + "x", long + "y", long + "x"),
        Key(long + "y", long + "x", long + "x"),
        Key("", "", long + "z"),
    ]
    with backend.store() as store:
        put(store, 1, *((key, b"%d" % number) for number, key in enumerate(keys)))
        for number, key in enumerate(keys):
            expect_same(f"the value of the key number {number}", b"%d" % number, found(store, key))
        expect_same("their namespace", keys[:2], [key for key, _ in listed(store, *keys[0][:2])])
        put(store, 2, removes=keys[1:])
        expect_same("what is left", b"0", found(store, keys[0]))


@case
def every_character_counts(backend: Backend) -> None:
    """Names may consist of any of the characters A-Z, a-z, 0-9, _ and -, and differ in case alone."""
    names = [*ascii_letters, *digits, "_", "-", "--", "Name", "name", "NAME", "-rf", "con", "tmp", "lock"]
    with backend.store() as store:
        put(store, 1, *((Key("app", "", name), name.encode()) for name in names))
        for name in names:
            expect_same(f"the value of {name!r}", name.encode(), found(store, Key("app", "", name)))
        expect_same("how many names are listed", len(names), len(listed(store, "app")))


@case
def namespaces_are_separate(backend: Backend) -> None:
    """The same name in another namespace is another key."""
    spaces = [("", ""), ("p", ""), ("p", "s"), ("p", "t"), ("ps", ""), ("s", ""), ("s", "p"), ("p-s", "")]
    with backend.store() as store:
        put(store, 1, *((Key(*space, "name"), repr(space).encode()) for space in spaces))
        for space in spaces:
            key = Key(*space, "name")
            expect_same(f"the namespace {space}", [(key, repr(space).encode())], listed(store, *space))
            expect_same(f"the value of {key}", repr(space).encode(), found(store, key))
        put(store, 2, removes=[Key("p", "s", "name")])
        left = [space for space in spaces if found(store, Key(*space, "name")) is not None]
        expect_same("who is left after one was removed", [space for space in spaces if space != ("p", "s")], left)


CASES = (
    an_absent_key_is_not_found,
    what_was_put_is_read,
    a_later_put_replaces,
    a_removed_key_is_absent,
    removing_an_absent_key_is_nothing,
    removes_come_after_puts,
    an_empty_value_is_a_value,
    a_large_value_is_whole,
    names_may_have_120_characters,
    every_character_counts,
    namespaces_are_separate,
)
