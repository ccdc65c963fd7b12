"""Cases: a snapshot is durable when it is written, and its key's value when it is adopted."""

from __future__ import annotations

from random import Random
from threading import Thread
from typing import Final

from ...key import Key, Seq
from ..api import SnapshotFile
from .backend import Backend, found, listed, put, rest, set_snapshot
from .records import MIB, A, B
from .rules import Finding, case, expect_same

GRAPH: Final = Key("", "", "network_graph")


@case
def a_snapshot_is_the_value_once_adopted(backend: Backend) -> None:
    """`write_snapshot` changes no value; `adopt_snapshot` makes the snapshot its key's value."""
    with backend.store() as store:
        put(store, 1, (A, b"record"))
        for key, before in ((A, b"record"), (GRAPH, None)):
            written = store.write_snapshot(key, Seq(2), b"snapshot")
            expect_same(f"the value of {key} before its snapshot is adopted", before, found(store, key))
            expect_same("its key and number", (key, 2), (written.key, written.seq))
            store.adopt_snapshot(written)
            expect_same(f"the value of {key} once it is", b"snapshot", found(store, key))


@case
def snapshots_have_any_size(backend: Backend) -> None:
    """A snapshot may be empty, and it may have many MiB."""
    contents = (b"", b"x", Random(3).randbytes(9 * MIB + 7), b"")
    with backend.store() as store:
        for seq, content in enumerate(contents, start=1):
            set_snapshot(store, seq, GRAPH, content)
            expect_same(f"the snapshot of {len(content)} bytes", content, found(store, GRAPH))


@case
def a_discarded_snapshot_changes_nothing(backend: Backend) -> None:
    """`discard_snapshot` leaves the key's value as it is, whatever that is."""
    with backend.store() as store:
        store.discard_snapshot(store.write_snapshot(GRAPH, Seq(1), b"discarded"))
        expect_same("a key that was never set", None, found(store, GRAPH))
        set_snapshot(store, 2, GRAPH, b"adopted")
        store.discard_snapshot(store.write_snapshot(GRAPH, Seq(3), b"discarded"))
        expect_same("the value", b"adopted", found(store, GRAPH))
        put(store, 4, (GRAPH, b"record"))
        store.discard_snapshot(store.write_snapshot(GRAPH, Seq(5), b"discarded"))
        rest(store)
        expect_same("the value", b"record", found(store, GRAPH))


@case
def a_newer_snapshot_replaces(backend: Backend) -> None:
    """What is adopted replaces the value, be that a record or a snapshot, and several may be under way at once."""
    with backend.store() as store:
        for seq in (1, 2, 3):
            set_snapshot(store, seq, GRAPH, b"%d" % seq)
            expect_same("the newest snapshot", b"%d" % seq, found(store, GRAPH))
        older, newer = (store.write_snapshot(GRAPH, Seq(seq), b"%d" % seq) for seq in (4, 5))
        other = store.write_snapshot(A, Seq(6), b"other")
        store.adopt_snapshot(newer)
        store.discard_snapshot(older)
        store.adopt_snapshot(other)
        rest(store)
        expect_same("the newer of two", b"5", found(store, GRAPH))
        expect_same("the snapshot of another key", b"other", found(store, A))
        set_snapshot(store, 7, A, b"7")
        expect_same("the two of them", [b"5", b"7"], [found(store, GRAPH), found(store, A)])


@case
def a_snapshot_may_be_written_again(backend: Backend) -> None:
    """A snapshot whose first file was discarded (its adoption found no space) is written again, and removing the first
    file, however late, never takes the second."""
    with backend.store() as store:
        for seq in (1, 2):
            store.discard_snapshot(store.write_snapshot(GRAPH, Seq(seq), b"%d" % seq))
            again = store.write_snapshot(GRAPH, Seq(seq), b"%d" % seq)
            rest(store)
            store.adopt_snapshot(again)
            rest(store)
            expect_same("the value", b"%d" % seq, found(store, GRAPH))


@case
def a_commit_replaces_a_snapshot(backend: Backend) -> None:
    """Commits put and remove a key whose value came as a snapshot, as any other."""
    with backend.store() as store:
        set_snapshot(store, 1, GRAPH, b"snapshot")
        put(store, 2, (GRAPH, b"record"), (A, b"a"))
        expect_same("the value after a put", b"record", found(store, GRAPH))
        expect_same("its namespace", [(GRAPH, b"record")], listed(store, ""))
        set_snapshot(store, 3, GRAPH, b"again")
        put(store, 4, removes=[GRAPH])
        expect_same("the value after a remove", None, found(store, GRAPH))
        set_snapshot(store, 5, GRAPH, b"and again")
        rest(store)
        expect_same("the value after one more snapshot", b"and again", found(store, GRAPH))


@case
def snapshots_are_written_beside_commits(backend: Backend) -> None:
    """`write_snapshot` may run in another thread while commits are applied and read; neither disturbs the other."""
    written: list[SnapshotFile] = []
    errors: list[Exception] = []
    random = Random(4)
    contents = [random.randbytes(300_000) for _ in range(8)]

    with backend.store() as store:

        def write() -> None:
            try:
                written.extend(store.write_snapshot(GRAPH, Seq(1000 + n), each) for n, each in enumerate(contents))
            except Exception as error:  # noqa: BLE001 - told by the thread that waits
                errors.append(error)

        thread = Thread(target=write, name="snapshots")
        thread.start()
        seq = 0
        while seq < 10 or (thread.is_alive() and seq < 900):
            seq += 1
            put(store, seq, (A, b"%d" % seq), (B, bytes(1000)), removes=[GRAPH])
            expect_same("what was just committed", b"%d" % seq, found(store, A))
        thread.join()
        if errors:
            raise Finding(f"writing in another thread raised {type(errors[0]).__name__}: {errors[0]}") from errors[0]
        for snapshot, content in zip(written, contents, strict=True):
            store.adopt_snapshot(snapshot)
            expect_same("a snapshot that was written beside commits", content, found(store, GRAPH))
        expect_same("the records", [(A, b"%d" % seq), (B, bytes(1000))], listed(store, "app"))


CASES = (
    a_snapshot_is_the_value_once_adopted,
    snapshots_have_any_size,
    a_discarded_snapshot_changes_nothing,
    a_newer_snapshot_replaces,
    a_snapshot_may_be_written_again,
    a_commit_replaces_a_snapshot,
    snapshots_are_written_beside_commits,
)
