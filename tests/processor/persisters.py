"""Persisters that the worker process imports."""

from __future__ import annotations

import builtins
from pathlib import Path


class FailingPersister:
    """The seed's test persister: keeps values as files, and raises what it was told to.

    Its errors are [name of a built-in exception, its arguments...]. What is written to a value is also appended to its
    history.
    """

    def __init__(
        self,
        directory: str,
        manager_error: list[object] | None = None,
        graph_error: list[object] | None = None,
        scorer_error: list[object] | None = None,
    ) -> None:
        self._directory = Path(directory)
        self._errors = {"manager": manager_error, "network_graph": graph_error, "scorer": scorer_error}

    def persist_manager(self, data: bytes) -> None:
        self._persist("manager", data)

    def persist_graph(self, data: bytes) -> None:
        self._persist("network_graph", data)

    def persist_scorer(self, data: bytes) -> None:
        self._persist("scorer", data)

    def _persist(self, name: str, data: bytes) -> None:
        error = self._errors.get(name)
        if error is not None:
            raise getattr(builtins, str(error[0]))(*error[1:])
        with (self._directory / f"{name}.history").open("ab") as history:
            history.write(data + b"\n")
        whole = self._directory / f"{name}.new"
        whole.write_bytes(data)
        whole.rename(self._directory / name)
