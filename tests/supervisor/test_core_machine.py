"""Any lawful row of reports: whatever psutil sees, the worker says, the kernel tells and the host asks for, in any
order, the core keeps its promises. No process, no sleep, and no worker that makes sense either."""

from __future__ import annotations

from signal import SIGKILL, SIGSEGV, SIGTERM

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bgsuper.errors import StoreCorrupt, StoreFull, StoreUnavailable, SyncFailed
from bgsuper.health import WorkerState as State
from bgsuper.ipc.frames import FrameReader, Kind
from bgsuper.ipc.messages import Assembler
from bgsuper.key import Key, Seq
from bgsuper.supervisor.children import Exit
from bgsuper.supervisor.core import Action
from bgsuper.supervisor.policy import RestartPolicy

from .rig import A, B, C, Rig

#: Many deaths, or few: else most lives would end before anything happens in them.
POLICIES = [
    RestartPolicy(intensity=most, start_intensity=most, hung_s=6.0, rss_soft_bytes=1000, rss_hard_bytes=3000)
    for most in (1000, 1000, 4)
]
#: So many numbers must be given out before stop() and other ends are thought of.
ENOUGH = 6
OPERATIONS = st.tuples(
    st.sampled_from(["commit", "commit", "commit", "snapshot", "critical", "read"]),
    st.sampled_from([A, B, C]),
    st.booleans(),
)
STATUSES = st.sampled_from(
    ["sleeping", "running", "disk-sleep", "stopped", "tracing-stop", "zombie", "gone", "unknown"]
)
FIGURES = st.sampled_from([None, 1, 1, 1, 2])
ENDS = st.sampled_from(
    [Exit(None, SIGKILL), Exit(None, SIGSEGV), Exit(None, SIGTERM), Exit(0, None), Exit(1, None), Exit(None, None)]
)
ERRORS = {
    "fatal": StoreCorrupt("damaged"),
    "sync": SyncFailed("EIO"),
    "unavailable": StoreFull("no space"),
    "crash": MemoryError("a large one"),
}


class AnyReports(RuleBasedStateMachine):
    @initialize(policy=st.sampled_from(POLICIES), lucky=st.sampled_from([True, True, True, False]))
    def begin(self, policy: RestartPolicy, lucky: bool) -> None:
        self.rig = Rig(policy)
        self.core = self.rig.core
        self.alive = self.hears = False
        self.stop_at_launch: float | None = None
        self.launches_fail = 0
        self.boots_slowly = not lucky
        self.stop_by: float | None = None
        self.commits: list[Seq] = []
        self.acked = 0
        self.sent: list[int] = []
        self.in_flight: list[int] = []
        self.reads: list[int] = []
        self.rig.start(timeout=10.0)
        self.act()

    @property
    def mature(self) -> bool:
        return self.core.backlog.submitted >= ENOUGH

    # -- the shell's hands --------------------------------------------------------------------------------------------

    def act(self) -> None:
        """Do what the core asks for, in order."""
        launch_failed = False
        while self.core.actions:
            action = self.core.actions.popleft()
            if action is Action.LAUNCH:
                assert not self.alive, "two writers"
                assert not self.core.ended
                if self.stop_at_launch is not None:
                    timeout, self.stop_at_launch = self.stop_at_launch, None
                    self.ask_to_stop(timeout)
                if self.launches_fail:
                    self.launches_fail -= 1
                    self.core.launch_failed(OSError("no memory"), self.rig.now)
                    launch_failed = True
                else:
                    self.alive = self.hears = True
                    self.sent, self.in_flight = [], []
                    self.core.launched(4711)
                    if not self.boots_slowly:
                        self.hello(0.0)
                    self.boots_slowly = False
            elif action is Action.ABANDON:
                assert self.core.stopping
                assert self.core.ended
                self.alive = self.hears = False  # nobody watches it any more
            else:
                assert self.alive or launch_failed or self.core.ended, f"{action.name} of nobody"

    # -- the host -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.core.greeted and not self.core.stopping and not self.core.failed)
    @rule(operations=st.lists(OPERATIONS, min_size=1, max_size=5))
    def submit(self, operations: list[tuple[str, Key, bool]]) -> None:
        for operation in operations:
            self.submit_one(*operation)

    def submit_one(self, what: str, key: Key, large: bool) -> None:
        if what == "commit":
            self.commits.append(self.rig.commit(key))
        elif what == "read":
            self.reads.append(self.core.ask(Kind.READ, list(A)).number)
        else:
            content = bytes(600_000 if large else 1)
            self.rig.snapshot(key, content, critical=what == "critical")

    @precondition(lambda self: self.mature)
    @rule(timeout=st.sampled_from([0.0, 1.0, 10.0, 100.0, 1e6, 1e6]))
    def stop(self, timeout: float) -> None:
        self.ask_to_stop(timeout)

    def ask_to_stop(self, timeout: float) -> None:
        if not self.core.ended:
            by = self.rig.now + max(timeout, 0.1)
            self.stop_by = by if self.stop_by is None else min(by, self.stop_by)
        self.rig.stop(timeout)

    # -- time and looks -----------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.05, 1.0, 1.0, 5.0, 10.0]))
    def wait(self, seconds: float) -> None:
        stalled = self.rig.state is State.DISK_STALLED
        self.rig.tick(seconds)
        assert not stalled or self.core.stopping or Action.KILL not in self.core.actions

    @rule(gap=st.sampled_from([1.0, 60.0, 3600.0]))
    def sleep(self, gap: float) -> None:
        """Suspended. No deadline of the worker's counts that time: what is due after it was due before."""
        self.rig.now += gap
        self.core.slept(gap)

    @precondition(lambda self: self.alive)
    @rule(
        status=STATUSES,
        lane=st.sampled_from([None, "sleeping", "disk-sleep"]),
        rss=st.sampled_from([None, 1, 1, 1, 1, 1, 1001, 3001]),
        switches=FIGURES,
        write_bytes=FIGURES,
        times=st.sampled_from([1, 1, 3, 9]),
        moves=st.booleans(),
    )
    def look(
        self,
        status: str,
        lane: str | None,
        rss: int | None,
        switches: int | None,
        write_bytes: int | None,
        times: int,
        moves: bool,
    ) -> None:
        for number in range(times):
            switches = number if moves else switches
            before = self.rig.state
            self.rig.look(
                status, lane_status=lane, rss_bytes=rss, switches=switches, write_bytes=write_bytes, cpu_s=1.0
            )
            if rss != 3001:
                assert Action.KILL not in self.core.actions, "a look kills for memory alone"
            if before is not State.HUNG and "disk-sleep" in (status, lane):
                assert Action.DUMP not in self.core.actions, "the disk is no hang"
            self.act()
            if times > 1:
                self.rig.tick(1.0)
                self.act()
            if not self.alive:
                break

    # -- the worker's words -------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.core.ended and not self.alive)
    @rule()
    def wait_for_a_successor(self) -> None:
        """However long the back-off."""
        self.rig.tick(31.0)

    @precondition(lambda self: self.hears and not self.core._worker.greeted_at)
    @rule(ahead=st.sampled_from([0.0, 0.5, 1.0]))
    def say_hello(self, ahead: float) -> None:
        self.hello(ahead)

    def hello(self, ahead: float) -> None:
        """Its store may hold what was never acknowledged: the predecessor died after the sync."""
        unacked = [seq for seq in self.commits if seq > self.core.backlog.acked_commit]
        last = unacked[: round(ahead * len(unacked))][-1:] or [self.core.backlog.acked_commit]
        self.acked = max(self.acked, last[0])
        self.rig.hello(last[0])

    @precondition(lambda self: self.hears and self.core._worker.greeted_at)
    @rule(
        word=st.sampled_from(["ack", "ack", "snapshot", "failed", "progress", "idle", "full", "retrying", "reply"]),
        part=st.floats(0.0, 1.0),
    )
    def say(self, word: str, part: float) -> None:
        rig = self.rig
        if word == "ack" and self.sent:
            self.acked = self.sent[round(part * (len(self.sent) - 1))]
            self.sent = [seq for seq in self.sent if seq > self.acked]
            rig.ack(self.acked)
        elif word == "snapshot" and self.in_flight:
            rig.snapshot_ack(self.in_flight.pop(0))
        elif word == "failed" and self.in_flight:
            rig.snapshot_failed(self.in_flight.pop(0), StoreFull("no space"))
        elif word in ("progress", "idle"):
            rig.progress(done=self.core._worker.doctor.done + (word == "progress"))
        elif word == "full":
            rig.retrying(StoreFull("no space"))
        elif word == "retrying":
            rig.retrying(StoreUnavailable("no descriptors"))
        elif word == "reply" and self.reads:
            rig.say(Kind.REPLY, self.reads.pop(0), ["records", []])

    @precondition(lambda self: self.alive)
    @rule(times=st.sampled_from([1, 2, 5, 40]))
    def take(self, times: int) -> None:
        """Some of what waits goes on the wire. A shell that is told of output, and gets none, would spin."""
        for _ in range(times):
            expected = self.core.has_output
            pieces = [piece for piece in self.core.take() if piece]
            assert expected == bool(pieces or Action.HALF_CLOSE in self.core.actions)
            self.act()
            for frame in [frame for piece in pieces for frame in self.rig.frames.feed(piece)]:
                if frame.kind is Kind.COMMIT:
                    taken = [seq for seq in self.commits if seq <= frame.seq and seq > max([self.acked, *self.sent])]
                    self.sent += taken
                elif frame.kind is Kind.SNAPSHOT:
                    self.in_flight.append(frame.seq)
                assert not self.core.backlog.one_at_a_time or len(self.sent) + len(self.in_flight) <= 1

    # -- misfortune ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.alive)
    @rule(
        what=st.sampled_from(["die", "die", "last words", "hang up", "nonsense", "bad luck", "slow boot", "stop"]),
        status=ENDS,
        verdict=st.sampled_from(["unavailable", "crash", "crash", "sync", "fatal"]),
        timeout=st.sampled_from([0.0, 10.0]),
    )
    def meet(self, what: str, status: Exit, verdict: str, timeout: float) -> None:
        """One rule for all of it: else most lives would end before anything happens in them."""
        if what == "die":
            self.alive = self.hears = False
            self.core.died(status, "", self.rig.now)
            self.rig.frames, self.rig.messages = FrameReader(), Assembler()
            self.sent, self.in_flight = [], []
        elif what == "last words" and self.hears and (self.mature or verdict not in ("fatal", "sync")):
            self.rig.error(verdict, ERRORS[verdict])
        elif what in ("hang up", "nonsense") and self.hears:
            self.hears = False
            if what == "nonsense":
                self.core.broken(ValueError("nonsense"), self.rig.now)
            self.core.pipe_closed(self.rig.now)
        elif what == "bad luck":
            self.launches_fail = 1
        elif what == "slow boot":
            self.boots_slowly = True
        elif what == "stop" and self.mature:
            self.stop_at_launch = timeout

    # -- what holds whatever happens ----------------------------------------------------------------------------------

    @invariant()
    def no_deadline_is_past_for_ever(self) -> None:
        """A shell that waits for `timer` does not spin; and stop() ends, whatever happened."""
        for _ in range(10):
            self.core.handle_timer(self.rig.now)
            if not self.core.actions:
                break
            self.act()
        else:
            raise AssertionError("it asks for something again and again")
        timer = self.core.timer()
        assert self.core.ended or timer is None or timer > self.rig.now
        if self.stop_by is not None and self.rig.now >= self.stop_by:
            assert self.core.ended

    @invariant()
    def nothing_unacknowledged_is_lost(self) -> None:
        backlog = self.core.backlog
        kept = [pending.commit.seq for pending in (*backlog._sent, *backlog._queued)]
        assert kept == [seq for seq in self.commits if seq > backlog.acked_commit]
        assert backlog.acked_commit <= self.acked
        assert backlog.unacked_bytes >= 0

    @invariant()
    def every_state_has_its_evidence(self) -> None:
        told = self.core.history.all()
        assert self.core.evidence
        assert all(transition.evidence for transition in told)
        assert told[-1].state is self.core.state
        if self.core.state in (State.READY, State.LAGGING, State.HUNG, State.WEDGED, State.DYING, State.STOPPED):
            assert self.alive

    @invariant()
    def a_failure_is_for_good_and_everybodys_own(self) -> None:
        first, second = self.core.failure(), self.core.failure()
        assert (first is not None) is self.core.failed
        assert first is None or (first is not second and type(first) is type(second))
        assert self.core.state is not State.FAILED or self.core.failed


AnyReports.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestAnyReports = AnyReports.TestCase
