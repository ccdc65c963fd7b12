"""AEAD around any backend: values are sealed before they reach it, and opened after they left it.

`keys` finds the master key, `sealer` seals one value, `compression` makes it smaller before, `store` and `view` put
that around a `Store` and a `StoreView`. No other module of a store imports `cryptography` or `zstandard`, and this
package is imported only where a URL names a key: they cost a worker 50 ms at its start, and 9 MiB, 2 of them unshared.
"""

from __future__ import annotations

from ...errors import ConfigError

try:
    import cryptography.hazmat.primitives.ciphers.aead  # noqa: F401 - missing or broken, it is told here in our words
except ImportError as error:
    raise ConfigError(f"a sealed store needs cryptography ({error}): pip install 'bgsuper[seal]'") from None
