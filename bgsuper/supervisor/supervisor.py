"""`Supervisor`: the worker, seen from a host app. Any stateful host can use it; it knows nothing of Lightning.

    with Supervisor("sqlite:state") as supervisor:
        seq = supervisor.commit({Key("app", "", "counter"): b"1"})
        supervisor.wait(seq)                      # or: await supervisor.durable(seq)

`commit` and `snapshot` cost microseconds and never wait for a disk. A thread face (`wait`, `stop`) and an asyncio face
(`durable`, `drain`, `astop`) stand over the same core; all methods may be called from any thread.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from random import Random
from threading import Condition, current_thread
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from ..errors import ConfigError, NotFound, ShutdownIncomplete, WorkerError, WorkerStartFailed
from ..health import Behind, Health, Transition, WorkerState
from ..ipc.config import WorkerConfig
from ..ipc.frames import Kind
from ..ipc.remote import RemoteException
from ..key import Key, Seq, check_key, check_namespace
from .core import Core
from .launch import Launcher, launch
from .policy import Limits, RestartPolicy
from .requests import BackupReport, Found
from .shell import Shell, on_the_wall
from .target import PersisterRef, allowed_exceptions

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

log = logging.getLogger("bgsuper.supervisor")

#: Logged at each start in recovery mode: the store's newest commit when it was found, and the mark.
OLD_BACKUP: Final = (
    "recovery mode: the store was found to end at number %d, but number %d had been acknowledged: it is an old backup, "
    "or a disk lost what it had synced. If you have the newer store, stop now, and put that back. If not, let nothing "
    "of your own leave that only a current state may send, a commitment transaction above all, until every peer has "
    "proved the store current; then call Supervisor.proven_current()"
)
#: What stop() may take beyond its timeout for the thread to wind up; past it a launch hangs in the kernel.
WIND_UP_S: Final = 1.0
#: What start() waits beyond its timeout, so that the core's own deadline, which says more, comes first.
LAUNCH_S: Final = 6.0
#: The timeout of stop() for supervisors that the host left running at its own exit.
EXIT_TIMEOUT_S: Final = 10.0


class Supervisor:
    """Hands state to a worker process that makes it durable.

    `target` is a store URL (``sqlite:///absolute/directory``, ``sqlite:relative/directory``) or a `PersisterRef`.
    Nothing happens before `start()`.
    """

    def __init__(
        self,
        target: str | PersisterRef,
        *,
        restart: RestartPolicy = RestartPolicy(),  # noqa: B008 - frozen
        limits: Limits = Limits(),  # noqa: B008 - frozen
        launcher: Launcher = launch,
    ) -> None:
        if not isinstance(target, str | PersisterRef):
            raise ConfigError(f"expected a store URL or a PersisterRef, got {type(target).__name__}")
        self.target = target
        self._start_timeout = 0.0
        self._core = Core(restart, limits, Random(), allowed_exceptions(target))
        self._shell = Shell(self._core, launcher, self._make_config)

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self, timeout: float = 30.0) -> Seq:
        """Launch the worker, wait for its HELLO, return the newest durable number of the store.

        Raises the store's own error (`StoreLocked`, `StoreCorrupt`, `ConfigError` for a bad URL, ...) or
        `WorkerStartFailed`.
        """
        self._refuse_fork()
        with self._lock:
            if self._core.state is not WorkerState.IDLE:
                raise ConfigError("a Supervisor is started once: make another one")
            self._start_timeout = timeout
            # The thread waits for the lock; whatever it cannot have is raised here, and nothing has begun.
            try:
                self._shell.start()
            except (OSError, RuntimeError) as error:
                raise WorkerStartFailed(
                    f"no worker could be launched: {error}; check memory, descriptors and the limit of processes"
                ) from error
            self._core.start(time.monotonic(), timeout)
            _running.add(self)
            try:
                # The core's own deadlines end this wait; the extra time is for a launch that hangs in the kernel.
                self._lock.wait_for(lambda: self._core.greeted or self._core.ended, timeout + LAUNCH_S)
            except BaseException:
                self._abort()
                raise
            failure = self._core.failure()
            if failure is None and not self._core.greeted:
                why = "stop() was called" if self._core.stopping else "its launch outlasts the start deadline"
                failure = WorkerStartFailed(f"the worker did not start: {why}")
            durable, behind = self._core.backlog.submitted, self._core.behind
        if failure is not None:
            self._shell.thread.join(self._core.policy.kill_timeout_s)
            if self._core.ended:
                _running.discard(self)
            raise failure
        if behind is not None:
            log.critical(OLD_BACKUP, behind.store, behind.mark)
        return durable

    def _abort(self) -> None:
        """start() was interrupted: nobody knows that there is something to stop, so it ends by itself."""
        self._core.stop(time.monotonic(), EXIT_TIMEOUT_S)
        self._shell.wake()

    def stop(self, timeout: float = 30.0) -> None:
        """Take nothing more, wait until all that was submitted is durable, end the worker. May be called again.

        Not for a signal handler, which may interrupt `commit()` in this thread: set an event there, and stop outside.
        Raises `ShutdownIncomplete` if that took longer than `timeout` seconds, and the failure if the supervisor had
        failed.
        """
        self._refuse_fork()
        self._refuse_own_thread()
        with self._lock:
            self._core.stop(time.monotonic(), timeout)
            started = self._shell.thread.ident is not None
            self._shell.wake()
        if started:
            self._shell.thread.join(timeout + WIND_UP_S)
        _running.discard(self)
        with self._lock:
            failure = self._core.failure()
            if failure is None and not self._core.ended:
                unacked = self._core.backlog.unacked
                failure = ShutdownIncomplete(
                    f"stop() ran out of time while the supervisor was launching a worker, or served another stop(); "
                    f"{unacked} commits and snapshots are not acknowledged",
                    unacked=unacked,
                    outcome="abandoned",
                )
        if failure is not None:
            raise failure

    async def astop(self, timeout: float = 30.0) -> None:
        """`stop()` for asyncio. Cancelling it cancels the waiting, not the stop."""
        import asyncio

        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self.stop, timeout))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self.stop()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"and the supervisor's stop() failed: {failure}")

    async def __aenter__(self) -> Self:
        import asyncio

        try:
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self.start))
        except asyncio.CancelledError:
            with self._lock:
                self._abort()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            await self.astop()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"and the supervisor's stop() failed: {failure}")

    # -- writing ------------------------------------------------------------------------------------------------------

    def commit(self, puts: Mapping[Key, bytes], removes: Collection[Key] = ()) -> Seq:
        """Submit one atomic batch; returns its number at once, before it is durable.

        Raises `Backlogged` (never while `writable`), `ConfigError` for a bad key or a supervisor that is not running,
        and the failure once the supervisor failed for good.
        """
        if not self._core.batches:
            raise ConfigError("a persister has no atomic batches: use snapshot(), or a store URL")
        shell = self._shell
        if shell.forked:
            self._refuse_fork()
        # The condition's own lock: a submit happens with cold caches, where each call of Python's costs a microsecond.
        with shell.mutex:
            seq = self._core.commit(puts, removes, time.monotonic())
            shell.wake()
        return seq

    def snapshot(self, key: Key, pieces: Iterable[bytes], *, critical: bool = False) -> Seq:
        """Submit a whole value, given as pieces; a newer one of the same key replaces it while it waits.

        If it is `critical`, what comes after it counts as durable only with it or a newer one. Raises as `commit`.
        """
        self._refuse_fork()
        kept = tuple(pieces)  # outside the lock: the caller's iterator may be slow
        with self._lock:
            seq = self._core.snapshot(key, kept, critical, time.monotonic())
            self._shell.wake()
        return seq

    @property
    def writable(self) -> bool:
        """Whether what is un-acknowledged is below the soft limit."""
        return self._core.backlog.writable

    async def drain(self) -> None:
        """Wait until `writable`. Raises the failure if there is one."""
        self._refuse_fork()
        await self._asleep(lambda waiter: self._shell.waiters.add_drain(waiter), lambda: self._core.backlog.writable)

    # -- durability ---------------------------------------------------------------------------------------------------

    @property
    def durable_seq(self) -> Seq:
        """All commits and critical snapshots up to this number are durable."""
        self._refuse_fork()
        with self._lock:
            return self._core.backlog.durable

    def wait(self, seq: Seq, timeout: float | None = None) -> None:
        """Block until `seq` is durable. Raises `TimeoutError`, the failure, or the error of that very snapshot."""
        self._refuse_fork()
        if timeout != 0:
            self._refuse_own_thread()
        with self._lock:
            self._check_seq(seq)
            if not self._lock.wait_for(lambda: self._settled(seq), timeout):
                raise TimeoutError(f"{seq} was not durable within {timeout} s")
            self._raise_unless_durable(seq)

    async def durable(self, seq: Seq) -> None:
        """Wait until `seq` is durable. Raises as `wait`; cancelling it harms nothing."""
        self._refuse_fork()
        with self._lock:
            self._check_seq(seq)
        await self._asleep(
            lambda waiter: self._shell.waiters.add_durable(seq, waiter), lambda: self._core.backlog.is_durable(seq)
        )
        with self._lock:
            self._raise_unless_durable(seq)

    def snapshot_failure(self, key: Key) -> BaseException | None:
        """Why the newest snapshot of `key` that was not critical could not be written, if it could not."""
        self._refuse_fork()
        with self._lock:
            error = self._core.snapshot_failures.of(key)
        return error() if error is not None else None

    def failure(self) -> BaseException | None:
        """A fresh exception object if the supervisor failed for good."""
        self._refuse_fork()
        with self._lock:
            return self._core.failure()

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called on the supervisor's thread after acknowledgements, failures and changes of state.

        It must not block. Returns what ends the subscription.
        """
        self._refuse_fork()
        return self._shell.subscribe(callback)

    def _check_seq(self, seq: Seq) -> None:
        if not 0 <= seq <= self._core.backlog.submitted:
            raise ConfigError(f"{seq} was never given out; the newest number is {self._core.backlog.submitted}")

    def _settled(self, seq: Seq) -> bool:
        return self._core.backlog.is_durable(seq) or self._core.ended or self._core.failed

    def _raise_unless_durable(self, seq: Seq) -> None:
        failed = self._core.snapshot_failures.at(seq)
        if failed is not None:
            raise failed()
        if not self._core.backlog.is_durable(seq):
            raise self._core.failure() or WorkerError(f"the supervisor ended before {seq} was durable")

    async def _asleep(
        self, add: Callable[[tuple[AbstractEventLoop, Future[None]]], None], ready: Callable[[], bool]
    ) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        with self._lock:
            if ready():
                return
            failure = self._core.failure()
            if failure is not None:
                raise failure
            future: Future[None] = loop.create_future()
            add((loop, future))
        try:
            await future
        except BaseException:
            with self._lock:
                self._shell.waiters.forget(future)
            raise
        with self._lock:
            failure = self._core.failure()
            if failure is not None and not ready():
                raise failure

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self, key: Key) -> bytes:
        """The key's value, every earlier commit included. Blocks for the disk: for start-up, not for the loop.

        Raises `NotFound` only if it is absent; an unreadable value is another error.
        """
        found = self._ask(Kind.READ, list(check_key(key)))
        if not found:
            raise NotFound(f"the store has no record {key}")
        return found[0][1]

    def scan(self, primary: str, secondary: str = "") -> Iterator[tuple[Key, bytes]]:
        """The records of one namespace in the order of their names, read page by page. Blocks as `read`."""
        check_namespace(primary, secondary)
        after = ""
        while page := self._ask(Kind.SCAN, [primary, secondary, after]):
            yield from page
            after = page[-1][0].name

    # -- recovery mode ------------------------------------------------------------------------------------------------

    @property
    def behind(self) -> Behind | None:
        """Set in recovery mode: the store is older than its high-water mark (``?high-water=PATH``) says.

        It lasts over restarts, and over commits beyond the mark, until `proven_current()`. This is where code that
        sends something which only a current state may send has to ask: everything else goes on as always.
        """
        self._refuse_fork()
        with self._lock:
            return self._core.behind

    def proven_current(self) -> None:
        """Recovery mode ends, durably: whoever could have seen a newer state has proved that there is none.

        Blocks for the disk, as `read`; does nothing out of recovery mode. Raises as `commit`, and `StoreUnavailable`,
        `StoreUnwritable` or `StoreFull` if the mark cannot be written: then it is still on.
        """
        if self.behind is None:
            return
        # Even if nothing was written since: from here on the store's newest number is one that the mark never saw.
        self.commit({})
        self._ask(Kind.CURRENT, [])
        with self._lock:
            self._core.behind = None

    # -- backups ------------------------------------------------------------------------------------------------------

    def backup(self, directory: str | os.PathLike[str]) -> BackupReport:
        """Make a backup of the store in use: a store of its own at `directory`, which must be new or empty, as this one
        is after some commit, which is none before the newest submitted so far. Commits and reads go on meanwhile.

        Blocks until it is durable; from asyncio, call it in a thread. A worker that dies is no end of it: it is begun
        anew. Until it is complete it is called ``directory.partial``. Raises `ConfigError` for a place where it cannot
        be, and for a backend that has no such thing (sqlite: has), `StoreError`s that name the file that failed, and
        `WorkerError` if three workers died over it, or stop() came before its end. Then nothing is left of it, unless
        the worker was killed: what it left is removed by the next backup to the same place.
        """
        report = self._answer(Kind.BACKUP, [os.fsencode(os.path.abspath(directory))])
        assert isinstance(report, BackupReport)
        return report

    # -- questions ----------------------------------------------------------------------------------------------------

    def _ask(self, kind: Kind, fields: list[object]) -> Found:
        found = self._answer(kind, fields)
        assert isinstance(found, list)
        return found

    def _answer(self, kind: Kind, fields: list[object]) -> Found | BackupReport:
        self._refuse_fork()
        self._refuse_own_thread()
        with self._lock:
            request = self._core.ask(kind, fields)
            self._shell.wake()
            try:
                self._lock.wait_for(lambda: request.answer is not None or self._core.ended or self._core.failed)
            finally:
                self._core.requests.withdraw(request)
            if request.answer is None:
                raise self._core.failure() or WorkerError("the supervisor was stopped before the worker answered")
        if isinstance(request.answer, RemoteException):
            raise request.answer.rebuild()
        if isinstance(request.answer, WorkerError):
            raise request.answer
        return request.answer

    # -- health -------------------------------------------------------------------------------------------------------

    def health(self) -> Health:
        """How the worker fares; never waits. `gate` says "shut" after a failure; a processor knows more."""
        self._refuse_fork()
        with self._lock:
            core, backlog, vitals = self._core, self._core.backlog, self._shell.vitals
            now = time.monotonic()
            oldest = backlog.oldest()
            health = Health(
                state=core.state,
                since_s=now - core.since if core.since else 0.0,
                evidence=core.evidence,
                atomic=core.atomic,
                gate="shut" if core.failed else "open" if oldest is None else "holding",
                pid=self._shell.pid,
                epoch=core.epoch,
                restarts=core.restarts,
                last_death=core.last_death,
                last_cause=core.last_cause,
                submitted=backlog.submitted,
                durable=backlog.durable,
                unacked_bytes=backlog.unacked_bytes,
                oldest_unacked_s=None if oldest is None else now - oldest,
                sync_last_s=core.syncs[-1] if core.syncs else None,
                sync_p99_s=None,
                rss_bytes=vitals.rss_bytes if vitals else None,
                cpu_percent=self._shell.cpu_percent,
                write_bytes=vitals.write_bytes if vitals else None,
                behind=core.behind,
            )
            syncs = list(core.syncs)
        # Sorted outside the lock: no submit waits for whoever looks at its health.
        syncs.sort()
        return replace(health, sync_p99_s=syncs[int(len(syncs) * 0.99)]) if syncs else health

    def health_log(self) -> tuple[Transition, ...]:
        """The worker's last 256 changes of state, oldest first."""
        self._refuse_fork()
        with self._lock:
            now, transitions = time.monotonic(), self._core.history.all()
        return tuple(on_the_wall(transition, now) for transition in transitions)

    def on_transition(self, callback: Callable[[Transition], None]) -> Callable[[], None]:
        """Have `callback` called on the supervisor's thread for each change of state, in order.

        It must not block. Returns what ends that.
        """
        self._refuse_fork()
        return self._shell.observe(callback)

    # -- small things -------------------------------------------------------------------------------------------------

    @property
    def _lock(self) -> Condition:
        return self._shell.lock  # another one in a forked copy of the host

    @property
    def forked(self) -> bool:
        """Whether this is a copy that a fork of the host made: it refuses everything."""
        return self._shell.forked

    def _refuse_fork(self) -> None:
        if self._shell.forked:
            raise WorkerError(
                "this is a forked copy of the host: the worker belongs to the original; start another one"
            )

    def _refuse_own_thread(self) -> None:
        if current_thread() is self._shell.thread:
            raise ConfigError("a callback of the supervisor's must not wait for it: set an event, and wait elsewhere")

    def _make_config(self, distrust_cache: bool) -> WorkerConfig:
        target = self.target
        ref = target if isinstance(target, PersisterRef) else None
        return WorkerConfig(
            url=None if ref else str(target),
            persister=ref.path if ref else None,
            persister_config=dict(ref.config) if ref else {},
            # As the import system does, which passes over what is no string.
            sys_path=[entry for entry in sys.path if isinstance(entry, str)] if ref else [],
            raises=list(self._core.allowed.additions),
            host_pid=os.getpid(),
            distrust_cache=distrust_cache,
            # By the host's first worker only: a successor has enough to do.
            check=not self._core.greeted,
            lock_timeout_s=self._start_timeout / 2,
        )


_running: weakref.WeakSet[Supervisor] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """The host exits: what it submitted is still made durable, in bounded time."""
    for supervisor in tuple(_running):
        if supervisor.forked:
            continue  # the original host sees to it
        try:
            supervisor.stop(EXIT_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - a worker's own may be of any class, and others are still to stop
            log.error("a supervisor left running at exit did not stop well: %s", error)
