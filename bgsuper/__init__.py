"""bgsuper keeps a Lightning node alive.

A supervisor in the host app's process hands every state change to a worker process, which makes it durable; what was
computed from a change leaves the node only once that change is durable; no disk, however slow, holds up the loop.

The public names are loaded when first used (PEP 562), so that the worker process starts small.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .errors import (
        Backlogged,
        BgsuperError,
        ConfigError,
        GateShut,
        NotFound,
        ReplayEvent,
        ShutdownIncomplete,
        StoreError,
        WorkerError,
    )
    from .gate import Gate
    from .health import Health, WorkerState
    from .key import Key, Seq
    from .processor.background import BackgroundProcessor, process_events
    from .processor.timers import Timers
    from .supervisor import Limits, PersisterRef, RestartPolicy, Supervisor

_HOME = {
    "Backlogged": "errors",
    "BackgroundProcessor": "processor.background",
    "BgsuperError": "errors",
    "ConfigError": "errors",
    "Gate": "gate",
    "GateShut": "errors",
    "Health": "health",
    "Key": "key",
    "Limits": "supervisor",
    "NotFound": "errors",
    "PersisterRef": "supervisor",
    "ReplayEvent": "errors",
    "RestartPolicy": "supervisor",
    "Seq": "key",
    "ShutdownIncomplete": "errors",
    "StoreError": "errors",
    "Supervisor": "supervisor",
    "Timers": "processor.timers",
    "WorkerError": "errors",
    "WorkerState": "health",
    "process_events": "processor.background",
}

__all__ = [
    "BackgroundProcessor",
    "Backlogged",
    "BgsuperError",
    "ConfigError",
    "Gate",
    "GateShut",
    "Health",
    "Key",
    "Limits",
    "NotFound",
    "PersisterRef",
    "ReplayEvent",
    "RestartPolicy",
    "Seq",
    "ShutdownIncomplete",
    "StoreError",
    "Supervisor",
    "Timers",
    "WorkerError",
    "WorkerState",
    "process_events",
]


def __getattr__(name: str) -> object:
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
