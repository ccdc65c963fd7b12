"""Cases: a group of commits is applied in order, and their numbers rise."""

from __future__ import annotations

from ...errors import StoreInconsistent
from ...key import Seq
from .backend import Backend, Commit, found, listed, put
from .records import A, B
from .rules import case, expect, expect_raises, expect_same


@case
def a_group_is_applied_in_order(backend: Backend) -> None:
    """The commits of a group follow each other: of one key, the last one's word counts."""
    group = [
        Commit(Seq(1), ((A, b"1"), (B, b"1"))),
        Commit(Seq(2), ((A, b"2"),), (B,)),
        Commit(Seq(3), ((A, b"3"),)),
    ]
    with backend.store() as store:
        store.apply(group)
        expect_same("what three commits leave", [(A, b"3")], listed(store, "app"))
        store.apply([Commit(Seq(4), (), (A,)), Commit(Seq(5), ((A, b"5"),)), Commit(Seq(6), ((B, b"6"),), (A,))])
        expect_same("what three more leave", [(B, b"6")], listed(store, "app"))


@case
def a_large_group_is_applied(backend: Backend) -> None:
    """A group may have as many commits as the worker gives it: 1,024."""
    group = [Commit(Seq(seq), ((A._replace(name=f"k{seq % 100:02}"), b"%d" % seq),)) for seq in range(1, 1025)]
    with backend.store() as store:
        store.apply(group)
        values = {commit.puts[0][0]: commit.puts[0][1] for commit in group}
        expect_same("what it leaves", sorted(values.items()), listed(store, "app"))


@case
def numbers_must_rise(backend: Backend) -> None:
    """A commit whose number is not greater than the newest one's is refused with `StoreInconsistent`, its group with
    it, and nothing of that is there."""
    with backend.store() as store:
        put(store, 5, (A, b"5"))
        for seqs in ((5,), (4,), (6, 6), (6, 7, 3)):
            group = [Commit(Seq(seq), ((B, b"refused"),), (A,)) for seq in seqs]
            expect_raises(StoreInconsistent, lambda group=group: store.apply(group), f"commits {seqs} after 5")  # type: ignore[misc]
            expect_same(f"what is there after {seqs} was refused", [(A, b"5")], listed(store, "app"))
        put(store, 6, (B, b"6"))
        expect_same("what a right number puts afterwards", b"6", found(store, B))


@case
def numbers_may_leave_gaps(backend: Backend) -> None:
    """Snapshots take numbers too, so those of commits rise by any amount; and they are large."""
    with backend.store() as store:
        for seq in (3, 4, 1000, 1 << 40, (1 << 53) + 1):
            put(store, seq, (A, b"%d" % seq))
            expect_same(f"the value after commit {seq}", b"%d" % seq, found(store, A))


@case
def it_says_whether_batches_are_atomic(backend: Backend) -> None:
    """`atomic` is True or False, before the store is open and while it is."""
    store = backend.make()
    expect(isinstance(store.atomic, bool), f"`atomic` is {store.atomic!r} before open()")
    with backend.store() as opened:
        expect_same("`atomic` once it is open", store.atomic, opened.atomic)


CASES = (
    a_group_is_applied_in_order,
    a_large_group_is_applied,
    numbers_must_rise,
    numbers_may_leave_gaps,
    it_says_whether_batches_are_atomic,
)
