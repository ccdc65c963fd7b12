"""The world: one disk, a host and its worker, an orphan perhaps. `choices` says what may happen, this does it.

`do()` is deterministic, so a list of choices is a schedule, and the same list is the same run. Crashes and faults are
choices like others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...errors import ConfigError, FrameError
from ...ipc.remote import RemoteException
from ...key import Key
from ...supervisor.children import Exit as ExitStatus
from ...supervisor.core import Action
from ...worker.inbox import Closed
from .choices import Situation
from .effects import (
    Append,
    Deliver,
    Effect,
    Exit,
    FailedSync,
    FailedSyncFile,
    RemoveFile,
    Say,
    Sync,
    SyncDirectory,
    SyncFile,
    WriteFile,
)
from .host import Host
from .monitor import Violation
from .process import Worker
from .scenario import COMMITS, LARGE_BYTES, Scenario
from .store import Outcomes

HEAD, SNAP = Key("app", "", "head"), Key("app", "", "snap")
SIGKILL = 9
#: The first word of each choice: the name of its method.
STEPS: Final = frozenset(
    {"submit", "take", "deliver", "half", "hear", "wait", "boot", "serve", "step", "lane", "orphan"}
    | {"kill", "hang", "reap", "start", "power", "space"}
)


class World(Situation):
    """See the module's words."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self._act()

    # -- what happens -------------------------------------------------------------------------------------------------

    def do(self, choice: str) -> None:
        """Take one of `choices()`. Raises `Violation`."""
        step, _, rest = choice.partition(" ")
        if step not in STEPS:
            raise ConfigError(f"expected a step of the explorer's, got {choice!r:.80}")
        try:
            getattr(self, f"_{step}")(rest)
        except Violation:
            raise
        except Exception as error:
            raise Violation("code", f"{choice!r} raised {type(error).__name__}: {error}") from error

    def _submit(self, _: str) -> None:
        host = self.host
        assert host is not None
        letter, label = self.scenario.script[self.position], f"{self.position}.{self.hosts}".encode()
        self.position += 1
        if letter in COMMITS:
            puts = {HEAD: label}
            removes: tuple[Key, ...] = ()
            if letter == "k":
                puts[SNAP] = label
            if letter == "x" and self.position > 1:
                removes = (_own(self.position - 2),)
            else:
                puts[_own(self.position - 1)] = label
            seq = host.commit(puts, removes)
            self.monitor.submitted(seq, (*puts.items(), *((key, None) for key in removes)))
        elif letter == "r":
            host.read(HEAD)
        elif letter == "q":
            host.stop()
            self._act()
        else:
            content = label.ljust(LARGE_BYTES) if letter == "L" else label
            seq = host.snapshot(SNAP, content, letter != "s")
            self.monitor.submitted_snapshot(seq, SNAP, content)
        self._turn_ends()

    def _take(self, _: str) -> None:
        assert self.host is not None
        self.wire += self.host.core.take()
        self._act()
        if self.scenario.reduced:
            while self.wire:
                self._deliver("")
        self._close_pipe()

    def _deliver(self, _: str) -> None:
        assert self.worker is not None
        self.worker.receive(self.wire.pop(0))
        self._close_pipe()

    def _half(self, _: str) -> None:
        assert self.worker is not None
        piece = self.wire[0]
        self.worker.receive(piece[: len(piece) // 2])
        self.wire[0] = piece[len(piece) // 2 :]

    def _close_pipe(self) -> None:
        if self.hanging_up and not self.wire and self.worker is not None:
            self.hanging_up = False
            self.worker.inbox.put(Closed(None))

    def _hear(self, _: str) -> None:
        host, worker = self.host, self.worker
        assert host is not None
        assert worker is not None
        opening = not host.core.greeted
        host.hear(worker.outbox.popleft().frames)
        if opening and host.core.greeted:
            backlog = host.core.backlog
            self.monitor.host_opened(backlog.acked_commit, backlog.submitted)
        for request, key in host.answers():
            self.monitor.answered(request.answer, request.after, key, host.core.backlog.submitted)
            if isinstance(request.answer, RemoteException) and not self.failed_reads:
                raise Violation("read", f"a read of {key} failed, though no disk did: {request.answer.summary}")
        self._act()
        self._turn_ends()

    def _turn_ends(self) -> None:
        if self.host is not None:
            self.monitor.released(self.host.turn_ends(), self.disk)

    def _boot(self, rest: str) -> None:
        assert self.host is not None
        self.launching = False
        self.monitor.opens(sum(worker is not None and worker.has_store for worker in (self.worker, self.orphan)))
        self.worker = Worker(self.disk)
        self.host.core.launched(1)
        self.worker.boot(Outcomes(failed_sync=self._eio(rest)))
        self.monitor.check_content(self.worker.model.content)

    def _serve(self, rest: str) -> None:
        assert self.worker is not None
        self._serve_with(self.worker, rest)

    def _serve_with(self, worker: Worker, rest: str) -> None:
        bad_read = rest == "bad read"
        self.failed_reads += bad_read
        eio = None if bad_read else self._eio(rest)
        worker.serve(Outcomes(failed_sync=eio, no_space=self.disk.full, failed_read=bad_read))

    def _eio(self, rest: str) -> str | None:
        if not rest.startswith("eio"):
            return None
        self.failed_syncs += 1
        return rest.removeprefix("eio").strip()

    def _step(self, _: str) -> None:
        assert self.worker is not None
        self._play(self.worker, self.worker.script.popleft())

    def _lane(self, rest: str) -> None:
        assert self.worker is not None
        self._lane_of(self.worker, rest)

    def _lane_of(self, worker: Worker, rest: str) -> None:
        if not worker.lane_script:
            worker.start_job(Outcomes(failed_sync=self._eio(rest), no_space=self.disk.full))
        self._play(worker, worker.lane_script.popleft())

    def _orphan(self, rest: str) -> None:
        assert self.orphan is not None
        match rest:
            case "step":
                self._play(self.orphan, self.orphan.script.popleft())
            case "serve":
                self._serve_with(self.orphan, "")
            case "lane":
                self._lane_of(self.orphan, "")

    def _play(self, worker: Worker, effect: Effect) -> None:
        disk = self.disk
        match effect:
            case Append(at, entry):
                self.monitor.writes(effect)
                disk.write(at, entry)
            case Sync():
                disk.sync()
                self.monitor.check(disk)
            case FailedSync(fates):
                disk.sync_fails(fates)
            case WriteFile(name, content):
                disk.write_file(name, content)
            case SyncFile(name):
                disk.sync_file(name)
            case FailedSyncFile(name):
                disk.sync_file_fails(name)
            case SyncDirectory():
                disk.sync_directory()
            case RemoveFile(name):
                disk.remove_file(name)
            case Deliver(item):
                worker.inbox.put(item)
            case Say():
                self.monitor.says(effect, disk)
                if worker is self.worker:
                    worker.outbox.append(effect)
            case Exit(code):
                self._gone(worker, ExitStatus(code, None))

    # -- death --------------------------------------------------------------------------------------------------------

    def _kill(self, rest: str) -> None:
        self.deaths += 1
        match rest:
            case "worker":
                assert self.worker is not None
                self._gone(self.worker, ExitStatus(None, SIGKILL))
            case "orphan":
                self.orphan = None
            case "host half":
                assert self.host is not None
                assert self.worker is not None
                pieces = list(self.host.core.take())
                for piece in pieces[:1]:
                    self.worker.receive(piece[: len(piece) // 2])
                self._host_is_gone()
            case _:
                self._host_is_gone()

    def _hang(self, _: str) -> None:
        """The supervisor cannot trust its worker any more, and kills it; it may be in the kernel, and finish that."""
        assert self.host is not None
        self.deaths += 1
        self.hangs += 1
        self.host.core.broken(FrameError("the explorer broke the pipe"), self.host.now)
        self._act()

    def _reap(self, _: str) -> None:
        assert self.worker is not None
        self._gone(self.worker, ExitStatus(None, SIGKILL))

    def _gone(self, worker: Worker, status: ExitStatus) -> None:
        """A process is no more. Its host hears what it had said, and then that it is dead."""
        if worker is not self.worker:
            self.orphan = None
            return
        host = self.host
        assert host is not None
        while worker.outbox:
            self._hear("")
        self.worker, self.wire, self.hanging_up = None, [], False
        host.core.died(status, "", host.now)
        host.forget_pipe()
        self._act()
        self._turn_ends()

    def _host_is_gone(self) -> None:
        self.host, self.launching = None, False
        orphan, self.worker = self.worker, None
        self.wire, self.hanging_up = [], False
        if orphan is None:
            return
        if orphan.doomed:
            return
        orphan.outbox.clear()
        orphan.inbox.put(Closed(None))
        self.orphan = orphan

    def _power(self, fates: str) -> None:
        self.powers += 1
        self.host = self.worker = self.orphan = None
        self.wire, self.launching, self.hanging_up = [], False, False
        self.disk.cut(fates)
        self.monitor.check(self.disk)

    def _start(self, _: str) -> None:
        self.host = Host()
        self.hosts += 1
        self._act()

    def _wait(self, _: str) -> None:
        assert self.host is not None
        self.host.wait()
        self._act()

    def _space(self, rest: str) -> None:
        self.disk.full = rest == "out"
        self.shortages += self.disk.full

    # -- the supervisor's hands ---------------------------------------------------------------------------------------

    def _act(self) -> None:
        """Do what the core asks for, as the shell would."""
        host = self.host
        assert host is not None
        host.core.handle_timer(host.now)
        actions = host.core.actions
        while actions:
            match actions.popleft():
                case Action.LAUNCH:
                    self.monitor.launches(self.worker is not None)
                    self.launching = True
                case Action.KILL if self.worker is not None:
                    self.worker.doomed = True
                case Action.HALF_CLOSE:
                    self.hanging_up = True
        failure = host.core.failure()
        if failure is not None and host.gate is not None:
            host.gate.shut(failure)
        if failure is not None and host.core.ended:
            self.monitor.host_failed(host, self.failed_syncs, self.deaths, self.shortages)
            # The app learns of it and ends.
            self._host_is_gone()
        elif host.core.ended:
            self._turn_ends()
            self.monitor.ended(host)
            self._host_is_gone()

    # -- rest ---------------------------------------------------------------------------------------------------------

    def check_at_rest(self) -> None:
        """Nothing more happens by itself: see `Monitor.at_rest`."""
        if self.host is None:
            raise Violation("at-rest", "there is no host, and none can be started")
        self.monitor.at_rest(self.host, self.disk)

    def leave_in_peace(self, on_step: Callable[[World, str], None], limit: int = 1000) -> None:
        """Take ordinary steps until there is none; then everything must be durable. `on_step` is called before each."""
        for _ in range(limit):
            steps = self.ordinary()
            if not steps:
                self.check_at_rest()
                return
            step = "space in" if "space in" in steps else steps[0]
            on_step(self, step)
            self.do(step)
        raise Violation("at-rest", f"after {limit} steps in peace it still has something to do")


def _own(position: int) -> Key:
    return Key("app", "", f"own-{position}")
