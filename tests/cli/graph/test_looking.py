"""`info`, `node`, `channel`: what is in a graph, wherever it lies, and nothing that a stranger could make of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bgsuper.cli.main import main
from bgsuper.key import NETWORK_GRAPH
from bgsuper.lightning.chain_hash import MAINNET
from bgsuper.lightning.routing.gossip import NetworkGraph
from bgsuper.lightning.routing.rapid import BACKDATED_SECONDS
from tests.cli.store.conftest import Run
from tests.cli.store.stores import Place, files, fill
from tests.lightning import gossip_network as net
from tests.lightning.gossip_network import NODES, NOW
from tests.lightning.routing.test_rapid import FULL, SEEN, Update, encode

from .graphs import (
    ALICE,
    BOB,
    HOSTILE,
    HOSTILE_TEXT,
    MALLORY,
    NETWORK,
    SCID,
    Source,
    network,
    records,
    without_messages,
)


def test_info(source: Source, run: Run) -> None:
    """The same of the same graph, for a program."""
    ran = run("info", source.name, "--json")
    assert ran.status == 0, ran.err
    told = ran.json
    assert told.pop("form") in ("LDK's bytes", "a store's records", "a store's snapshot")
    assert told.pop("bytes") > 1000
    assert told.pop("chain_said_by") in ("the file", "its messages", "its snapshot")
    assert told.pop("chain_hash") == NETWORK.chain_hash.hex()
    assert told == {
        "source": source.name,
        "chain": "regtest",
        "channels": 2,
        "nodes": 3,
        "nodes_announced": 2,
        "directions_known": 3,
        "directions_enabled": 3,
        "capacities_known": 1,
        "capacity_sats": 50_000,
        "oldest_update": NOW - 3600,
        "newest_update": NOW,
        "rapid_gossip_sync_timestamp": None,
        "refused": 0,
    }


def test_info_for_a_person(source: Source, run: Run) -> None:
    """With ages, and nothing on standard error."""
    ran = run("info", source.name)
    assert (ran.status, ran.err) == (0, "")
    assert "regtest" in ran.words
    assert "3 of 4 are known" in ran.words
    assert "1 of 2 are known, together 50,000 sat" in ran.words
    assert "2023-11-14 22:13:20Z" in ran.words
    assert "days ago" in ran.words


def test_info_of_a_snapshot(tmp_path: Path, run: Run) -> None:
    """A rapid gossip sync server's: that it is one, of when, and how many entries were no use."""
    path = tmp_path / "snapshot.bin"
    path.write_bytes(FULL)
    told = run("info", path, "--json").json
    assert told["form"] == "rapid gossip sync snapshot"
    assert (told["chain"], told["channels"], told["nodes"]) == ("regtest", 2, 3)
    assert (told["directions_known"], told["directions_enabled"]) == (3, 2)
    assert told["newest_update"] == SEEN - BACKDATED_SECONDS
    assert told["rapid_gossip_sync_timestamp"] == SEEN
    assert (told["bytes"], told["refused"]) == (len(FULL), 0)
    path.write_bytes(encode([], [Update(300)]))
    assert run("info", path, "--json").json["refused"] == 1
    assert "1 entries" in run("info", path).words


@pytest.mark.parametrize("kind", ["sqlite", "sqlite sealed"])
def test_records_come_before_the_snapshot(tmp_path: Path, run: Run, kind: str) -> None:
    """They are what a node goes on with; the snapshot is older."""
    place = Place(tmp_path, kind)
    fill(place.url(), records(network(3)), {NETWORK_GRAPH: NETWORK.write()})
    told = run("info", place.url(), "--json").json
    assert (told["form"], told["channels"]) == ("a store's records", 3)


def test_the_chain_of_records(tmp_path: Path, run: Run) -> None:
    """Said by their messages, else the snapshot, else whoever asks, else assumed; and never two of them."""
    plain, bare = Place(tmp_path, "sqlite"), records(without_messages())
    fill(plain.url("messages"), records())
    fill(plain.url("snapshot"), bare, {NETWORK_GRAPH: NETWORK.write()})
    fill(plain.url("nothing"), bare, {})

    def told(name: str, *options: str) -> tuple[str, str]:
        found = run("info", plain.url(name), *options, "--json").json
        return found["chain"], found["chain_said_by"]

    fill(plain.url("contradiction"), records(), {NETWORK_GRAPH: NetworkGraph(MAINNET).write()})
    assert run("info", plain.url("contradiction")).status == 2
    assert "expected one chain" in run("info", plain.url("contradiction")).refusal
    assert told("snapshot") == ("regtest", "its snapshot")
    assert told("nothing", "--chain", "signet") == ("signet", "--chain")
    assert told("nothing") == ("mainnet", "nobody, so it is assumed")


@pytest.mark.parametrize("command", [["info"], ["node", ALICE], ["channel", SCID], ["export", "-"]], ids=str)
def test_another_chain_is_refused(source: Source, run: Run, command: list[str]) -> None:
    """By each command, in one line that says who says what."""
    name, *rest = command
    ran = run(name, source.name, *rest, "--chain", "signet")
    assert ran.status == 2
    assert "says regtest, and --chain says signet" in ran.refusal
    if name != "export":
        assert run(name, source.name, *rest, "--chain", "regtest").status == 0


def test_node(source: Source, run: Run) -> None:
    """What it says of itself, each address in its own way, and its channels."""
    ran = run("node", source.name, ALICE, "--json")
    assert ran.status == 0, ran.err
    said = ran.json["announcement"]
    assert (said["alias"], said["color"], said["last_update"]) == ("Alice", "#010203", NOW)
    assert bytes.fromhex(said["alias_hex"]) == b"Alice".ljust(32, b"\0")
    onion = "aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypsaijc.onion"
    assert said["addresses"] == [
        {"kind": "IPv4", "host": "203.0.113.7", "port": 9735},
        {"kind": "IPv6", "host": "2001:db8::1", "port": 9736},
        {"kind": "Tor v3", "host": onion, "port": 80},
        {"kind": "DNS", "host": "example.com", "port": 9737},
    ]
    assert (said["features"], said["feature_bits"]) == ("0200", [9])
    [channel] = ran.json["channels"]
    assert channel["short_channel_id"] == "811316x1023x1"
    assert (channel["node_two"], channel["node_two_alias"]) == (MALLORY, HOSTILE_TEXT)
    shown = run("node", source.name, ALICE).words
    for part in ("Alice", "203.0.113.7:9735 (IPv4)", "[2001:db8::1]:9736 (IPv6)", "example.com:9737 (DNS)", "bits 9"):
        assert part in shown
    assert "1,000 + 100 ppm" in shown


def test_a_node_that_says_nothing(source: Source, run: Run) -> None:
    """It is there by its channels; upper case is hex as well."""
    ran = run("node", source.name, BOB.upper(), "--json")
    assert ran.json["announcement"] is None
    assert [channel["node_two_alias"] for channel in ran.json["channels"]] == [None]
    assert "nothing of itself" in run("node", source.name, BOB).words


@pytest.mark.parametrize("spelling", ["811316x1023x1", str(SCID)])
def test_channel(source: Source, run: Run, spelling: str) -> None:
    """Both nodes, and the terms of both directions, each with its age."""
    ran = run("channel", source.name, spelling, "--json")
    assert ran.status == 0, ran.err
    told = ran.json
    assert (told["node_one"], told["node_one_alias"], told["node_two"]) == (ALICE, "Alice", MALLORY)
    assert (told["capacity_sats"], told["announcement_received"], told["announcement_kept"]) == (50_000, NOW, True)
    assert told["one_to_two"] == {
        "enabled": True,
        "last_update": NOW,
        "cltv_expiry_delta": 80,
        "htlc_minimum_msat": 1,
        "htlc_maximum_msat": 1_000_000,
        "fee_base_msat": 1000,
        "fee_proportional_millionths": 100,
        "update_kept": True,
    }
    assert told["two_to_one"]["last_update"] == NOW - 3600
    shown = run("channel", source.name, spelling).words
    for part in ("811316x1023x1", ALICE, "Alice", "50,000 sat", "1,000,000 msat", "80 blocks", "days ago"):
        assert part in shown


def test_a_direction_that_is_not_known(source: Source, run: Run) -> None:
    """Said, not left out."""
    scid = SCID + 1
    assert run("channel", source.name, scid, "--json").json["two_to_one"] is None
    shown = run("channel", source.name, scid).words
    assert shown.count("not known") == 2, "the direction, and the capacity"


def test_a_disabled_direction_of_rapid_gossip_sync(tmp_path: Path, run: Run) -> None:
    """Disabled is no fee of zero; what a server said is kept for no peer."""
    path = tmp_path / "snapshot.bin"
    path.write_bytes(FULL)
    told = run("channel", path, 200, "--json").json
    assert told["one_to_two"]["enabled"] is False
    assert told["announcement_kept"] is told["one_to_two"]["update_kept"] is False
    assert "disabled" in run("node", path, told["node_one"]).words


@pytest.mark.parametrize(
    "command", [["node", MALLORY], ["node", ALICE], ["node", BOB], ["channel", SCID], ["channel", SCID + 1]], ids=str
)
def test_a_hostile_alias_never_reaches_the_terminal(source: Source, run: Run, command: list[object]) -> None:
    """Neither as it came nor as markup, neither of the node itself nor of its neighbour; in JSON no more than plain
    ASCII. Everything that is printed can be printed."""
    name, *rest = command
    shown, told = run(name, source.name, *rest), run(name, source.name, *rest, "--json")
    assert shown.status == told.status == 0
    assert told.out.isascii()
    assert all(character.isprintable() or character == "\n" for character in shown.out + told.out)
    assert "\\x1b[31m" in shown.out, "shown escaped, and not left out"
    assert "[red]" in shown.words.replace(" ", ""), "markup is text"


def test_the_hostile_alias_is_one(source: Source, run: Run) -> None:
    """What the test above relies on: the graph's bytes hold it raw."""
    assert HOSTILE in NETWORK.write()
    assert json.loads(run("node", source.name, MALLORY, "--json").out)["announcement"]["alias"] == HOSTILE_TEXT


def test_a_node_with_more_than_anyone_wants_to_read(tmp_path: Path, run: Run) -> None:
    """Addresses and features by the thousand are cut for a person, and whole for a program."""
    graph = network()
    message = net.node(0, NOW + 1, alias=b"", addresses=bytes([1, 203, 0, 113, 7, 0, 80]) * 5000)
    graph.update_node_from_unsigned_announcement(message)
    path = tmp_path / "graph.bin"
    path.write_bytes(graph.write())
    shown = run("node", path, ALICE)
    assert "and 4,976 more" in shown.words
    assert "(none)" in shown.words
    assert len(shown.out) < 20_000
    assert len(run("node", path, ALICE, "--json").json["announcement"]["addresses"]) == 5000


def test_what_is_absent_is_one_line_and_exit_status_1(source: Source, run: Run) -> None:
    """Not 2: the graph could be read."""
    for arguments, said in (
        (["node", source.name, NODES[3].public.hex()], "there is no node"),
        (["channel", source.name, "1x2x3"], "there is no channel 1x2x3"),
    ):
        ran = run(*arguments)
        assert ran.status == 1
        assert said in ran.refusal


def test_looking_changes_nothing(place: Place, run: Run) -> None:
    """Not a byte, not a file."""
    fill(place.url(), records(), {NETWORK_GRAPH: NETWORK.write()})
    before = files(place.directory / "store")
    for command in (["info"], ["node", ALICE], ["channel", SCID]):
        assert run(command[0], place.url(), *command[1:]).status == 0
    assert main(["graph", "export", place.url(), str(place.directory / "out")]) == 0
    assert files(place.directory / "store") == before


def test_files_hold_records_beside_the_snapshot(tmp_path: Path, run: Run) -> None:
    """What a node commits and what it snapshots must fit in one store of LDK's layout."""
    place = Place(tmp_path, "file")
    fill(place.url(), records(network(3)), {NETWORK_GRAPH: NETWORK.write()})
    assert run("info", place.url(), "--json").json["channels"] == 3
