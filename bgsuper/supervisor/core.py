"""The supervisor's core: what is known of the worker, and what to do about it. Sans-IO; every call takes `now`.

The life of a worker is a table (`life`): each event that the shell reports, or that a deadline brings, either has its
row or is an error that changes nothing. What the core wants done it leaves in `actions`; the shell does it.

Rules:
1. One worker at a time. `Launch` is asked for only when the predecessor is provably dead (`died`). One that does not
   die after SIGKILL is WEDGED: reported, waited for, never replaced.
2. What is un-acknowledged survives every death and is replayed (`Backlog`).
3. A first start that fails is the host's to know at once; later deaths are charged to the restart budget.
4. After a failed sync one fresh worker may try, distrusting the page cache; a second failure within the period is
   `SyncFailed`.
5. A failure is for good. It is kept as a recipe: each caller gets an exception object of its own.
6. stop() is bounded: drain, then SIGKILL, then abandon, on one deadline.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from enum import Enum, auto
from random import Random
from typing import Final, Literal, NoReturn

from ..errors import (
    ConfigError,
    FrameError,
    RestartBudgetSpent,
    ShutdownIncomplete,
    StoreInconsistent,
    WorkerError,
    WorkerStartFailed,
)
from ..ipc.frames import Kind
from ..ipc.messages import Message
from ..ipc.remote import Allowed, RemoteException
from ..key import Key, Seq
from .backlog import Backlog
from .life import LIVE, TRANSITIONS, Event, IllegalTransition, State
from .policy import Limits, RestartBudget, RestartPolicy
from .requests import Request, Requests


class Action(Enum):
    """What the shell is to do."""

    LAUNCH = auto()  #: start a worker, report `launched` or `launch_failed`
    KILL = auto()  #: SIGKILL, through the pidfd
    HALF_CLOSE = auto()  #: everything is on the wire: shut our sending side
    ABANDON = auto()  #: stop watching a worker that will not die


#: What of the remaining time stop() keeps for SIGKILL to work, as a share and in seconds at most.
KILL_SHARE: Final = 0.2
KILL_RESERVE_S: Final = 2.0
#: Less than this is too little for the kernel to end a healthy process.
KILL_LEAST_S: Final = 0.05

#: How long a successor waits that found no space to open the store.
NO_SPACE_RETRY_S: Final = 2.0

#: How many failed writes of snapshots are remembered for whoever still waits for their numbers.
KEPT_FAILURES: Final = 256

Recipe = Callable[[], BaseException]


class Core:
    """The supervisor without its hands. Not thread-safe: the shell's lock guards it."""

    def __init__(self, policy: RestartPolicy, limits: Limits, random: Random, allowed: Allowed) -> None:
        self.policy, self.limits = policy, limits
        self.backlog = Backlog(limits)
        self.requests = Requests(allowed)
        self.allowed = allowed
        self.actions: deque[Action] = deque()
        self.state, self.since, self.evidence = State.IDLE, 0.0, "not started yet"
        self.epoch = 0
        self.atomic = True
        self.restarts = 0
        self.last_death: str | None = None
        self.distrust_cache = False
        #: Errors of snapshots that are not critical: of each key's newest one, and by number for who waits for it.
        self.snapshot_failures: dict[Key, RemoteException] = {}
        self._failed_snapshots: deque[tuple[frozenset[Seq], RemoteException]] = deque(maxlen=KEPT_FAILURES)
        self.syncs: deque[float] = deque(maxlen=1024)  #: seconds that the latest groups took
        self._failure: Recipe | None = None
        self._crashes = RestartBudget(policy, policy.intensity, random)
        self._boot_failures = RestartBudget(policy, policy.start_intensity, random)
        self._failed_syncs: deque[float] = deque()
        self._said_hello = False  #: this worker
        self._killed = False  #: this worker
        self._launches = 0  #: since the last HELLO
        self._no_space = False  #: this worker ended for want of space
        self._ever_said_hello = False  #: any worker of this supervisor
        self._goodbye: RemoteException | None = None  #: why this worker said it ends
        self._hello_by: float | None = None
        self._dead_by: float | None = None
        self._launch_at: float | None = None
        self._frozen_until: float | None = None
        self._stop_by: float | None = None
        self._kill_at: float | None = None
        self._out_of_time = False  #: stop() is past draining
        self._shutdown_sent = False
        self._up_since = 0.0

    # -- the table ----------------------------------------------------------------------------------------------------

    def _go(self, event: Event, now: float, evidence: str) -> None:
        try:
            state = TRANSITIONS[self.state, event]
        except KeyError:
            raise IllegalTransition(f"a worker that is {self.state.name} cannot {event.name} ({evidence})") from None
        if state is not self.state:
            self.state, self.since = state, now
        self.evidence = evidence

    @property
    def ended(self) -> bool:
        """Nothing will happen any more: stopped, or failed with the worker dead or abandoned."""
        return self.state in (State.ENDED, State.FAILED)

    @property
    def greeted(self) -> bool:
        """Whether any worker has said HELLO: from then on commits are taken."""
        return self._ever_said_hello

    @property
    def stopping(self) -> bool:
        return self._stop_by is not None

    @property
    def failed(self) -> bool:
        """Whether it failed for good. `failure()` makes an exception object, which is not for asking."""
        return self._failure is not None

    def snapshot_error(self, seq: Seq) -> RemoteException | None:
        """Why the snapshot with that number, or the newer one that took its place, could not be written, if so."""
        return next((error for settled, error in self._failed_snapshots if seq in settled), None)

    def failure(self) -> BaseException | None:
        """A fresh exception object if the supervisor failed for good."""
        return self._failure() if self._failure is not None else None

    # -- the host's side ----------------------------------------------------------------------------------------------

    def start(self, now: float, timeout: float) -> None:
        """Ask for the first worker; it has `timeout` seconds to say HELLO."""
        self._launch(now, timeout, "launched by start()")

    def _launch(self, now: float, timeout: float, evidence: str) -> None:
        self._go(Event.LAUNCH, now, evidence)
        self._said_hello = self._killed = self._shutdown_sent = self._no_space = False
        self._launches += 1
        self._goodbye = None
        self._hello_by = now + timeout
        self.requests.replay()
        self.actions.append(Action.LAUNCH)

    def commit(self, puts: Mapping[Key, bytes], removes: Collection[Key], now: float) -> Seq:
        if self._failure is not None or self._stop_by is not None or not self._ever_said_hello:
            self._refuse_submission()
        return self.backlog.commit(puts, removes, now)

    def snapshot(self, key: Key, pieces: Iterable[bytes], critical: bool, now: float) -> Seq:
        if self._failure is not None or self._stop_by is not None or not self._ever_said_hello:
            self._refuse_submission()
        return self.backlog.snapshot(key, pieces, critical, now)

    def ask(self, kind: Kind, fields: list[object]) -> Request:
        """Ask the worker; its answer knows every commit submitted so far."""
        if not self._ever_said_hello:
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
        stop_by = now + max(timeout, 2 * KILL_LEAST_S)
        if self.ended or (self._stop_by is not None and stop_by >= self._stop_by):
            return
        kill_at = stop_by - min(KILL_RESERVE_S, max(KILL_LEAST_S, KILL_SHARE * timeout))
        again = self._kill_at is not None
        self._stop_by = stop_by
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)
        if again:
            return
        if self.state is State.IDLE:
            self._go(Event.STOP, now, "stopped before it was started")
        elif self.state in LIVE:
            self._frozen_until = None
            self._go(Event.STOP, now, "draining for stop()")
        elif self.state is State.STARTING and not self._ever_said_hello:
            self._kill(now, "stop() came before the first HELLO")
        elif self.state is State.EXITED and not self.backlog.unacked:
            self._end(now)
        elif self.state is State.EXITED:
            # Its death is charged already; only the back-off is cut short.
            self._launch_at = now
            self._launch_if_due(now)

    # -- what the shell reports ---------------------------------------------------------------------------------------

    def launch_failed(self, error: Exception, now: float) -> None:
        """No process could be made. Later ones may be luckier; a first start tells its host."""
        self.last_death = f"could not be launched: {error}"
        text = f"no worker could be launched: {error}; check memory, descriptors and the Python interpreter"
        if not self._ever_said_hello:
            self._fail(lambda: WorkerStartFailed(text))
            self._go(Event.FAIL, now, self.last_death)
            return
        self._go(Event.DIE, now, self.last_death)
        self._dead_by = None
        self._after_death(now)

    def received(self, message: Message, now: float) -> None:
        """A message came from the worker. What it must not say counts as a broken worker."""
        try:
            self._handle(message, now)
        except FrameError as error:
            self.broken(error, now)

    def _handle(self, message: Message, now: float) -> None:
        if not self._said_hello and message.kind not in (Kind.HELLO, Kind.ERROR):
            raise FrameError(f"{message.kind.name} came before HELLO")
        match message:
            case Message(
                kind=Kind.HELLO, fields=[int() as epoch, int() as last_commit, int() as last_seq, bool() as atomic]
            ):
                self._hello(epoch, Seq(last_commit), Seq(last_seq), atomic, now)
            case Message(kind=Kind.ACK, fields=[float() as seconds, int()]):
                self.backlog.acked(message.seq)
                self.syncs.append(seconds)
                self._progress(now)
            case Message(kind=Kind.SNAPSHOT_ACK):
                key, _ = self.backlog.snapshot_done(message.seq)
                self.snapshot_failures.pop(key, None)
                self._progress(now)
            case Message(kind=Kind.SNAPSHOT_FAILED):
                error = RemoteException.decode(message.fields, allowed=self.allowed)
                key, settled = self.backlog.snapshot_done(message.seq)
                self.snapshot_failures[key] = error
                self._failed_snapshots.append((frozenset(settled), error))
            case Message(kind=Kind.REPLY):
                self.requests.replied(message)
            case Message(kind=Kind.PROGRESS, fields=[str() as phase, int(), int()]):
                if self.state is State.READY:
                    self.evidence = f"its writer is in phase {phase!r:.40}"
            case Message(kind=Kind.RETRYING):
                error = RemoteException.decode(message.fields, allowed=self.allowed)
                if self.state in (State.READY, State.LAGGING, State.DISK_FULL):
                    self._go(Event.NO_SPACE, now, f"the worker retries: {error.summary}")
            case Message(
                kind=Kind.ERROR, fields=[("fatal" | "sync" | "full" | "crash") as verdict, list() as described]
            ):
                self._goodbye_said(verdict, RemoteException.decode(described, allowed=self.allowed), now)
            case _:
                raise FrameError(f"no worker sends {message.kind.name} with fields like {message.fields!r:.120}")

    def _hello(self, epoch: int, last_commit: Seq, last_seq: Seq, atomic: bool, now: float) -> None:
        if self.state is not State.STARTING:
            if self.state in (State.DYING, State.WEDGED):
                return  # it was killed while it said it
            raise FrameError("HELLO came twice")
        if self._ever_said_hello:
            try:
                self._check_successor(epoch)
                self.backlog.replay(last_commit)
            except StoreInconsistent as error:
                text = str(error)
                self._fail(lambda: StoreInconsistent(text))
                self._kill(now, "its HELLO contradicts what was acknowledged")
                return
        else:
            self.backlog.opened(last_commit, last_seq)
        self.epoch, self.atomic = epoch, atomic
        self._said_hello = self._ever_said_hello = True
        self._hello_by = None
        self._launches = 0
        self._up_since = now
        self._go(Event.HELLO, now, f"said HELLO with epoch {epoch}")
        if self.stopping:
            self._go(Event.STOP, now, "draining for stop()")

    def _check_successor(self, epoch: int) -> None:
        if not self.atomic:
            return
        if epoch <= self.epoch:
            raise StoreInconsistent(
                f"the store's epoch went from {self.epoch} to {epoch}: it was replaced by an older copy; restore it"
            )
        # Each of our workers raises it once. A stranger's commits may bear the numbers of our un-acknowledged ones.
        if epoch > self.epoch + self._launches:
            raise StoreInconsistent(
                f"the store's epoch went from {self.epoch} to {epoch} with {self._launches} of our workers: "
                "another program opened it in between; keep one supervisor to a store"
            )

    def _progress(self, now: float) -> None:
        self._crashes.proved_itself(now - self._up_since)
        self._boot_failures.proved_itself(now - self._up_since)
        late = self._late_at()
        if self.state is State.DISK_FULL or (self.state is State.LAGGING and (late is None or late > now)):
            self._go(Event.CATCH_UP, now, "it acknowledges again")

    def _goodbye_said(self, verdict: str, error: RemoteException, now: float) -> None:
        self._goodbye = error
        self.last_death = error.summary
        self._no_space = verdict == "full"
        if verdict == "fatal" or (not self._ever_said_hello and verdict in ("sync", "full")):
            self._fail(error.rebuild)
        elif self._no_space:
            if self.stopping:
                self._fail(error.rebuild)
        elif verdict == "sync":
            while self._failed_syncs and self._failed_syncs[0] <= now - self.policy.period_s:
                self._failed_syncs.popleft()
            if self._failed_syncs:
                self._fail(error.rebuild)
            self._failed_syncs.append(now)
            self.distrust_cache = True
        if self.state not in (State.DYING, State.WEDGED):
            self._expect_death(now, f"it ends: {error.summary}")

    def pipe_closed(self, now: float) -> None:
        """The worker closed the pipe, or takes no more from it: it ends."""
        if self.state in (*LIVE, State.STARTING, State.STOPPING) and not self._shutdown_sent:
            self._expect_death(now, "it closed the pipe")

    def _expect_death(self, now: float, evidence: str) -> None:
        # It ends by itself; if it does not, `handle_timer` kills it.
        self._go(Event.KILL, now, evidence)
        self._hello_by = None
        self._dead_by = now + self.policy.kill_timeout_s

    def broken(self, error: Exception, now: float) -> None:
        """The pipe carried nonsense, or broke while the process lives: nothing it says can be trusted."""
        if self.state in (*LIVE, State.STARTING, State.STOPPING):
            self._kill(now, f"the pipe broke: {error}")

    def died(self, status: str, last_words: str, now: float) -> None:
        """The worker is provably dead, and everything it had sent has been `received`."""
        why = self._goodbye.summary if self._goodbye is not None else status
        if self._killed and self._goodbye is None:
            why = f"killed by us: {self.evidence}"
        self.last_death = f"{why} ({last_words})" if last_words else why
        self._go(Event.DIE, now, self.last_death)
        self._dead_by = self._frozen_until = None
        self._after_death(now)

    def _after_death(self, now: float) -> None:
        """In EXITED: end, fail, or have a successor."""
        if self._failure is None and self.stopping and not self.backlog.unacked:
            self._end(now)
        elif self._failure is None and self._kill_at is not None and (self._out_of_time or now >= self._kill_at):
            self._fail_incomplete("killed")
            self._go(Event.FAIL, now, "stop() ran out of time")
        elif self._failure is None and not self._ever_said_hello:
            self._fail_start(f"the worker died before HELLO: {self.last_death}")
            self._go(Event.FAIL, now, "it did not start")
        elif self._failure is None:
            self._plan_successor(now)
        if self._failure is not None and self.state is State.EXITED:
            self._launch_at = None
            self._go(Event.FAIL, now, self.evidence)

    def _end(self, now: float) -> None:
        self._launch_at = None
        self._go(Event.END, now, "stopped; everything is acknowledged")

    def _plan_successor(self, now: float) -> None:
        if self._no_space:
            self._launch_at = now + NO_SPACE_RETRY_S
            return
        delay = self._crashes.died(now)
        if not self._said_hello and delay is not None:
            boot_delay = self._boot_failures.died(now)
            delay = None if boot_delay is None else max(delay, boot_delay)
        if delay is None:
            text = f"the worker died more often than the restart policy allows; the last time: {self.last_death}"
            self._fail(lambda: RestartBudgetSpent(text))
            return
        self._launch_at = now if self.stopping else now + delay
        self._launch_if_due(now)

    def _launch_if_due(self, now: float) -> None:
        if self._launch_at is not None and now >= self._launch_at:
            self._launch_at = None
            self.restarts += 1
            self._launch(now, self.policy.hello_timeout_s, f"restart {self.restarts}, after: {self.last_death}")

    def vitals(self, status: str, now: float) -> None:
        """psutil's word on the worker's status."""
        frozen = status in ("stopped", "tracing-stop")
        if frozen and self.state in LIVE and self.state is not State.STOPPED:
            self._go(Event.FREEZE, now, f"psutil says {status}")
        if self.state is not State.STOPPED:
            return
        if not frozen:
            self._frozen_until = None
            self._go(Event.THAW, now, f"psutil says {status} again")
        elif status == "tracing-stop":
            # A debugger's stop is never answered with a kill.
            self._frozen_until = None
        elif self._frozen_until is None:
            self._frozen_until = now + self.policy.stopped_grace_s

    # -- time ---------------------------------------------------------------------------------------------------------

    def timer(self) -> float | None:
        """When `handle_timer` must be called next."""
        times = [self._hello_by, self._dead_by, self._launch_at, self._frozen_until]
        if self.state is State.READY:
            times.append(self._late_at())
        if not self.ended:
            times += [None if self._out_of_time else self._kill_at, self._stop_by]
        return min((time for time in times if time is not None), default=None)

    def _late_at(self) -> float | None:
        """When the oldest un-acknowledged commit is, or was, too old. A new worker gets the whole time."""
        oldest = self.backlog.oldest()
        return None if oldest is None else max(oldest, self._up_since) + self.limits.lagging_s

    def slept(self, gap: float) -> None:
        """Host and worker did not run for `gap` seconds (suspended, stopped together): no deadline of the worker's
        counts that time."""
        for name in ("_hello_by", "_dead_by", "_frozen_until"):
            at: float | None = getattr(self, name)
            if at is not None:
                setattr(self, name, at + gap)

    def handle_timer(self, now: float) -> None:
        """Whatever is due by `now`; nothing ever is once it has ended."""
        if self.ended:
            return
        if self._hello_by is not None and now >= self._hello_by:
            self._hello_by = None
            if self.state is State.STARTING:
                if not self._ever_said_hello:
                    self._fail_start("the worker did not say HELLO within the start deadline; is its disk stuck?")
                self._kill(now, "no HELLO within the deadline")
        if self._frozen_until is not None and now >= self._frozen_until:
            self._frozen_until = None
            if self.state is State.STOPPED:
                self._kill(now, f"stopped by a signal for {self.policy.stopped_grace_s:g} s")
        late = self._late_at() if self.state is State.READY else None
        if late is not None and now >= late:
            self._go(Event.LAG, now, f"the oldest un-acknowledged commit is older than {self.limits.lagging_s:g} s")
        self._launch_if_due(now)
        if self._dead_by is not None and now >= self._dead_by:
            self._outlived(now)
        self._enforce_stop(now)

    def _outlived(self, now: float) -> None:
        if not self._killed:
            self._send_kill(now)  # it said it would end, and did not
            return
        self._dead_by = None
        self._go(Event.OUTLIVE, now, f"alive {self.policy.kill_timeout_s:g} s after SIGKILL: stuck in the kernel")

    def _enforce_stop(self, now: float) -> None:
        if self._kill_at is not None and now >= self._kill_at and not self._out_of_time:
            self._out_of_time = True
            if self.state in (*LIVE, State.STARTING, State.STOPPING):
                self._kill(now, "stop() ran out of time")
            elif self.state is State.DYING and not self._killed:
                self._send_kill(now)  # it said that it ends; there is no time left to wait for that
            elif self.state is State.EXITED:
                self._after_death(now)
        if self._stop_by is not None and now >= self._stop_by and self.state in (State.DYING, State.WEDGED):
            self._fail_incomplete("abandoned")
            self._go(Event.FAIL, now, "abandoned: SIGKILL did not end it before stop()'s deadline")
            self.actions.append(Action.ABANDON)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _kill(self, now: float, evidence: str) -> None:
        self._go(Event.KILL, now, evidence)
        self._send_kill(now)

    def _send_kill(self, now: float) -> None:
        self._killed = True
        self._hello_by = None
        self._dead_by = now + self.policy.kill_timeout_s
        self.actions.append(Action.KILL)

    def shell_failed(self, error: BaseException, now: float) -> None:
        """A bug in bgsuper ended the thread that serves this core: nothing more can be done, and nobody may wait."""
        text = f"the supervisor's own thread failed, which is a bug in bgsuper: {error!r}"
        self._fail(lambda: WorkerError(text))
        if not self.ended:
            self._go(Event.COLLAPSE, now, text)

    def _fail(self, recipe: Recipe) -> None:
        if self._failure is None:
            self._failure = recipe

    def _fail_start(self, text: str) -> None:
        self._fail(lambda: WorkerStartFailed(text))

    def _fail_incomplete(self, outcome: Literal["killed", "abandoned"]) -> None:
        unacked = self.backlog.unacked
        text = (
            f"stop() ran out of time: {unacked} commits and snapshots were never acknowledged, the worker was {outcome}"
        )
        self._fail(lambda: ShutdownIncomplete(text, unacked=unacked, outcome=outcome))

    # -- sending ------------------------------------------------------------------------------------------------------

    @property
    def has_output(self) -> bool:
        if not self._said_hello or self.state in (State.DYING, State.WEDGED, State.EXITED):
            return False
        if self._shutdown_sent:
            return False
        return self.stopping or self.backlog.has_output or self.requests.due(None)

    def take(self) -> Iterator[bytes]:
        """The frames to send next."""
        if not self.has_output:
            return iter(())
        if self.requests.due(self.backlog.next_commit):
            return self.requests.take()
        if self.backlog.has_output:
            return self.backlog.take()
        self._shutdown_sent = True
        self.actions.append(Action.HALF_CLOSE)
        return iter(())
