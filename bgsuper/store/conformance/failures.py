"""Cases: what cannot be read is an error of its own, and a group that cannot be written leaves nothing.

A store that takes a failed read for an absent key starts an empty node, and may write it over the good one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Final

from ...errors import NotFound, StoreError
from ...key import Key
from ..api import Store
from .backend import Backend, found, listed, put, set_snapshot
from .child import ABSENT, ERROR, OTHER, ROOM_BYTES, WHOLE
from .process import Child
from .records import MIB, A, B
from .rules import Finding, case, expect, expect_same, kind_of, shown
from .snapshots import GRAPH

#: Where in a value its bytes are looked for on the disk, and how many: less than what a page of a file holds.
_OFFSETS: Final = (1_000, 9_000, 30_000)
_SLICE: Final = 24
#: Where a file is damaged whose bytes tell nothing, being sealed or compressed: so many places in each.
_PLACES: Final = 8
_SEEN: Final = {WHOLE: "the value", ERROR: "an error", ABSENT: "absent", OTHER: "other bytes"}


@case
def damage_is_not_absence(backend: Backend) -> None:
    """A value whose bytes were damaged on the disk is a `StoreError`, from `open()`, `read()` or `scan()`: never
    `NotFound`, never left out of a page; and never other bytes than were put, where the backend claims checksums."""
    backend.must_survive()
    values = {A: Random(6).randbytes(40_000), GRAPH: Random(7).randbytes(40_000)}
    original = backend.path / "original"
    original.mkdir()
    with replace(backend, directory=original).store() as store:
        put(store, 1, (A, values[A]), (B, b"b"))
        set_snapshot(store, 2, GRAPH, values[GRAPH])
    for number, (file, places) in enumerate(_damages(original, values)):
        trial = backend.path / f"trial{number}"
        shutil.copytree(original, trial)
        _flip(trial / file, places)
        try:
            _look(replace(backend, directory=trial), values)
        except Finding as finding:
            raise Finding(f"with {file} damaged at byte {places[0]}, {finding}") from finding
        shutil.rmtree(trial)


def _damages(directory: Path, values: dict[Key, bytes]) -> Iterator[tuple[Path, list[int]]]:
    """Files below `directory`, and where to damage them: in the values, or anywhere if those cannot be made out."""
    files = {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    for value in values.values():
        slices = [value[offset : offset + _SLICE] for offset in _OFFSETS]
        places = [(file, [at for at in map(content.find, slices) if at >= 0]) for file, content in files.items()]
        within = [(file, found) for file, found in places if found]
        if within:
            yield from within
        else:
            for file, content in files.items():
                yield from ((file, [len(content) * n // _PLACES]) for n in range(_PLACES) if content)


def _flip(file: Path, places: list[int]) -> None:
    content = bytearray(file.read_bytes())
    for place in places:
        content[place] ^= 0x10
    file.write_bytes(content)


def _look(backend: Backend, values: dict[Key, bytes]) -> None:
    store = backend.make()
    try:
        try:
            store.open()
        except NotFound as error:
            raise Finding(f"open() raised {kind_of(error)}") from error
        except StoreError:
            return
        for key, value in values.items():
            _look_at(store, key, value, backend.checksums)
    finally:
        store.close()


def _look_at(store: Store, key: Key, value: bytes, checksums: bool) -> None:
    try:
        read = store.read(key)
    except NotFound:
        raise Finding(f"reading {key} raised NotFound, as if nobody had ever put it") from None
    except StoreError:
        pass
    else:
        expect(read == value or not checksums, f"reading {key} returned other bytes than were put")
    try:
        page = dict(listed(store, *key[:2]))
    except StoreError:
        return
    expect(key in page, f"{key} is left out of its namespace, as if nobody had ever put it")
    expect(page[key] == value or not checksums, f"scanning gave other bytes for {key} than were put")


@case
def a_failed_read_is_not_absence(backend: Backend) -> None:
    """A read or scan that fails, for want of descriptors say, raises a `StoreError` other than `NotFound`, leaves
    nothing out, and succeeds when the want is over."""
    backend.must_survive()
    with backend.store() as store:
        put(store, 1, (A, b"a"))
        set_snapshot(store, 2, GRAPH, bytes(MIB))
    with Child.running(backend, "starve") as child:
        child.report("opening")
        child.report("opened")
        for allowed, when in (((WHOLE, ERROR), "without descriptors"), ((WHOLE,), "with descriptors again")):
            for key in (A, GRAPH):
                for word in ("read", "scan"):
                    [seen] = child.report(word)
                    expect(seen in allowed, f"{word}() {when}: {key} is {_SEEN[seen]}")
        child.report("done")


@case
def a_group_that_fails_leaves_nothing(backend: Backend) -> None:
    """When `apply()` raises, it raises a `StoreError`, and none of its group is there for whoever still reads; once the
    process is dead the group is there wholly or not at all."""
    backend.must_survive()
    with backend.store() as store:
        put(store, 1, (A, b"a"), (B, b"b"))
        atomic = store.atomic
    with Child.running(backend, "overfill") as child:
        child.report("opening")
        child.report("opened")
        line = child.line(60.0)
        refused = line == "refused"
        if line is None:
            child.check_end()
        expect(refused or line == "durable", f"where no file may grow by more than {ROOM_BYTES} bytes: {line}")
        for word in ("read", "scan") if refused else ():
            [seen] = child.report(word)
            expect(seen in (WHOLE, ERROR), f"after apply() raised, a {word} finds {_SEEN[seen]} for what was before")
        child.kill()
    before = [(A, b"a"), (B, b"b")]
    after = [(A, b"\3" * MIB), (B, b"b"), *((A._replace(name=f"new{n}"), b"new") for n in (1, 2, 3))]
    with backend.opened() as (store, claims):
        records, last = listed(store, "app"), int(claims.last_commit)
        if not refused:
            expect_same("what apply() returned for", (4, after), (last, records))
        elif atomic:
            whole = (last, records) in ((1, before), (4, after))
            lengths = {key.name: len(value) for key, value in records}
            expect(whole, f"a part of the group: last_commit {last}, and values of these lengths: {shown(lengths)}")
        put(store, 10, (A, b"again"))
        expect_same("the next commit", b"again", found(store, A))


CASES = (damage_is_not_absence, a_failed_read_is_not_absence, a_group_that_fails_leaves_nothing)
