"""A worker that may die between any two steps, driven against the real core: nothing acknowledged is ever lost.

The host's half is the real `Core` and `Backlog`, the worker's half the real `Writer`; between them the real frames,
delivered piece by piece, over a model disk that knows what is durable and what merely can be read.
"""

from __future__ import annotations

from signal import SIGKILL, SIGSEGV
from typing import cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bgsuper.errors import Backlogged, StoreFull
from bgsuper.health import WorkerState as State
from bgsuper.ipc.frames import FrameReader, Kind
from bgsuper.ipc.messages import Assembler
from bgsuper.ipc.remote import Allowed
from bgsuper.key import Key, Seq
from bgsuper.supervisor.core import Action
from bgsuper.supervisor.policy import Limits, RestartPolicy
from bgsuper.supervisor.requests import Request
from bgsuper.worker.inbox import Closed, Inbox, Item, SnapshotDone, arrived
from bgsuper.worker.link import Link
from bgsuper.worker.snapshots import SnapshotLane
from bgsuper.worker.writer import Writer

from ..worker.model import Disk, Killed, ModelLane, ModelLink, ModelStore
from .rig import A, B, Rig

KEYS = (A, B)
#: Small, so that the limits are met; a snapshot of several chunks alone exceeds them.
LIMITS = Limits(soft_bytes=500_000, hard_bytes=1_500_000)
ENDLESS = RestartPolicy(intensity=10**9, start_intensity=10**9)
#: A large snapshot takes four frames, so that others can pass between them.
LARGE = 600_000

#: What to submit, its key, a key that a commit removes, and whether a snapshot is large.
Operation = tuple[str, Key, Key, bool]
OPERATIONS = st.tuples(
    st.sampled_from(["commit", "snapshot", "critical", "read"]),
    st.sampled_from(KEYS),
    st.sampled_from(KEYS),
    st.booleans(),
)
FEW = st.sampled_from([0, 1, 1, 2, 5, 30])
#: Whether a death is of its own doing; two in a row make us hand out one thing at a time.
OWN = st.sampled_from([True, True, False])
TAKES = st.sampled_from([1, 1, 2, 2, 3, 30])


class Worker:
    """One life of a worker: what it has received and not yet served, and what it has under way."""

    def __init__(self, disk: Disk) -> None:
        self.store = ModelStore(disk)
        self.opened = self.store.open()
        self.link = ModelLink()
        self.lane = ModelLane(self.store)
        self.frames, self.messages = FrameReader(), Assembler()
        self.received: list[Item] = []
        self.writer = Writer(self.store, self.opened, cast(Link, self.link), Inbox(), Allowed())
        self.writer._lane = cast(SnapshotLane, self.lane)

    def deliver(self, piece: bytes) -> None:
        for frame in self.frames.feed(piece):
            message = self.messages.feed(frame)
            if message is not None:
                self.received.append(arrived(message))

    def serve(self, count: int) -> None:
        items, self.received = self.received[:count], self.received[count:]
        self.writer._serve(items)

    def finish_snapshot(self, fails: bool) -> None:
        message, key, _ = self.lane.jobs.pop(0)
        if fails:
            self.received.append(SnapshotDone(message, StoreFull("no space")))
        else:
            written = self.store.write_snapshot(key, Seq(message.seq), message.payload)
            self.received.append(SnapshotDone(message, written))

    @property
    def drained(self) -> bool:
        return not self.received and not self.lane.jobs and self.messages.partial == 0 and not self.link.sent


class DyingWorker(RuleBasedStateMachine):
    @initialize(commits=st.integers(0, 3))
    def begin(self, commits: int) -> None:
        self.disk = Disk()
        self.disk.cache.last_commit = self.disk.cache.last_seq = commits
        self.rig = Rig(ENDLESS, LIMITS)
        self.core = self.rig.core
        self.worker: Worker | None = None
        self.wire: list[bytes] = []
        self.half_closed = False
        self.operations: dict[Key, list[tuple[int, str, bytes | None]]] = {key: [] for key in KEYS}
        self.criticals: set[int] = set()
        self.commits: list[int] = []
        self.reads: list[tuple[Request, Key, int]] = []
        self.durable = 0
        self.stamps: dict[Key, int] = {}
        self.rig.start()
        self.boot()

    # -- the host -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.core.stopping)
    @rule(operations=st.lists(OPERATIONS, min_size=1, max_size=5))
    def submit(self, operations: list[Operation]) -> None:
        for operation in operations:
            was, writable = self.core.backlog.unacked_bytes, self.core.backlog.writable
            number = self.core.backlog.submitted + 1
            try:
                self.submit_one(number, *operation)
            except Backlogged:
                assert was >= LIMITS.hard_bytes
                assert not writable
                assert (self.core.backlog.submitted + 1, self.core.backlog.unacked_bytes) == (number, was)
            else:
                assert was < LIMITS.hard_bytes or operation[0] == "read"

    def submit_one(self, number: int, what: str, key: Key, other: Key, large: bool) -> None:
        value = str(number).encode() + bytes(LARGE if large and what != "commit" else 0)
        if what == "read":
            self.reads.append((self.core.ask(Kind.READ, list(key)), key, self.core.backlog.submitted))
        elif what == "commit":
            assert self.core.commit({key: value}, {other} - {key}, self.rig.now) == number
            self.commits.append(number)
            self.operations[key].append((number, "commit", value))
            if other != key:
                self.operations[other].append((number, "commit", None))
        else:
            assert self.rig.snapshot(key, value, critical=what == "critical") == number
            self.operations[key].append((number, "snapshot", value))
            if what == "critical":
                self.criticals.add(number)

    @precondition(lambda self: not self.core.stopping and self.core.backlog.submitted > 20)
    @rule()
    def stop(self) -> None:
        self.rig.stop(timeout=1e12)
        self.act()

    # -- the pipe and the worker --------------------------------------------------------------------------------------

    @precondition(lambda self: self.worker)
    @rule(takes=TAKES, pieces=FEW, serves=FEW, finishes=FEW, full=st.booleans(), hears=st.booleans())
    def work(self, takes: int, pieces: int, serves: int, finishes: int, full: bool, hears: bool) -> None:
        """Some of what waits goes on the wire, some arrives, some is served, some is heard of."""
        assert self.worker is not None
        self.take(takes)
        self.deliver(pieces)
        self.worker.serve(serves)
        for _ in self.worker.lane.jobs[:finishes]:
            self.worker.finish_snapshot(full)
        if hears:
            self.hear()

    @rule(seconds=st.sampled_from([0.0, 1.0, 30.0]))
    def wait(self, seconds: float) -> None:
        """A living worker may take its time; one that boots is watched by other tests."""
        if self.worker is not None:
            self.rig.tick(seconds)

    def take(self, times: int) -> None:
        for _ in range(times):
            self.wire += self.core.take()
        self.act()

    def deliver(self, count: int) -> None:
        assert self.worker is not None
        for piece in self.wire[:count]:
            # Frames are cut anywhere.
            self.worker.deliver(piece[:17])
            self.worker.deliver(piece[17:])
        del self.wire[:count]

    def hear(self) -> None:
        assert self.worker is not None
        for message in self.worker.link.take():
            self.core.received(message, self.rig.now)
        assert self.core.failure() is None
        assert self.rig.state not in (State.DYING, State.WEDGED)

    # -- death --------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.worker)
    @rule(where=st.sampled_from(["now", "before a sync", "after a sync"]), serves=FEW, heard=st.booleans(), own=OWN)
    def die(self, where: str, serves: int, heard: bool, own: bool) -> None:
        """What was on the wire is gone; what it had said may have arrived or not. Deaths of its own doing begin the
        search for what it dies of, which must change nothing else."""
        assert self.worker is not None

        def kill() -> None:
            raise Killed

        if where == "after a sync":
            self.worker.store.after_sync = kill
        else:
            self.worker.store.before_sync = kill
        try:
            if where != "now":
                self.worker.serve(serves)
        except Killed:
            pass
        if heard:
            self.hear()
        self.worker = None
        self.end_of_life(own and not self.core.backlog.one_at_a_time)

    @precondition(lambda self: self.worker is None and not self.core.ended)
    @rule(dies=st.booleans())
    def boot(self, dies: bool = False) -> None:
        """A successor opens the store, and says so unless it dies before."""
        worker = Worker(self.disk)
        if dies:
            self.end_of_life()
            return
        self.worker = worker
        self.rig.hello(worker.opened.last_commit, worker.opened.last_seq, epoch=worker.opened.epoch)
        assert self.core.failure() is None
        self.act()

    def end_of_life(self, own: bool = False) -> None:
        self.wire.clear()
        self.rig.die(signal=SIGSEGV if own else SIGKILL)
        if self.rig.state is State.EXITED:
            self.rig.tick(self.core.policy.backoff_max_s)
        self.act()
        assert self.rig.state is (State.ENDED if self.core.ended else State.STARTING)

    def act(self) -> None:
        for action in self.rig.actions():
            assert action in (Action.LAUNCH, Action.HALF_CLOSE)
            self.half_closed = action is Action.HALF_CLOSE

    # -- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def what_is_said_to_be_durable_is(self) -> None:
        backlog, disk = self.core.backlog, self.disk.durable
        durable = backlog.durable
        assert durable >= self.durable, "it went back"
        self.durable = durable
        for seq in self.commits:
            if seq <= durable or backlog.is_durable(Seq(seq)):
                assert seq <= disk.last_commit
        for key, operations in self.operations.items():
            for seq, kind, _ in operations:
                if kind == "snapshot" and (backlog.is_durable(Seq(seq)) or (seq in self.criticals and seq <= durable)):
                    assert disk.stamps.get(key, 0) >= seq or self.core.snapshot_failures.at(Seq(seq)) is not None

    @invariant()
    def no_value_ever_reverts(self) -> None:
        """Neither across deaths nor by a snapshot that a commit overtook."""
        for key, stamp in self.disk.durable.stamps.items():
            assert stamp >= self.stamps.get(key, 0)
            newest = max(
                (
                    seq
                    for seq, kind, _ in self.operations[key]
                    if kind == "commit" and seq <= self.disk.durable.last_commit
                ),
                default=0,
            )
            assert stamp >= newest
            value = next(value for seq, _, value in self.operations[key] if seq == stamp)
            assert self.disk.durable.values.get(key) == value
        self.stamps = dict(self.disk.durable.stamps)

    @invariant()
    def reads_see_every_earlier_commit(self) -> None:
        for request, key, after in list(self.reads):
            if request.answer is None:
                continue
            self.reads.remove((request, key, after))
            assert isinstance(request.answer, list)
            newest = max((seq for seq, kind, _ in self.operations[key] if kind == "commit" and seq <= after), default=0)
            values = [value for seq, _, value in self.operations[key] if seq >= newest]
            assert (request.answer[0][1] if request.answer else None) in [*values, *([None] if not newest else [])]

    @invariant()
    def the_books_balance(self) -> None:
        backlog = self.core.backlog
        assert backlog.unacked_bytes >= 0
        # A snapshot whose overtaking commit is durable holds its bytes until the worker lets go of it.
        assert backlog.unacked_bytes > 0 or backlog.unacked == 0
        assert (backlog.oldest() is None) == (backlog.durable == backlog.submitted)

    def teardown(self) -> None:
        """Left in peace, everything submitted becomes durable, and the books are empty."""
        if not hasattr(self, "core"):
            return
        self.rig.stop(timeout=1e12)
        self.act()
        while not self.core.ended:
            if self.worker is None:
                self.boot()
            assert self.worker is not None
            while self.core.has_output or self.wire or not self.worker.drained:
                self.work(30, len(self.wire), 30, 1, False, True)
            assert self.half_closed
            self.worker.received.append(Closed(None))
            self.worker.serve(1)
            self.worker = None
            self.end_of_life()
        backlog = self.core.backlog
        assert (backlog.unacked, backlog.unacked_bytes) == (0, 0)
        assert self.core.failure() is None
        for key, operations in self.operations.items():
            written = [
                operation for operation in operations if self.core.snapshot_failures.at(Seq(operation[0])) is None
            ]
            if written:
                assert self.disk.durable.values.get(key) == written[-1][2]


DyingWorker.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestDyingWorker = DyingWorker.TestCase
