from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bgsuper.faults.plan import Plan

from .hosts import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """An empty place for a store, with a plan of its faults that asks for none yet."""
    with Plan.create(tmp_path / "plan") as plan:
        yield Place(tmp_path, plan)
