"""A host: the real supervisor's core and the real gate, and the loop of an app around them.

The app does one thing a turn: it submits, and holds an output until that is durable. A new host knows nothing but what
its worker's HELLO says.
"""

from __future__ import annotations

from random import Random
from typing import Final

from ...gate import Gate
from ...health import Transition, WorkerState
from ...ipc.frames import FrameReader, Kind
from ...ipc.messages import Assembler
from ...key import Key, Seq
from ...supervisor.core import Core
from ...supervisor.history import History
from ...supervisor.policy import Limits, RestartPolicy
from ...supervisor.requests import Request
from .process import ALLOWED

#: Deaths are the explorer's doing, and not to be charged.
ENDLESS: Final = RestartPolicy(intensity=10**9, start_intensity=10**9)
LIMITS: Final = Limits()
#: No deadline ever comes: time passes only where a back-off must.
NEVER_S: Final = 1e12
START: Final = 0.0


class NoJitter(Random):
    """Back-off without chance: each successor starts at once."""

    def uniform(self, a: float, b: float) -> float:
        return a

    def __reduce__(self) -> str:
        return "NO_JITTER"


NO_JITTER: Final = NoJitter(0)


class NoHistory(History):
    """Transitions are of no use here."""

    def add(self, transition: Transition) -> None:
        """Forget it."""


class Host:
    """One life of a host process."""

    def __init__(self) -> None:
        self.core = Core(ENDLESS, LIMITS, NO_JITTER, ALLOWED)
        self.core.history = NoHistory()
        self.gate: Gate[Seq] | None = None
        self.frames, self.messages = FrameReader(), Assembler()
        self.questions: list[tuple[Request, Key]] = []
        self.now = START
        self.core.start(self.now, NEVER_S)

    def commit(self, puts: dict[Key, bytes], removes: tuple[Key, ...]) -> Seq:
        seq = self.core.commit(puts, removes, self.now)
        self._hold((*puts, *removes), seq)
        return seq

    def snapshot(self, key: Key, content: bytes, critical: bool) -> Seq:
        seq = self.core.snapshot(key, (content,), critical, self.now)
        if critical:
            self._hold((key,), seq)
        return seq

    def read(self, key: Key) -> None:
        self.questions.append((self.core.ask(Kind.READ, list(key)), key))

    def stop(self) -> None:
        """Take nothing more, make all durable, end the worker."""
        self.core.stop(self.now, NEVER_S)

    def _hold(self, records: tuple[Key, ...], seq: Seq) -> None:
        assert self.gate is not None
        self.gate.committed(records, seq)
        # Alternately to a peer and to nobody in particular: the gate has a way for each.
        self.gate.hold(seq, after=self.gate.tag(records), connection="peer" if seq % 2 else None)

    def hear(self, data: bytes) -> None:
        """Bytes from the worker, cut anywhere."""
        middle = len(data) // 2
        for part in (data[:middle], data[middle:]):
            for frame in self.frames.feed(part):
                message = self.messages.feed(frame)
                if message is not None:
                    self.core.received(message, self.now)
        if self.gate is None and self.core.greeted:
            self.gate = Gate(self.core.backlog.submitted)

    def turn_ends(self) -> list[Seq]:
        """What leaves: the outputs whose cause is durable."""
        return self.gate.acked(self.core.backlog.durable) if self.gate is not None else []

    def answers(self) -> list[tuple[Request, Key]]:
        """The questions that were answered since last asked for."""
        answered = [question for question in self.questions if question[0].answer is not None]
        self.questions = [question for question in self.questions if question[0].answer is None]
        return answered

    @property
    def waits(self) -> bool:
        """Whether its supervisor does nothing before some time has passed: it backs off."""
        return self.core.state is WorkerState.EXITED and self.core.timer() is not None

    def wait(self) -> None:
        """That time passes."""
        self.now = self.core.timer() or self.now
        self.core.handle_timer(self.now)

    def forget_pipe(self) -> None:
        """The worker is dead: its successor's pipe is another."""
        self.frames, self.messages = FrameReader(), Assembler()
