"""`import`: the records become the graph's, and nothing else in the store changes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from bgsuper.cli.graph.replacing import Changes, records_of
from bgsuper.ipc.messages import Commit
from bgsuper.key import NETWORK_GRAPH, Key
from bgsuper.lightning.chain_hash import MAINNET
from bgsuper.lightning.routing.gossip import CHANNELS, NODES, STALE_SECONDS, NetworkGraph
from bgsuper.lightning.routing.rapid import BACKDATED_SECONDS
from bgsuper.store.schemes import Opening, make_store, open_view
from bgsuper.store.sqlite import SQLiteStore
from bgsuper.store.url import parse
from tests.cli.store.conftest import Run
from tests.cli.store.stores import Place, files, fill, held
from tests.lightning.routing.test_rapid import FULL, SEEN, Update, encode, synced

from .graphs import NEIGHBOURS, NETWORK, OTHERS, graph_in, network, records, without_messages


def file_of(directory: Path, graph: NetworkGraph | bytes) -> Path:
    path = directory / "graph.bin"
    path.write_bytes(graph if isinstance(graph, bytes) else graph.write())
    return path


def test_the_records_are_the_ones_that_a_node_commits() -> None:
    """Of a graph that was read from a file, those that `take_changes` gives of the same one."""
    puts, removes = network().take_changes()
    assert not removes
    assert records_of(NetworkGraph.read(NETWORK.write())) == puts


def test_import_into_a_store_without_a_graph(place: Place, run: Run) -> None:
    """All records are put, none beside them; the numbers go on from the store's last."""
    snapshot = {Key("", "", "scores"): b"a snapshot has the last number"}
    fill(place.url(), OTHERS, snapshot)
    identity = open_identity(place)
    ran = run("import", file_of(place.directory, NETWORK), place.url(), "--json")
    assert ran.status == 0, ran.err
    told = ran.json
    assert (told["put"], told["removed"], told["unchanged"]) == (5, 0, 0)
    assert told["commits"] == [identity[1] + 1] * 2
    assert held(place.url()) == {**OTHERS, **snapshot, **records()}
    assert open_identity(place)[0] == identity[1] + 1


def open_identity(place: Place) -> tuple[int, int]:
    """The newest commit, and the newest number."""
    view = open_view(place.url())
    try:
        return view.identity.last_commit, view.identity.last_seq
    finally:
        view.close()


def test_import_replaces_the_graph_there(place: Place, run: Run) -> None:
    """What it had more goes, what differs is put, what is the same costs nothing, and all else stays."""
    junk = {Key(*NODES, "no_hex"): b"junk", Key(*CHANNELS, "ff"): b"junk"}
    other, snapshot = {**OTHERS, **NEIGHBOURS}, {NETWORK_GRAPH: network(5).write()}
    fill(place.url(), {**other, **records(network(5)), **junk}, snapshot)
    ran = run("import", file_of(place.directory, network(3)), place.url(), "--json")
    assert ran.status == 0, ran.err
    told = ran.json
    assert (told["removed"], told["put"], told["unchanged"]) == (4, 3, 3), "nodes have other channels"
    assert held(place.url()) == {**other, **records(network(3)), **snapshot}
    words = run("import", file_of(place.directory, network(3)), place.url()).words
    assert ("The snapshot network_graph in the store is still the earlier graph" in words) is bool(snapshot)


def test_the_same_again_commits_nothing(place: Place, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even an empty commit, however many pages the store's records take."""
    monkeypatch.setattr("bgsuper.cli.graph.replacing._PAGE_BYTES", 1)
    fill(place.url(), {**OTHERS, **records()}, {})
    before = open_identity(place)
    told = run("import", file_of(place.directory, NETWORK), place.url(), "--json").json
    assert (told["put"], told["removed"], told["unchanged"], told["commits"]) == (0, 0, 5, None)
    assert open_identity(place) == before
    assert "nothing to commit" in run("import", file_of(place.directory, NETWORK), place.url()).words


def test_export_then_import_then_export(place: Place, run: Run) -> None:
    """The same bytes."""
    fill(place.url("one"), {**OTHERS, **records(network(7))}, {})
    fill(place.url("two"), OTHERS, {})
    one, two = place.directory / "one.bin", place.directory / "two.bin"
    assert run("export", place.url("one"), one).status == 0
    assert run("import", one, place.url("two")).status == 0
    assert run("export", place.url("two"), two).status == 0
    assert two.read_bytes() == one.read_bytes() == network(7).write()


def test_import_of_a_snapshot(place: Place, run: Run) -> None:
    """A rapid gossip sync server's, at its own time by default: nothing in it is too old then."""
    fill(place.url(), OTHERS, {})
    ran = run("import", file_of(place.directory, FULL), place.url(), "--json")
    assert ran.status == 0, ran.err
    assert (ran.json["form"], ran.json["chain"], ran.json["channels"]) == ("rapid gossip sync snapshot", "regtest", 2)
    assert graph_in(place.url()) == records(synced(FULL).network_graph)


def test_a_snapshot_as_of_another_time(tmp_path: Path, run: Run) -> None:
    """What a node would prune by then is left out, and a snapshot of nothing but that is refused."""
    place, snapshot = Place(tmp_path, "sqlite"), file_of(tmp_path, FULL)
    fill(place.url(), OTHERS, {})
    last = SEEN + STALE_SECONDS - BACKDATED_SECONDS
    for at, said in ((last + 1, "has no channels"), (SEEN + STALE_SECONDS + 1, "s old"), ("x", "expected a time")):
        assert said in run("import", snapshot, place.url(), "--at", at).refusal
    assert held(place.url()) == OTHERS
    assert run("import", snapshot, place.url(), "--at", last).status == 0
    assert graph_in(place.url()) == records(synced(FULL, now=last).network_graph)
    assert "--at is about" in run("import", file_of(tmp_path, NETWORK), place.url(), "--at", SEEN).refusal


@pytest.mark.parametrize("part", [[Update(100, 128, (9, None, None, None, None))], [Update(100), Update(900)]])
def test_a_snapshot_of_changes_is_no_graph(tmp_path: Path, run: Run, part: Sequence[Update]) -> None:
    """It would leave the store with a few channels in the place of a network."""
    place = Place(tmp_path, "sqlite")
    fill(place.url(), records(), {})
    assert "changes an earlier one" in run("import", file_of(tmp_path, encode(updates=part)), place.url()).refusal
    assert graph_in(place.url()) == records()


def test_entries_that_make_no_sense_are_counted(tmp_path: Path, run: Run) -> None:
    """The rest is imported, and that is said."""
    place, snapshot = Place(tmp_path, "sqlite"), encode([(100, 0, 1), (200, 2, 1)], [Update(100)])
    fill(place.url(), OTHERS, {})
    ran = run("import", file_of(tmp_path, snapshot), place.url())
    assert ran.status == 0, ran.err
    assert "1 entries of the snapshot were left out" in ran.words


def test_another_chain_is_refused(place: Place, run: Run) -> None:
    """Whoever says of what chain the graph there is; nothing is changed, not even the epoch."""
    bare = records(without_messages())
    fill(place.url("messages"), records(), {})
    fill(place.url("snapshot"), OTHERS, {NETWORK_GRAPH: NETWORK.write()})
    fill(place.url("both"), bare, {NETWORK_GRAPH: NETWORK.write()})
    mainnet = file_of(place.directory, network(chain_hash=MAINNET))
    for name in ("messages", "snapshot", "both"):
        before = files(place.directory / name)
        assert "says regtest" in run("import", mainnet, place.url(name)).refusal
        assert files(place.directory / name) == before


def test_records_that_do_not_say_their_chain(place: Place, run: Run) -> None:
    """Mainnet is assumed, unless whoever imports says it; what he says must be the file's chain."""
    fill(place.url(), records(without_messages()), {})
    regtest = file_of(place.directory, NETWORK)
    assert "add --chain regtest if that is right" in run("import", regtest, place.url()).refusal
    assert "--chain says signet" in run("import", regtest, place.url(), "--chain", "signet").refusal
    assert run("import", regtest, place.url(), "--chain", "regtest").status == 0
    assert graph_in(place.url()) == records()


def test_records_that_are_damaged_are_made_good(tmp_path: Path, run: Run) -> None:
    """Whole by their checksum, and no graph's: no command can read them, and an import replaces them."""
    place = Place(tmp_path, "sqlite")
    [damaged, *_] = records()
    fill(place.url(), {**records(), damaged: b"\x07nothing"}, {})
    assert "damaged" in run("info", place.url()).refusal
    told = run("import", file_of(tmp_path, NETWORK), place.url(), "--json").json
    assert (told["put"], told["unchanged"]) == (1, 4)
    assert graph_in(place.url()) == records()


def test_a_graph_without_channels(tmp_path: Path, run: Run) -> None:
    """It would only remove what is there."""
    place = Place(tmp_path, "sqlite")
    fill(place.url(), records(), {})
    empty = file_of(tmp_path, NetworkGraph(NETWORK.chain_hash))
    assert "has no channels" in run("import", empty, place.url()).refusal
    assert graph_in(place.url()) == records()


def test_no_store_is_made(place: Place, run: Run) -> None:
    """A mistyped URL must not be taken for a new node."""
    graph = file_of(place.directory, NETWORK)
    before = sorted(place.directory.iterdir())
    ran = run("import", graph, place.url("none"))
    assert ran.status == 2
    assert "none" in ran.refusal
    assert [path for path in sorted(place.directory.iterdir()) if path.suffix != ".key"] == before


def test_batches() -> None:
    """At most a thousand records or four megabytes each, all of them once, removals first."""
    puts = {Key("n", "", f"{number:05}"): bytes(1 + number % 3) for number in range(2500)}
    puts |= {Key("l", "", str(number)): bytes(3 << 20) for number in range(3)}
    removes = [Key("r", "", str(number)) for number in range(1001)]
    batches = list(Changes(puts, removes, 0).batches())
    assert [(len(p), len(r)) for p, r in batches] == [
        (0, 1000), (0, 1), (1000, 0), (1000, 0), (501, 0), (1, 0), (1, 0)
    ]  # fmt: skip
    assert dict(pair for batch, _ in batches for pair in batch) == puts
    assert [key for _, batch in batches for key in batch] == removes


def test_a_large_graph_is_several_commits(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, without a gap, each naming the one before."""
    seen: list[tuple[int, int]] = []
    apply = SQLiteStore.apply

    def noted(store: SQLiteStore, group: Sequence[Commit]) -> None:
        seen.extend((commit.prev, commit.seq) for commit in group)
        apply(store, group)

    place = Place(tmp_path, "sqlite")
    fill(place.url(), records(network(5)), {})
    monkeypatch.setattr(SQLiteStore, "apply", noted)
    monkeypatch.setattr("bgsuper.cli.graph.replacing.BATCH_RECORDS", 2)
    told = run("import", file_of(tmp_path, network(3)), place.url(), "--json").json
    assert seen == [(1, 2), (2, 3), (3, 4)]
    assert told["commits"] == [2, 4]
    assert graph_in(place.url()) == records(network(3))


def test_interrupted(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """130 and what to do; the store is closed, what was committed is whole, and the same import makes it good."""
    place, graph = Place(tmp_path, "sqlite"), file_of(tmp_path, network(5))
    fill(place.url(), OTHERS, {})
    apply, calls = SQLiteStore.apply, []

    def second_is_one_too_many(store: SQLiteStore, group: Sequence[Commit]) -> None:
        calls.append(group)
        if len(calls) == 2:
            raise KeyboardInterrupt
        apply(store, group)

    with monkeypatch.context() as patched:
        patched.setattr(SQLiteStore, "apply", second_is_one_too_many)
        patched.setattr("bgsuper.cli.graph.replacing.BATCH_RECORDS", 2)
        ran = run("import", graph, place.url())
    assert ran.status == 130
    assert "import again" in ran.err
    assert len(graph_in(place.url())) == 2
    assert run("import", graph, place.url()).status == 0
    assert held(place.url()) == {**OTHERS, **records(network(5))}


def test_a_store_in_use_is_not_waited_for(place: Place, run: Run) -> None:
    """One line that names who has it."""
    fill(place.url(), OTHERS, {})
    store = make_store(parse(place.url()), Opening(os.getpid()))
    store.open()
    try:
        ran = run("import", file_of(place.directory, NETWORK), place.url())
        assert ran.status == 2
        assert f"process {os.getpid()} holds it" in ran.refusal
    finally:
        store.close()


def test_a_memory_store_is_nowhere(tmp_path: Path, run: Run) -> None:
    """It would be gone with this command."""
    assert "nothing to look into" in run("import", file_of(tmp_path, NETWORK), "memory:").refusal
