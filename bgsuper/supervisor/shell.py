"""The supervisor's hands: one thread that launches, sends, receives, looks and waits for what the core decides.

Rules:
1. `lock` guards the core. Nobody holds it over a system call that can block; encoding happens outside it.
2. Submitters wake this thread only when it is armed (about to wait), by a write that cannot block. They do it under
   the lock, under which it also looks once more before it arms itself: no wake-up is lost, none goes astray.
3. What a worker sent before it died is received before its death is reported.
4. Callbacks and asyncio waiters are run from here, after the lock is released; a closed loop is tolerated.
5. A fork of the host closes its copies of the descriptors and is refused: the worker must see one host only.
6. Should this thread itself break, the core fails, the worker is killed and whoever waits is told.
"""

from __future__ import annotations

import logging
import os
import select
import selectors
import socket
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from threading import Condition, Lock, Thread
from typing import Final, TypeVar

from ..errors import FrameError
from ..health import Transition
from ..ipc.config import WorkerConfig
from ..ipc.frames import RECEIVE_BYTES, FrameReader, Kind
from ..ipc.messages import Assembler, Message, encode_message
from .children import SEND_FLAGS, Child
from .core import Action, Core
from .history import level
from .launch import Launcher
from .vitals import Vitals, Watch
from .waiters import Waiters

log = logging.getLogger("bgsuper.supervisor")

T = TypeVar("T")

#: How much of the beginning and of the end of a worker's standard error is kept for the report of its death: what it
#: died of comes first, and what it said last.
KEPT_WORDS: Final = 4096
#: A line of it that is longer is logged in pieces.
LONGEST_LINE: Final = 4096
#: What select() takes for sure; a policy may ask for looks at longer intervals, or for none.
LONGEST_WAIT_S: Final = 3600.0
#: How many sends one pass makes before it looks at what the worker says.
SENDS_A_PASS: Final = 16


class Shell:
    """Runs a `Core` until it has ended. `lock` is a condition, notified whenever something a waiter may wait for
    happened."""

    def __init__(self, core: Core, launcher: Launcher, make_config: Callable[[bool], WorkerConfig]) -> None:
        self.core = core
        self.mutex = Lock()
        self.lock = Condition(self.mutex)
        self.waiters = Waiters(core)
        self.vitals: Vitals | None = None
        self.cpu_percent: float | None = None
        self.pid: int | None = None
        self.forked = False
        self._launcher, self._make_config = launcher, make_config
        self._subscribers: list[Callable[[], None]] = []
        self._observers: list[Callable[[Transition], None]] = []
        self._wake_out = self._wake_in = -1
        self._armed = False
        self._child: Child | None = None
        self._watch: Watch | None = None
        self._looked_at: float | None = None
        self._frames, self._messages = FrameReader(), Assembler()
        self._out = memoryview(b"")
        self._sending = self._receiving = self._wants_write = False
        self._first_words = self._last_words = self._line = b""
        self.thread = Thread(target=self._run, name="bgsuper-supervisor", daemon=True)

    def start(self) -> None:
        """Start the thread; until then no descriptor is open. Raises `OSError`, `RuntimeError` if none is to be had."""
        self._selector = selectors.DefaultSelector()
        try:
            self._wake_out, self._wake_in = os.pipe()
            os.set_blocking(self._wake_out, False)
            os.set_blocking(self._wake_in, False)
            _shells.add(self)
            self.thread.start()
        except BaseException:
            _shells.discard(self)
            self._close_own()
            raise

    # -- for other threads --------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something may be there to do; call it under the lock."""
        if self._armed:
            self._armed = False
            try:
                os.write(self._wake_in, b"\0")
            except BlockingIOError:
                pass  # the pipe is full: it is awake

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        return self._add(self._subscribers, callback)

    def observe(self, callback: Callable[[Transition], None]) -> Callable[[], None]:
        return self._add(self._observers, callback)

    def _add(self, callbacks: list[T], callback: T) -> Callable[[], None]:
        with self.lock:
            callbacks.append(callback)

        def remove() -> None:
            with self.lock:
                if callback in callbacks:
                    callbacks.remove(callback)

        return remove

    # -- the loop -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._selector.register(self._wake_out, selectors.EVENT_READ, self._woken)
        try:
            while not self._step_core():
                self._send()
                self._wait()
        except BaseException as error:  # whoever waits must learn of it
            log.critical("the supervisor's thread failed; its worker is killed", exc_info=True)
            with self.lock:
                self.core.shell_failed(error, time.monotonic())
            if self._child is not None:
                self._child.kill()
        finally:
            self._close()

    def _step_core(self) -> bool:
        """Let time pass in the core, and do what it asks for. Whether it has ended."""
        while True:
            with self.lock:
                self.core.handle_timer(time.monotonic())
                action = self.core.actions.popleft() if self.core.actions else None
                ended = self.core.ended
            if action is None:
                break
            self._perform(action)
        self._tell()
        return ended

    def _perform(self, action: Action) -> None:
        match action:
            case Action.LAUNCH:
                self._launch()
            case Action.DUMP if self._child is not None:
                self._child.dump()
            case Action.KILL if self._child is not None:
                self._child.kill()
            case Action.HALF_CLOSE if self._child is not None:
                self._flush_then_half_close()
            case Action.ABANDON:
                log.critical("worker %s is abandoned alive: %s", self.pid, self.core.evidence)

    def _launch(self) -> None:
        try:
            config = self._make_config(self.core.distrust_cache)
            out = b"".join(encode_message(Kind.CONFIG, 0, config.to_fields()))
            child = self._launcher()
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no worker
            with self.lock:
                self.core.launch_failed(error, time.monotonic())
            return
        self._child, self.pid = child, child.pid
        with self.lock:
            self.core.launched(child.pid)
        self._watch, self.vitals, self._looked_at = Watch(child.pid), None, None
        self._frames, self._messages = FrameReader(), Assembler()
        self._first_words = self._last_words = self._line = b""
        self._out = memoryview(out)
        self._sending = self._receiving = True
        self._wants_write = False
        self._selector.register(child, selectors.EVENT_READ, self._bury)
        self._selector.register(child.socket, selectors.EVENT_READ, self._receive)
        self._selector.register(child.stderr, selectors.EVENT_READ, self._hear)

    def _wait(self) -> None:
        with self.lock:
            # Whatever another thread asked for since _step_core looked must not wait.
            more = self.core.ended or bool(self.core.actions)
            more = more or (self._sending and not self._wants_write and self.core.has_output)
            timer = self.core.timer()
            room = self.waiters.draining and self.core.backlog.writable
            self._armed = not more
        if room:
            self._announce()  # made by a submit that found us busy, and so did not wake us
        now = time.monotonic()
        if self._watch is not None:
            timer = min(self._next_look(now), timer) if timer is not None else self._next_look(now)
        timeout = 0.0 if more else LONGEST_WAIT_S if timer is None else min(LONGEST_WAIT_S, max(0.0, timer - now))
        ready = self._selector.select(timeout)
        self._armed = False
        later = time.monotonic()
        if later - now > timeout + 2 * self.core.policy.vitals_interval_s:
            with self.lock:
                self.core.slept(later - now - timeout)
        # Deaths last: what the worker said before is heard first.
        for key, _ in sorted(ready, key=lambda item: item[0].data == self._bury):
            key.data()
        if self._watch is not None and later >= self._next_look(later):
            self._look(later)

    def _woken(self) -> None:
        try:
            os.read(self._wake_out, 4096)
        except BlockingIOError:
            pass  # nothing left
        # At once, not after the rest of the pass: somebody may wait for the acknowledgement.
        self._send()
        if self.waiters.draining and self.core.backlog.writable:
            self._announce()  # what was submitted took the place of something larger

    # -- the pipe -----------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        for _ in range(SENDS_A_PASS):
            if not self._sending:
                return
            if not self._out:
                with self.lock:
                    frames = self.core.take()
                self._out = memoryview(b"".join(frames))
                if not self._out:
                    return
            self._flush()
            if self._out:
                return

    def _flush(self) -> None:
        assert self._child is not None
        before = len(self._out)
        try:
            while self._out:
                self._out = self._out[self._child.socket.send(self._out, SEND_FLAGS) :]
        except BlockingIOError:
            pass  # full: _watch_socket sees to it
        except OSError:
            # It takes no more (it was told to end, or is gone); what it still says is heard.
            self._sending, self._out = False, memoryview(b"")
            with self.lock:
                self.core.pipe_closed(time.monotonic())
        if len(self._out) < before and self.core.backlog.half_sent:
            with self.lock:
                self.core.transferred(time.monotonic())
        self._watch_socket()

    def _watch_socket(self) -> None:
        """Watch for room to write exactly while something waits to be written."""
        wants = bool(self._out) and self._sending
        if wants is self._wants_write or self._child is None or not self._receiving:
            return
        self._wants_write = wants
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wants else 0)
        self._selector.modify(self._child.socket, events, self._receive)

    def _flush_then_half_close(self) -> None:
        # take() gave its last frames in an earlier call, and _send has put them on the wire before asking again.
        assert self._child is not None
        assert not self._out
        self._sending = False
        try:
            self._child.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # gone already

    def _receive(self) -> None:
        if self._wants_write:
            self._flush()
        if self._receiving and not self._receive_once():
            assert self._child is not None
            self._receiving = False
            self._selector.unregister(self._child.socket)
            with self.lock:
                self.core.pipe_closed(time.monotonic())

    def _receive_once(self) -> bool:
        """Hear what is there; False at the end of the pipe."""
        assert self._child is not None
        try:
            data = self._child.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        messages: list[Message] = []
        broken: FrameError | None = None
        try:
            for frame in self._frames.feed(data):
                message = self._messages.feed(frame)
                if message is not None:
                    messages.append(message)
        except FrameError as error:
            broken = error
        with self.lock:
            now = time.monotonic()
            for message in messages:
                self.core.received(message, now)
            if broken is not None:
                self.core.broken(broken, now)
            elif self._messages.partial:
                self.core.transferred(now)
        if messages:
            self._announce()
        return broken is None

    def _hear(self) -> None:
        """Its standard error: kept for the report of its death, and logged."""
        assert self._child is not None
        try:
            data = os.read(self._child.stderr, 65536)
        except BlockingIOError:
            return
        if not data:
            self._selector.unregister(self._child.stderr)
            self._log_lines([self._line])
            self._line = b""
            return
        room = KEPT_WORDS - len(self._first_words)
        self._first_words += data[:room]
        self._last_words = (self._last_words + data[room:])[-KEPT_WORDS:]
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > LONGEST_LINE:
            lines.append(self._line)
            self._line = b""
        self._log_lines(lines)

    def _log_lines(self, lines: list[bytes]) -> None:
        for line in lines:
            if line.strip():
                log.warning("worker %s: %s", self.pid, line.decode(errors="replace").rstrip())

    def _bury(self) -> None:
        """The kernel says dead."""
        child = self._child
        assert child is not None
        # Not to the end of the pipe: a grandchild may hold it open.
        poll = select.poll()  # not select(): a busy host has descriptors above 1023
        poll.register(child.socket, select.POLLIN)
        while self._receiving and poll.poll(0) and self._receive_once():
            pass
        if child.stderr in self._selector.get_map():
            self._hear()
        self._log_lines([self._line])
        status = child.reap()
        last_words = (self._first_words + self._last_words).decode(errors="replace").strip()
        self._forget_child()
        with self.lock:
            self.core.died(status, last_words, time.monotonic())
        self._announce()

    def _forget_child(self) -> None:
        child, self._child, self.pid = self._child, None, None
        self._sending = self._receiving = self._wants_write = False
        self._out = memoryview(b"")
        self._watch = self.vitals = self.cpu_percent = None
        if child is not None:
            for registered in (child, child.socket, child.stderr):
                try:
                    self._selector.unregister(registered)
                except (KeyError, ValueError):
                    pass  # it had ended before
            child.close()

    # -- vitals -------------------------------------------------------------------------------------------------------

    def _next_look(self, now: float) -> float:
        return now if self._looked_at is None else self._looked_at + self.core.policy.vitals_interval_s

    def _look(self, now: float) -> None:
        assert self._watch is not None
        before, before_at = self.vitals, self._looked_at
        self.vitals, self._looked_at = self._watch.look(self.core.lane), now
        if before is not None and before.cpu_s is not None and self.vitals.cpu_s is not None and before_at is not None:
            self.cpu_percent = 100.0 * (self.vitals.cpu_s - before.cpu_s) / (now - before_at)
        with self.lock:
            self.core.looked(self.vitals, now)

    # -- telling others -----------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        """Log each change of state, in order, and tell whoever observes them."""
        with self.lock:
            now = time.monotonic()
            transitions = [on_the_wall(transition, now) for transition in self.core.history.untold()]
            observers = tuple(self._observers)
        for transition in transitions:
            _log(transition)
            for observer in observers:
                try:
                    observer(transition)
                except Exception:
                    log.exception("an observer of the worker's states failed")
        if transitions:
            self._announce()

    def _announce(self) -> None:
        with self.lock:
            self.lock.notify_all()
            due = self.waiters.due()
            subscribers = tuple(self._subscribers)
        self.waiters.resolve(due)
        for subscriber in subscribers:
            try:
                subscriber()
            except Exception:
                log.exception("a subscriber of the supervisor failed")

    def _close(self) -> None:
        self._forget_child()
        self._tell()
        with self.lock:
            self._armed = False
            self._close_own()
        self._announce()

    def _close_own(self) -> None:
        self._selector.close()
        for descriptor in (self._wake_in, self._wake_out):
            if descriptor >= 0:
                os.close(descriptor)
        self._wake_in = self._wake_out = -1

    def forget_in_fork(self) -> None:
        """In a forked copy of the host: let go of everything, touch nothing shared."""
        self.forked = True
        self.mutex = Lock()
        self.lock = Condition(self.mutex)
        if self._child is not None:
            self._child.close()
        self._close_own()


def on_the_wall(transition: Transition, now: float) -> Transition:
    """The same, its time by the clock on the wall instead of ours, which says `now`."""
    return replace(transition, at=time.time() - (now - transition.at))


def _log(transition: Transition) -> None:
    before, state = transition.before.name, transition.state.name
    cause = f" ({transition.cause.value})" if transition.cause is not None else ""
    log.log(level(transition), "worker %s: %s -> %s%s: %s", transition.pid, before, state, cause, transition.evidence)


_shells: weakref.WeakSet[Shell] = weakref.WeakSet()


def _after_fork() -> None:
    for shell in tuple(_shells):
        shell.forget_in_fork()


os.register_at_fork(after_in_child=_after_fork)
