"""Both faces over a real supervisor, a real worker and SQLite."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bgsuper.errors import BgsuperError
from bgsuper.key import NETWORK_GRAPH, Key
from bgsuper.processor.background import BackgroundProcessor, process_events
from bgsuper.supervisor import Supervisor

from .stand_ins import Message, RecordManager, Setup

A, B = Key("channels", "", "a"), Key("monitors", "", "a")


class CheckingManager(RecordManager):
    """Reads the store at each release: what the output was computed from must be there."""

    def __init__(self, store: Supervisor, total: int) -> None:
        super().__init__()
        self.store = store
        self.total = total
        self.early: list[str] = []
        self.done = threading.Event()

    def send(self, number: int) -> None:
        value = b"%d" % number
        with self.lock:
            self.puts[B] = value
            self.put(A, value, Message(str(number), "alice", (A, B)))

    def release(self, output: Message) -> None:
        super().release(output)
        if int(self.store.read(A)) < int(output.text) or int(self.store.read(B)) < int(output.text):
            self.early.append(output.text)
        if len(self.released) == self.total:
            self.done.set()


def start(setup: Setup, store: Supervisor | str) -> BackgroundProcessor:
    return BackgroundProcessor.start(store, setup.handle, setup.monitor, setup.manager, setup.gossip, setup.peers)


def test_what_left_is_in_the_store_and_the_store_is_what_is_in_memory(tmp_path: Path) -> None:
    """On a thread, with a worker that is killed in between: nothing leaves early, nothing is lost, nobody notices."""
    url = f"sqlite://{tmp_path}/state"
    with Supervisor(url) as store:
        manager = CheckingManager(store, 60)
        setup = Setup(manager=manager)
        with start(setup, store) as processor:
            for number in range(1, 61):
                manager.send(number)
                if number == 30:
                    pid = processor.health().pid
                    assert pid is not None
                    os.kill(pid, signal.SIGKILL)
            assert manager.done.wait(30)
            health = processor.health()
        assert (health.gate, health.atomic, health.restarts) == ("open", True, 1)
        assert (manager.released, manager.early) == ([str(number) for number in range(1, 61)], [])
        assert (store.read(A), store.read(B), store.read(NETWORK_GRAPH)) == (b"60", b"60", b"graph 0")
    with Supervisor(url) as store:
        assert (store.read(A), store.read(B), store.read(NETWORK_GRAPH)) == (b"60", b"60", b"graph 0")


def test_on_asyncio_with_its_own_supervisor(tmp_path: Path) -> None:
    """It starts and stops its own; cancelled with changes still dirty, it writes them."""
    url = f"sqlite://{tmp_path}/state"
    manager = RecordManager()
    setup = Setup(manager=manager)

    async def main() -> None:
        arguments = (url, setup.handle, setup.monitor, manager, setup.gossip, setup.peers)
        task = asyncio.create_task(process_events(*arguments, stop=asyncio.Event()))
        manager.put(A, b"1", Message("answer", None, (A,)))
        async with asyncio.timeout(30):
            while not manager.released:
                await asyncio.sleep(0.001)
        manager.put(B, b"2")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    with Supervisor(url) as store:
        assert (store.read(A), store.read(B), store.read(NETWORK_GRAPH)) == (b"1", b"2", b"graph 0")


EXIT = """
import sys
from tests.processor.stand_ins import RecordManager, Setup
from tests.processor.test_real_store import A, start
setup = Setup(manager=RecordManager())
processor = start(setup, sys.argv[1])
setup.manager.put(A, b"1")
"""


def test_left_running_at_interpreter_exit(tmp_path: Path) -> None:
    """Its exit hook runs before its supervisor's, so the final writes find a worker."""
    url = f"sqlite://{tmp_path}/state"
    subprocess.run([sys.executable, "-W", "ignore::ResourceWarning", "-c", EXIT, url], timeout=60, check=True)
    with Supervisor(url) as store:
        assert (store.read(A), store.read(NETWORK_GRAPH)) == (b"1", b"graph 0")


def test_a_store_that_another_holds_is_an_error_of_start(tmp_path: Path) -> None:
    """No node object is touched."""
    url = f"sqlite://{tmp_path}/state"
    setup = Setup(manager=RecordManager())
    with Supervisor(url), pytest.raises(BgsuperError):
        start(setup, url)
    assert setup.calls == []
