"""The leak check itself: each kind of leak is found and named, and what ends in time is none."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.leaks import MARK, RUN, Held


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    monkeypatch.setenv(MARK, RUN)
    held = Held.now()
    yield held
    assert held.settle(2.0) == []


def test_nothing_new_is_no_leak(before: Held) -> None:
    """Two looks at an idle process differ in nothing, the directory that is listed included."""
    assert before.leaked_since() == []


def test_a_descriptor_is_named_with_its_target(before: Held, tmp_path: os.PathLike[str]) -> None:
    """A leaked descriptor is reported with the file it is open on."""
    with open(os.path.join(tmp_path, "left-open"), "w"):
        [leaked] = before.settle(0)
    assert leaked.startswith("descriptor ")
    assert leaked.endswith("left-open")


def test_a_thread_is_named(before: Held) -> None:
    """A leaked thread is reported by its name; one that ends within the time is none."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="lingering")
    thread.start()
    assert before.settle(0) == ["thread 'lingering'"]
    threading.Timer(0.1, end.set).start()
    assert before.settle(2.0) == []


def test_a_child_is_named_even_as_a_zombie(before: Held) -> None:
    """A leaked child is reported with its command line; dead but not reaped, it still counts."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert any(leak.startswith(f"process {child.pid} ") for leak in before.settle(0))
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert any(leak.startswith(f"process {child.pid} (zombie)") for leak in before.settle(0))


def test_an_orphan_in_a_session_of_its_own_is_found_and_killed(before: Held) -> None:
    """A worker whose parent is gone is no child of ours any more: the mark in its environment finds it."""
    sleeper = "[sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True, stdout=subprocess.DEVNULL"
    parent = f"import subprocess, sys; print(subprocess.Popen({sleeper}).pid)"
    pid = int(subprocess.check_output([sys.executable, "-W", "ignore", "-c", parent], timeout=30))
    [leaked] = before.settle(0)
    assert leaked.startswith(f"process {pid} ")
    before.kill_since()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


LEAKY = """
import threading
import pytest
from tests.conftest import no_leaks

pytestmark = pytest.mark.usefixtures("no_leaks")
kept = []

def test_leaky(monkeypatch):
    monkeypatch.setattr("tests.conftest.SETTLE_S", 0.1)
    kept.append(open(__file__))

def test_clean():
    thread = threading.Thread(target=threading.Event().wait, args=(0.1,))
    thread.start()
"""


def test_the_fixture_fails_the_test_that_leaks(tmp_path: Path) -> None:
    """The leak is an error of the test that made it, told by name, and not of the next one."""
    file = tmp_path / "test_leaky.py"
    file.write_text(LEAKY)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default", str(file)]
    root = Path(__file__).parents[1]
    # Without the options of the run around it, such as coverage; and in CI pytest prints longer summaries.
    env = {name: value for name, value in os.environ.items() if name not in ("PYTEST_ADDOPTS", "CI")}
    done = subprocess.run(
        command, cwd=root, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
    )
    assert "2 passed, 1 error" in done.stdout
    assert "ERROR at teardown of test_leaky" in done.stdout
    assert "descriptor" in done.stdout
    assert done.stdout.count("the test leaked") == 2, "once as it was raised, once in the summary"
