"""LDK's own tests by name (rust-lightning's main branch, lightning-background-processor), those that need no channels,
against a real worker and, as there, with both faces. What its sweeper does with each block is the sweeper's to test."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bgsuper.errors import ReplayEvent

from .ldk_events import PaymentPathFailed, PaymentPathSuccessful, ProbeFailed, ProbeSuccessful
from .ldk_node import FACES, SHORT, Face, Node, persister
from .stand_ins import Rapid, Scores

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.parametrize("face", FACES, ids=["thread", "asyncio"]),
]


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def count(path: Path) -> int:
    """The number that a stand-in's value ends with; -1 if it was not written yet."""
    return int(content(path).split()[-1]) if path.exists() else -1


def test_scorer_persist_error(tmp_path: Path, face: Face) -> None:
    """An error of persist_scorer is logged while it runs, and comes out of stop() alone; the manager is written
    before, the graph not after it."""
    node = Node()
    node.scorer = Scores(node.calls)
    processor = node.start(persister(tmp_path, scorer_error=["OSError", "test"]), face, replace(SHORT, first_prune=1e5))
    node.wait_for_line("Error: Failed to persist scorer, check your disk and permissions test")
    with pytest.raises(TimeoutError):
        processor.join(timeout=0.05)
    with pytest.raises(OSError, match="test") as raised:
        processor.stop()
    assert raised.value.args == ("test",)
    assert (tmp_path / "manager").exists()
    assert not (tmp_path / "network_graph").exists()


def test_scorer_persistence(tmp_path: Path, face: Face) -> None:
    """On its timer: first it decays, then it is saved; and once more at the end."""
    node = Node()
    node.gossip = None
    node.scorer = Scores(node.calls)
    processor = node.start(persister(tmp_path), face)
    node.wait_for_line("Calling time_passed on scorer at startup")
    node.wait_for_line("Calling time_passed and persisting scorer", times=2)
    until(lambda: count(tmp_path / "scorer") >= 3)
    processor.stop()
    assert {lesson[0] for lesson in node.scorer.learned} == {"time_passed"}
    assert content(tmp_path / "scorer") == b"scores %d" % len(node.scorer.learned)


def test_event_handling_failures_are_replayed(tmp_path: Path, face: Face) -> None:
    """The handler is given the very same event a second time, and then the later one."""
    node = Node()
    handled: queue.Queue[object] = queue.Queue()
    failures = [ReplayEvent()]

    def handle(event: object) -> None:
        handled.put(event)
        if failures:
            raise failures.pop()

    node.handler = handle
    processor = node.start(persister(tmp_path), face)
    first, later = object(), object()
    node.push(first)
    node.push(later)
    assert [handled.get(timeout=20) for _ in range(3)] == [first, first, later]
    processor.stop()
    assert handled.empty()


def test_not_pruning_network_graph_until_graph_sync_completion(tmp_path: Path, face: Face) -> None:
    """However often the loop goes round; then at once, and the graph is persisted."""
    node = Node()
    node.gossip = gossip = Rapid(node.calls)
    processor = node.start(persister(tmp_path), face, replace(SHORT, prune=1e5))
    node.wait_for_line("Calling ChannelManager's timer_tick_occurred", times=2)
    assert gossip.network_graph.pruned_at == []
    assert not (tmp_path / "network_graph").exists()
    gossip.synced = True
    until(lambda: content(tmp_path / "network_graph") == b"graph 1")
    processor.stop()
    assert len(gossip.network_graph.pruned_at) == 1


def test_payment_path_scoring(tmp_path: Path, face: Face) -> None:
    """A failed path, one that its recipient refused, a successful one, a good probe and a bad one: five lessons, and
    exactly five saves before the final one."""
    node = Node()
    node.gossip = None
    node.scorer = scorer = Scores(node.calls)
    handled: queue.Queue[object] = queue.Queue()
    node.handler = handled.put
    processor = node.start(persister(tmp_path), face, replace(SHORT, first_scorer=1e5))
    events: list[object] = [
        PaymentPathFailed("path", 4242),
        PaymentPathFailed("path", None, payment_failed_permanently=True),
        PaymentPathSuccessful("path"),
        ProbeSuccessful("path"),
        ProbeFailed("path", 4242),
    ]
    for number, event in enumerate(events, 2):  # after the decay at the start
        node.push(event)
        assert handled.get(timeout=20) is event
        until(lambda number=number: content(tmp_path / "scorer") == b"scores %d" % number)  # type: ignore[misc]
    processor.stop()
    assert [lesson[:-1] for lesson in scorer.learned[1:]] == [
        ("payment_path_failed", "path", 4242),
        ("probe_successful", "path"),
        ("payment_path_successful", "path"),
        ("probe_successful", "path"),
        ("probe_failed", "path", 4242),
    ]
    assert node.lines["Persisting scorer after update"] == 5
    history = content(tmp_path / "scorer.history").split()[1::2]
    assert history == [b"2", b"3", b"4", b"5", b"6", b"6"]


def test_monitor_archive(tmp_path: Path, face: Face) -> None:
    """After its first period, and again; what it changed is in the store soon after."""
    node = Node()
    archive = node.monitor.archive_fully_resolved_channel_monitors

    def archive_and_change() -> None:
        archive()
        node.manager.change()

    node.monitor.archive_fully_resolved_channel_monitors = archive_and_change  # type: ignore[method-assign]
    processor = node.start(persister(tmp_path), face)
    node.wait_for_line("Archiving stale ChannelMonitors.", times=2)
    until(lambda: count(tmp_path / "manager") >= 2)
    processor.stop()
    assert node.calls.count("archive") == node.manager.changes
    assert content(tmp_path / "manager") == b"manager %d" % node.manager.changes


def test_rebroadcast_sweeper_and_onion_messenger(tmp_path: Path, face: Face) -> None:
    """What LDK's loop logs of the others, each on its timer."""
    node = Node()
    node.sweeper.raises = OSError("test")
    processor = node.start(persister(tmp_path), face)
    node.wait_for_line("Rebroadcasting monitor's pending claims on startup")
    for line, call in [
        ("Rebroadcasting monitor's pending claims", "rebroadcast"),
        ("Regenerating sweeper spends if necessary", "sweep"),
        ("Calling OnionMessageHandler's timer_tick_occurred", "onion tick"),
    ]:
        node.wait_for_line(line, times=2)
        assert node.calls.count(call) >= 2
    processor.stop()
