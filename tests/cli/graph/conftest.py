"""`bgsuper graph` as a shell runs it, on graphs wherever they may lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgsuper.cli.main import main
from tests.cli.store.conftest import Ran, Run
from tests.cli.store.stores import Place

from .graphs import SOURCES, Source

#: Stores of every backend, and a sealed one.
KINDS = ("sqlite", "file", "sqlite sealed")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `bgsuper graph` with these arguments."""

    def run_graph(*arguments: object) -> Ran:
        capsys.readouterr()
        status = main(["graph", *map(str, arguments)])
        return Ran(status, *capsys.readouterr())

    return run_graph


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where stores of one kind go; a test that asks for it is run once for each kind."""
    return Place(tmp_path, request.param)


@pytest.fixture(params=sorted(SOURCES))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    """`graphs.NETWORK`, in one place or another; a test that asks for it is run once for each."""
    return Source(SOURCES[request.param](tmp_path), request.param)
