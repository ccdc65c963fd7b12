"""Why a worker died: its exit status, what it said last, and what we did to it, brought together. Sans-IO.

Only deaths of its own doing raise the suspicion that something submitted kills it (`poison`); what another part of the
system did to it does not.
"""

from __future__ import annotations

import signal

from ..health import DeathCause
from .children import Exit

#: What each verdict of a worker's last words (see `worker.__main__`) means for its death.
VERDICTS = {
    "fatal": DeathCause.STORE,
    "sync": DeathCause.SYNC,
    "unavailable": DeathCause.UNAVAILABLE,
    "crash": DeathCause.CRASHED,
}
#: Signals that the kernel sends to whoever misbehaves.
_OWN_DOING = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGTRAP}
)


def cause_of(status: Exit, *, verdict: str | None, killed: bool, asked: bool, greeted: bool) -> DeathCause:
    """`verdict`: its last words, if any. `killed`: by us. `asked`: to end, and it had finished. `greeted`: it had said
    HELLO."""
    if verdict is not None:
        cause = VERDICTS[verdict]
        return DeathCause.BOOT if cause is DeathCause.CRASHED and not greeted else cause
    if killed:
        return DeathCause.KILLED
    if asked and status.signal is None:
        return DeathCause.ASKED
    if status == (None, None):
        return DeathCause.UNKNOWN
    if status.signal is not None and status.signal not in _OWN_DOING:
        return DeathCause.OUTSIDE
    return DeathCause.CRASHED if greeted else DeathCause.BOOT
