"""Cases: what an open store claims, what it finds again, and what a closed one refuses."""

from __future__ import annotations

from collections.abc import Callable

from ...errors import StoreError, StoreLocked
from ...key import Seq
from ..api import Store
from ..identity import STORE_ID_BYTES
from .backend import Backend, Commit, found, listed, put, rest, set_snapshot
from .process import Child
from .records import MIB, A, B
from .rules import case, expect, expect_raises, expect_same
from .snapshots import GRAPH


@case
def a_new_store_is_empty(backend: Backend) -> None:
    """In an empty directory, `open()` makes a store without records, whose newest numbers are 0 and whose epoch is at
    least 1."""
    with backend.opened() as (store, claims):
        expect_same("last_commit and last_seq", (0, 0), (claims.last_commit, claims.last_seq))
        expect(isinstance(claims.epoch, int) and claims.epoch >= 1, f"its epoch is {claims.epoch!r}")
        expect(len(claims.store_id) in (0, STORE_ID_BYTES), f"its store_id is {claims.store_id!r}, not 16 bytes")
        expect_same("its records", [], listed(store, "") + listed(store, "app"))


@case
def chores_end(backend: Backend) -> None:
    """`idle()` changes no value, and called again and again it leaves nothing to do."""
    with backend.store() as store:
        rest(store)
        for seq in range(1, 6):
            put(store, 2 * seq, (A, bytes(50_000)), (B, b"%d" % seq))
            set_snapshot(store, 2 * seq + 1, GRAPH, bytes(MIB) + b"%d" % seq)
        rest(store)
        expect(not store.has_idle_work, "`has_idle_work` is true again, though nothing came")
        expect_same("the records", [(A, bytes(50_000)), (B, b"5")], listed(store, "app"))
        expect_same("the snapshot", bytes(MIB) + b"5", found(store, GRAPH))


@case
def a_closed_store_refuses(backend: Backend) -> None:
    """Once closed, every call raises `StoreError`; closing again does nothing."""
    store = backend.make()
    store.open()
    try:
        put(store, 1, (A, b"1"))
        written = store.write_snapshot(GRAPH, Seq(2), b"2")
    finally:
        store.close()
    store.close()
    calls: dict[str, Callable[[], object]] = {
        "apply()": lambda: store.apply([Commit(Seq(3), ((A, b"3"),))]),
        "read()": lambda: store.read(A),
        "reading an absent key": lambda: store.read(B),
        "scan()": lambda: store.scan("app", "", "", 1000),
        "adopt_snapshot()": lambda: store.adopt_snapshot(written),
    }
    for name, call in calls.items():
        error = expect_raises(StoreError, call, f"{name} of a closed store")
        expect(not isinstance(error, LookupError), f"{name} of a closed store raised {type(error).__name__}")
    backend.make().close()


@case
def everything_is_there_again(backend: Backend) -> None:
    """After `close()` the next `open()` finds every value, nothing that was removed, and nothing else."""
    backend.must_survive()
    puts = {A: b"", B: bytes(MIB) + b"end", A._replace(name="c"): b"c", A._replace(secondary="sub"): b"sub"}
    with backend.store() as store:
        put(store, 1, *puts.items(), (A._replace(name="gone"), b"1"))
        put(store, 2, removes=[A._replace(name="gone")])
        set_snapshot(store, 3, GRAPH, bytes(3 * MIB))
        set_snapshot(store, 4, GRAPH, b"newest")
        set_snapshot(store, 5, A._replace(name="d"), b"d")
        store.write_snapshot(A._replace(name="never"), Seq(6), b"adopted")
        store.write_snapshot(GRAPH, Seq(7), b"nor this one")
    for _ in range(2):
        with backend.store() as store:
            rest(store)
            records = [(key, value) for key, value in puts.items() if key.secondary == ""]
            expect_same("the namespace app", [*records, (A._replace(name="d"), b"d")], listed(store, "app"))
            expect_same("the namespace app/sub", [(A._replace(secondary="sub"), b"sub")], listed(store, "app", "sub"))
            expect_same("the snapshot", [(GRAPH, b"newest")], listed(store, ""))


@case
def numbers_are_remembered(backend: Backend) -> None:
    """`open()` says which commit is the newest, and which commit or adopted snapshot; one without records counts."""
    backend.must_survive()

    def reopened(expected: tuple[int, int], work: Callable[[Store], None] = lambda _: None) -> None:
        with backend.opened() as (store, claims):
            expect_same("last_commit and last_seq", expected, (claims.last_commit, claims.last_seq))
            work(store)

    reopened((0, 0), lambda store: set_snapshot(store, 1, GRAPH, b"1"))
    reopened((0, 1), lambda store: put(store, 4, (A, b"4")))
    reopened((4, 4), lambda store: set_snapshot(store, 9, GRAPH, b"9"))
    reopened((4, 9), lambda store: put(store, 12))
    reopened((12, 12), lambda store: set_snapshot(store, 10, GRAPH, b"10"))
    reopened((12, 12), lambda store: store.discard_snapshot(store.write_snapshot(GRAPH, Seq(20), b"20")))
    reopened((12, 12), lambda store: store.apply([Commit(Seq(21), ((A, b""),)), Commit(Seq((1 << 53) + 1), (), (A,))]))
    reopened(((1 << 53) + 1, (1 << 53) + 1))


@case
def the_epoch_rises_by_one(backend: Backend) -> None:
    """Each `open()` claims an epoch greater by one than the one before: the host takes a greater step for the trace of
    another writer, and no step for a store that went back."""
    backend.must_survive()
    with backend.opened() as (store, claims):
        epoch = claims.epoch
        put(store, 1, (A, b"1"))
    for _ in range(3):
        with backend.opened() as (_, claims):
            expect_same("the epoch of the next open()", epoch + 1, claims.epoch)
            epoch = claims.epoch


@case
def the_store_id_stays(backend: Backend) -> None:
    """A store that has an id claims the same one at every `open()`."""
    backend.must_survive()
    with backend.opened() as (_, claims):
        store_id = claims.store_id
    for _ in range(2):
        with backend.opened() as (_, claims):
            expect_same("its store_id", store_id, claims.store_id)


@case
def a_second_writer_is_locked_out(backend: Backend) -> None:
    """While one process has the store open, `open()` in another raises `StoreLocked`, which names the holder if it can,
    and changes nothing; once the holder was killed, the lock is free at once."""
    backend.must_survive()
    with Child.running(backend, "hold") as child:
        child.report("opening")
        child.report("opened")
        child.report("held")
        for _ in range(2):
            error = expect_raises(StoreLocked, _opening(backend), "open() while another process has the store open")
            expect(error.pid in (None, child.pid), f"it names process {error.pid}, but {child.pid} holds the store")
        child.kill()
    with backend.store() as store:
        expect_same("what the holder had put", b"held", found(store, A))


def _opening(backend: Backend) -> Callable[[], None]:
    def attempt() -> None:
        store = backend.make()
        try:
            store.open()
        finally:
            store.close()

    return attempt


CASES = (
    a_new_store_is_empty,
    chores_end,
    a_closed_store_refuses,
    everything_is_there_again,
    numbers_are_remembered,
    the_epoch_rises_by_one,
    the_store_id_stays,
    a_second_writer_is_locked_out,
)
