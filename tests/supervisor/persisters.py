"""Persisters that tests have the worker import."""

from __future__ import annotations

import os
from pathlib import Path


class DiskOfMineError(Exception):
    """A persister's own error, with attributes that survive the pipe."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.code = code


class Files:
    """Writes each value to a file; raises where `fails` says so."""

    def __init__(self, directory: str, fails: str = "") -> None:
        self._directory, self._fails = Path(directory), fails

    def _write(self, name: str, data: bytes) -> None:
        if name == self._fails:
            raise DiskOfMineError(f"cannot write the {name}", 7)
        (self._directory / name).write_bytes(data)

    def persist_manager(self, data: bytes) -> None:
        self._write("manager", data)

    def persist_graph(self, data: bytes) -> None:
        self._write("graph", data)

    def persist_scorer(self, data: bytes) -> None:
        self._write("scorer", data)


class Exits(Files):
    """Ends the process without a word."""

    def persist_graph(self, data: bytes) -> None:
        os._exit(7)
