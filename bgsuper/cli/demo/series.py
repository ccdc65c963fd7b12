"""What was seen of a run so far: one `Look` every 50 ms, and what happened. Plain data that also crosses the pipe to
the viewer, as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the loop, the worker, the store, the gate and the load. Seconds and bytes."""

    at_s: float
    act: int
    late_s: float  #: the worst since the last look
    late_p50_s: float
    late_p999_s: float
    late_max_s: float
    state: str
    evidence: str
    pid: int | None
    epoch: int
    restarts: int
    rss_bytes: int | None
    commits: int
    commits_durable: int
    unacked_bytes: int
    unacked_s: float
    syncs: int
    sync_last_s: float | None
    sync_p99_s: float | None
    refused: int  #: syncs and writes that the faults made fail
    gate: str
    held: int
    released: int
    payments: int
    gossip_taken: int
    gossip_refused: int
    channels: int
    nodes: int


class Happening(NamedTuple):
    """Something that a person should hear of."""

    at_s: float
    kind: str  #: "act", "fault", "death", "worker" or "note"
    text: str


@dataclass(slots=True)
class Story:
    """A run: its acts as (title, what happens, planned start, planned length), its looks, its happenings."""

    directory: str
    seconds: float
    acts: Sequence[tuple[str, str, float, float]]
    looks: list[Look] = field(default_factory=list)
    happenings: list[Happening] = field(default_factory=list)

    def buckets(self, columns: int) -> list[list[Look]]:
        """The looks in `columns` equal spans of the run's whole time. Spans to come are empty; one between two looks
        holds the look before it."""
        whole = max(self.seconds, self.looks[-1].at_s if self.looks else 0.0)
        spans: list[list[Look]] = [[] for _ in range(columns)]
        for look in self.looks:
            spans[min(columns - 1, int(look.at_s / whole * columns))].append(look)
        reached = max((index for index, span in enumerate(spans) if span), default=0)
        for before, span in pairwise(spans[: reached + 1]):
            span.extend(before[-1:] if not span else ())
        return spans


def to_line(item: Story | Look | Happening) -> bytes:
    """One line for the viewer. Of a story only the frame, without looks and happenings, which follow it."""
    match item:
        case Look():
            record: dict[str, Any] = {"look": asdict(item)}
        case Happening():
            record = {"happening": list(item)}
        case Story():
            record = {"story": [item.directory, item.seconds, list(item.acts)]}
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> Story | Look | Happening:
    """What `to_line` made the line from."""
    record = json.loads(line)
    if "look" in record:
        return Look(**record["look"])
    if "happening" in record:
        return Happening(*record["happening"])
    directory, seconds, acts = record["story"]
    return Story(directory, seconds, [tuple(act) for act in acts])
