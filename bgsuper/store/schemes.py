"""From a store URL to a store: which backend serves a scheme, and what its options put around it.

Rule: a backend is imported only when its scheme is asked for, so that a worker carries nothing that it does not use.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ConfigError
from .api import CopyTarget, StoreView
from .lock import LOCK_TIMEOUT_S
from .url import StoreURL, parse

if TYPE_CHECKING:
    from .sealing.sealer import Sealer


class Opening(NamedTuple):
    """How a worker opens its store; see `SQLiteStore` for what each means."""

    host_pid: int
    distrust_cache: bool = False
    check: bool = False
    lock_timeout_s: float = LOCK_TIMEOUT_S


class Disk(NamedTuple):
    """Another way to the disk than the plain one: SQLite's VFS by name, and what syncs all other files."""

    vfs: str
    fsync: Callable[[int], None]


def make_store(url: StoreURL, opening: Opening, disk: Disk | None = None) -> CopyTarget:
    """The store that `url` names, to be opened. Raises `ConfigError`."""
    sealer = _sealer(url)
    options: dict[str, Any] = opening._asdict()
    if sealer is not None:
        options["seal"] = sealer.fingerprint
    if disk is not None:
        options["fsync"] = disk.fsync
        if url.scheme == "sqlite":
            options["vfs"] = disk.vfs
    store = _backend(url)(**options)
    if sealer is None:
        return store
    from .sealing.store import SealedStore

    return SealedStore(store, sealer)


def open_view(url: str) -> StoreView:
    """What lies in the store that `url` names, without changing it. Raises `StoreLocked` while a writer lives, and
    `StoreError`s otherwise."""
    parsed = parse(url)
    sealer = _sealer(parsed)
    seal = sealer.fingerprint if sealer is not None else b""
    view: StoreView
    match parsed.scheme:
        case "sqlite":
            from .sqlite_view import SQLiteView

            view = SQLiteView(parsed.path, seal=seal)
        case "file":
            from .filesystem.view import FilesystemView

            view = FilesystemView(parsed.path, seal=seal)
        case _:
            raise ConfigError(f"a {parsed.scheme}: store lives in its worker: there is nothing to look into")
    if sealer is None:
        return view
    from .sealing.view import SealedView

    return SealedView(view, sealer)


def _backend(url: StoreURL) -> Callable[..., CopyTarget]:
    match url.scheme:
        case "sqlite":
            from .sqlite import SQLiteStore

            return partial(SQLiteStore, url.path)
        case "file":
            from .filesystem.store import FilesystemStore

            return partial(FilesystemStore, url.path)
        case _:
            from .memory import MemoryStore

            return MemoryStore


def _sealer(url: StoreURL) -> Sealer | None:
    """What seals the values of `url`'s store, if its options name a key."""
    if not url.options.keys() & {"key-file", "key-env"}:
        if "compress" in url.options:
            raise ConfigError("compress=zstd goes with a key: add ?key-file=PATH or ?key-env=NAME")
        return None
    from .sealing.keys import load_key
    from .sealing.sealer import Sealer

    return Sealer(load_key(url.options), compress=url.options.get("compress") == "zstd")
