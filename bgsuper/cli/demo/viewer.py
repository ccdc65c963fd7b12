"""``python -m bgsuper.cli.demo.viewer FD``: draws the story that comes in on standard input, as lines of JSON.

A process of its own, since drawing takes milliseconds of pure Python, which the demo would measure as lateness of its
own loop. It closes the descriptor FD when it is ready, and ends with its input; the last picture stays.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from rich.console import Console
from rich.live import Live

from .screen import draw
from .series import Happening, Look, Story, from_line

#: The shortest time between two pictures, in seconds.
FRAME_S: Final = 0.15
WIDEST: Final = 120


class _Lines(Protocol):
    def readline(self) -> bytes: ...


def view(lines: _Lines, console: Console, ready: Callable[[], None]) -> None:
    """Draw what comes until it ends; call `ready` after the first picture."""
    first = lines.readline()
    if not first:
        return
    story = from_line(first)
    assert isinstance(story, Story)
    # One line stays free for the cursor.
    draw_now = partial(draw, story, min(WIDEST, console.width), console.height - 1)
    drawn = 0.0
    with Live(draw_now(), console=console, auto_refresh=False) as live:
        ready()
        while line := lines.readline():
            match from_line(line):
                case Look() as look:
                    story.looks.append(look)
                case Happening() as happening:
                    story.happenings.append(happening)
            if time.monotonic() - drawn > FRAME_S:
                live.update(draw_now(), refresh=True)
                drawn = time.monotonic()
        live.update(draw_now(), refresh=True)


if __name__ == "__main__":
    # Ctrl-C is the demo's to handle; it closes our input when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    view(sys.stdin.buffer, Console(), ready=partial(os.close, int(sys.argv[1])))
