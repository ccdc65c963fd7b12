"""zstd, for values that are sealed afterwards.

What is sealed is as long as what it was made from, and compression makes that length tell something of the content:
whoever can write some of a value, and see how long it gets, can guess the rest of it (CRIME). Of a gossip graph there
is nothing to hide; for channels, leave it off.

Rule: nothing is unpacked that was not authenticated before, and never to more bytes than its owner said it has.
"""

from __future__ import annotations

import threading
from typing import Final

from ...errors import ConfigError

try:
    import zstandard
except ImportError as error:
    raise ConfigError(f"values compressed by zstd need zstandard ({error}): pip install 'bgsuper[seal]'") from None

#: Measured on real gossip (4.9 MB of signed messages, 39 MB of a whole topology; AMD EPYC): level 1 leaves 53 and 50 %
#: at 375 and 292 MB/s, level 3 leaves 51 and 48 % at 176 and 113 MB/s. A value of 1 KiB costs some 10 us either way.
LEVEL: Final = 1


class Zstd(threading.local):
    """A compressor and a decompressor, of each thread its own: zstandard's are not to be shared, and to make them anew
    for every value would take as long as the work itself."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=LEVEL)
        self._decompressor = zstandard.ZstdDecompressor()

    def compress(self, value: bytes) -> bytes:
        """One zstd frame (RFC 8878) that names the length of its content."""
        return self._compressor.compress(value)

    def decompress(self, frame: bytes, length: int) -> bytes:
        """The content of `frame`. Raises `ValueError` unless it has `length` bytes; no more are ever taken."""
        try:
            if zstandard.frame_content_size(frame) != length:
                raise ValueError("the frame announces another length")
            # It stops there, whatever the frame goes on to hold.
            return self._decompressor.decompress(frame, max_output_size=length)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from None
