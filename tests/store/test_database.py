"""The database's creation, alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgsuper.faults.powercut import PowerCut
from bgsuper.store.database import check_header, create, is_creation_leftover


@pytest.fixture
def power(tmp_path: Path) -> Iterator[PowerCut]:
    power = PowerCut(tmp_path)
    yield power
    power.close()


def test_a_new_database_is_durable_with_its_name(tmp_path: Path, power: PowerCut) -> None:
    """create() relies on nobody for that, and leaves no other file."""
    path = str(tmp_path / "database")
    create(path, power.name, power.fsync)
    assert os.listdir(tmp_path) == ["database"]
    power.cut()
    assert os.listdir(tmp_path) == ["database"]
    assert check_header(path, written_before=False)


def test_what_a_creation_leaves() -> None:
    """Three names, and no other."""
    for name in ("d.new", "d.new-wal", "d.new-journal"):
        assert is_creation_leftover("/x/d", name)
    for name in ("d", "d-wal", "d.new-shm", "e.new", "new"):
        assert not is_creation_leftover("/x/d", name)
