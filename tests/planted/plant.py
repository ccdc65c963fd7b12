"""Sows a bug in a copy of the project, and runs the tests that should catch it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parents[2]
#: What of the project the tests need.
PARTS: Final = ("bgsuper", "tests", "benchmarks", "pyproject.toml")
#: Longer than this a bug makes them hang, which is noticed as well.
PATIENCE_S: Final = 300.0

# https://docs.pytest.org/en/stable/reference/exit-codes.html
ALL_PASSED: Final = 0
SOME_FAILED: Final = 1


@dataclass(frozen=True, slots=True)
class Edit:
    """In `file` (relative to the project), `old`, which is there exactly once, becomes `new`."""

    file: str
    old: str
    new: str

    def apply(self, project: Path) -> str:
        """The file's content with the bug in it. Raises `ValueError` if `old` is not there exactly once."""
        source = (project / self.file).read_text()
        found = source.count(self.old)
        if found != 1:
            raise ValueError(f"expected once in {self.file}, found {found} times: {self.old!r}; mend the planted bug")
        return source.replace(self.old, self.new)


@dataclass(frozen=True, slots=True)
class Bug:
    name: str
    rule: str  #: what it breaks, in words
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]  #: the node ids of those that catch it


class Verdict(Enum):
    CAUGHT = "caught"
    SURVIVED = "survived"
    UNTESTED = "could not be tested"  #: nothing was collected, or the patch broke the import


class Field:
    """A copy of the project, in which bugs are sown one at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for part in PARTS:
            source, target = PROJECT / part, directory / part
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)

    @contextmanager
    def sown(self, bug: Bug) -> Iterator[None]:
        """With the bug in it."""
        before = {edit.file: (self.directory / edit.file).read_text() for edit in bug.edits}
        try:
            for edit in bug.edits:
                (self.directory / edit.file).write_text(edit.apply(self.directory))
            yield
        finally:
            for file, source in before.items():
                (self.directory / file).write_text(source)

    def run(self, tests: Iterable[str]) -> tuple[int, str]:
        """The exit status of pytest, and what it said. A run that does not end counts as one with failures."""
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--hypothesis-seed=0", *tests]
        # Bytecode is told apart by the second and the size of its source, which is too coarse here.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(self.directory)}
        try:
            done = subprocess.run(
                command,
                cwd=self.directory,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return SOME_FAILED, f"the tests did not end within {PATIENCE_S:g} s"
        return done.returncode, done.stdout

    def uses_the_copy(self) -> bool:
        """Whether tests here import this copy, and not an installed bgsuper."""
        command = [sys.executable, "-c", "import bgsuper; print(bgsuper.__file__)"]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(self.directory)}
        told = subprocess.run(command, cwd=self.directory, env=environment, capture_output=True, text=True, check=True)
        return Path(told.stdout.strip()).is_relative_to(self.directory)

    def look(self, bug: Bug) -> tuple[Verdict, str]:
        """Whether the tests catch it, and what they said."""
        with self.sown(bug):
            status, said = self.run(bug.tests)
        if status == SOME_FAILED:
            return Verdict.CAUGHT, said
        return (Verdict.SURVIVED if status == ALL_PASSED else Verdict.UNTESTED), said
