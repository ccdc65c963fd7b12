"""What feeds the node: real gossip at an even pace, and payments, in slices that the loop does not notice.

Rules:
1. A slice ends after `SLICE_S` at the latest; what is due then waits for the next.
2. Gossip is spread over the time for which there is load. When the sample is used up, payments go on alone.
3. While the store is too far behind (`Peers.reading`), nothing comes in: as in a node that stops reading its sockets.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from ...lightning.errors import GossipRefused
from ...lightning.routing import sample
from .app import App
from .peers import Peers, SampleSync

#: How often a slice begins, and how long it may last, in seconds.
PERIOD_S: Final = 0.005
SLICE_S: Final = 0.002
#: The share of the loaded time over which the gossip is spread.
GOSSIP_SHARE: Final = 0.9


class Load:
    """Feeds `app` and `sync`; `on` turns it on and off."""

    def __init__(self, app: App, sync: SampleSync, peers: Peers, messages: Iterable[bytes], seconds: float) -> None:
        self.on = False
        self._app, self._sync, self._peers = app, sync, peers
        self._waiting = deque(messages)
        self._rate = len(self._waiting) / (seconds * GOSSIP_SHARE)
        self._due = 0.0

    async def run(self) -> None:
        """Feed until cancelled."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(PERIOD_S)
            now = loop.time()
            if self.on and self._peers.reading:
                self.slice(now - last, time.perf_counter() + SLICE_S)
            last = now

    def slice(self, elapsed_s: float, until: float) -> None:
        """A payment, and the gossip that is due after `elapsed_s` more seconds of load; ends at `until`, a time of
        `time.perf_counter`."""
        self._app.pay()
        self._due += self._rate * elapsed_s
        while self._due >= 1 and self._waiting and time.perf_counter() < until:
            self._due -= 1
            with suppress(GossipRefused):  # counted by the sync
                self._sync.sync.handle_message(self._waiting.popleft(), sample.NOW)
        self._app.changed()
