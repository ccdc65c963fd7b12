"""The load under which the power goes: commits of many keys, snapshots, waits and pauses, thrown by dice, through a
real `Supervisor`; each submission and acknowledgement is noted with its time.

Rule: a submission's time is read before it and an acknowledgement's after it, so that at any instant the notes say no
more than what was true: what is noted as acknowledged was, and what was not yet noted as submitted was not there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Final

from ...key import MANAGER, NETWORK_GRAPH, SCORER, Key, Seq
from ...supervisor import Supervisor
from .model import Acknowledged, Committed, Event, SnapshotAcknowledged, Snapshotted

HEADS: Final = "channels"
HISTORY: Final = "history"
#: Large values, on both lanes.
WHOLE: Final = (NETWORK_GRAPH, SCORER, MANAGER)
NAMESPACES: Final = (HEADS, HISTORY)

_CHANNELS: Final = 24
#: Records of history that are kept; older ones are removed by the commit that adds.
_HISTORY_RECORDS: Final = 64
#: Longer than the worker waits before it moves the WAL into the database.
_IDLE_S: Final = 0.07
#: How long to wait for an acknowledgement; the power may go meanwhile.
_WAIT_S: Final = 0.05


class Workload:
    """What one host does. `note` is told of each event."""

    def __init__(self, supervisor: Supervisor, dice: Random, note: Callable[[Event], None]) -> None:
        self._supervisor, self._dice, self._note = supervisor, dice, note
        self._last = Seq(0)
        self._noted = Seq(0)
        self._unacked_snapshots: list[Seq] = []

    def step(self) -> None:
        """One thing that a host does. Raises what the supervisor raises."""
        kind = self._dice.random()
        if kind < 0.55:
            for _ in range(self._dice.randint(1, 10)):
                self._commit()
        elif kind < 0.75:
            self._snapshot()
        elif kind < 0.97:
            self._wait()
        else:
            time.sleep(_IDLE_S)
        self.look()

    def rush(self) -> None:
        """Commits for which nobody waits."""
        for _ in range(self._dice.randint(5, 40)):
            self._commit()

    def look(self) -> None:
        """Note what is acknowledged by now."""
        durable = self._supervisor.durable_seq
        if durable > self._noted:
            self._noted = durable
            self._note(Acknowledged(time.monotonic_ns(), durable))
        waiting = []
        for seq in self._unacked_snapshots:
            try:
                self._supervisor.wait(seq, 0)
            except Exception:  # noqa: BLE001 - whatever the worker died of: not acknowledged
                waiting.append(seq)
            else:
                self._note(SnapshotAcknowledged(time.monotonic_ns(), seq))
        self._unacked_snapshots = waiting

    def _commit(self) -> None:
        dice = self._dice
        heads = dice.sample(range(_CHANNELS), dice.randint(1, 8))
        puts = {Key(HEADS, "", f"{head}"): self._value(dice.randint(50, 2000)) for head in heads}
        puts[Key(HISTORY, "", f"{self._last + 1}")] = self._value(200)
        removes = (
            {Key(HISTORY, "", f"{self._last + 1 - _HISTORY_RECORDS}")} if self._last >= _HISTORY_RECORDS else set()
        )
        whole = dice.random()
        if whole < 0.03:
            puts[dice.choice(WHOLE)] = self._value(100_000)
        elif whole < 0.05:
            removes.add(dice.choice(WHOLE))
        at = time.monotonic_ns()
        self._last = self._supervisor.commit(puts, removes)
        self._note(Committed(at, self._last, puts, frozenset(removes)))

    def _snapshot(self) -> None:
        key, critical = self._dice.choice(WHOLE), self._dice.random() < 0.5
        content = self._value(self._dice.choice((1_000, 50_000, 400_000)))
        at = time.monotonic_ns()
        self._last = self._supervisor.snapshot(key, [content], critical=critical)
        self._note(Snapshotted(at, self._last, key, content, critical))
        self._unacked_snapshots.append(self._last)

    def _wait(self) -> None:
        try:
            self._supervisor.wait(self._last, _WAIT_S)
        except TimeoutError:
            pass  # the disk is gone, and the worker has not noticed yet

    def _value(self, size: int) -> bytes:
        # No two are alike, or an old one could pass for a new one.
        return self._dice.randbytes(16 + size)
