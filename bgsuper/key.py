"""What a record is called: the words that the host, the pipe and the store share.

LDK's KVStore names (rust-lightning, `lightning::util::persist`): a primary namespace, a secondary one, and a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple, NewType, NoReturn

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
#: A key's parts, joined by what none of them may contain.
_KEY = re.compile(r"(?:[A-Za-z0-9_-]{1,120}/[A-Za-z0-9_-]{0,120}|/)/[A-Za-z0-9_-]{1,120}")


def check_namespace(primary: str, secondary: str) -> None:
    """Raise `ConfigError` unless both are namespaces that LDK's KVStore would take."""
    for part in (primary, secondary):
        if not isinstance(part, str) or not _PART.fullmatch(part):
            raise ConfigError(f"expected a namespace of at most 120 characters of [A-Za-z0-9_-], got {part!r:.140}")
    if secondary and not primary:
        raise ConfigError(f"an empty primary namespace allows no secondary one, got {secondary!r}")


def check_key(key: Key) -> Key:
    """Return `key` as a `Key`, or raise `ConfigError` if LDK's KVStore would refuse it."""
    try:
        return _checked(key)
    except TypeError:
        raise ConfigError(
            f"expected Key(primary, secondary, name), three strings of at most 120 characters, got {_kinds(key):.200}"
        ) from None


def check_keys(primaries: Iterable[str], secondaries: Iterable[str], names: Iterable[str]) -> tuple[Key, ...]:
    """`check_key` for many keys, given as columns of one length: at a quarter of the cost of one call a key."""
    try:
        return tuple(map(_checked, zip(primaries, secondaries, names, strict=True)))
    except TypeError:
        raise ConfigError("expected keys of three strings each, got one with something that cannot be a key") from None


# Every record is checked by the host and by the worker. Most names were seen before; history records bring new ones,
# for which one match of all three parts takes a third of the time of one match each.
@lru_cache(maxsize=4096)
def _checked(key: tuple[str, str, str]) -> Key:
    # A tuple: the string "abc" would join as well.
    if not (isinstance(key, tuple) and len(key) == 3 and _KEY.fullmatch("/".join(key))):
        _refuse(key)
    return key if type(key) is Key else Key._make(key)


def _refuse(key: object) -> NoReturn:
    if not isinstance(key, tuple) or len(key) != 3:
        raise ConfigError(f"expected Key(primary, secondary, name), got {key!r:.200}")
    primary, secondary, name = key
    check_namespace(primary, secondary)
    raise ConfigError(f"expected a key name of 1 to 120 characters of [A-Za-z0-9_-], got {name!r:.140}")


def _kinds(key: object) -> str:
    """What came in a key's place; not its `repr`, which may be nested too deep to print."""
    return ", ".join(type(part).__name__ for part in key) if isinstance(key, tuple) else type(key).__name__
