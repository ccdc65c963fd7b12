"""To whom a run is told while it goes on: a terminal, which gets the live view, or anything else, which gets lines.

Rule: telling never holds up the loop. The live view is drawn by another process (`viewer`); what its pipe does not take
at once is left out, except for the rest of a line begun.
"""

from __future__ import annotations

import io
import os
import re
import select
import subprocess
import sys
from dataclasses import replace
from typing import Final, Protocol, TextIO

from rich.console import Console

from .screen import draw
from .series import Happening, Look, Story, to_line

#: How long the viewer may take to draw its first and its last picture, in seconds.
FIRST_PICTURE_S: Final = 5.0
LAST_PICTURE_S: Final = 5.0
#: The size of the picture that is kept, in columns.
PICTURE_COLUMNS: Final = 110
PICTURE_FONTS: Final = "Fira Code, DejaVu Sans Mono, Menlo, Consolas, monospace"


class Show(Protocol):
    """Hears of a run."""

    def begin(self, story: Story) -> None: ...
    def tell(self, item: Look | Happening) -> None: ...
    def end(self, next_step: str) -> None:
        """The run is over; `next_step` is done now."""

    def close(self) -> None:
        """Let go of everything. Called in any case, also twice."""


class Lines:
    """One line for each happening."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def begin(self, story: Story) -> None:
        self._print(f"bgsuper demo: {story.seconds:g} s in {story.directory}")

    def tell(self, item: Look | Happening) -> None:
        if isinstance(item, Happening):
            mark = "-- " if item.kind == "act" else "   "
            self._print(f"{item.at_s:7.2f} s  {mark}{item.text}")

    def end(self, next_step: str) -> None:
        self._print(f"           -- {next_step}")

    def close(self) -> None:
        """Nothing is held."""

    def _print(self, text: str) -> None:
        try:
            print(text, file=self._stream, flush=True)
        except BrokenPipeError:
            # Who read it is gone. The run goes on to its clean end, and its report says the rest.
            self._print = _unheard  # type: ignore[method-assign]


def _unheard(text: str) -> None:
    """Nobody listens."""


class LiveView:
    """The viewer, on the terminal of our standard output."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._viewer: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def begin(self, story: Story) -> None:
        # Its start takes a second of processor time: that must not be measured.
        readable, ready = os.pipe()
        try:
            self._viewer = subprocess.Popen(
                [sys.executable, "-P", "-m", "bgsuper.cli.demo.viewer", str(ready)],
                stdin=subprocess.PIPE,
                pass_fds=[ready],
            )
            os.close(ready)
            assert self._viewer.stdin is not None
            os.set_blocking(self._viewer.stdin.fileno(), False)
            self._rest = to_line(story)
            self._write()
            select.select([readable], [], [], FIRST_PICTURE_S)
        finally:
            os.close(readable)

    def tell(self, item: Look | Happening) -> None:
        line = to_line(item)
        # Happenings are few and each matters; of looks there is a next one.
        if isinstance(item, Happening) or not self._rest:
            self._rest += line
        self._write()

    def end(self, next_step: str) -> None:
        self.close()
        self._console.print(f"[grey70]{next_step} ...[/]")

    def close(self) -> None:
        # The viewer draws its last picture and goes.
        viewer, self._viewer = self._viewer, None
        if viewer is None or viewer.stdin is None:
            return
        os.set_blocking(viewer.stdin.fileno(), True)
        try:
            viewer.stdin.write(self._rest)
            viewer.stdin.close()
        except BrokenPipeError:
            pass  # it died; the report is still to come
        try:
            viewer.wait(LAST_PICTURE_S)
        except subprocess.TimeoutExpired:
            viewer.kill()
            viewer.wait()
        # A viewer that died left it hidden.
        self._console.show_cursor()

    def _write(self) -> None:
        if self._viewer is None or self._viewer.stdin is None or not self._rest:
            return
        try:
            self._rest = self._rest[os.write(self._viewer.stdin.fileno(), self._rest) :]
        except BlockingIOError:
            pass  # it draws; the rest goes with the next
        except BrokenPipeError:
            self._rest = b""


def picture(story: Story, directory: str) -> str:
    """The live view's last picture as SVG, with `directory` in the place of the true one."""
    console = Console(record=True, width=PICTURE_COLUMNS, file=io.StringIO())
    console.print(draw(replace(story, directory=directory), PICTURE_COLUMNS))
    svg = console.export_svg(title="bgsuper demo")
    # rich's own fonts would be fetched from elsewhere: a picture looks nothing up.
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace(
        "font-family: Fira Code, monospace", f"font-family: {PICTURE_FONTS}"
    )
