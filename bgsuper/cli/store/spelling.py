"""How keys and namespaces are written on the command line: as LDK's file layout has them, empty parts left out.

    manager                  the key without namespaces
    monitors/NAME            in a primary namespace
    monitor_updates/NAME/7   in a primary and a secondary one

An empty primary namespace allows no secondary one, and no name is empty, so each key has one spelling, and each
spelling one key.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ...errors import ConfigError
from ...key import Key, check_key, check_namespace

#: For the help of each command that takes one.
KEY_HELP: Final = """\
KEY is written as LDK names its files, with empty parts left out: `manager`, `monitors/NAME`,
`monitor_updates/NAME/7` are name, primary/name and primary/secondary/name."""
NAMESPACE_HELP: Final = """\
NAMESPACE is `primary` for all that is below it, `primary/secondary` for one, `primary/` for what has no secondary
namespace, and `/` for what has none at all."""


class Namespaces(NamedTuple):
    """Which namespaces are meant: one of them, or all of one primary namespace if `secondary` is None."""

    primary: str
    secondary: str | None

    def has(self, key: Key) -> bool:
        """Whether `key` is in one of them."""
        return key.primary == self.primary and self.secondary in (None, key.secondary)

    def are_before(self, key: Key) -> bool:
        """Whether keys in order that have come to `key` bring no more of them."""
        return (key.primary, key.secondary if self.secondary is not None else "") > (self.primary, self.secondary or "")


def parse_key(text: str) -> Key:
    """The key that `text` spells. Raises `ConfigError`."""
    parts = text.split("/")
    if len(parts) > 3 or (len(parts) > 1 and not all(parts)):
        raise ConfigError(
            f"expected a key as name, primary/name or primary/secondary/name, empty parts left out, got {text!r:.400}"
        )
    *namespaces, name = parts
    primary, secondary, *_ = (*namespaces, "", "")
    return check_key(Key(primary, secondary, name))


def parse_namespaces(text: str) -> Namespaces:
    """The namespaces that `text` spells. Raises `ConfigError`."""
    primary, slash, secondary = text.partition("/")
    if not text:
        raise ConfigError("expected a namespace, got nothing: write / for what has none, or leave it out for all")
    check_namespace(primary, secondary)
    return Namespaces(primary, secondary if slash else None)
