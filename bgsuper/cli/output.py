"""To where a command writes what it was asked for: a file that is whole or not there, or standard output.

Rules: what is there is never replaced unasked, and no device at all; a file is its owner's alone, and durable on
return; binary does not go to a terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from ..errors import ConfigError
from ..store.files import full_sync, sync_directory


def check_free(path: Path, force: bool) -> None:
    """Raise `ConfigError` unless a file may be written at `path`; `force` allows one to be replaced."""
    if not os.path.lexists(path):
        return
    if not os.path.isfile(path):
        raise ConfigError(f"{path} is there, and no plain file: name another file, or - for standard output")
    if not force:
        raise _taken(path)


def write_file(pieces: Iterable[bytes], path: Path, force: bool) -> None:
    """Write `pieces` to `path`, as `check_free` allows it; an error leaves what was there. Raises `ConfigError`,
    `OSError`, `StoreError`."""
    check_free(path, force)
    building = path.with_name(f"{path.name}.{os.getpid()}.tmp") if force else path
    try:
        fd = os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise _taken(building) from None
    try:
        with open(fd, "wb") as file:
            file.writelines(pieces)
            file.flush()
            full_sync(file.fileno())
        if force:
            os.replace(building, path)
    except BaseException:
        building.unlink(missing_ok=True)
        raise
    sync_directory(os.path.dirname(os.path.abspath(path)), full_sync)


def check_stdout() -> None:
    """Raise `ConfigError` if standard output is a terminal."""
    if sys.stdout.isatty():
        raise ConfigError("this is binary, and standard output is a terminal: name a file, or pipe it somewhere")


def write_stdout(pieces: Iterable[bytes]) -> None:
    """Write `pieces` to standard output."""
    sys.stdout.buffer.writelines(pieces)
    sys.stdout.buffer.flush()


def _taken(path: Path) -> ConfigError:
    return ConfigError(f"{path} is there already: name another file, or add --force to replace it")
