"""Plays the acts: sets the fault plan, kills the worker, and ends an act when its time is up and its damage repaired.

Rule: no act begins before the worker is ready again, has caught up, and no snapshot is under way. So a fault hits what
its act says, each act's figures are its own, and the second failed sync within a minute, which would end the
supervisor, never happens.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from typing import Final

from ...faults.plan import Plan
from ...health import WorkerState
from .load import Load
from .scenario import HEALTHY, Act, Scheduled
from .witness import Witness

#: How long an act may take beyond its time, in seconds, before the next begins regardless.
OVERTIME_S: Final = 30.0
#: The age of the oldest un-acknowledged commit, in seconds, below which the worker has caught up.
CAUGHT_UP_S: Final = 0.2
_POLL_S: Final = 0.02
#: The share of a full disk's act in which it is full.
_FULL_SHARE: Final = 2 / 3


class Director:
    """Plays one run. `begun` hears of each act as it begins, `happened` of each fault in words."""

    def __init__(
        self,
        plan: Plan,
        witness: Witness,
        load: Load,
        begun: Callable[[int], None],
        happened: Callable[[str], None],
    ) -> None:
        self._plan, self._witness, self._load = plan, witness, load
        self._begun, self._happened = begun, happened

    async def play(self, acts: Sequence[Scheduled]) -> None:
        """All acts, in order. However it ends, the disk is healthy afterwards."""
        try:
            for index, (act, _, length_s) in enumerate(acts):
                self._begun(index)
                repaired = self._witness.health().restarts + act.deaths
                self._set(act)
                await asyncio.gather(asyncio.sleep(length_s), self._during(act, length_s))
                # What was to happen once and has not yet stays armed: the act waits for it.
                self._plan.sync_delay_s = 0
                if not await self._until_repaired(repaired):
                    self._happened(f"{act.title}: not repaired {OVERTIME_S:g} s after its time")
        finally:
            self._set(HEALTHY)
            self._load.on = False

    def _set(self, act: Act) -> None:
        self._load.on = act.load
        self._plan.sync_delay_s = act.sync_delay_s
        self._plan.kill_before_sync = act.kill_before_sync
        self._plan.kill_after_sync = act.kill_after_sync
        self._plan.fail_syncs = act.fail_syncs
        self._plan.full = int(act.full)

    async def _during(self, act: Act, length_s: float) -> None:
        if act.full:
            await asyncio.sleep(length_s * _FULL_SHARE)
            self._plan.full = 0
            self._happened("there is room on the disk again")
        restarts = self._witness.health().restarts
        for number in range(act.kills):
            await self._until_repaired(restarts + number)
            self._kill()
            await asyncio.sleep(length_s / (act.kills + 1))

    def _kill(self) -> None:
        pid = self._witness.health().pid
        if pid is not None:
            self._happened(f"SIGKILL to worker {pid}")
            os.kill(pid, signal.SIGKILL)

    async def _until_repaired(self, restarts: int) -> bool:
        """Wait until `restarts` were needed and the store is well; False if that takes too long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + OVERTIME_S
        while not self._repaired(restarts):
            if loop.time() > deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    def _repaired(self, restarts: int) -> bool:
        health = self._witness.health()
        return (
            health.state is WorkerState.READY
            and health.restarts >= restarts
            and (health.oldest_unacked_s or 0.0) < CAUGHT_UP_S
            and not self._witness.snapshot_under_way
        )
