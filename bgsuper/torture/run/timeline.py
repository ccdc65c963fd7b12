"""What happened in a run, when, and what it comes to. Times are seconds since the run began.

A line of the timeline is a mapping with `at` and `what`:

    sample    begun, acked, weather, state
                                        four times a second
    host      number, state             started, opened, died
    worker    pid, state, cause         each change of state
    blow      name, kills               what was done to them; a kill counts each process that died of it
    recovery  of, took_s, foul          from the kill to the first acknowledgement after it
    drain     took_s, limit_s           an orphan's: from its host's death to its own end
    look      host, records, bytes      a store read and compared
    violation kind, text
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .account import Violation

Line = dict[str, Any]

#: How many violations a report shows in words; the timeline has them all.
_SHOWN: Final = 10


class Timeline:
    """Lines in order, and the sums of what a person wants to know while it goes on."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.blows: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()  #: processes that died of it, by the blow's name
        self.recoveries: dict[str, list[float]] = {}
        self.drains: list[float] = []
        self.late_drains = 0
        self.looks = self.records = 0
        self.violations: list[Violation] = []

    def add(self, at: float, what: str, **fields: object) -> None:
        self.lines.append({"at": round(at, 4), "what": what, **fields})

    def blow(self, at: float, name: str, kills: int) -> None:
        """`name` was done, and ended so many processes."""
        self.add(at, "blow", name=name, kills=kills)
        self.blows[name] += 1
        self.kills[name] += kills

    def recovery(self, at: float, of: str, took_s: float, *, foul: bool) -> None:
        """From `of`; `foul`: the disk was slow or full meanwhile, so it counts apart."""
        self.add(at, "recovery", of=of, took_s=round(took_s, 4), foul=foul)
        self.recoveries.setdefault(f"{of}; bad disk" if foul else of, []).append(took_s)

    def drain(self, at: float, took_s: float, limit_s: float) -> None:
        self.add(at, "drain", took_s=round(took_s, 4), limit_s=round(limit_s, 4))
        self.drains.append(took_s)
        self.late_drains += took_s > limit_s

    def look(self, at: float, host: int, records: int, size: int) -> None:
        self.add(at, "look", host=host, records=records, bytes=size)
        self.looks += 1
        self.records += records

    def violation(self, at: float, violation: Violation) -> None:
        self.add(at, "violation", kind=violation.what, text=violation.text)
        self.violations.append(violation)

    @property
    def killed(self) -> int:
        """How many processes were killed."""
        return self.kills.total()


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """How many, p50, p95 and the largest, in seconds; empty if there are none."""
    if not values:
        return {}
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "p50_s": round(statistics.median(ordered), 4),
        "p95_s": round(ordered[int(len(ordered) * 0.95)], 4),
        "max_s": round(ordered[-1], 4),
    }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    seed: int
    ran_s: float
    commits: int
    snapshots: int
    acked: int  #: the newest number that was acknowledged
    hosts: int
    epochs: int
    interrupted: bool
    timeline: Timeline = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether nothing was lost, nor anything else was seen that must never be."""
        return not self.timeline.violations

    @property
    def verdict(self) -> str:
        """One line."""
        timeline = self.timeline
        if not self.ok:
            shown = "; ".join(violation.text for violation in timeline.violations[:_SHOWN])
            return f"{len(timeline.violations)} violations: {shown}"
        return (
            f"nothing was lost: {timeline.killed:,} kills, {self.commits:,} commits and {self.snapshots:,} snapshots, "
            f"{timeline.looks:,} looks at the store"
        )

    def summary(self) -> dict[str, object]:
        """Plain values for JSON."""
        timeline = self.timeline
        return {
            "ok": self.ok,
            "verdict": self.verdict,
            "seed": self.seed,
            "ran_s": round(self.ran_s, 1),
            "interrupted": self.interrupted,
            "commits": self.commits,
            "snapshots": self.snapshots,
            "acked": self.acked,
            "hosts": self.hosts,
            "epochs": self.epochs,
            "kills": timeline.killed,
            "kills_by_blow": dict(sorted(timeline.kills.items())),
            "blows": dict(sorted(timeline.blows.items())),
            "recoveries": {of: percentiles(values) for of, values in sorted(timeline.recoveries.items())},
            "orphans_drained": percentiles(timeline.drains) | {"late": timeline.late_drains},
            "looks": timeline.looks,
            "records_compared": timeline.records,
            "violations": [{"kind": each.what, "text": each.text} for each in timeline.violations],
        }
