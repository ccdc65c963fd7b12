"""To where results go."""

from __future__ import annotations

import sys

from rich.console import Console

from .reports import WIDE


def console() -> Console:
    """Standard output, as wide as the terminal, or wide enough for the tables."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(width=WIDE, highlight=False)
