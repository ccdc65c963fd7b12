"""Cases for a store that another one can be copied into (`CopyTarget`); skipped for a store that is none."""

from __future__ import annotations

from typing import Final, cast
from unittest import SkipTest

from ...errors import StoreInconsistent
from ...key import Seq
from ..api import CopyTarget, Store
from ..identity import STORE_ID_BYTES, Identity
from .backend import Backend, Commit, found, listed, put, set_snapshot
from .records import A, B
from .rules import case, expect_raises, expect_same
from .snapshots import GRAPH

IDENTITY: Final = Identity(b"\1" * STORE_ID_BYTES, epoch=70, last_commit=Seq(40), last_snapshot=Seq(41))


def _target(store: Store) -> CopyTarget:
    if not hasattr(store, "import_records"):
        raise SkipTest("no store can be copied into it")
    return cast(CopyTarget, store)


@case
def records_are_imported_under_no_number(backend: Backend) -> None:
    """`import_records` puts records as a commit does, and no number becomes the newest by it."""
    with backend.store() as store:
        _target(store).import_records([(A, b"a"), (B, b"")])
        _target(store).import_records([(A, b"again"), (A._replace(secondary="sub"), b"sub")])
        expect_same("the namespace app", [(A, b"again"), (B, b"")], listed(store, "app"))
        expect_same("the namespace app/sub", [(A._replace(secondary="sub"), b"sub")], listed(store, "app", "sub"))
        put(store, 1, (A, b"1"), removes=[B])
        expect_same("what the first commit leaves", [(A, b"1")], listed(store, "app"))


@case
def a_copy_goes_on_as_the_original(backend: Backend) -> None:
    """After `import_identity` the numbers and the id are the original's: commits follow its newest one, and the next
    `open()` claims them, under an epoch greater by one."""
    with backend.store() as store:
        _target(store).import_records([(A, b"a")])
        set_snapshot(store, 41, GRAPH, b"graph")
        _target(store).import_identity(IDENTITY)
        before = [Commit(Seq(40), ((A, b"refused"),))]
        expect_raises(StoreInconsistent, lambda: store.apply(before), "the commit 40 of a copy that ends at 40")
        expect_same("the values", [b"a", b"graph"], [found(store, A), found(store, GRAPH)])
    backend.must_survive()
    with backend.opened() as (store, claims):
        expect_same("what the copy claims", (71, 40, 41, IDENTITY.store_id), tuple(claims))
        expect_same("the values", [b"a", b"graph"], [found(store, A), found(store, GRAPH)])
        put(store, 42, (A, b"42"))
        expect_same("what the next commit puts", b"42", found(store, A))


CASES = (records_are_imported_under_no_number, a_copy_goes_on_as_the_original)
