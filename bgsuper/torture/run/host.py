"""``python -m bgsuper.torture.run.host JSON``: a host app of its own, to be killed.

It opens the store, reads it and tells what it found, waits until that was judged, and then submits steps until it dies
or is told to stop. It tells its overseer (`reports`) before it submits, when its worker has received, and when it hears
of an acknowledgement; it judges nothing.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from random import Random
from threading import Event, Thread
from typing import Final

from ...errors import BgsuperError
from ...health import Transition, WorkerState
from ...ipc.frames import Kind
from ...ipc.messages import Message
from ...key import Key, Seq
from ...supervisor import RestartPolicy, Supervisor
from .reports import Point, Reporter
from .tap import tapped
from .values import value_of
from .workload import Commit, step

#: Deaths are the purpose here: they spend no budget, and each is a first one, which is not waited for. The period is
#: also that within which two failed syncs end a supervisor.
POLICY: Final = RestartPolicy(
    intensity=10**9,
    start_intensity=10**9,
    period_s=1.0,
    backoff_first_s=0.001,
    backoff_max_s=0.001,
    stopped_grace_s=1.0,
    vitals_interval_s=0.25,
)
#: How long a start may take: an orphan of the host before may have a full backlog and a slow disk.
START_S: Final = 120.0
STOP_S: Final = 60.0
#: How many commits are submitted at once, as often as each stands here; and the pause after each such burst.
_BURSTS: Final = (1, 1, 1, 1, 2, 3, 8, 32)
_LONGEST_PAUSE_S: Final = 0.02
#: How much of what is found goes into one report.
_PAGE_BYTES: Final = 1024 * 1024
_BEAT_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Orders:
    """What a host is started with."""

    url: str
    number: int  #: of this host within the run, from 1
    seed: int
    filling: int  #: so many commits fill the store first
    namespaces: Sequence[Sequence[str]]  #: what to read and tell

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Host:
    """One life."""

    def __init__(self, orders: Orders, report: Reporter) -> None:
        self._orders, self._report = orders, report
        self._random = Random(f"{orders.seed} {orders.number} pace")
        self._supervisor = Supervisor(orders.url, restart=POLICY, launcher=tapped(self._launched, self._sent))
        self._die_at: Point | None = None
        self._go, self._stop = Event(), Event()
        self._acked = Seq(0)
        self._pid: int | None = None
        #: Snapshots that nobody waits for but the account: those that are not critical.
        self._mere: deque[tuple[Key, Seq]] = deque()
        self._beat_at = 0.0

    def live(self) -> None:
        """From the opening of the store to a clean end. Raises what ended the supervisor."""
        Thread(target=self._obey, daemon=True).start()
        supervisor = self._supervisor
        supervisor.on_transition(self._changed)
        last = self._acked = supervisor.start(START_S)
        # Not before: what HELLO claims is what the store has, and was acknowledged to nobody.
        supervisor.subscribe(self._told)
        self._report("opened", last)
        self._tell_found()
        self._go.wait()
        while not self._stop.wait(self._random.random() * _LONGEST_PAUSE_S):
            failure = supervisor.failure()
            if failure is not None:
                raise failure
            for _ in range(self._random.choice(_BURSTS)):
                # A full disk: what is not durable waits in memory, and there is no sense in more of it.
                if not supervisor.writable or self._stop.is_set():
                    break
                last = self._submit(Seq(last + 1))
            self._look_after_snapshots()
            self._beat()
        supervisor.stop(STOP_S)
        self._told()

    def _submit(self, seq: Seq) -> Seq:
        orders = self._orders
        this = step(orders.seed, orders.number, seq, orders.filling)
        self._report("begin", seq)
        self._reach(Point.BEGUN)
        if isinstance(this, Commit):
            given = self._supervisor.commit(
                {key: value_of(key, origin) for key, origin in this.puts.items()}, this.removes
            )
        else:
            content = value_of(this.key, this.value)
            given = self._supervisor.snapshot(this.key, [content], critical=this.critical)
            if not this.critical:
                self._mere.append((this.key, seq))
        self._reach(Point.SUBMITTED)
        assert given == seq, f"expected the number {seq}, got {given}"
        return seq

    def _tell_found(self) -> None:
        for primary, secondary in self._orders.namespaces:
            for page in _pages(self._supervisor.scan(primary, secondary)):
                self._report("found", page)
        self._report("found", [])

    def _look_after_snapshots(self) -> None:
        for _ in range(len(self._mere)):
            key, seq = self._mere.popleft()
            try:
                self._supervisor.wait(seq, 0)
            except TimeoutError:
                self._mere.append((key, seq))
            except BgsuperError:
                pass  # it could not be written, and the store keeps the one before; a failure for good comes out above
            else:
                self._report("snapshot", key, seq)

    def _beat(self) -> None:
        now = time.monotonic()
        if now >= self._beat_at:
            self._beat_at = now + _BEAT_S
            self._report("beat", self._supervisor.health().sync_p99_s or 0.0)

    # -- on the supervisor's thread -----------------------------------------------------------------------------------

    def _told(self) -> None:
        durable = self._supervisor.durable_seq
        if durable > self._acked:
            self._acked = durable
            self._reach(Point.ACKED)
            self._report("acked", durable, self._pid, time.monotonic())

    def _launched(self, pid: int) -> None:
        self._pid = pid
        self._report("launched", pid)

    def _changed(self, transition: Transition) -> None:
        greeted = (transition.before, transition.state) == (WorkerState.STARTING, WorkerState.READY)
        epoch = self._supervisor.health().epoch if greeted else 0
        cause = transition.cause.value if transition.cause is not None else None
        self._report("worker", transition.state.value, transition.pid, epoch, cause)

    def _sent(self, message: Message | None) -> None:
        self._reach(Point.SENT)
        if message is None:
            return
        if message.kind is Kind.COMMIT:
            self._report("received", message.seq, None)
        elif message.fields[3]:  # a critical snapshot; another may fail for good on a full disk
            self._report("received", message.seq, message.fields[:3])

    # -- what the overseer says ---------------------------------------------------------------------------------------

    def _obey(self) -> None:
        for line in sys.stdin:
            match line.split():
                case ["go"]:
                    self._go.set()
                case ["die", point]:
                    self._die_at = Point(point)
                case _:
                    break
        self._stop.set()
        self._go.set()

    def _reach(self, point: Point) -> None:
        if point is self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)


def _pages(records: Iterator[tuple[Key, bytes]]) -> Iterator[list[tuple[Key, bytes]]]:
    page: list[tuple[Key, bytes]] = []
    size = 0
    for key, value in records:
        page.append((key, value))
        size += len(value)
        if size >= _PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page


def main(arguments: Sequence[str]) -> int:
    """Live as the one argument says; the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    report = Reporter(sys.stdout.fileno())
    try:
        Host(Orders(**json.loads(arguments[0])), report).live()
    except BaseException as error:
        logging.exception("the host ends")
        report("failed", " ".join(f"{type(error).__name__}: {error}".split()))
        raise
    report("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
