"""Classes and factories that a user names, as "package.module:Name"."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..errors import ConfigError


def named(path: str, what: str) -> Callable[..., Any]:
    """What `path` names, `what` in the messages; `ConfigError` with Python's own words if there is none."""
    module, colon, name = path.partition(":")
    if not (colon and module and name):
        raise ConfigError(f"expected {what} as 'package.module:Name', got {path!r:.200}")
    try:
        found: object = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise ConfigError(f"{path:.200} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ConfigError(f"expected {path:.200} to name {what} that can be called, got {type(found).__name__}")
    return found
