"""``python -m bgsuper.worker FD``: started by the supervisor, with one end of a socket pair as FD.

The order at start binds: signals first (the terminal's Ctrl-C is the host's to handle), then CONFIG, then the store is
opened and locked, and HELLO goes out only when all that it claims is durable. Whatever ends the worker early goes to
the host as an ERROR message with a verdict:

    fatal         the host must not try again: a bad store, a bad URL, what a user's persister or store says itself
    sync          the disk refused a sync: try once more with a fresh process that distrusts the page cache
    unavailable   no space or descriptors even to open the store, or to go on without a host, or somebody looks into
                  the store: a first start fails, a successor waits
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
from typing import TYPE_CHECKING

from ..errors import BgsuperError, FrameError, StoreError, StoreFull, StoreUnavailable, SyncFailed
from ..ipc.config import WorkerConfig
from ..ipc.frames import Kind
from ..ipc.remote import Allowed, describe
from ..store.api import Opened, Store
from ..store.schemes import Disk, Opening, make_store
from ..store.url import parse
from . import orphan
from .control import account, serving, socket_path
from .inbox import Inbox
from .link import Link
from .persister import PersisterStore
from .users import Whose, users_store, whose
from .writer import Writer

if TYPE_CHECKING:
    from .high_water import MarkLane


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
    allowed, owner = Allowed(), Whose.OURS
    try:
        config = WorkerConfig.from_message(link.receive_first())
        allowed = Allowed(tuple(config.raises))
        if config.persister is not None:
            sys.path[:] = config.sys_path
            owner = whose(config.persister)
        store = configured(config, owner)
        mark_path = marked(config)
        opened = owner.checked(store.open())
        mark = open_mark(mark_path, opened, required=config.check) if mark_path is not None else None
        inbox = Inbox()
        batchless = owner is Whose.USERS_PERSISTER
        writer = Writer(store, opened, link, inbox, allowed, users_persister=batchless, mark=mark)
        # The reader first: a worker that cannot have its threads must not say that it is up.
        link.start(inbox, config.host_pid, writer.progress, partial(orphan.mind, config.host_pid, writer.progress))
        last_seq, behind = mark.claims() if mark is not None else (opened.last_seq, None)
        with serving(control_path(config), inbox, account(store, writer.progress, config.host_pid)):
            link.greet([opened.epoch, opened.last_commit, last_seq, None if batchless else bool(store.atomic), behind])
            writer.run()
        if mark is not None:
            # While the store's lock is ours: what guards the store guards its mark.
            mark.close()
        store.close()
    except BaseException as error:  # noqa: BLE001 - SystemExit and MemoryError too: the host must learn why
        link.send(Kind.ERROR, 0, [verdict(error, owner.users_word(error)), describe(error, allowed=allowed)])
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


def verdict(error: BaseException, users_word: bool) -> str:
    """What the host should make of `error`, or of the user's own word: see the module's docstring."""
    if users_word:
        return "fatal"
    if isinstance(error, SyncFailed):
        return "sync"
    if isinstance(error, StoreFull | StoreUnavailable):
        return "unavailable"
    if isinstance(error, BgsuperError) and not isinstance(error, FrameError) and type(error) is not StoreError:
        return "fatal"
    return "crash"


def configured(config: WorkerConfig, owner: Whose) -> Store:
    """The store that CONFIG names, not yet opened. Raises `ConfigError`."""
    if config.persister is not None:
        make = users_store if owner is Whose.USERS_STORE else PersisterStore
        return make(config.persister, dict(config.persister_config))
    url = parse(str(config.url))
    opening = Opening(config.host_pid, config.distrust_cache, config.check, config.lock_timeout_s)
    if "faults" not in url.options:
        return make_store(url, opening)
    # Only whoever asks for faults loads them.
    from ..faults.vfs import install

    return make_store(url, opening, Disk(*install(url.options["faults"])))


def marked(config: WorkerConfig) -> str | None:
    """Where the high-water mark of the store that CONFIG names is kept, if it names one. Raises `ConfigError`."""
    url = parse(config.url) if config.url is not None else None
    if url is None or "high-water" not in url.options:
        return None
    from ..store.high_water import mark_path

    return mark_path(url)


def open_mark(path: str, opened: Opened, *, required: bool) -> MarkLane | None:
    """Hold the store as it was `opened` against its mark, and keep that up from now on; see `high_water.open_lane`."""
    from .high_water import open_lane

    return open_lane(path, opened, required=required)


def control_path(config: WorkerConfig) -> str | None:
    """Where the control socket of the store that CONFIG names lies, if it has one."""
    return socket_path(parse(config.url)) if config.url is not None else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
