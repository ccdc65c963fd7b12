"""Where a new store comes to be: built under another name beside its own, which it gets once it is complete.

Rules:
1. What is not finished never looks like a store: `DST.partial` becomes `DST` by one rename, or is removed.
2. Nothing that is there is touched: `DST` must be new or an empty directory, and a `DST.partial` that somebody left, or
   is at work on, is not ours.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Self
from urllib.parse import quote

from ...errors import ConfigError
from ...store.api import CopyTarget
from ...store.failures import from_os_error
from ...store.files import drop_cached_pages, full_sync, sync_directory
from ...store.schemes import Opening, make_store
from ...store.url import StoreURL, parse

SUFFIX = ".partial"


class Destination(NamedTuple):
    """A store that is to be made; all paths are absolute and free of symbolic links."""

    store: StoreURL
    partial: StoreURL
    partial_url: str

    @classmethod
    def of(cls, url: str, source: str) -> Self:
        """The destination that `url` names, for what the URL `source` names. Looks, and changes nothing.

        Raises `ConfigError`.
        """
        store = parse(url)
        if store.scheme == "memory":
            raise ConfigError(
                f"a memory: store would be gone with this command; write to a sqlite: or file: URL, not {url}"
            )
        if "faults" in store.options:
            raise ConfigError(f"a new store is made without faults; leave that option out of {url!r:.200}")
        path = os.path.realpath(store.path)
        _check_free(path, url)
        origin = os.path.realpath(parse(source).path)
        if path == origin or path.startswith(os.path.join(origin, "")):
            raise ConfigError(
                f"expected a place outside of {origin}, got {path}; nothing may be written into the source"
            )
        partial = path + SUFFIX
        if os.path.lexists(partial):
            raise ConfigError(
                f"{partial} is there: another command is at work on it, or was killed; remove it once none is"
            )
        _, mark, options = url.partition("?")
        partial_url = f"{store.scheme}://{quote(partial)}{mark}{options}"
        return cls(store._replace(path=path), store._replace(path=partial), partial_url)

    @contextmanager
    def built(self) -> Iterator[None]:
        """Whoever comes back makes the store at `partial` meanwhile: then it gets its name, durably, or it goes if an
        error ends it. Raises `StoreError`s."""
        try:
            os.mkdir(self.partial.path, 0o700)
        except OSError as error:
            raise from_os_error(error, f"making the directory {self.partial.path}") from error
        try:
            yield
            try:
                os.rename(self.partial.path, self.store.path)
            except OSError as error:
                raise from_os_error(error, f"renaming {self.partial.path} to {self.store.path}") from error
        except KeyboardInterrupt:
            if not os.path.isdir(self.partial.path):
                raise KeyboardInterrupt(f"{self.store.path} is complete") from None
            self._remove()
            raise KeyboardInterrupt(f"{self.partial.path} is removed, and the source is as it was") from None
        except BaseException:
            self._remove()
            raise
        sync_directory(os.path.dirname(self.store.path), full_sync)

    @contextmanager
    def opened(self) -> Iterator[CopyTarget]:
        """The new store at `partial`, open; closed at the end. Raises `StoreError`s."""
        target = make_store(self.partial, Opening(os.getpid()))
        target.open()
        try:
            yield target
        finally:
            target.close()
        # Whoever proves what was written shall read it from the disk.
        drop_cached_pages(os.path.join(path, name) for path, _, names in os.walk(self.partial.path) for name in names)

    def _remove(self) -> None:
        shutil.rmtree(self.partial.path, ignore_errors=True)


def _check_free(path: str, url: str) -> None:
    if not os.path.isdir(os.path.dirname(path)):
        raise ConfigError(f"expected a directory {os.path.dirname(path)} for the new store to stand in; make it first")
    if os.path.ismount(path):
        raise ConfigError(f"{path} is the root of a file system, which cannot be renamed to; name a directory below it")
    try:
        with os.scandir(path) as found:
            first = next(found, None)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"expected {url!r:.200} to name nothing, or an empty directory ({error.strerror})") from error
    if first is not None:
        raise ConfigError(f"{path} holds {first.name!r:.80} already; name a directory that is new or empty")
