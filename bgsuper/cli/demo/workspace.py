"""The demo's directory: where it is, what is in it, and when it goes.

    directory/
      store/       the SQLite store
      faults       the fault plan that host and worker share
      demo.log     what bgsuper logged
      report.json  what the run came to, if the directory is kept

Rules: only a new or an empty directory is taken. What we made goes after a good run unless it is to be kept; after a
bad one it stays, as evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from ...torture.run.directory import OwnDirectory

_OPTION = "--directory"


@dataclass(frozen=True, slots=True)
class Workspace:
    """A directory of ours."""

    own: OwnDirectory

    @classmethod
    def make(cls, wanted: Path | None) -> Self:
        """`wanted`, or a fresh directory among the machine's temporary ones. Raises `ConfigError`."""
        if wanted is None:
            return cls(OwnDirectory.temporary("bgsuper-demo-", _OPTION))
        return cls(OwnDirectory.take(wanted, _OPTION))

    @property
    def directory(self) -> Path:
        return self.own.path

    @property
    def store(self) -> Path:
        return self.directory / "store"

    @property
    def faults(self) -> Path:
        return self.directory / "faults"

    @property
    def log(self) -> Path:
        return self.directory / "demo.log"

    @property
    def report(self) -> Path:
        return self.directory / "report.json"

    @property
    def url(self) -> str:
        """The store's URL."""
        return f"sqlite://{quote(str(self.store))}"

    @property
    def url_with_faults(self) -> str:
        """The same, with the faults of the plan."""
        return f"{self.url}?faults={quote(str(self.faults), safe='/')}"

    def remove(self) -> None:
        """Remove what the demo made. Raises `OSError`."""
        self.own.remove()
