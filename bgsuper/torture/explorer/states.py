"""A world's state: a copy to return to, and a fingerprint by which two ways to one state are known as one.

A copy is a pickle, the fastest that Python has for a few hundred small objects. What cannot be pickled is replaced by
its equal before: a generator of frames by the list of them, a recipe of an exception by the exception.

A fingerprint leaves out what cannot change what happens next (`IGNORED`, with the reason); everything else counts.
Each class has its row in `COUNTED`; a test holds that the two tables name every attribute there is.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable
from enum import Enum
from io import BytesIO
from operator import attrgetter
from typing import Any, Final

from ...gate import Gate
from ...ipc.frames import FrameReader
from ...ipc.messages import Assembler, _Partial
from ...supervisor.backlog import Backlog, _Promise
from ...supervisor.core import Core
from ...supervisor.incumbent import Deadlines, Incumbent
from ...supervisor.poison import PoisonSearch
from ...supervisor.requests import Request, Requests
from ...supervisor.stopping import Stop
from ...worker.writer import Writer
from .disk import Content, Disk
from .host import Host
from .monitor import Monitor
from .process import SteppedInbox, SteppedLane, Worker
from .store import ModelStore
from .world import World


def _getter(names: list[str]) -> Callable[[object], tuple[object, ...]]:
    """What gets the attributes `names` of an object."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


#: What decides what happens next.
COUNTED: Final[dict[type, tuple[str, ...]]] = {
    World: (
        "disk", "monitor", "host", "worker", "orphan", "wire", "hanging_up", "launching", "position", "hosts",
        "may_hang", "deaths", "powers", "failed_syncs", "shortages", "failed_reads",
    ),
    Monitor: ("commits", "snapshots", "acked", "acked_snapshots", "epoch", "stamps"),
    Disk: ("slots", "files", "full", "opened"),
    Content: ("values", "epoch", "last_commit", "last_snapshot", "length", "checksum"),
    Host: ("core", "gate", "frames", "messages", "questions", "now"),
    Core: (
        "backlog", "requests", "actions", "state", "epoch", "atomic", "batches", "distrust_cache", "_failure",
        "_poison", "_worker", "_launches", "_ever_greeted", "_launch_at", "_stop",
    ),
    Stop: ("kill_at", "stop_by", "out_of_time"),
    Backlog: (
        "submitted", "acked_commit", "unacked_bytes", "one_at_a_time", "_newest_commit", "_sent", "_queued", "_waiting",
        "_in_flight", "_promises", "_wire_frames", "_wire_key", "_wire_first",
    ),
    _Promise: ("critical", "overtaken_by", "seq"),
    Requests: ("_number", "_open", "_queued", "_backups", "_asked"),
    Request: ("after", "answer", "deaths", "fields", "kind", "number"),
    Incumbent: ("due", "greeted_at", "verdict", "killed_for", "own_doing", "garbled", "shutdown_sent", "recycled"),
    Deadlines: ("hello_by", "dead_by", "frozen_until", "dumped_by", "finished_by"),
    PoisonSearch: ("until", "_deaths", "_accused", "_proofs"),
    Gate: ("_durable", "_lanes", "_heads", "_loose", "_newest", "_unacked"),
    FrameReader: ("_buffer", "_dead"),
    Assembler: ("_partial",),
    _Partial: ("kind", "fields", "missing", "payload"),
    Worker: (
        "script", "lane_script", "model", "inbox", "lane", "writer", "epoch", "has_store", "doomed", "frames",
        "messages", "outbox",
    ),
    ModelStore: ("content", "_salt"),
    SteppedInbox: ("items", "closed_at"),
    SteppedLane: ("jobs",),
    Writer: ("_last", "_under_way", "_overtaken", "_closed"),
}  # fmt: skip

#: What does not, and why.
IGNORED: Final[dict[type, dict[str, str]]] = {
    Disk: {"_certain": "follows from the slots"},
    World: {"scenario": "the same for all", "hangs": "as far as `may_hang` tells"},
    Core: {
        "policy": "constant",
        "limits": "constant",
        "allowed": "constant",
        "history": "told to people",
        "snapshot_failures": "told to people",
        "since": "told to people",
        "evidence": "told to people",
        "restarts": "told to people",
        "last_death": "told to people",
        "_died_of": "told to people",
        "_failed_for": "told to people",
        "last_cause": "told to people, once _plan_successor has read it",
        "syncs": "told to people",
        "_restarts": "the policy is endless, and back-off takes no time",
        "behind": "no store here has a high-water mark",
    },
    Backlog: {"_limits": "constant", "_wire": "the frames of _wire_key that _wire_frames counts"},
    _Promise: {"at": "time stands still"},
    Requests: {"_allowed": "constant"},
    Incumbent: {
        "doctor": "nobody looks",
        "pid": "told to people",
        "lane": "told to people",
        "goodbye": "told to people; its verdict counts",
    },
    Gate: {"_count": "only its order counts", "_cause": "as Core._failure"},
    Worker: {"store": "the model", "opened": "the writer's", "link": "has no state of its own"},
    ModelStore: {
        "_disk": "the world's",
        "_script": "the worker's",
        "_files": "the worker's",
        "outcomes": "set before each use",
    },
    SteppedInbox: {"turn": "false between steps"},
    Writer: {
        "_store": "the worker's",
        "_link": "the worker's",
        "_inbox": "the worker's",
        "_lane": "the worker's",
        "_allowed": "constant",
        "_users_persister": "constant",
        "_mark": "no store here has a high-water mark",
        "_epoch": "the worker's",
        "_backups": "nobody asks for any",
        "_idle_s": "nobody waits",
        "_served_at": "nobody waits",
        "phase": "told to people",
        "done": "told to people",
    },
}
#: Their order says nothing.
_UNORDERED: Final = frozenset({"values", "stamps", "acked_snapshots", "files", "snapshots", "_under_way", "_newest"})
#: `COUNTED` as it is used: what gets the attributes of which the order counts, and the names of the others.
_ROWS: Final = {
    kind: (
        _getter([name for name in names if name not in _UNORDERED]),
        [name for name in names if name in _UNORDERED],
    )
    for kind, names in COUNTED.items()
}
_PLAIN: Final = frozenset({int, str, bytes, bool, float, type(None)})


class Kept:
    """A recipe of an exception that can be pickled."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self) -> BaseException:
        return self.error


def save(world: World) -> bytes:
    """A copy of `world` to return to; `world` goes on as before."""
    if world.host is not None:
        core = world.host.core
        if core.backlog._wire is not None:
            core.backlog._wire = iter(list(core.backlog._wire))
        failure = core.failure()
        if failure is not None:
            core._failure = Kept(failure)
    return pickle.dumps(world, pickle.HIGHEST_PROTOCOL)


def restore(saved: bytes) -> World:
    """The world that was saved: of our own making, never from outside."""
    world = pickle.loads(saved)
    assert isinstance(world, World)
    return world


def fingerprint(world: World) -> int:
    """Equal for states from which the same can happen."""
    return hash(_frozen(world))


def _frozen(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind in (tuple, list, deque):
        return tuple([_frozen(item) for item in value])
    rows = _ROWS.get(kind)
    if rows is not None:
        ordered, unordered = rows
        parts = [part if type(part) in _PLAIN else _frozen(part) for part in ordered(value)]
        parts += [frozenset([(key, _frozen(item)) for key, item in getattr(value, name).items()]) for name in unordered]
        return tuple(parts)
    if kind is dict:
        return tuple([(_frozen(key), _frozen(item)) for key, item in value.items()])
    if isinstance(value, tuple):
        try:
            return hash(value)
        except TypeError:
            return tuple([_frozen(item) for item in value])
    if kind is set:
        return frozenset(value)
    if kind is bytearray:
        return bytes(value)
    if kind is BytesIO:
        return value.getvalue()
    if isinstance(value, BaseException) or callable(value):
        return kind.__name__
    if isinstance(value, Enum):
        return value.name
    raise TypeError(f"expected a state of known parts, got {kind.__name__}: give it a row in COUNTED")
