"""The worker of the moment, or the last one: what was said by it and done to it, and what is due when. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass

from ..health import DeathCause
from ..ipc.remote import RemoteException
from .children import Exit
from .death import cause_of
from .diagnosis import Doctor


@dataclass(slots=True)
class Deadlines:
    """Monotonic seconds; None: not running."""

    hello_by: float | None = None  #: it must have said HELLO
    dead_by: float | None = None  #: it must be dead: it said that it ends, or was killed
    frozen_until: float | None = None  #: stopped by a signal, it is killed then
    dumped_by: float | None = None  #: hung, it is killed then
    finished_by: float | None = None  #: too large, it is killed then unless it has finished

    def all(self) -> list[float | None]:
        return [self.hello_by, self.dead_by, self.frozen_until, self.dumped_by, self.finished_by]

    def postpone(self, gap: float) -> None:
        """Nobody ran for `gap` seconds."""
        for name in self.__slots__:
            at: float | None = getattr(self, name)
            if at is not None:
                setattr(self, name, at + gap)


@dataclass(slots=True)
class Incumbent:
    doctor: Doctor
    due: Deadlines
    pid: int | None = None
    lane: int | None = None  #: the native id of its snapshot thread, once it has one
    greeted_at: float | None = None  #: when it said HELLO
    verdict: str | None = None  #: of its last words
    goodbye: RemoteException | None = None  #: and what they were
    killed_for: str | None = None  #: why we sent SIGKILL, if we did
    own_doing: bool = False  #: it was killed for what it did itself
    garbled: bool = False  #: it said what no worker says: nothing after that is believed
    shutdown_sent: bool = False
    recycled: bool = False  #: it is replaced when it has finished what it has

    def cause_of_death(self, status: Exit, *, finished: bool) -> DeathCause:
        """`finished`: it had nothing in hand. One that was told to end and did not finish was not asked for that."""
        return cause_of(
            status,
            verdict=self.verdict,
            killed=self.killed_for is not None,
            asked=self.shutdown_sent and finished,
            greeted=self.greeted_at is not None,
        )
