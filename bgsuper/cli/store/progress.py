"""How far a long command is: a bar on a terminal, a line now and then elsewhere, on standard error in any case."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from ...key import Key
from ...store.copying import Advance
from .reports import size

#: Seconds between two pictures, and between two lines where there is no terminal.
FRAME_S: Final = 0.1
LINE_S: Final = 10.0


@contextmanager
def progress(doing: str, total: int | None) -> Iterator[Advance]:
    """Show how many of `total` values (None: nobody knows) are done, as the given function is told of each."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield _Meter(lambda values, done: _line(doing, values, total, done), LINE_S).advance
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[size]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(doing, total=total, size="")
        yield _Meter(lambda values, done: bar.update(task, completed=values, size=size(done)), FRAME_S).advance


class _Meter:
    """Counts, and shows the counts once in `every_s` seconds."""

    def __init__(self, show: Callable[[int, int], None], every_s: float) -> None:
        self._show = show
        self._every_s = every_s
        self._due = time.monotonic() + every_s
        self._values = self._bytes = 0

    def advance(self, _key: Key, length: int) -> None:
        self._values += 1
        self._bytes += length
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._every_s
            self._show(self._values, self._bytes)


def _line(doing: str, values: int, total: int | None, done: int) -> None:
    of = "" if total is None else f" of {total:,}"
    print(f"{doing}: {values:,}{of} values, {size(done)}", file=sys.stderr, flush=True)
