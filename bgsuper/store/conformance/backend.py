"""A backend as the suite sees it: how to make a store of it in a directory, and what it claims."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from unittest import SkipTest
from urllib.parse import quote

from ...errors import ConfigError, NotFound
from ...key import Key, Seq
from ..api import Opened, Store
from ..named import named
from ..schemes import Opening, make_store
from ..url import SCHEMES, parse
from .rules import Finding

#: What a page holds where a case wants many of them.
SMALL_PAGE: Final = 1000
#: Far more calls of `idle()` than what a case leaves to do.
MOST_CHORES: Final = 10_000
_IN_MEMORY: Final = "memory"


class Commit(NamedTuple):
    """A commit as the suite submits it: a `Batch`."""

    seq: Seq
    puts: tuple[tuple[Key, bytes], ...] = ()
    removes: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Backend:
    """A backend under test.

    `target` is "package.module:factory", where ``factory(directory)`` makes a `Store` that is not open yet, or the
    URL of one of ours without its path ("sqlite:", "file:?key-file=/path"). `directory` exists, is empty, and is for
    one case alone. `volatile`: it keeps nothing once its process ends. `checksums`: it tells damaged bytes from whole
    ones, where a backend without them would return what it finds. `seed` decides what the crash cases write, and when
    they kill.
    """

    target: str
    directory: str | os.PathLike[str]
    volatile: bool = False
    checksums: bool = True
    seed: int = 0

    def check(self) -> None:
        """Raise `ConfigError` for a target that cannot be meant."""
        if self._scheme is None:
            factory(self.target)
        else:
            self._of_ours(self._scheme)

    def make(self) -> Store:
        """A store in the directory, not yet open. Raises `ConfigError` as `check`."""
        if self._scheme is None:
            return factory(self.target)(os.fspath(self.directory))
        return self._of_ours(self._scheme)

    @property
    def _scheme(self) -> str | None:
        """The scheme, if the target is a URL of ours."""
        scheme = self.target.partition(":")[0].lower()
        return scheme if scheme in SCHEMES else None

    def _of_ours(self, scheme: str) -> Store:
        location, mark, query = self.target[len(scheme) + 1 :].partition("?")
        if location:
            raise ConfigError(f"each case gets a directory of its own: write {scheme}:{mark}{query:.80} without a path")
        path = "" if scheme == _IN_MEMORY else quote(os.path.abspath(self.directory))
        # Whoever holds the lock is no orphan that would be worth waiting for.
        return make_store(parse(f"{scheme}:{path}{mark}{query}"), Opening(os.getpid(), lock_timeout_s=0.0))

    @contextmanager
    def opened(self) -> Iterator[tuple[Store, Opened]]:
        """A store that is open, and what it claims; closed at the end."""
        store = self.make()
        try:
            yield store, store.open()
        finally:
            store.close()

    @contextmanager
    def store(self) -> Iterator[Store]:
        """A store that is open, where what it claims does not matter."""
        with self.opened() as (store, _):
            yield store

    def must_survive(self) -> None:
        """Skip the case unless the backend claims to keep what it is given."""
        if self.volatile or self._scheme == _IN_MEMORY:
            raise SkipTest("it keeps nothing once its process ends")

    @property
    def path(self) -> Path:
        """The directory."""
        return Path(self.directory)


def factory(target: str) -> Callable[[str], Store]:
    """What "package.module:factory" names. Raises `ConfigError`."""
    return named(target, "a URL such as sqlite: or file:, or a store's factory")


# -- what cases do with a store ---------------------------------------------------------------------------------------


def put(store: Store, seq: int, *puts: tuple[Key, bytes], removes: Sequence[Key] = ()) -> None:
    """One commit, a group of its own."""
    store.apply([Commit(Seq(seq), puts, tuple(removes))])


def set_snapshot(store: Store, seq: int, key: Key, content: bytes) -> None:
    """A snapshot, from its file to its adoption."""
    store.adopt_snapshot(store.write_snapshot(key, Seq(seq), content))


def found(store: Store, key: Key) -> bytes | None:
    """The key's value, or None if it is absent."""
    try:
        return store.read(key)
    except NotFound:
        return None


def listed(store: Store, primary: str, secondary: str = "", limit: int = SMALL_PAGE) -> list[tuple[Key, bytes]]:
    """A namespace, page by page. A store whose pages never end is stopped after a million records."""
    records: list[tuple[Key, bytes]] = []
    while len(records) < 1_000_000:
        page = store.scan(primary, secondary, records[-1][0].name if records else "", limit)
        if not page:
            break
        records += page
    return records


def rest(store: Store) -> None:
    """Let the store do its chores to the end. Raises `Finding` if they have none."""
    for _ in range(MOST_CHORES):
        if not store.has_idle_work:
            return
        store.idle()
    raise Finding(f"`has_idle_work` is still true after {MOST_CHORES} calls of idle()")
