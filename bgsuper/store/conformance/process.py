"""A child process of a case, seen from its parent: a fresh interpreter that does what `child` says under a name, and
reports each thing that it has done on a line of its own."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Final

from .backend import Backend
from .rules import Finding

#: How long a child may say nothing: far more than an interpreter takes to start, and a store to sync.
PATIENCE_S: Final = 60.0


class Child:
    """A running child. It ends by itself when its work is done, or when its reports find no reader."""

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self._process, self._errors = process, errors
        self._unread = b""
        self._ended = False

    @classmethod
    @contextmanager
    def running(cls, backend: Backend, job: str) -> Iterator[Child]:
        """A child that does `job` to the backend; killed at the end, whatever happened."""
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.child", job],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))},
            )
            child = cls(process, errors)
            try:
                assert process.stdin is not None
                process.stdin.write(json.dumps(child_words(backend)).encode() + b"\n")
                process.stdin.flush()
                yield child
            finally:
                process.kill()
                with process:
                    pass

    @property
    def pid(self) -> int:
        return self._process.pid

    def report(self, kind: str, within_s: float = PATIENCE_S) -> list[int]:
        """The numbers of its next report, which must be of that kind. Raises `Finding` if none comes."""
        line = self.line(within_s)
        if line is None:
            if self._ended:
                raise Finding(f"a process that had the store ended instead of reporting {kind!r}: {self._said()}")
            raise Finding(f"a process that has the store did nothing for {within_s:g} s, expected it to say {kind!r}")
        word, *numbers = line.split()
        if word != kind:
            raise Finding(f"expected a process that has the store to report {kind!r}, got {line!r}")
        return [int(number) for number in numbers]

    def line(self, within_s: float) -> str | None:
        """Its next report; None if none comes in that time, or ever."""
        deadline = time.monotonic() + within_s
        while b"\n" not in self._unread and not self._ended:
            left = deadline - time.monotonic()
            if left <= 0 or not self._ready(left):
                return None
            self._read()
        line, newline, rest = self._unread.partition(b"\n")
        if not newline:
            return None
        self._unread = rest
        return line.decode()

    def kill(self) -> list[str]:
        """SIGKILL it, wait until it is dead; what it had reported and nobody had read yet, as far as it is whole."""
        self._process.kill()
        self._process.wait()
        while not self._ended:
            self._read()
        lines = self._unread.decode().split("\n")[:-1]
        self._unread = b""
        return lines

    def check_end(self) -> None:
        """Raise `Finding` if it is dead by an error of its own."""
        if self._ended and self._process.wait() > 0:
            raise Finding(f"a process that had the store failed: {self._said()}")

    def _ready(self, seconds: float) -> bool:
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def _read(self) -> None:
        assert self._process.stdout is not None
        data = os.read(self._process.stdout.fileno(), 65536)
        self._unread += data
        self._ended = not data

    def _said(self) -> str:
        """The end of what it wrote to its standard error."""
        self._process.wait()
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace").strip()
        return text[-2000:] or f"nothing (exit status {self._process.returncode})"


def child_words(backend: Backend) -> dict[str, object]:
    """What a child must know of the backend, fit for JSON."""
    return {
        "target": backend.target,
        "directory": os.path.abspath(backend.directory),
        "volatile": backend.volatile,
        "checksums": backend.checksums,
        "seed": backend.seed,
    }
