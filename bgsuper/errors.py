"""Every error bgsuper raises, in one hierarchy.

    BgsuperError
     |- ConfigError (ValueError)     what the host app asked for cannot be meant
     |- Backlogged                   the hard limit of un-acknowledged bytes is reached
     |- GateShut                     the store failed for good: nothing may leave any more
     |- ShutdownIncomplete           stop() ran out of time; .unacked, .outcome
     |- StoreError
     |   |- NotFound (KeyError)      the key is absent: never a failed read
     |   |- StoreLocked              another writer lives; .pid, .epoch
     |   |- StoreFull                no space; retried while running
     |   |- StoreUnavailable         out of reach for now; retried while running
     |   |- StoreUnwritable          no permission, read-only, not a directory
     |   |- StoreCorrupt             its bytes are damaged
     |   |- StoreForeign             it is not a store of bgsuper's
     |   |- StoreTooNew              a later bgsuper wrote it
     |   |- StoreInconsistent        its records contradict each other or the host
     |   |- StoreSealed              it is sealed with another key, or one key too few or too many
     |   |- StoreTampered            somebody without the key changed it
     |   `- SyncFailed               the disk refused to make data durable
     |- WorkerError
     |   |- WorkerStartFailed        no worker came up
     |   |- RestartBudgetSpent       it died too often
     |   |- PoisonCommit             one commit kills every worker that is given it; .seq
     |   `- RemoteError              the worker's exception, where the original cannot be rebuilt
     `- DecodeError (ValueError)     bytes from outside that mean nothing
         |- FrameError               ... on the pipe between host and worker
         `- ...                      ... from peers: drawn in `bgsuper.lightning.errors`

Beside it stands `ReplayEvent`, which is no error: an event handler raises it to be given its event again.

Rules: a message says what was expected, what came, and what to do. Every class can be pickled with its attributes
(they cross the pipe), so positional arguments hold the message alone. No message carries a secret.
"""

from __future__ import annotations


class BgsuperError(Exception):
    """Root of all errors that bgsuper raises on purpose."""


class ConfigError(BgsuperError, ValueError):
    """What the host app asked for cannot be meant: a malformed URL, key, limit or policy."""


class Backlogged(BgsuperError):
    """The hard limit of un-acknowledged bytes is reached; await ``drain()`` or check ``writable`` first."""


class GateShut(BgsuperError):
    """The store failed for good, so nothing may leave; the failure itself is ``__cause__``."""


class ShutdownIncomplete(BgsuperError):
    """``stop()`` ran out of time.

    ``unacked`` counts the commits and snapshots never acknowledged; ``outcome`` is ``"killed"`` (the worker was
    killed and is dead) or ``"abandoned"`` (it could not even be killed in time: it is stuck in the kernel), or empty
    where a processor ran out of time and the worker belongs to the host.
    """

    def __init__(self, message: str, *, unacked: int = 0, outcome: str = "") -> None:
        super().__init__(message)
        self.unacked = unacked
        self.outcome = outcome


class StoreError(BgsuperError):
    """The store cannot do what was asked."""


class NotFound(StoreError, KeyError):
    """The key is absent. Raised for nothing else: a read that failed is another error."""

    def __str__(self) -> str:
        # KeyError would print the repr of the message.
        return str(self.args[0]) if self.args else ""


class StoreLocked(StoreError):
    """Another writer holds the store; ``pid`` is its process id and ``epoch`` its fencing number, if known."""

    def __init__(self, message: str, *, pid: int | None = None, epoch: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid
        self.epoch = epoch


class StoreFull(StoreError):
    """No space left (ENOSPC, EDQUOT). While running, the worker retries; at start it is raised."""


class StoreUnavailable(StoreError):
    """Out of reach for now: no descriptors or memory, a server that restarts. While running, the worker retries."""


class StoreUnwritable(StoreError):
    """No permission, a read-only file system, or something that is not a directory stands in the way."""


class StoreCorrupt(StoreError):
    """The store's bytes are damaged. Nothing was changed; restore a backup or salvage."""


class StoreForeign(StoreError):
    """There is something at that place, but it is not a store of bgsuper's. Nothing was changed."""


class StoreTooNew(StoreError):
    """A later version of bgsuper wrote this store. Nothing was changed; upgrade."""


class StoreInconsistent(StoreError):
    """The store's records contradict each other, or what the worker acknowledged before."""


class StoreSealed(StoreError):
    """The key in hand is not the one that seals the store: none, another, or one for a store that is not sealed.

    Nothing was changed.
    """


class StoreTampered(StoreError):
    """A sealed value is whole by its checksum, but it is not what the key's owner wrote under that name."""


class SyncFailed(StoreError):
    """The disk refused to make data durable. After it nothing in the page cache can be trusted (fsyncgate)."""


class WorkerError(BgsuperError):
    """The worker process failed."""


class WorkerStartFailed(WorkerError):
    """No worker came up: it could not be launched, died before HELLO, or missed the start deadline."""


class RestartBudgetSpent(WorkerError):
    """The worker died more often than ``RestartPolicy`` allows."""


class PoisonCommit(WorkerError):
    """One commit or critical snapshot kills every worker that is given it; ``seq`` is its number.

    It was alone with the worker each time, so nothing else can be the culprit. What came before it is durable.
    """

    def __init__(self, message: str, *, seq: int = 0) -> None:
        super().__init__(message)
        self.seq = seq


class RemoteError(WorkerError):
    """An exception of the worker that cannot be rebuilt here: not allowed, not picklable, or not importable.

    ``type_name`` is its dotted class name, ``text`` its rendered traceback, ``errno`` its errno if it had one.
    """

    def __init__(self, message: str, *, type_name: str = "", text: str = "", errno: int | None = None) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.text = text
        self.errno = errno


class DecodeError(BgsuperError, ValueError):
    """Bytes from outside that mean nothing: what was expected, what came, and where."""


class FrameError(DecodeError):
    """The pipe between host and worker carried something that no worker or host of this version sends."""


class ReplayEvent(Exception):
    """Raised by an event handler that could not handle its event now: it comes again soon (LDK's `ReplayEvent`).

    That event and the later ones of its provider stay pending, and are given again after `Timers.replay`, or after a
    restart if the processor is stopped first.
    """
