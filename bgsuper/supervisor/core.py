"""The supervisor's core: what is known of the worker, and what to do about it. Sans-IO; every call takes `now`.

The life of a worker is a table (`life`): each event that the shell reports, or that a deadline brings, either has its
row or is an error that changes nothing. What the core wants done it leaves in `actions`; the shell does it.

Rules:
1. One worker at a time. `Launch` is asked for only when the predecessor is provably dead (`died`). One that does not
   die after SIGKILL is WEDGED: reported, waited for, never replaced.
2. What is un-acknowledged survives every death and is replayed (`Backlog`).
3. A first start that fails is the host's to know at once; later deaths are charged to the restart budget, but for
   those that we asked for. Deaths of its own doing make us look for what it dies of (`poison`).
4. After a failed sync one fresh worker may try, distrusting the page cache; a second failure within the period is
   `SyncFailed`.
5. A worker stuck in the disk is never killed for it: that would not free it. One that is hung writes down where, and
   is killed; one that has grown too large finishes what it has, and is replaced (`diagnosis` tells them apart).
6. A failure is for good. It is kept as a recipe: each caller gets an exception object of its own.
7. stop() is bounded: drain, then SIGKILL, then abandon, on one deadline (`stopping`).
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum, auto
from random import Random
from typing import Final, Literal, NoReturn

from ..errors import (
    ConfigError,
    FrameError,
    PoisonCommit,
    RestartBudgetSpent,
    ShutdownIncomplete,
    StoreInconsistent,
    WorkerError,
    WorkerStartFailed,
)
from ..health import Behind, DeathCause, Transition
from ..ipc.frames import Kind
from ..ipc.messages import Message, shape
from ..ipc.remote import Allowed, RemoteException
from ..key import Key, Seq
from .backlog import Backlog
from .children import Exit
from .diagnosis import Doctor, Finding
from .fencing import check_epoch
from .history import History
from .incumbent import Deadlines, Incumbent
from .life import KILLABLE, LIVE, TRANSITIONS, Event, IllegalTransition, State
from .poison import PoisonSearch
from .policy import Limits, RestartPolicy
from .requests import Request, Requests
from .restarts import Restarts
from .snapshot_failures import Recipe, SnapshotFailures
from .stopping import Stop
from .vitals import Vitals


class Action(Enum):
    """What the shell is to do."""

    LAUNCH = auto()  #: start a worker, report `launched` or `launch_failed`
    DUMP = auto()  #: have it write its stacks to its standard error
    KILL = auto()  #: SIGKILL
    HALF_CLOSE = auto()  #: everything is on the wire: shut our sending side
    ABANDON = auto()  #: stop watching a worker that will not die


#: No evidence of ours is longer than this many characters, whatever a worker's exception says.
MOST_WORDS: Final = 1000
#: What is added to the evidence of a HELLO.
BEHIND: Final = "; the store is older than its high-water mark says: recovery mode"
#: What a host may be short of for a while: descriptors, memory, processes.
PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})


class Core:
    """The supervisor without its hands. Not thread-safe: the shell's lock guards it."""

    def __init__(self, policy: RestartPolicy, limits: Limits, random: Random, allowed: Allowed) -> None:
        self.policy, self.limits = policy, limits
        self.backlog = Backlog(limits)
        self.requests = Requests(allowed)
        self.allowed = allowed
        self.actions: deque[Action] = deque()
        self.history = History()
        self.snapshot_failures = SnapshotFailures()
        self.state, self.since, self.evidence = State.IDLE, 0.0, "not started yet"
        self.epoch = 0
        self.atomic = True
        self.batches = True  #: whether it takes commits: a persister takes whole values only
        self.behind: Behind | None = None  #: as HELLO said, until `Supervisor.proven_current`
        self.restarts = 0
        self.last_death: str | None = None
        self.last_cause: DeathCause | None = None
        self.distrust_cache = False
        self.syncs: deque[float] = deque(maxlen=1024)  #: seconds that the latest groups took
        self._failure: Recipe | None = None
        self._failed_for = ""
        self._died_of = ""  #: `last_death` without its last words
        self._restarts = Restarts(policy, random)
        self._poison = PoisonSearch()
        self._worker = Incumbent(Doctor(policy, 0.0), Deadlines())
        self._launches = 0  #: since the last HELLO
        self._ever_greeted = False  #: any worker of this supervisor said HELLO
        self._launch_at: float | None = None
        self._stop = Stop()

    # -- the table ----------------------------------------------------------------------------------------------------

    def _go(self, event: Event, now: float, evidence: str, cause: DeathCause | None = None) -> None:
        try:
            state = TRANSITIONS[self.state, event]
        except KeyError:
            raise IllegalTransition(f"a worker that is {self.state.name} cannot {event.name} ({evidence})") from None
        if state is not self.state:
            self.history.add(Transition(now, self.state, state, evidence, self._worker.pid, cause))
            self.state, self.since = state, now
        self.evidence = evidence

    def _may(self, event: Event) -> bool:
        return (self.state, event) in TRANSITIONS

    @property
    def ended(self) -> bool:
        """Nothing will happen any more: stopped, or failed with the worker dead or abandoned."""
        return self.state in (State.ENDED, State.FAILED)

    @property
    def greeted(self) -> bool:
        """Whether any worker has said HELLO: from then on commits are taken."""
        return self._ever_greeted

    @property
    def stopping(self) -> bool:
        return self._stop.asked

    @property
    def failed(self) -> bool:
        """Whether it failed for good. `failure()` makes an exception object, which is not for asking."""
        return self._failure is not None

    @property
    def lane(self) -> int | None:
        """The native id of the worker's snapshot thread, once it has one."""
        return self._worker.lane

    def failure(self) -> BaseException | None:
        """A fresh exception object if the supervisor failed for good."""
        return self._failure() if self._failure is not None else None

    # -- the host's side ----------------------------------------------------------------------------------------------

    def start(self, now: float, timeout: float) -> None:
        """Ask for the first worker; it has `timeout` seconds to say HELLO."""
        self._launch(now, timeout, "launched by start()")

    def _launch(self, now: float, timeout: float, evidence: str) -> None:
        self._go(Event.LAUNCH, now, evidence)
        self._worker = Incumbent(Doctor(self.policy, now), Deadlines(hello_by=now + timeout))
        self._launches += 1
        self.requests.replay()
        self.actions.append(Action.LAUNCH)

    def commit(self, puts: Mapping[Key, bytes], removes: Collection[Key], now: float) -> Seq:
        if self._failure is not None or self._stop.stop_by is not None or not self._ever_greeted:
            self._refuse_submission()
        return self.backlog.commit(puts, removes, now)

    def snapshot(self, key: Key, pieces: Iterable[bytes], critical: bool, now: float) -> Seq:
        if self._failure is not None or self._stop.stop_by is not None or not self._ever_greeted:
            self._refuse_submission()
        return self.backlog.snapshot(key, pieces, critical, now)

    def ask(self, kind: Kind, fields: list[object]) -> Request:
        """Ask the worker; its answer knows every commit submitted so far."""
        if not self._ever_greeted:
            raise ConfigError("the supervisor is not running: read between start() and stop()")
        return self.requests.ask(kind, fields, self.backlog.submitted)

    def _refuse_submission(self) -> NoReturn:
        if self._failure is not None:
            raise self._failure()
        raise ConfigError("the supervisor is not running: submit between start() and stop()")

    def stop(self, now: float, timeout: float) -> None:
        """Take nothing more, make all that was submitted durable, end the worker; by `now + timeout` at the latest.

        Called again, it can only tighten the deadline.
        """
        if self.ended or not self._stop.ask(now, timeout):
            return
        if self.state is State.IDLE:
            self._go(Event.STOP, now, "stopped before it was started")
        elif self.state in LIVE:
            self._go(Event.STOP, now, "draining for stop()")
        elif self.state is State.STARTING and not self._ever_greeted:
            self._kill(now, "stop() came before the first HELLO")
        elif self.state is State.EXITED and not self.backlog.unacked:
            self._end(now)
        elif self.state is State.EXITED:
            # Its death is charged already; only the back-off is cut short.
            self._launch_at = now
            self._launch_if_due(now)

    # -- what the shell reports: the worker's words -------------------------------------------------------------------

    def launched(self, pid: int) -> None:
        self._worker.pid = pid

    def launch_failed(self, error: Exception, now: float) -> None:
        """No process could be made. Later ones may be luckier; a first start tells its host."""
        self._launches -= 1  # nobody opened the store, so its epoch may not have risen for that
        self.last_death, self.last_cause = f"could not be launched: {error}", DeathCause.BOOT
        text = f"no worker could be launched: {error}; check memory, descriptors and the Python interpreter"
        if not self._ever_greeted:
            self._fail(lambda: WorkerStartFailed(text), text)
            self._go(Event.FAIL, now, self.last_death)
            return
        if isinstance(error, OSError) and error.errno in PASSING:
            self.last_cause = DeathCause.UNAVAILABLE
        self._go(Event.DIE, now, self.last_death, self.last_cause)
        self._worker.due.dead_by = None
        self._after_death(now)

    def received(self, message: Message, now: float) -> None:
        """A message came from the worker. What it must not say counts as a broken worker, and nothing after it is
        believed."""
        if self._worker.garbled:
            return
        try:
            self._handle(message, now)
        except FrameError as error:
            self.broken(error, now)

    def _handle(self, message: Message, now: float) -> None:
        if self._worker.greeted_at is None and message.kind not in (Kind.HELLO, Kind.ERROR):
            raise FrameError(f"{message.kind.name} came before HELLO")
        match message:
            case Message(
                kind=Kind.HELLO,
                fields=[
                    int() as epoch,
                    int() as last_commit,
                    int() as last_seq,
                    (bool() | None) as atomic,  # None: a persister, which takes no batches
                    (None | [int(), int()]) as behind,
                ],
            ):
                found = Behind(*map(Seq, behind)) if behind is not None else None
                self._hello(epoch, Seq(last_commit), Seq(last_seq), atomic, found, now)
            case Message(kind=Kind.ACK, fields=[float() as seconds, int()]):
                self.backlog.acked(message.seq)
                self.syncs.append(seconds)
                self._progress(now)
            case Message(kind=Kind.SNAPSHOT_ACK):
                key, _ = self.backlog.snapshot_done(message.seq)
                self.snapshot_failures.forget(key)
                self._progress(now)
            case Message(kind=Kind.SNAPSHOT_FAILED):
                error = RemoteException.decode(message.fields, allowed=self.allowed)
                self.snapshot_failures.add(*self.backlog.snapshot_done(message.seq), error.rebuild)
                self._settled(now)
            case Message(kind=Kind.REPLY):
                self.requests.replied(message)
                self._got_on(now, "it answers")
            case Message(kind=Kind.PROGRESS, fields=[str() as phase, int() as done, int(), int() as lane]):
                self._heartbeat(phase, done, lane, now)
            case Message(kind=Kind.RETRYING):
                self._retrying(RemoteException.decode(message.fields, allowed=self.allowed), now)
            case Message(
                kind=Kind.ERROR, fields=[("fatal" | "sync" | "unavailable" | "crash") as verdict, list() as described]
            ):
                self._goodbye_said(verdict, RemoteException.decode(described, allowed=self.allowed), now)
            case _:
                raise FrameError(f"no worker sends {message.kind.name} with {shape(message.fields)} as fields")

    def _hello(
        self, epoch: int, last_commit: Seq, last_seq: Seq, atomic: bool | None, behind: Behind | None, now: float
    ) -> None:
        if self.state is not State.STARTING:
            if self.state in (State.DYING, State.WEDGED):
                return  # it was killed while it said it
            raise FrameError("HELLO came twice")
        if self._ever_greeted:
            try:
                if self.batches:
                    check_epoch(epoch, self.epoch, self._launches)
                self.backlog.replay(last_commit)
            except StoreInconsistent as error:
                text = str(error)
                self._fail(lambda: StoreInconsistent(text), text)
                self._kill(now, "its HELLO contradicts what was acknowledged")
                return
        else:
            self.backlog.opened(last_commit, last_seq)
        self.epoch, self.atomic, self.batches = epoch, bool(atomic), atomic is not None
        # Nothing but a proof ends it, least of all a successor that could not read the mark.
        self.behind = behind or self.behind
        self._ever_greeted = True
        self._worker.greeted_at, self._worker.due.hello_by = now, None
        self._worker.doctor.got_on(now)
        self._launches = 0
        self._go(Event.HELLO, now, f"said HELLO with epoch {epoch}{BEHIND if self.behind else ''}")
        if self.stopping:
            self._go(Event.STOP, now, "draining for stop()")

    def _progress(self, now: float) -> None:
        """Something that was submitted is durable."""
        assert self._worker.greeted_at is not None
        if self._restarts.proved_itself(now - self._worker.greeted_at):
            self._poison.acquit()
        self._settled(now)

    def _settled(self, now: float) -> None:
        """Something that was submitted needs nothing more: it is durable, or it failed and that was told."""
        if self._poison.on and self.backlog.settled(self._poison.until):
            self._poison.acquit()
        self.backlog.one_at_a_time = self._poison.on
        self._got_on(now, "it acknowledges again")

    def _heartbeat(self, phase: str, done: int, lane: int, now: float) -> None:
        self._worker.lane = lane or None
        moved = self._worker.doctor.heartbeat(phase, done, now)
        # It may speak of what was done before the disk stalled, or filled up: that is no news.
        if moved and self.state not in (State.DISK_STALLED, State.DISK_FULL, State.RETRYING):
            self._got_on(now, f"it gets on: its writer is in phase {phase!r:.40}")
        elif self.state is State.READY:
            self.evidence = f"its writer is in phase {phase!r:.40}"

    def _got_on(self, now: float, evidence: str) -> None:
        """It did something: whatever it was suspected of, it is not."""
        self._worker.doctor.got_on(now)
        self._worker.due.dumped_by = None
        if self.state is State.STOPPED:
            self._worker.due.frozen_until = None
            self._go(Event.THAW, now, evidence)
        if not self._may(Event.CATCH_UP):
            return
        late = self._late_at()
        if self.state is not State.LAGGING or late is None or late > now:
            self._go(Event.CATCH_UP, now, evidence)

    def _retrying(self, error: RemoteException, now: float) -> None:
        self._worker.doctor.got_on(now)
        self._worker.due.dumped_by = None
        event = Event.NO_SPACE if error.type_name == "bgsuper.errors.StoreFull" else Event.RETRY
        if self._may(event):
            self._go(event, now, f"the worker retries: {error.summary}")

    def _goodbye_said(self, verdict: str, error: RemoteException, now: float) -> None:
        self._worker.verdict, self._worker.goodbye = verdict, error
        self.last_death = error.summary
        if verdict == "fatal" or (not self._ever_greeted and verdict in ("sync", "unavailable")):
            self._fail(error.rebuild, error.summary)
        elif verdict == "unavailable":
            if self.stopping:
                self._fail(error.rebuild, error.summary)
        elif verdict == "sync":
            if self._restarts.sync_failed(now):
                self._fail(error.rebuild, error.summary)
            self.distrust_cache = True
        if self.state not in (State.DYING, State.WEDGED):
            self._expect_death(now, f"it ends: {error.summary}")

    def pipe_closed(self, now: float) -> None:
        """The worker closed the pipe, or takes no more from it: it ends."""
        if self.state in KILLABLE and not self._worker.shutdown_sent:
            self._expect_death(now, "it closed the pipe")

    def _expect_death(self, now: float, evidence: str) -> None:
        # It ends by itself; if it does not, `handle_timer` kills it.
        self._go(Event.KILL, now, evidence)
        self._worker.due.hello_by = None
        self._worker.due.dead_by = now + self.policy.kill_timeout_s

    def broken(self, error: Exception, now: float) -> None:
        """The pipe carried nonsense, or broke while the process lives: nothing it says can be trusted."""
        if self.state in KILLABLE:
            self._worker.garbled = self._worker.own_doing = True
            self._kill(now, f"the pipe broke: {error}")

    def transferred(self, now: float) -> None:
        """A part of something large went through the pipe."""
        self._worker.doctor.got_on(now)

    # -- what the shell reports: how it looks from outside ------------------------------------------------------------

    def looked(self, vitals: Vitals, now: float) -> None:
        """A look at the living worker. What is in the table happens; what is not (it starts, it drains) is told."""
        worker = self._worker
        work_waits = self.backlog.unacked > 0 or self.requests.pending
        diagnosis = worker.doctor.look(vitals, now, work_waits=work_waits)
        if diagnosis is None:
            return
        finding, evidence = diagnosis
        if finding is not Finding.STOPPED:
            # A debugger's stop is never answered with a kill.
            worker.due.frozen_until = None
        if finding is not Finding.HUNG:
            worker.due.dumped_by = None
        if self._thawed(finding):
            self._go(Event.THAW, now, evidence)
        elif self.state is State.HUNG and finding is not Finding.HUNG:
            self._go(Event.CATCH_UP, now, evidence)
        match finding:
            case Finding.STOPPED | Finding.TRACED:
                if self._may(Event.FREEZE):
                    self._go(Event.FREEZE, now, evidence)
                frozen = finding is Finding.STOPPED and self.state in (State.STOPPED, State.STOPPING)
                if frozen and worker.due.frozen_until is None:
                    worker.due.frozen_until = now + self.policy.stopped_grace_s
            case Finding.STALLED if self._may(Event.STALL):
                self._go(Event.STALL, now, evidence)
            case Finding.HUNG if worker.greeted_at is not None and worker.due.dumped_by is None:
                self._hung(now, evidence)
            case Finding.OVER_HARD if self.state in KILLABLE:
                if self._may(Event.BLOAT):
                    self._go(Event.BLOAT, now, evidence)
                worker.own_doing = True
                self._kill(now, evidence)
            case Finding.OVER_SOFT if self._may(Event.BLOAT) and self._restarts.may_recycle(now):
                self._go(Event.BLOAT, now, f"{evidence}; it finishes what it has, and is replaced")
                worker.recycled = True
                worker.due.finished_by = now + self.policy.recycle_timeout_s
        if self.state is State.WEDGED:
            self.evidence = f"SIGKILL is pending and it lives: {evidence}"
        elif self.state in (State.STARTING, State.STOPPING, State.BLOATED) and finding not in (
            Finding.FINE,
            Finding.OVER_SOFT,
        ):
            self.evidence = evidence

    def _thawed(self, finding: Finding) -> bool:
        if self.state is State.STOPPED:
            return finding not in (Finding.STOPPED, Finding.TRACED)
        return self.state is State.DISK_STALLED and not self._worker.doctor.maybe_stalled

    def _hung(self, now: float, evidence: str) -> None:
        """It writes down where it hangs; then it is killed, unless it gets on meanwhile."""
        if self._may(Event.HANG):
            self._go(Event.HANG, now, evidence)
        elif self.state is State.STOPPING:
            self.evidence = evidence
        else:
            return
        self._worker.due.dumped_by = now + self.policy.dump_s
        self.actions.append(Action.DUMP)

    # -- death --------------------------------------------------------------------------------------------------------

    def died(self, status: Exit, last_words: str, now: float) -> None:
        """The worker is provably dead, and everything it had sent has been `received`."""
        worker = self._worker
        self.last_cause = cause = worker.cause_of_death(status, finished=not self.backlog.in_hand)
        why = worker.goodbye.summary if worker.goodbye is not None else str(status)
        if cause is DeathCause.KILLED:
            why = f"killed by us: {worker.killed_for}"
        self._died_of = why[:MOST_WORDS]
        self.last_death = f"{why} ({last_words})" if last_words else why
        self._go(Event.DIE, now, why, cause)
        worker.due, worker.pid = Deadlines(), None
        if worker.greeted_at is not None and (worker.own_doing or cause is DeathCause.CRASHED):
            self._search_poison()
        self._after_death(now)

    def _search_poison(self) -> None:
        alone = None if self.requests.in_hand else self.backlog.alone()
        culprit = self._poison.died(self.backlog.submitted, alone)
        if culprit is not None:
            text = (
                f"{self.backlog.describe(culprit)} ended every worker that had it alone: {self.last_death}; what came "
                "before it is durable; keep the store as it is, and find out what that record does to the persister"
            )
            recipe: Recipe = lambda: PoisonCommit(text, seq=culprit)  # noqa: E731 - a lambda says that it is called later
            dropped = self.backlog.drop_snapshot(culprit)
            if dropped is None:
                self._fail(recipe, text)
            else:
                self.snapshot_failures.add(*dropped, recipe)
                self._poison.acquit()
        self.backlog.one_at_a_time = self._poison.on

    def _after_death(self, now: float) -> None:
        """In EXITED: end, fail, or have a successor."""
        if self._failure is None and self.stopping and not self.backlog.unacked:
            self._end(now)
        elif self._failure is None and self._stop.drained(now):
            self._fail_incomplete("killed")
            self._go(Event.FAIL, now, "stop() ran out of time")
        elif self._failure is None and not self._ever_greeted:
            self._fail_start(f"the worker died before HELLO: {self.last_death}")
            self._go(Event.FAIL, now, "it did not start")
        elif self._failure is None:
            self._plan_successor(now)
        if self._failure is not None and self.state is State.EXITED:
            self._launch_at = None
            self._go(Event.FAIL, now, self._failed_for)

    def _end(self, now: float) -> None:
        self._launch_at = None
        self._go(Event.END, now, "stopped; everything is acknowledged")

    def _plan_successor(self, now: float) -> None:
        assert self.last_cause is not None
        delay = self._restarts.delay(self.last_cause, now, greeted=self._worker.greeted_at is not None)
        if delay is None:
            text = f"the worker died more often than the restart policy allows; the last time: {self.last_death}"
            self._fail(lambda: RestartBudgetSpent(text), text)
            return
        # stop() waits for no back-off, but what is out of reach needs time to come back.
        self._launch_at = now + (0.0 if self.stopping and self.last_cause is not DeathCause.UNAVAILABLE else delay)
        self._launch_if_due(now)

    def _launch_if_due(self, now: float) -> None:
        if self._launch_at is not None and now >= self._launch_at:
            self._launch_at = None
            self.restarts += 1
            # A store that takes long to open is not opened sooner by being killed for it.
            timeout = self.policy.hello_timeout_s * 2.0 ** min(self._launches, 5)
            self._launch(now, timeout, f"restart {self.restarts}, after: {self._died_of}")

    # -- time ---------------------------------------------------------------------------------------------------------

    def timer(self) -> float | None:
        """When `handle_timer` must be called next."""
        times = [*self._worker.due.all(), self._launch_at]
        if self.state is State.READY:
            times.append(self._late_at())
        if not self.ended:
            times += self._stop.timers()
        return min((time for time in times if time is not None), default=None)

    def _late_at(self) -> float | None:
        """When the oldest un-acknowledged commit is, or was, too old. A new worker gets the whole time."""
        oldest = self.backlog.oldest()
        if oldest is None or self._worker.greeted_at is None:
            return None
        return max(oldest, self._worker.greeted_at) + self.limits.lagging_s

    def slept(self, gap: float) -> None:
        """Host and worker did not run for `gap` seconds (suspended, stopped together): no deadline of the worker's
        counts that time."""
        self._worker.due.postpone(gap)

    def handle_timer(self, now: float) -> None:
        """Whatever is due by `now`; nothing ever is once it has ended."""
        if self.ended:
            return
        due = self._worker.due
        # What a debugger or the disk holds cannot finish, and a kill would not free it.
        excused = self._worker.doctor.held if self._ever_greeted else self._worker.doctor.traced
        if excused and due.hello_by is not None:
            due.hello_by = max(due.hello_by, now + self.policy.vitals_interval_s)
        if self._worker.doctor.held and due.finished_by is not None:
            due.finished_by = max(due.finished_by, now + self.policy.vitals_interval_s)
        if due.hello_by is not None and now >= due.hello_by:
            due.hello_by = None
            if self.state is State.STARTING:
                if not self._ever_greeted:
                    self._fail_start(
                        f"the worker did not say HELLO within the start deadline{self._seen()}; is its disk stuck?"
                    )
                self._kill(now, "no HELLO within the deadline")
        if due.frozen_until is not None and now >= due.frozen_until:
            due.frozen_until = None
            if self.state in (State.STOPPED, State.STOPPING):
                self._kill(now, f"stopped by a signal for {self.policy.stopped_grace_s:g} s")
        if due.dumped_by is not None and now >= due.dumped_by:
            due.dumped_by = None
            if self.state in (State.HUNG, State.STOPPING):
                # One that waits may wait for a storage that is out of reach, and that is nobody's poison.
                self._worker.own_doing = self._worker.doctor.spins
                self._kill(now, self.evidence)
        if due.finished_by is not None and now >= due.finished_by:
            due.finished_by = None
            if self.state in (State.BLOATED, State.STOPPING):
                self._kill(now, f"too large, and not finished after {self.policy.recycle_timeout_s:g} s")
        late = self._late_at() if self.state is State.READY else None
        if late is not None and now >= late:
            self._go(Event.LAG, now, f"the oldest un-acknowledged commit is older than {self.limits.lagging_s:g} s")
        if self._worker.due.dead_by is not None and now >= self._worker.due.dead_by:
            self._outlived(now)
        self._enforce_stop(now)
        if not self.ended:
            self._launch_if_due(now)

    def _seen(self) -> str:
        latest = self._worker.doctor.latest
        return "" if latest is None else f": {latest.evidence}"

    def _outlived(self, now: float) -> None:
        if self._worker.killed_for is None:
            self._send_kill(now, "it said that it ends, and did not")
            return
        self._worker.due.dead_by = None
        self._go(Event.OUTLIVE, now, f"alive {self.policy.kill_timeout_s:g} s after SIGKILL: stuck in the kernel")

    def _enforce_stop(self, now: float) -> None:
        if self._stop.runs_out(now):
            if self.state in KILLABLE:
                self._kill(now, "stop() ran out of time")
            elif self.state is State.DYING and self._worker.killed_for is None:
                self._send_kill(now, "it said that it ends, and stop() cannot wait for that")
            elif self.state is State.EXITED:
                self._after_death(now)
        if self._stop.over(now) and self.state in (State.DYING, State.WEDGED):
            self._fail_incomplete("abandoned")
            self._go(Event.FAIL, now, "abandoned: SIGKILL did not end it before stop()'s deadline")
            self.actions.append(Action.ABANDON)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _kill(self, now: float, evidence: str) -> None:
        self._go(Event.KILL, now, evidence)
        self._send_kill(now, evidence)

    def _send_kill(self, now: float, why: str) -> None:
        self._worker.killed_for = why
        self._worker.due.hello_by = None
        self._worker.due.dead_by = now + self.policy.kill_timeout_s
        self.actions.append(Action.KILL)

    def shell_failed(self, error: BaseException, now: float) -> None:
        """A bug in bgsuper ended the thread that serves this core: nothing more can be done, and nobody may wait."""
        text = f"the supervisor's own thread failed, which is a bug in bgsuper: {error!r}"
        self._fail(lambda: WorkerError(text), text)
        if not self.ended:
            self._go(Event.COLLAPSE, now, text)

    def _fail(self, recipe: Recipe, why: str) -> None:
        """`why` in words: making the exception may run a user's code, which is not for a thread that holds the lock."""
        if self._failure is None:
            self._failure, self._failed_for = recipe, why[:MOST_WORDS]

    def _fail_start(self, text: str) -> None:
        self._fail(lambda: WorkerStartFailed(text), text)

    def _fail_incomplete(self, outcome: Literal["killed", "abandoned"]) -> None:
        unacked = self.backlog.unacked
        text = (
            f"stop() ran out of time: {unacked} commits and snapshots were never acknowledged, the worker was {outcome}"
        )
        self._fail(lambda: ShutdownIncomplete(text, unacked=unacked, outcome=outcome), text)

    # -- sending ------------------------------------------------------------------------------------------------------

    @property
    def has_output(self) -> bool:
        worker = self._worker
        if worker.greeted_at is None or worker.shutdown_sent or self.state not in KILLABLE:
            return False
        if worker.recycled or self._read_is_next or self._backup_is_next or self._backlog_is_next:
            return True
        return self.stopping and not self.backlog.unsent

    @property
    def _read_is_next(self) -> bool:
        held_back = self.backlog.one_at_a_time and self.backlog.in_hand
        return self.requests.due(self.backlog.next_commit) and not held_back

    @property
    def _backup_is_next(self) -> bool:
        held_back = self.backlog.one_at_a_time and self.backlog.unacked > 0
        return self.requests.backup_due(self.backlog.next_commit) and not held_back

    @property
    def _backlog_is_next(self) -> bool:
        held_back = self.backlog.one_at_a_time and self.requests.being_read
        return self.backlog.has_output and not held_back

    def take(self) -> Iterator[bytes]:
        """The frames to send next."""
        if not self.has_output:
            return iter(())
        if not self._worker.recycled:
            if self._read_is_next:
                return self.requests.take()
            if self._backup_is_next:
                return self.requests.take_backup()
            if self._backlog_is_next:
                return self.backlog.take()
        elif self.backlog.half_sent:
            return self.backlog.take_rest()
        self._worker.shutdown_sent = True
        self.actions.append(Action.HALF_CLOSE)
        return iter(())
