"""The thread face with a supervisor of its own: started, stopped, and heard."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from bgsuper.errors import ConfigError, ShutdownIncomplete, WorkerStartFailed
from bgsuper.key import MANAGER

from .fake_store import FakeStore
from .stand_ins import Flag, Setup
from .test_background import no_thread_is_left, prompt_setup, start

__all__ = ["no_thread_is_left"]  # a fixture of all tests here as well


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeStore], None]:
    """Have the processor make `store` when it is given a URL."""

    def use(store: FakeStore) -> None:
        store.started = False
        monkeypatch.setattr("bgsuper.supervisor.Supervisor", lambda target: store)

    return use


def test_its_own_supervisor_is_started_and_stopped(
    own: Callable[[FakeStore], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Also after a failure, whose error stop() repeats: that is no news."""
    setup = prompt_setup()
    own(setup.store)
    with start(setup, "sqlite:state"):
        assert setup.store.started
    assert setup.store.stopped
    failing = Setup()
    own(failing.store)
    processor = start(failing, "sqlite:state")
    failing.store.stop_error = PermissionError(13, "test")
    failing.store.fail(lambda: PermissionError(13, "test"))
    with pytest.raises(PermissionError):
        processor.join(10.0)
    assert failing.store.stopped
    assert "as well" not in caplog.text


def test_a_second_error_of_its_supervisor_is_logged(
    own: Callable[[FakeStore], None], caplog: pytest.LogCaptureFixture
) -> None:
    """The first one comes out."""
    setup = Setup()
    own(setup.store)
    processor = start(setup, "sqlite:state")
    setup.store.stop_error = OSError("second")
    setup.store.fail(lambda: PermissionError(13, "first"))
    with pytest.raises(PermissionError, match="first"):
        processor.join(10.0)
    assert "Stopping the supervisor failed as well: OSError: second" in caplog.text


def test_what_its_supervisor_says_at_the_end_comes_out(own: Callable[[FakeStore], None]) -> None:
    """It knows better than the processor what became of the writes."""
    setup = Setup()
    own(setup.store)
    setup.store.stop_error = ShutdownIncomplete("killed", unacked=7, outcome="killed")
    processor = start(setup, "sqlite:state")
    with pytest.raises(ShutdownIncomplete) as caught:
        processor.stop(0.05)
    assert (caught.value.unacked, caught.value.outcome) == (7, "killed")


def test_a_very_short_stop_whose_supervisor_ends_well(own: Callable[[FakeStore], None]) -> None:
    """What was submitted did become durable, and the graph was not written: it says so."""
    setup = Setup()
    own(setup.store)
    setup.store.stop = lambda timeout=30.0: setup.store.ack()  # type: ignore[method-assign]
    processor = start(setup, "sqlite:state")
    with pytest.raises(ShutdownIncomplete, match="all that was submitted is durable now") as caught:
        processor.stop(0.001)
    assert "handler" not in str(caught.value)
    assert caught.value.unacked == 0
    assert set(setup.store.durable) == {MANAGER}


def test_a_very_short_stop_still_hears_its_supervisor(own: Callable[[FakeStore], None]) -> None:
    """Which gets a second to kill its worker, however short the stop: nobody else knows what became of the writes."""

    class Killing(FakeStore):
        def stop(self, timeout: float = 30.0) -> None:
            assert timeout == 1.0
            time.sleep(0.8)
            super().stop(timeout)

    setup = Setup(store=Killing(stop_error=ShutdownIncomplete("killed", unacked=1, outcome="killed")))
    own(setup.store)
    processor = start(setup, "sqlite:state")
    with pytest.raises(ShutdownIncomplete, match=r"^killed$"):
        processor.stop(0.001)


def test_stop_is_bounded_when_its_supervisor_does_not_stop(own: Callable[[FakeStore], None]) -> None:
    """And says so; the handlers are not to blame."""
    leave = Flag()

    class Stuck(FakeStore):
        def stop(self, timeout: float = 30.0) -> None:
            leave.wait()

    setup = Setup(store=Stuck(prompt=True))
    own(setup.store)
    processor = start(setup, "sqlite:state")
    with pytest.raises(ShutdownIncomplete, match="its own supervisor is still being stopped") as caught:
        processor.stop(0.01)
    assert "handler" not in str(caught.value)
    leave.set()
    processor.stop()


def test_a_supervisor_that_cannot_start(own: Callable[[FakeStore], None]) -> None:
    """start() raises, and nothing was called."""

    class Broken(FakeStore):
        def start(self, timeout: float = 30.0) -> object:  # type: ignore[override]
            raise WorkerStartFailed("test")

    setup = Setup(store=Broken())
    own(setup.store)
    with pytest.raises(WorkerStartFailed):
        start(setup, "sqlite:state")
    assert setup.calls == []


def test_a_refused_manager_leaves_no_supervisor_behind(own: Callable[[FakeStore], None]) -> None:
    """`ConfigError` from start(), after the supervisor it had started was stopped."""
    setup = Setup()
    own(setup.store)
    setup.manager = setup.monitor
    with pytest.raises(ConfigError):
        start(setup, "sqlite:state")
    assert setup.store.stopped
