"""The seed's own tests, by name (rust-lightning v0.0.106, lightning-background-processor), against a real worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from .ldk_node import Node, persister

pytestmark = pytest.mark.usefixtures("no_leaks")


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
