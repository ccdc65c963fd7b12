"""A store whose values are sealed: what the backend gets to see, and what comes back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import ConfigError, NotFound, StoreCorrupt, StoreInconsistent, StoreSealed, StoreTampered
from bgsuper.key import Key, Seq
from bgsuper.store.api import Batch, CopyTarget
from bgsuper.store.backup.online import begin_backup
from bgsuper.store.identity import Identity
from bgsuper.store.memory import MemoryStore
from bgsuper.store.schemes import Opening, make_store, open_view
from bgsuper.store.sealing.sealer import Sealer
from bgsuper.store.sealing.store import SealedStore
from bgsuper.store.url import parse

from ..stores import GRAPH, MANAGER, commit, key
from .keys import OTHER, key_file, sealer


class Seen(MemoryStore):
    """A backend that notes what it was given."""

    def __init__(self) -> None:
        super().__init__(seal=sealer().fingerprint)
        self.groups: list[list[Batch]] = []

    def apply(self, group: Sequence[Batch]) -> None:
        self.groups.append(list(group))
        super().apply(group)


def opened(backend: MemoryStore, by: Sealer | None = None) -> SealedStore:
    store = SealedStore(backend, by or sealer())
    store.open()
    return store


# -- writing -----------------------------------------------------------------------------------------------------------


def test_the_backend_sees_names_and_numbers_alone() -> None:
    """Every value is sealed, whichever way it came; names, sequence numbers and removes are as they were."""
    backend = Seen()
    store = opened(backend)
    store.apply([commit(1, {key("a"): b"secret of a"}), commit(2, {MANAGER: b"secret"}, (key("b"),))])
    store.import_records([(key("c"), b"secret of c")])
    store.adopt_snapshot(store.write_snapshot(GRAPH, Seq(3), b"secret graph"))
    first, second = backend.groups[0]
    assert (first.seq, second.seq, second.removes) == (1, 2, (key("b"),))
    held = {name: backend.read(name) for name in (key("a"), MANAGER, key("c"), GRAPH)}
    assert all(b"secret" not in value for value in held.values())
    assert store.read(key("a")) == b"secret of a"
    assert store.read(MANAGER) == b"secret"
    assert store.read(key("c")) == b"secret of c"
    assert store.read(GRAPH) == b"secret graph"
    assert sealer().open(GRAPH, held[GRAPH]) == b"secret graph"


values = st.binary(max_size=3)
batches = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from("abc").map(key), values), max_size=4),
        st.lists(st.sampled_from("abc").map(key), max_size=2),
    ),
    max_size=6,
)


@given(batches)
def test_a_group_means_the_same_sealed(group: list[tuple[list[tuple[Key, bytes]], list[Key]]]) -> None:
    """Whatever is put, put again and removed in one group: a sealed store holds what a plain one holds. What the group
    itself replaces is not sealed."""
    commits = [
        commit(seq)._replace(puts=tuple(puts), removes=tuple(removes))
        for seq, (puts, removes) in enumerate(group, start=1)
    ]
    plain, backend = MemoryStore(), Seen()
    plain.open()
    plain.apply(commits)
    store = opened(backend)
    store.apply(commits)
    assert store.scan("channels", "", "", 10_000) == plain.scan("channels", "", "", 10_000)
    written = [name for batch in backend.groups[0] for name, _ in batch.puts]
    assert sorted(written) == [name for name, _ in plain.scan("channels", "", "", 10_000)]
    assert [batch.seq for batch in backend.groups[0]] == [batch.seq for batch in commits]


def test_what_the_backend_refuses_is_refused() -> None:
    """Its errors come through."""
    store = opened(Seen())
    store.apply([commit(5)])
    with pytest.raises(StoreInconsistent):
        store.apply([commit(5)])
    with pytest.raises(NotFound):
        store.read(key("a"))


def test_all_else_is_the_backends(tmp_path: Path) -> None:
    """Numbers, chores, identity, the end."""
    store = made(tmp_path)
    assert store.open().epoch == 1
    assert store.atomic
    store.import_identity(Identity(b"i" * 16, 7, Seq(3), Seq(4), seal=b"s" * 16))
    store.apply([commit(9, {key("a"): b"1"})])
    assert store.has_idle_work
    unwanted = store.write_snapshot(GRAPH, Seq(10), b"1")
    file = tmp_path / "store" / "snapshots" / unwanted.file
    assert file.exists()
    store.discard_snapshot(unwanted)
    while store.has_idle_work:
        store.idle()
    assert not file.exists()
    store.close()
    store.close()
    again = made(tmp_path)
    assert again.open()[:4] == (8, 9, 9, b"i" * 16)
    again.close()


def test_a_backup_is_the_backends(tmp_path: Path) -> None:
    """Of the sealed values, with the same key; where the backend has none, that is said."""
    written(tmp_path)
    store = made(tmp_path)
    store.open()
    backup = begin_backup(store, str(tmp_path / "backup"))
    while (copied := backup.step()) is None:
        backup.join(0.001)
    assert copied.last_commit == 3
    store.close()
    assert not any(SECRET in content for content in files(tmp_path / "backup").values())
    copy = make_store(parse(f"sqlite:{tmp_path}/backup?key-file={tmp_path}/key"), Opening(os.getpid()))
    copy.open()
    assert copy.read(GRAPH) == SECRET * 100_000
    copy.close()
    with pytest.raises(ConfigError, match="only a sqlite: store"):
        begin_backup(opened(Seen()), str(tmp_path / "none"))


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("limit", [0, 40, 500, 1000, 5000, 1 << 20])
def test_pages_are_those_of_a_plain_store(limit: int, compress: bool) -> None:
    """Byte for byte the same pages: the limit counts what comes out, not what sealing or compression made of it."""
    records = {key(f"k{n:03}"): bytes(n * 7 % 400) + os.urandom(n % 5) for n in range(100)}
    plain = MemoryStore()
    plain.open()
    store = opened(Seen(), sealer(compress=compress))
    for one in (plain, store):
        one.apply([commit(1, records)])
    after, seen = "", 0
    while True:
        page = store.scan("channels", "", after, limit)
        assert page == plain.scan("channels", "", after, limit)
        if not page:
            break
        seen += len(page)
        after = page[-1][0].name
    assert seen == 100


def test_a_page_of_compressed_values_is_bounded() -> None:
    """A thousand megabytes in a few kilobytes do not come at once."""
    store = opened(Seen(), sealer(compress=True))
    store.apply([commit(1, {key(f"k{n}"): bytes(1_000_000) for n in range(8)})])
    assert len(store.scan("channels", "", "", 2_500_000)) == 2


def test_what_somebody_put_into_the_backend() -> None:
    """Named, by read and by scan, and told from what is absent."""
    backend = Seen()
    store = opened(backend)
    store.apply([commit(1, {key("a"): b"1", key("b"): b"2"})])
    backend.import_records([(key("b"), backend.read(key("a")))])
    with pytest.raises(StoreTampered, match="channels/b"):
        store.read(key("b"))
    with pytest.raises(StoreTampered, match="channels/b"):
        store.scan("channels", "", "", 1000)
    assert store.scan("channels", "", "", 1) == [(key("a"), b"1")]
    backend.import_records([(key("b"), b"plain")])
    with pytest.raises(StoreTampered, match="channels/b"):
        store.scan("channels", "", "", 1000)


# -- on a disk ---------------------------------------------------------------------------------------------------------

#: Found nowhere by chance.
SECRET = b"a distinctive plaintext"
QUERIES = ("?key-file={0}/key", "?key-file={0}/key&compress=zstd")


SCHEMES = ("sqlite", "file")


def made(directory: Path, query: str = QUERIES[0], scheme: str = "sqlite") -> CopyTarget:
    """A store in `directory`/store, made from its URL."""
    if not (directory / "key").exists():
        key_file(directory / "key")
        key_file(directory / "other", OTHER)
    return make_store(parse(f"{scheme}:{directory}/store{query.format(directory)}"), Opening(os.getpid()))


def files(directory: Path) -> dict[str, bytes]:
    """Every file below `directory`, but the lock."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def written(directory: Path, query: str = QUERIES[0], scheme: str = "sqlite") -> None:
    """A store with records and a snapshot of `SECRET`."""
    store = made(directory, query, scheme)
    store.open()
    store.apply([commit(1, {key("a"): SECRET, MANAGER: SECRET * 1000})])
    store.adopt_snapshot(store.write_snapshot(GRAPH, Seq(2), SECRET * 100_000))
    store.apply([commit(3, {key("b"): SECRET})])
    assert any(SECRET in content for content in files(directory).values()) == (query == "")
    store.close()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("query", QUERIES)
def test_no_plaintext_in_any_file(tmp_path: Path, query: str, scheme: str) -> None:
    """Neither in the database, nor in its WAL, nor in a snapshot, nor in LDK's layout: while it is open, and after."""
    written(tmp_path, query, scheme)
    assert not any(SECRET in content for content in files(tmp_path).values())
    store = made(tmp_path, scheme=scheme)
    assert store.open().last_seq == 3
    assert store.read(GRAPH) == SECRET * 100_000
    assert store.scan("", "", "", 1 << 30) == [(MANAGER, SECRET * 1000), (GRAPH, SECRET * 100_000)]
    store.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_test_would_find_plaintext(tmp_path: Path, scheme: str) -> None:
    """A store without a key shows it."""
    written(tmp_path, "", scheme)
    assert any(SECRET in content for content in files(tmp_path).values())


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("before", "after", "hint"),
    [
        (QUERIES[0], "", r"is sealed, and no key was given: add \?key-file=PATH"),
        (QUERIES[0], "?key-file={0}/other", "is sealed with another key"),
        (QUERIES[1], "?key-file={0}/other&compress=zstd", "is sealed with another key"),
        ("", QUERIES[0], "is not sealed, but a key was given"),
    ],
)
def test_the_wrong_key_changes_nothing(tmp_path: Path, scheme: str, before: str, after: str, hint: str) -> None:
    """None, another, or one too many: StoreSealed at open, for a writer and for whoever looks into it; every file is as
    it was, and the right one goes on."""
    written(tmp_path, before, scheme)
    as_it_was = files(tmp_path)
    with pytest.raises(StoreSealed, match=hint):
        made(tmp_path, after, scheme).open()
    with pytest.raises(StoreSealed, match=hint):
        open_view(f"{scheme}:{tmp_path}/store{after.format(tmp_path)}")
    assert files(tmp_path) == as_it_was
    store = made(tmp_path, before, scheme)
    assert store.open().last_commit == 3
    assert store.read(key("a")) == SECRET
    store.close()


def test_what_somebody_else_wrote_is_not_sealed(tmp_path: Path) -> None:
    """A directory of LDK's is not taken over with a key: half of it would be plain."""
    (tmp_path / "store").mkdir(mode=0o700)
    (tmp_path / "store" / "manager").write_bytes(SECRET)
    as_it_was = files(tmp_path)
    store = made(tmp_path, scheme="file")
    with pytest.raises(StoreSealed, match="is not sealed"):
        store.open()
    assert {name: content for name, content in files(tmp_path).items() if name in as_it_was} == as_it_was


def test_damage_is_still_the_backends_to_tell(tmp_path: Path) -> None:
    """A bit that the disk flipped is StoreCorrupt: nobody is accused."""
    written(tmp_path)
    [snapshot] = (tmp_path / "store" / "snapshots").iterdir()
    content = bytearray(snapshot.read_bytes())
    content[1000] ^= 1
    snapshot.write_bytes(content)
    store = made(tmp_path)
    store.open()
    with pytest.raises(StoreCorrupt, match="network_graph"):
        store.read(GRAPH)
    store.close()
