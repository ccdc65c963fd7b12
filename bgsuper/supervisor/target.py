"""What a worker is to serve: a store URL, or a persister of the user's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgpack

from ..errors import ConfigError
from ..ipc.remote import Allowed, class_name

#: The most that a persister's config may take, packed.
MAX_CONFIG: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class PersisterRef:
    """A class that the worker imports, makes and calls: a `Persister`, or, if it has ``apply``, a store of the user's
    own (`bgsuper.store.conformance` says how to write one).

    `path` is "package.module:Class", `config` its keyword arguments (plain values that msgpack carries), `raises` the
    exceptions of its own that may come back as themselves: those whose attributes are plain values and which load with
    the same text; others come as `RemoteError` with all their text. Raises `ConfigError`.
    """

    path: str
    config: Mapping[str, object] = field(default_factory=dict)
    raises: tuple[type[Exception], ...] = ()

    def __post_init__(self) -> None:
        module, colon, name = self.path.partition(":") if isinstance(self.path, str) else ("", "", "")
        if not (colon and module and name):
            raise ConfigError(f"expected a persister as 'package.module:Class', got {self.path!r:.200}")
        try:
            packed = msgpack.packb(dict(self.config), strict_types=True)
            msgpack.unpackb(packed)  # the worker's side refuses some that can be packed: integers as keys
        except Exception as error:
            raise ConfigError(f"the config of {self.path} cannot be sent to the worker: {error}") from error
        if len(packed) > MAX_CONFIG:
            raise ConfigError(f"the config of {self.path} takes {len(packed)} bytes, at most {MAX_CONFIG} are sent")


def allowed_exceptions(target: str | PersisterRef) -> Allowed:
    """Which exceptions the worker may send as themselves."""
    if isinstance(target, str):
        return Allowed()
    for cls in target.raises:
        if not (isinstance(cls, type) and issubclass(cls, Exception)):
            raise ConfigError(f"expected PersisterRef.raises to list Exception classes, got {cls!r:.200}")
    return Allowed(tuple(class_name(cls) for cls in target.raises))
