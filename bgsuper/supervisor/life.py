"""The life of a worker, as a table: every state, every event that can come in it, and what it then is.

What has no row cannot happen: it raises `IllegalTransition`, and nothing is changed. `core` walks the table. Beside
each event stands the evidence that brings it: nothing else may.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from ..errors import BgsuperError
from ..health import WorkerState

State = WorkerState


class Event(Enum):
    """What can happen to a worker."""

    LAUNCH = auto()  #: we ask for one
    HELLO = auto()  #: it says that it is up
    LAG = auto()  #: its oldest un-acknowledged commit is too old
    STALL = auto()  #: psutil: disk-sleep again and again, while nothing is written and nothing scheduled
    NO_SPACE = auto()  #: it says that it retries for want of space
    RETRY = auto()  #: it says that it retries for another passing cause
    HANG = auto()  #: work waits, and for long nothing was done, without the disk's doing
    BLOAT = auto()  #: psutil: its memory is over a limit
    CATCH_UP = auto()  #: it acknowledged, or did other work
    FREEZE = auto()  #: psutil: stopped by a signal or a debugger
    THAW = auto()  #: psutil: it runs again
    STOP = auto()  #: the host asks for the end
    KILL = auto()  #: we sent SIGKILL, or it said that it ends
    OUTLIVE = auto()  #: alive long after SIGKILL
    DIE = auto()  #: the kernel says dead
    END = auto()  #: nothing left to do
    FAIL = auto()  #: given up
    COLLAPSE = auto()  #: the shell itself broke: nobody acts any more


#: It serves, but badly.
_TROUBLED: Final = (State.LAGGING, State.DISK_FULL, State.RETRYING)
#: It serves.
_SERVING: Final = (State.READY, *_TROUBLED)
#: It runs and was not asked to end.
LIVE: Final = (*_SERVING, State.DISK_STALLED, State.STOPPED, State.HUNG, State.BLOATED)
#: It may be killed.
KILLABLE: Final = (*LIVE, State.STARTING, State.STOPPING)

#: The whole life. What is not here cannot happen.
TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.IDLE, Event.LAUNCH): State.STARTING,
    (State.IDLE, Event.STOP): State.ENDED,
    (State.STARTING, Event.HELLO): State.READY,
    (State.READY, Event.LAG): State.LAGGING,
    **{(state, Event.STALL): State.DISK_STALLED for state in _SERVING},
    **{(state, Event.NO_SPACE): State.DISK_FULL for state in (*_SERVING, State.DISK_STALLED, State.HUNG)},
    **{(state, Event.RETRY): State.RETRYING for state in (*_SERVING, State.DISK_STALLED, State.HUNG)},
    **{(state, Event.HANG): State.HUNG for state in _SERVING},
    **{(state, Event.BLOAT): State.BLOATED for state in _SERVING},
    **{(state, Event.CATCH_UP): State.READY for state in (*_TROUBLED, State.DISK_STALLED, State.HUNG)},
    **{(state, Event.FREEZE): State.STOPPED for state in _SERVING},
    **{(state, Event.THAW): State.READY for state in (State.STOPPED, State.DISK_STALLED)},
    **{(state, Event.STOP): State.STOPPING for state in LIVE},
    **{(state, Event.KILL): State.DYING for state in KILLABLE},
    (State.DYING, Event.OUTLIVE): State.WEDGED,
    **{(state, Event.DIE): State.EXITED for state in (*KILLABLE, State.DYING, State.WEDGED)},
    (State.EXITED, Event.LAUNCH): State.STARTING,
    (State.EXITED, Event.END): State.ENDED,
    (State.EXITED, Event.FAIL): State.FAILED,
    # stop() ran out of time with a worker that cannot be killed.
    (State.DYING, Event.FAIL): State.FAILED,
    (State.WEDGED, Event.FAIL): State.FAILED,
    # It could not even be launched.
    (State.STARTING, Event.FAIL): State.FAILED,
    **{(state, Event.COLLAPSE): State.FAILED for state in State if state not in (State.ENDED, State.FAILED)},
}


class IllegalTransition(BgsuperError):
    """A bug in bgsuper: an event that has no row. It names both, and nothing was changed."""
