"""What a record is called: the words that the host, the pipe and the store share.

LDK's KVStore names (rust-lightning, `lightning::util::persist`): a primary namespace, a secondary one, and a name.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple, NewType

from .errors import ConfigError

#: The number of a commit or snapshot, global to a store and never reused once durable. 0 means "before the first".
Seq = NewType("Seq", int)


class Key(NamedTuple):
    """The name of one record.

    Each part has at most 120 characters of ``[A-Za-z0-9_-]``. ``name`` is not empty. An empty ``primary`` forces an
    empty ``secondary``.
    """

    primary: str
    secondary: str
    name: str

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


MANAGER: Final = Key("", "", "manager")
NETWORK_GRAPH: Final = Key("", "", "network_graph")
SCORER: Final = Key("", "", "scorer")

_PART = re.compile(r"[A-Za-z0-9_-]{0,120}")


def check_namespace(primary: str, secondary: str) -> None:
    """Raise `ConfigError` unless both are namespaces that LDK's KVStore would take."""
    for part in (primary, secondary):
        if not isinstance(part, str) or not _PART.fullmatch(part):
            raise ConfigError(f"expected a namespace of at most 120 characters of [A-Za-z0-9_-], got {part!r:.140}")
    if secondary and not primary:
        raise ConfigError(f"an empty primary namespace allows no secondary one, got {secondary!r}")


def check_key(key: Key) -> Key:
    """Return `key` as a `Key`, or raise `ConfigError` if LDK's KVStore would refuse it."""
    # A tuple: the string "abc" would unpack as well.
    if not isinstance(key, tuple) or len(key) != 3:
        raise ConfigError(f"expected Key(primary, secondary, name), got {key!r:.200}")
    try:
        return _checked(*key)
    except TypeError:
        kinds = ", ".join(type(part).__name__ for part in key)
        raise ConfigError(f"expected a key of three strings of at most 120 characters, got {kinds}") from None


# Every commit and every record on the pipe is checked, and most of them bear names that were seen before.
@lru_cache(maxsize=4096)
def _checked(primary: str, secondary: str, name: str) -> Key:
    check_namespace(primary, secondary)
    if not isinstance(name, str) or not name or not _PART.fullmatch(name):
        raise ConfigError(f"expected a key name of 1 to 120 characters of [A-Za-z0-9_-], got {name!r:.140}")
    return Key(primary, secondary, name)
