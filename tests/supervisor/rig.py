"""A core without a shell: a clock that tests turn by hand, and a worker whose words they choose."""

from __future__ import annotations

from random import Random
from signal import SIGKILL
from typing import Any

from bgsuper.health import WorkerState
from bgsuper.ipc.frames import FrameReader, Kind
from bgsuper.ipc.messages import Assembler, Message, decode_commits
from bgsuper.ipc.remote import Allowed, describe
from bgsuper.key import Key, Seq
from bgsuper.supervisor.children import Exit
from bgsuper.supervisor.core import Action, Core
from bgsuper.supervisor.policy import Limits, RestartPolicy
from bgsuper.supervisor.vitals import Vitals

A, B, C = Key("app", "", "a"), Key("app", "", "b"), Key("app", "", "c")


class Rig:
    """A `Core`, what time it is, and shorthand for what a shell would report."""

    def __init__(self, policy: RestartPolicy | None = None, limits: Limits | None = None, seed: int = 0) -> None:
        self.core = Core(policy or RestartPolicy(), limits or Limits(), Random(seed), Allowed())
        self.now = 1000.0
        self.frames, self.messages = FrameReader(), Assembler()

    @property
    def state(self) -> WorkerState:
        return self.core.state

    # -- the host -----------------------------------------------------------------------------------------------------

    def start(self, timeout: float = 30.0) -> None:
        self.core.start(self.now, timeout)

    def up(self, last_commit: int = 0, last_seq: int = 0) -> None:
        """Started, and greeted."""
        self.start()
        self.hello(last_commit, last_seq)

    def commit(self, *keys: Key, value: bytes = b"v") -> Seq:
        return self.core.commit(dict.fromkeys(keys or (A,), value), (), self.now)

    def snapshot(self, key: Key, content: bytes = b"s", *, critical: bool = False) -> Seq:
        return self.core.snapshot(key, (content,), critical, self.now)

    def stop(self, timeout: float = 30.0) -> None:
        self.core.stop(self.now, timeout)

    # -- the shell ----------------------------------------------------------------------------------------------------

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.core.handle_timer(self.now)

    def actions(self) -> list[Action]:
        """What the core wants done; asked for once."""
        actions = list(self.core.actions)
        self.core.actions.clear()
        return actions

    def take(self) -> list[Message]:
        """What one `take` puts on the wire, as far as it makes whole messages; each commit as one of its own."""
        taken = []
        for piece in self.core.take():
            for frame in self.frames.feed(piece):
                message = self.messages.feed(frame)
                if message is not None and message.kind is Kind.COMMIT:
                    taken += [Message(Kind.COMMIT, commit.seq, [commit.prev]) for commit in decode_commits(message)]
                elif message is not None:
                    taken.append(message)
        return taken

    def take_all(self) -> list[Message]:
        taken = []
        while self.core.has_output:
            taken += self.take()
        return taken

    def look(self, status: str = "sleeping", **figures: Any) -> None:
        """psutil looked: by default at a worker that is well, and of which nothing else is known."""
        self.core.looked(Vitals(status, **figures), self.now)

    def looks(self, count: int, status: str = "sleeping", **figures: Any) -> None:
        """As many looks, each an interval after the one before."""
        for _ in range(count):
            self.tick(self.core.policy.vitals_interval_s)
            self.look(status, **figures)

    def die(self, *, signal: int | None = None, code: int | None = None) -> None:
        """By SIGKILL from outside, unless said otherwise."""
        status = Exit(code, SIGKILL) if code is None and signal is None else Exit(code, signal)
        self.core.died(status, "", self.now)
        self.frames, self.messages = FrameReader(), Assembler()

    # -- the worker ---------------------------------------------------------------------------------------------------

    def say(self, kind: Kind, seq: int = 0, fields: list[object] | None = None, payload: bytes = b"") -> None:
        self.core.received(Message(kind, seq, fields or [], payload), self.now)

    def hello(
        self,
        last_commit: int = 0,
        last_seq: int = 0,
        *,
        epoch: int | None = None,
        atomic: bool | None = True,
        behind: list[int] | None = None,
    ) -> None:
        number = self.core.epoch + 1 if epoch is None else epoch
        self.say(Kind.HELLO, 0, [number, last_commit, last_seq, atomic, behind])

    def ack(self, seq: int) -> None:
        self.say(Kind.ACK, seq, [0.001, 1])

    def snapshot_ack(self, seq: int) -> None:
        self.say(Kind.SNAPSHOT_ACK, seq)

    def snapshot_failed(self, seq: int, error: Exception) -> None:
        self.say(Kind.SNAPSHOT_FAILED, seq, describe(error, allowed=Allowed()))

    def error(self, verdict: str, error: BaseException) -> None:
        self.say(Kind.ERROR, 0, [verdict, describe(error, allowed=Allowed())])

    def progress(self, done: int, phase: str = "transaction", lane: int = 0) -> None:
        self.say(Kind.PROGRESS, 0, [phase, done, 0, lane])

    def retrying(self, error: Exception) -> None:
        self.say(Kind.RETRYING, 0, describe(error, allowed=Allowed()))


def observe(core: Core) -> dict[str, object]:
    """All that a core knows, in a form that can be compared."""
    seen: dict[str, object] = {}
    for part in (
        core,
        core.backlog,
        core.requests,
        core.history,
        core.snapshot_failures,
        core._restarts,
        core._restarts._crashes,
        core._restarts._boot_failures,
    ):
        for name, value in vars(part).items():
            seen[f"{type(part).__name__}.{id(part)}.{name}"] = value if isinstance(value, str) else repr(value)
    return seen
