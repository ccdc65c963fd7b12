"""What a `PersisterRef` names: a store of the user's own, or a persister, and what the exceptions of either mean.

A class with `apply` is a store: the worker uses it as it uses ours, and its `StoreError`s mean what they mean for ours.
Anything else that it raises is the user's own word, fatal and never retried. Of a persister every exception is.
`bgsuper.store.conformance` says how to write a store, and tries one out.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from ..errors import BgsuperError, ConfigError
from ..store.api import Opened, Store
from ..store.named import named

#: What a `Store` must have.
_MEMBERS: Final = (
    *("atomic", "open", "apply", "write_snapshot", "adopt_snapshot", "discard_snapshot"),
    *("read", "scan", "idle", "has_idle_work", "close"),
)


class Whose(Enum):
    """Whose code keeps what the worker is given."""

    OURS = "ours"
    USERS_STORE = "a store of the user's"
    USERS_PERSISTER = "a persister of the user's"

    def users_word(self, error: BaseException) -> bool:
        """Whether `error` is the user's own word: to be told as it is, and not to be acted on."""
        match self:
            case Whose.OURS:
                return False
            case Whose.USERS_STORE:
                return isinstance(error, Exception) and not isinstance(error, BgsuperError)
            case Whose.USERS_PERSISTER:
                return isinstance(error, Exception)

    def checked(self, opened: Opened) -> Opened:
        """What a store claims once it is open, if that can be told to a host. Raises `ConfigError`."""
        if self is not Whose.USERS_STORE:
            return opened
        match opened:
            case Opened(int(epoch), int(last_commit), int(last_seq), bytes()) if (
                epoch >= 1 and 0 <= last_commit <= last_seq
            ):
                return opened
        raise ConfigError(
            "expected open() of a store to return Opened(epoch, last_commit, last_seq, store_id), of "
            f"bgsuper.store.api, with an epoch of at least 1 and last_seq not below last_commit; got {opened!r:.200}"
        )


def whose(path: str) -> Whose:
    """Which of the two "pkg.mod:Class" names. Raises `ConfigError`."""
    return Whose.USERS_STORE if hasattr(named(path, "a store or a persister"), "apply") else Whose.USERS_PERSISTER


def users_store(path: str, config: dict[str, object]) -> Store:
    """The user's store, not yet opened. Raises `ConfigError`, and whatever its constructor raises."""
    store: Store = named(path, "a store or a persister")(**config)
    missing = [name for name in _MEMBERS if not hasattr(store, name)]
    if missing:
        raise ConfigError(
            f"{path} has apply(), so it is taken for a store, but it has no {', '.join(missing)}: see "
            "bgsuper.store.conformance; a persister has persist_manager(), and no apply()"
        )
    return store
