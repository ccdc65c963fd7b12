"""The acts of the demo: what goes wrong, for how long, and when an act is over. A table, and its scaling to a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from ...errors import ConfigError

#: The shortest and the longest run, in seconds. Shorter ones leave no time for a restart in each act; the model of a
#: longer one, which keeps every record, would fill the memory.
SHORTEST_S: Final = 8.0
LONGEST_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Act:
    """One act. `weight` is its share of the run's time."""

    title: str
    what: str  #: what happens, for the person who watches
    weight: float
    load: bool = True  #: gossip and payments come in
    sync_delay_s: float = 0.0  #: each sync takes so much longer
    fail_syncs: int = 0  #: so many syncs fail with EIO
    kill_before_sync: int = 0  #: SIGKILL in place of the n-th sync
    kill_after_sync: int = 0  #: SIGKILL between the n-th sync and its acknowledgement
    kills: int = 0  #: so many SIGKILLs from outside
    full: bool = False  #: each write fails with ENOSPC, for two thirds of the act

    @property
    def deaths(self) -> int:
        """How many workers it costs."""
        return self.fail_syncs + bool(self.kill_before_sync) + bool(self.kill_after_sync) + self.kills


_IDLE: Final = Act("idle", "no load: how late this machine's event loop is anyway", 2, load=False)
_CALM: Final = Act("calm", "gossip and payments, a healthy disk", 3)

#: Only one sync may fail: a second failure within a minute ends a supervisor, as it should.
FAULTS: Final = (
    _IDLE,
    _CALM,
    Act("slow disk", "each sync takes 300 ms longer", 4, sync_delay_s=0.3),
    Act("slower disk", "each sync takes 1 s longer", 5, sync_delay_s=1.0),
    Act("failed sync", "one sync fails (EIO); nothing cached is trusted", 2, fail_syncs=1),
    Act("kill in a sync", "SIGKILL in place of a sync: written, never synced", 2, kill_before_sync=1),
    Act("kill after a sync", "SIGKILL after a sync: durable, never acknowledged", 2, kill_after_sync=1),
    Act("kills", "SIGKILL from outside, three times", 4, kills=3),
    Act("full disk", "each write fails (ENOSPC), then there is room again", 3, full=True),
    Act("calm again", "a healthy disk", 3),
)
NO_FAULTS: Final = (_IDLE, replace(_CALM, weight=8))
#: How the disk is left.
HEALTHY: Final = _IDLE


class Scheduled(NamedTuple):
    """An act with its planned start and length, in seconds of the run."""

    act: Act
    start_s: float
    length_s: float


def schedule(acts: Sequence[Act], seconds: float) -> list[Scheduled]:
    """`acts`, scaled to a run of `seconds`. Raises `ConfigError` if that is too short or too long."""
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise ConfigError(f"expected {SHORTEST_S:g} to {LONGEST_S:g} seconds, got {seconds:g}: set --seconds")
    scale = seconds / sum(act.weight for act in acts)
    planned: list[Scheduled] = []
    start = 0.0
    for act in acts:
        planned.append(Scheduled(act, start, act.weight * scale))
        start += act.weight * scale
    return planned
