"""Commands as a shell runs them, on each kind of store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bgsuper.cli.main import main

from .stores import KINDS, Place


class Ran(NamedTuple):
    """What a command came to. Rich folds lines: `words` has none."""

    status: int
    out: str
    err: str

    @property
    def words(self) -> str:
        return " ".join(self.out.replace("│", " ").split())

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def refusal(self) -> str:
        """The one line that a command says which could not do what it should."""
        assert self.out == ""
        assert self.err.startswith("bgsuper: ")
        assert self.err.count("\n") == 1, self.err
        return self.err


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `bgsuper store` with these arguments."""

    def run_store(*arguments: object) -> Ran:
        capsys.readouterr()
        status = main(["store", *map(str, arguments)])
        return Ran(status, *capsys.readouterr())

    return run_store


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where stores of one kind go; a test that asks for it is run once for each kind."""
    return Place(tmp_path, request.param)
