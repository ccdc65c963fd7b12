"""``python -m bgsuper.worker FD``: started by the supervisor, with one end of a socket pair as FD.

The order at start binds: signals first (the terminal's Ctrl-C is the host's to handle), then CONFIG, then the store is
opened and locked, and HELLO goes out only when all that it claims is durable. Whatever ends the worker early goes to
the host as an ERROR message with a verdict:

    fatal         the host must not try again: a bad store, a bad URL, a user's persister
    sync          the disk refused a sync: try once more with a fresh process that distrusts the page cache
    unavailable   no space or descriptors even to open the store, or to go on without a host: a first start fails, a
                  successor waits
    crash         anything else, a store short of memory among it: restart within the budget
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import socket
import sys
from functools import partial

from ..errors import BgsuperError, FrameError, StoreError, StoreFull, StoreUnavailable, SyncFailed
from ..ipc.config import WorkerConfig
from ..ipc.frames import Kind
from ..ipc.remote import Allowed, describe
from ..store.api import Store
from ..store.sqlite import SQLiteStore
from ..store.url import parse
from . import orphan
from .inbox import Inbox
from .link import Link
from .persister import PersisterStore
from .writer import Writer


def main(arguments: list[str]) -> int:
    """Run the worker on the socket whose descriptor is the only argument; the exit status."""
    if len(arguments) != 1 or not arguments[0].isdecimal():
        print("bgsuper.worker is started by bgsuper.Supervisor, not by hand", file=sys.stderr)
        return 2
    sock = socket.socket(fileno=int(arguments[0]))
    # A user's persister may start processes of its own: they must not keep the pipe open.
    sock.set_inheritable(False)
    link = Link(sock)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    terminated = Terminated(link)
    # First in, last out: a persister's own hooks run before it.
    atexit.register(terminated.die)
    signal.signal(signal.SIGTERM, terminated)
    # Whether it crashes or hangs, its host learns where; from C, so that a thread which keeps the GIL is no obstacle.
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    allowed, users_persister = Allowed(), False
    try:
        config = WorkerConfig.from_message(link.receive_first())
        users_persister = config.persister is not None
        allowed = Allowed(tuple(config.raises))
        store = make_store(config)
        opened = store.open()
        inbox = Inbox()
        writer = Writer(store, opened, link, inbox, allowed, users_persister=users_persister)
        # The reader first: a worker that cannot have its threads must not say that it is up.
        link.start(inbox, config.host_pid, writer.progress, partial(orphan.mind, config.host_pid, writer.progress))
        link.greet([opened.epoch, opened.last_commit, opened.last_seq, store.atomic])
        writer.run()
        store.close()
    except BaseException as error:  # noqa: BLE001 - SystemExit and MemoryError too: the host must learn why
        link.send(Kind.ERROR, 0, [verdict(error, users_persister), describe(error, allowed=allowed)])
        return 1
    return 0


class Terminated:
    """SIGTERM: take no more, finish what came, and then die of it, as POSIX's habit is, so that the host can tell a
    death that somebody wanted from an exit that nobody asked for."""

    def __init__(self, link: Link) -> None:
        self._link, self._came = link, False

    def __call__(self, *_: object) -> None:
        self._came = True
        self._link.hang_up()

    def die(self) -> None:
        if self._came:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)


def verdict(error: BaseException, users_persister: bool) -> str:
    """What the host should make of `error`: see the module's docstring."""
    if users_persister and isinstance(error, Exception):
        return "fatal"
    if isinstance(error, SyncFailed):
        return "sync"
    if isinstance(error, StoreFull | StoreUnavailable):
        return "unavailable"
    if isinstance(error, BgsuperError) and not isinstance(error, FrameError) and type(error) is not StoreError:
        return "fatal"
    return "crash"


def make_store(config: WorkerConfig) -> Store:
    """The store that CONFIG names, not yet opened. Raises `ConfigError`."""
    if config.persister is not None:
        sys.path[:] = config.sys_path
        return PersisterStore(config.persister, dict(config.persister_config))
    url = parse(str(config.url))
    open_store = partial(
        SQLiteStore,
        url.path,
        host_pid=config.host_pid,
        distrust_cache=config.distrust_cache,
        check=config.check,
        lock_timeout_s=config.lock_timeout_s,
    )
    if "faults" not in url.options:
        return open_store()
    # Only whoever asks for faults loads them.
    from ..faults.vfs import install

    vfs, fsync = install(url.options["faults"])
    return open_store(vfs=vfs, fsync=fsync)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
