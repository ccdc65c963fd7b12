"""A sealed store that no writer has open, looked into: values come out opened, all else as the backend keeps it.

Rule: what the backend finds whole and the key does not is a finding of its own, with its own words: damage is the
disk's doing, tampering is somebody's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...errors import StoreCorrupt, StoreTampered, StoreTooNew
from ...key import Key
from ..api import Damage, Entry, StoreView, Value
from ..failures import too_large
from ..identity import Identity
from .sealer import Sealer


class SealedView:
    """A `StoreView` around `view`, which was made with `sealer.fingerprint`."""

    def __init__(self, view: StoreView, sealer: Sealer) -> None:
        self._view = view
        self._sealer = sealer

    @property
    def identity(self) -> Identity:
        """The backend's; it tells the key's fingerprint."""
        return self._view.identity

    def facts(self) -> Mapping[str, object]:
        """The backend's, and that it is sealed."""
        return {**self._view.facts(), "sealing": "ChaCha20-Poly1305"}

    def entries(self) -> Iterator[Entry]:
        """Every value in the order of the keys; lengths are those of the sealed bytes."""
        return self._view.entries()

    def read(self, key: Key) -> bytes:
        """The value of `key`, opened. Raises `StoreTampered`, `StoreTooNew`, and what the backend raises."""
        return self._sealer.open(key, self._view.read(key))

    def examine(self) -> Iterator[Value | Damage]:
        """Read and open everything, and go on after damage and tampering."""
        for found in self._view.examine():
            yield found if isinstance(found, Damage) else self._opened(found)

    def _opened(self, found: Value) -> Value | Damage:
        try:
            return found._replace(content=self._sealer.open(found.key, found.content))
        except StoreTampered as error:
            return Damage(found.key, f"tampered with: {error}")
        except (StoreTooNew, StoreCorrupt) as error:
            return Damage(found.key, str(error))
        except MemoryError:
            return Damage(found.key, str(too_large(found.key)))

    def close(self) -> None:
        """Close the backend's view."""
        self._view.close()
