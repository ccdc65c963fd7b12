"""Cases: a namespace is listed in the order of its names, in pages of bounded size."""

from __future__ import annotations

from random import Random
from typing import Final

from ...key import Key
from .backend import Backend, listed, put, set_snapshot
from .rules import case, expect, expect_same

#: Less than any store may count for a record of a page beside its key's characters and its value ("some 32").
LEAST_ENTRY_BYTES: Final = 16
#: What one message of the worker's pipe is made for is far below a page of this many records.
MANY: Final = 20_000


def _key(name: str) -> Key:
    return Key("app", "", name)


@case
def a_scan_is_in_the_order_of_names(backend: Backend) -> None:
    """Records come in the order of their names, compared byte by byte, whatever the order in which they were put."""
    names = ["-", "0", "10", "9", "A", "Z", "_", "a", "a-", "a0", "aa", "b", "z", "zz"]
    shuffled = Random(1).sample(names, len(names))
    with backend.store() as store:
        for seq, name in enumerate(shuffled, start=1):
            put(store, seq, (_key(name), name.encode()))
        expect_same("the names", names, [key.name for key, _ in store.scan("app", "", "", 1 << 20)])
        put(store, 100, (_key("0"), b"again"), removes=[_key("Z")])
        names.remove("Z")
        expect_same("the names, page by page", names, [key.name for key, _ in listed(store, "app", limit=1)])


@case
def a_scan_begins_after_a_name(backend: Backend) -> None:
    """A page begins with the first name greater than the given one, whether that is there or not."""
    with backend.store() as store:
        put(store, 1, *((_key(name), b"v") for name in "bdf"))
        for after, names in (("", "bdf"), ("a", "bdf"), ("b", "df"), ("c", "df"), ("d-", "f"), ("f", ""), ("g", "")):
            page = [key.name for key, _ in store.scan("app", "", after, 1 << 20)]
            expect_same(f"the names after {after!r}", list(names), page)
        expect_same("an unknown namespace", [], store.scan("nowhere", "", "", 1 << 20))
        expect_same("an unknown secondary namespace", [], store.scan("app", "nowhere", "", 1 << 20))


@case
def a_page_has_at_least_one_record(backend: Backend) -> None:
    """However small the limit, a page holds one record if there is one; it never begins again."""
    records = [(_key(f"k{n}"), bytes([n]) * 3000) for n in range(5)]
    with backend.store() as store:
        put(store, 1, *records)
        for limit in (0, 1, 2999):
            page = store.scan("app", "", "", limit)
            expect_same(f"the page of at most {limit} bytes", records[:1], page)
            expect_same(f"all pages of at most {limit} bytes", records, listed(store, "app", limit=limit))


@case
def a_page_ends_at_its_limit(backend: Backend) -> None:
    """Values and keys of a page fit in the limit, unless it holds a single record; the pages hold everything once."""
    random = Random(2)
    records = [(_key(f"k{n:03}"), random.randbytes(random.choice((0, 10, 500, 4000)))) for n in range(200)]
    with backend.store() as store:
        put(store, 1, *records)
        for limit in (100, 4000, 9000, 1 << 20):
            pages, after = [], ""
            while page := store.scan("app", "", after, limit):
                size = sum(len(value) + sum(map(len, key)) for key, value in page)
                expect(len(page) == 1 or size <= limit, f"a page of {size} bytes, where at most {limit} are allowed")
                expect(page[-1][0].name > after, f"the page after {after!r} ends with {page[-1][0].name!r}")
                pages += page
                after = page[-1][0].name
            expect_same(f"all pages of at most {limit} bytes", records, pages)
        whole = store.scan("app", "", "", 1 << 20)
        expect(len(whole) == len(records), f"{len(whole)} of {len(records)} records in a page that has room for all")


@case
def empty_values_take_room_in_a_page(backend: Backend) -> None:
    """A record costs some 32 bytes of a page beside key and value: many empty values make many pages."""
    records = [(_key(f"k{n:06}"), b"") for n in range(MANY)]
    with backend.store() as store:
        put(store, 1, *records)
        limit = 64 * 1024
        page = store.scan("app", "", "", limit)
        most = limit // (len("app" + "k000000") + LEAST_ENTRY_BYTES) + 1
        expect(len(page) <= most, f"{len(page)} empty values in a page of {limit} bytes, at most {most} are allowed")
        expect_same("all pages", records, listed(store, "app", limit=limit))


@case
def a_scan_lists_snapshots(backend: Backend) -> None:
    """Values that came as snapshots are listed among the others, in order, and fill the page as others do."""
    with backend.store() as store:
        put(store, 1, (_key("a"), b"a"), (_key("c"), b"c"), (_key("e"), b"e"))
        set_snapshot(store, 2, _key("b"), bytes(3000))
        set_snapshot(store, 3, _key("f"), b"f")
        set_snapshot(store, 4, _key("c"), b"snapshot")
        values = {"a": b"a", "b": bytes(3000), "c": b"snapshot", "e": b"e", "f": b"f"}
        records = [(_key(name), value) for name, value in values.items()]
        for limit in (0, 1000, 1 << 20):
            expect_same(f"the pages of at most {limit} bytes", records, listed(store, "app", limit=limit))
        page = store.scan("app", "", "", 1000)
        expect_same("the first page of at most 1000 bytes", records[:1], page)


CASES = (
    a_scan_is_in_the_order_of_names,
    a_scan_begins_after_a_name,
    a_page_has_at_least_one_record,
    a_page_ends_at_its_limit,
    empty_values_take_room_in_a_page,
    a_scan_lists_snapshots,
)
