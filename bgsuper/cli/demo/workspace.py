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

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from ...errors import ConfigError


@dataclass(frozen=True, slots=True)
class Workspace:
    """A directory of ours. `made` says whether it was not there before."""

    directory: Path
    made: bool

    @classmethod
    def make(cls, wanted: Path | None) -> Self:
        """`wanted`, or a fresh directory among the machine's temporary ones. Raises `ConfigError`."""
        try:
            if wanted is None:
                return cls(Path(tempfile.mkdtemp(prefix="bgsuper-demo-")), made=True)
            wanted = wanted.absolute()
            made = not wanted.exists()
            if made:
                wanted.mkdir(0o700)
            _refuse_used(wanted)
            return cls(wanted, made)
        except OSError as error:
            raise ConfigError(
                f"expected a directory to write in, {wanted or tempfile.gettempdir()} is none ({error.strerror}); "
                "name another with --directory"
            ) from error

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
        if self.made:
            shutil.rmtree(self.directory)
            return
        for entry in self.directory.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def _refuse_used(directory: Path) -> None:
    entries = os.listdir(directory)
    if entries:
        raise ConfigError(
            f"expected a new or an empty directory, {directory} holds {min(entries)!r:.80}; "
            "name another with --directory, or leave that out"
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigError(
            f"expected a directory to write in, {directory} allows no writing; name another with --directory"
        )
