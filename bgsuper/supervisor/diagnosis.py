"""What a row of looks says about a living worker. Sans-IO.

Rules:
1. One look proves nothing. DISK_STALLED and soft memory need three in a row, HUNG a long time without any progress.
2. The disk is never taken for a hang: a worker in disk-sleep, or one that writes, is not HUNG, however slow it is.
   Where the platform tells neither (macOS), one that says that it writes is believed. Nor is the pipe: while a large
   value is on its way, nothing else can be expected.
3. It is judged by what it gets done, not by whether it answers: a deadlocked writer may have a lively reader.
4. If the looks themselves came late, we did not run either (suspended, starved): begin anew.
5. A heartbeat may speak of what was done before a stall: it ends no stall.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from .policy import RestartPolicy
from .vitals import Vitals

#: How many looks in a row say the same before it is believed.
LOOKS: Final = 3
#: Phases of a writer in which it may be the disk that it waits for.
WRITING: Final = frozenset({"transaction", "snapshot", "checkpoint"})
#: A gap of more than so many intervals between two looks: rule 4.
GAP_INTERVALS: Final = 2


class Finding(Enum):
    """What a look adds up to."""

    FINE = auto()
    STOPPED = auto()  #: by a signal
    TRACED = auto()  #: by a debugger
    STALLED = auto()  #: in disk-sleep at `LOOKS` looks, and nothing moved
    HUNG = auto()  #: nothing done for `RestartPolicy.hung_s` while work waits
    OVER_SOFT = auto()  #: over `rss_soft_bytes` at `LOOKS` looks
    OVER_HARD = auto()  #: over `rss_hard_bytes`


class Diagnosis(NamedTuple):
    finding: Finding
    evidence: str


@dataclass(slots=True)
class Doctor:
    """Looks after one worker, from `since` on."""

    policy: RestartPolicy
    since: float
    phase: str = "unknown"  #: what its writer says that it is doing
    done: int = 0  #: what it says that it has done
    latest: Diagnosis | None = None
    spins: bool = False  #: when it was last called HUNG, it was taking CPU time
    maybe_stalled: bool = False  #: at the last look it slept in the disk, and is not known to have moved
    _before: Vitals | None = None
    _looked_at: float = 0.0
    _asleep: int = 0  #: looks in a row in disk-sleep, nothing moved
    _over: int = 0  #: looks in a row over the soft limit
    _waited: bool = False  #: work waited at the last look
    _cpu_s: float | None = None  #: its CPU time when it last got on

    def __post_init__(self) -> None:
        self._looked_at = self.since

    def got_on(self, now: float) -> None:
        """It acknowledged, answered, took or gave a part of something large, or said in words that it tries."""
        self.since, self._cpu_s = now, None

    def heartbeat(self, phase: str, done: int, now: float) -> bool:
        """PROGRESS came: whether anything was done since the one before. That it came is no progress."""
        self.phase = phase
        moved = done != self.done
        if moved:
            self.done = done
            self.got_on(now)
        return moved

    def look(self, vitals: Vitals, now: float, *, work_waits: bool) -> Diagnosis | None:
        """What to make of it; None if it says nothing (dead or dying, or the platform denies it)."""
        before, self._before = self._before, vitals
        late = now - self._looked_at > GAP_INTERVALS * self.policy.vitals_interval_s
        self._looked_at = now
        asleep = "disk-sleep" in (vitals.status, vitals.lane_status)
        if late or before is None:
            self._asleep = self._over = 0
            self.got_on(now)
            before = None
        if vitals.status in ("zombie", "gone", "unknown") or (late and asleep):
            return None
        still = _nothing_moved(before, vitals)
        self._asleep = (self._asleep + 1 if still else 1) if asleep else 0
        self._over = self._over + 1 if (vitals.rss_bytes or 0) > self.policy.rss_soft_bytes else 0
        wrote = before is not None and before.write_bytes != vitals.write_bytes
        untold = vitals.write_bytes is None and self.phase in WRITING
        waited, self._waited = self._waited, work_waits
        if asleep or wrote or untold or not (work_waits and waited) or vitals.status in ("stopped", "tracing-stop"):
            # Nothing that it could be blamed for.
            self.since, self._cpu_s = now, None
        if self._cpu_s is None:
            self._cpu_s = vitals.cpu_s
        self.latest = self._conclude(vitals, now)
        self.maybe_stalled = asleep and (still or before is None)
        return self.latest

    @property
    def traced(self) -> bool:
        """Whether a debugger held it at the last look: somebody means it to stand still."""
        return self.latest is not None and self.latest.finding is Finding.TRACED

    @property
    def held(self) -> bool:
        """Whether a debugger or the disk held it at the last look: it cannot finish anything."""
        return self.traced or self._asleep > 0

    def _conclude(self, vitals: Vitals, now: float) -> Diagnosis:
        policy, rss = self.policy, vitals.rss_bytes or 0
        if vitals.status == "tracing-stop":
            return Diagnosis(Finding.TRACED, "psutil says tracing-stop: a debugger holds it")
        if vitals.status == "stopped":
            return Diagnosis(Finding.STOPPED, "psutil says stopped")
        if rss > policy.rss_hard_bytes and not self._asleep:
            # (A kill would not free what the disk holds.)
            return Diagnosis(Finding.OVER_HARD, f"its memory, {rss} bytes, is over the hard limit")
        if self._asleep >= LOOKS:
            who = "its writer" if vitals.status == "disk-sleep" else "its snapshot thread"
            return Diagnosis(
                Finding.STALLED,
                f"psutil says disk-sleep of {who} at {self._asleep} looks in a row, with nothing written and no "
                f"context switch between them, in phase {self.phase!r:.40}",
            )
        if now - self.since >= policy.hung_s:
            return Diagnosis(Finding.HUNG, self._hung(vitals, now))
        if self._over >= LOOKS:
            return Diagnosis(
                Finding.OVER_SOFT, f"its memory, {rss} bytes, was over the soft limit at {self._over} looks in a row"
            )
        return Diagnosis(Finding.FINE, f"psutil says {vitals.status}")

    def _hung(self, vitals: Vitals, now: float) -> str:
        text = (
            f"work waits, and for {now - self.since:.1f} s nothing was done, in phase {self.phase!r:.40}; "
            f"psutil says {vitals.status}"
        )
        self.spins = False
        if vitals.cpu_s is None or self._cpu_s is None:
            return text
        used = vitals.cpu_s - self._cpu_s
        # On a busy machine it gets a fraction of a core; one that waits takes nothing but its heartbeats.
        self.spins = used > 0.1 * (now - self.since)
        return f"{text}, it used {used:.1f} s of CPU: it {'spins' if self.spins else 'waits for something'}"


def _nothing_moved(before: Vitals | None, now: Vitals) -> bool:
    """Whether both looks know, and neither a byte was written nor a context switched between them."""
    figures = (now.switches, now.write_bytes)
    return before is not None and None not in figures and (before.switches, before.write_bytes) == figures
