"""The live view in a process of its own, on a real terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("no_leaks")

#: Begins a view, tells it of a death, and lets it end. `{fault}` happens in between.
SCRIPT = """
import os, signal
from rich.console import Console
from bgsuper.cli.demo.series import Happening, Story
from bgsuper.cli.demo.show import LiveView
live = LiveView(Console())
live.begin(Story("here", 4.0, [("idle", "nothing", 0.0, 4.0)]))
{fault}
for number in range(3000):
    live.tell(Happening(1.0, "death", "worker %d died" % number))
live.end("comparing")
live.close()
"""


def _on_a_terminal(script: str) -> tuple[int, str]:
    """Run `script` with a terminal as its standard output: its exit status and what came."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", script], stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:
            break  # Linux says EIO when the last writer is gone
        if not data:
            break
        shown += data
    os.close(ours)
    return process.wait(20), shown.decode()


def test_the_view_draws_to_its_end() -> None:
    """The last happening is in the last picture, however fast they came; the next step is told below."""
    status, shown = _on_a_terminal(SCRIPT.format(fault=""))
    assert status == 0, shown
    assert "worker 2999 died" in shown
    assert "comparing" in shown.splitlines()[-1]


def test_a_view_that_dies_takes_nothing_with_it() -> None:
    """The run goes on, and its end is told."""
    fault = "os.kill(live._viewer.pid, signal.SIGKILL); live._viewer.wait()"
    status, shown = _on_a_terminal(SCRIPT.format(fault=fault))
    assert status == 0, shown
    assert "comparing" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is left hidden"
    assert "Traceback" not in shown
