"""A schedule told step by step, for whoever reads what broke a rule."""

from __future__ import annotations

from typing import Final

from .effects import (
    Append,
    AwaitSpace,
    Deliver,
    Effect,
    Exit,
    FailedSync,
    FailedSyncFile,
    RemoveFile,
    Say,
    Sync,
    SyncDirectory,
    SyncFile,
    WriteFile,
)
from .process import Worker
from .world import World

_PLAIN: Final = {
    "take": "the supervisor puts frames on the pipe",
    "deliver": "they arrive",
    "half": "half of them arrive",
    "boot": "a worker gets the lock and opens the store",
    "serve": "the writer takes all that waits",
    "reap": "the hung worker is dead",
    "hang": "the supervisor takes the worker for broken, and kills it",
    "start": "a new host starts",
    "space out": "the disk is full",
    "space in": "the disk has space again",
    "kill host": "the host dies",
    "kill host half": "the host dies while it sends",
    "kill worker": "the worker dies",
    "kill orphan": "the orphaned worker dies",
}


def tell(world: World, choice: str) -> str:
    """One line: what `choice` is about to do in `world`."""
    verb, _, rest = choice.partition(" ")
    if choice in _PLAIN:
        return f"{choice:<16} {_PLAIN[choice]}"
    if choice == "submit":
        return f"{choice:<16} the host submits operation {world.position}: {world.scenario.script[world.position]}"
    if choice == "hear" and world.worker is not None:
        word = world.worker.outbox[0]
        return f"{choice:<16} the supervisor hears {word.kind.name} {word.seq}"
    if rest.startswith("die"):
        return f"{choice:<16} {_PLAIN.get(verb, verb)}, and dies at disk operation {rest.split()[-1]} of that"
    if verb in ("boot", "serve") and rest:
        return f"{choice:<16} {_PLAIN[verb]}; a sync, or a read, fails"
    if verb == "power":
        return f"{choice:<16} the power fails; of {world.disk.unsynced()} things un-synced: {rest or 'nothing'}"
    worker = world.orphan if verb == "orphan" else world.worker
    if worker is not None and choice in ("step", "orphan step"):
        return f"{choice:<16} {_tell_effect(worker.script[0])}"
    if worker is not None and "lane" in choice and (worker.lane_script or worker.lane.jobs):
        return f"{choice:<16} {_tell_lane(worker)}"
    return choice


def _tell_lane(worker: Worker) -> str:
    if worker.lane_script:
        return _tell_effect(worker.lane_script[0])
    return f"the snapshot lane begins with snapshot {worker.lane.jobs[0][0].seq}"


def _tell_effect(effect: Effect) -> str:
    match effect:
        case Append(at, entry):
            return f"writes slot {at}: epoch {entry.epoch}, up to commit {entry.last_commit}"
        case Sync():
            return "syncs the log"
        case FailedSync(fates):
            return f"syncs the log in vain; what reached the platter: {fates}"
        case WriteFile(name):
            return f"writes the file {name}"
        case SyncFile(name):
            return f"syncs the file {name}"
        case FailedSyncFile(name):
            return f"syncs the file {name} in vain"
        case SyncDirectory():
            return "syncs the directory"
        case RemoveFile(name):
            return f"removes the file {name}"
        case Deliver():
            return "the snapshot lane tells the writer"
        case Say(kind, seq):
            return f"says {kind.name} {seq}"
        case AwaitSpace():
            return "goes on, with space again"
        case Exit(code):
            return f"exits with {code}"
