"""The seed's own tests, by name (rust-lightning v0.0.106, lightning-background-processor), against a real worker."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from bgsuper.processor.background import BackgroundProcessor
from bgsuper.processor.interfaces import TRACE
from bgsuper.processor.timers import Timers
from bgsuper.supervisor import PersisterRef

from .stand_ins import Calls, Gossip, Manager, Monitor, Peers

#: The seed's timers under cfg(test).
SHORT = Timers(freshness=0.05, ping=0.05, first_prune=0.05, rest=0.02)


def persister(directory: Path, **errors: list[object]) -> PersisterRef:
    return PersisterRef("tests.processor.persisters:FailingPersister", {"directory": str(directory), **errors})


class Node:
    """What `create_nodes` makes: the objects, and a logger that knows when a line came."""

    def __init__(self) -> None:
        calls = Calls()
        self.manager, self.monitor, self.peers, self.gossip = (
            Manager(calls),
            Monitor(calls),
            Peers(calls),
            Gossip(calls),
        )
        self.logger = logging.Logger("seed", TRACE)
        self._lines: set[str] = set()
        self._changed = threading.Condition()
        handler = logging.Handler()
        handler.emit = self._emit  # type: ignore[method-assign]
        self.logger.addHandler(handler)

    def _emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self._lines.add(record.getMessage())
            self._changed.notify_all()

    def wait_for_line(self, line: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: line in self._lines, 20), self._lines

    def start(self, persister: PersisterRef) -> BackgroundProcessor:
        return BackgroundProcessor.start(
            persister,
            lambda event: None,
            self.monitor,
            self.manager,
            self.gossip,
            self.peers,
            self.logger,
            timers=SHORT,
        )


def test_timer_tick_called(tmp_path: Path) -> None:
    """Both timer_tick_occurred are called on their timers, and say so in the log."""
    node = Node()
    processor = node.start(persister(tmp_path))
    node.wait_for_line("Calling ChannelManager's timer_tick_occurred on startup")
    node.wait_for_line("Calling ChannelManager's timer_tick_occurred")
    node.wait_for_line("Calling PeerManager's timer_tick_occurred")
    processor.stop()
    assert (tmp_path / "manager").read_bytes() == b"manager 0"


@pytest.mark.parametrize("error", [["PermissionError", 13, "test"], ["OSError", "test"], ["ValueError", "test"]])
def test_channel_manager_persist_error(tmp_path: Path, error: list[object]) -> None:
    """An error of persist_manager ends the processor and comes out of join(), of its own kind and with its text; each
    caller gets an exception of its own, with the worker's traceback."""
    node = Node()
    node.manager.change()
    processor = node.start(persister(tmp_path, manager_error=error))
    caught = []
    for retrieve in (processor.join, processor.join, processor.stop):
        with pytest.raises(Exception, match="test") as raised:
            retrieve()
        caught.append(raised.value)
    assert {type(one).__name__ for one in caught} == {error[0]}
    assert [one.args for one in caught] == [tuple(error[1:])] * 3
    assert len({id(one) for one in caught}) == 3
    assert all("persist_manager" in str(one.__cause__) for one in caught)
    assert not (tmp_path / "network_graph").exists()


def test_network_graph_persist_error(tmp_path: Path) -> None:
    """An error of persist_graph is logged while it runs, and comes out of stop() alone."""
    node = Node()
    processor = node.start(persister(tmp_path, graph_error=["OSError", "test"]))
    node.wait_for_line("Error: Failed to persist network graph, check your disk and permissions test")
    with pytest.raises(TimeoutError):
        processor.join(timeout=0.05)
    with pytest.raises(OSError, match="test") as raised:
        processor.stop()
    assert raised.value.args == ("test",)
    assert (tmp_path / "manager").exists()
