"""A directory that is ours to fill and to remove, because it was new or empty when we took it."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ...errors import ConfigError


@dataclass(frozen=True, slots=True)
class OwnDirectory:
    """`path` is absolute. `made` says whether it was not there before."""

    path: Path
    made: bool

    @classmethod
    def take(cls, wanted: Path, option: str) -> Self:
        """`wanted`, made if it is not there. Raises `ConfigError`, which names `option` as what to change."""
        try:
            path = wanted.absolute()
            made = not path.exists()
            if made:
                path.mkdir(0o700)
            _refuse_used(path, option)
            return cls(path, made)
        except OSError as error:
            raise _none(wanted, error, option) from error

    @classmethod
    def temporary(cls, prefix: str, option: str) -> Self:
        """A fresh one among the machine's temporary ones. Raises `ConfigError`."""
        try:
            return cls(Path(tempfile.mkdtemp(prefix=prefix)), made=True)
        except OSError as error:
            raise _none(Path(tempfile.gettempdir()), error, option) from error

    def remove(self) -> None:
        """Remove what is in it, and itself if we made it. Raises `OSError`."""
        if self.made:
            shutil.rmtree(self.path)
            return
        for entry in self.path.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def _none(path: Path, error: OSError, option: str) -> ConfigError:
    return ConfigError(
        f"expected a directory to write in, {path} is none ({error.strerror}); name another with {option}"
    )


def _refuse_used(directory: Path, option: str) -> None:
    entries = os.listdir(directory)
    if entries:
        raise ConfigError(
            f"expected a new or an empty directory, {directory} holds {min(entries)!r:.80}; "
            f"name another with {option}, or leave that out"
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigError(
            f"expected a directory to write in, {directory} allows no writing; name another with {option}"
        )
