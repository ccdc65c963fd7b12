"""The writer: one pass over the inbox is one group commit.

Rules:
1. An ACK is sent only after `Store.apply` returned, which is after its sync.
2. A commit that is already durable (replayed) is acknowledged and not applied; a gap is an error, never bridged.
3. A read sees every commit submitted before it.
4. A snapshot is adopted after all commits that were submitted before it, and never over a later commit of its key.
5. What may pass (no space, no descriptors) is not an end: the group is tried again, and the host is told. Chores that
   meet it are put off; a backup, which may have what is missing, gives way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..errors import ConfigError, FrameError, NotFound, StoreError, StoreFull, StoreUnavailable
from ..ipc.frames import Kind
from ..ipc.messages import Commit, Message
from ..ipc.remote import Allowed, describe
from ..key import Key, Seq, check_key
from ..store.api import Opened, SnapshotFile, Store
from .backups import Backups, backup_directory
from .inbox import BackupOrder, Closed, Commits, Inbox, Item, SnapshotDone
from .link import Link
from .snapshots import SnapshotLane

if TYPE_CHECKING:
    from .high_water import MarkLane

#: A transaction takes at most this many commits and bytes; the rest waits for the next, so that acks keep coming.
GROUP_COMMITS = 1024
GROUP_BYTES = 16 * 1024 * 1024
#: How long nothing must come before the store does its chores.
IDLE_S = 0.05
#: First and longest pause between two tries on a full disk. What an orphan has received is durable within a second of
#: when it can be, so it may not sleep through most of that.
RETRY_FIRST_S, RETRY_MAX_S = 0.05, 0.5
#: How long a worker whose host is gone goes on trying.
ORPHAN_PATIENCE_S = 10.0
#: How much one SCAN page carries unless a single value is larger.
PAGE_BYTES = 4 * 1024 * 1024


class Writer:
    """Owns the open store on the main thread, from HELLO to the last acknowledgement."""

    def __init__(
        self,
        store: Store,
        opened: Opened,
        link: Link,
        inbox: Inbox,
        allowed: Allowed,
        *,
        users_persister: bool = False,
        mark: MarkLane | None = None,
    ) -> None:
        self._store, self._link, self._inbox, self._allowed = store, link, inbox, allowed
        self._users_persister = users_persister
        self._mark = mark
        self._epoch = opened.epoch
        self._last = opened.last_commit
        self._lane = SnapshotLane(store, inbox)
        self._backups = Backups(store, allowed, opened.epoch)
        #: Snapshots under way, and for each such key the newest commit that touched it meanwhile.
        self._under_way: dict[Key, int] = {}
        self._overtaken: dict[Key, Seq] = {}
        self._closed = False
        self._idle_s = IDLE_S
        self._served_at = 0.0
        self.phase = "idle"
        self.done = 0  #: how many pieces of work were finished, of whatever kind

    def progress(self) -> list[object]:
        """PROGRESS: [phase, pieces of work done, items waiting, native id of the snapshot thread or 0]. Called by the
        reader's thread."""
        return [self.phase, self.done, len(self._inbox), self._lane.native_id]

    def run(self) -> None:
        """Serve until the host closes the pipe or asks for the end; then everything that came is durable."""
        while not (self._closed and not self._under_way and not len(self._inbox)):
            self.phase = "idle"
            items = self._inbox.take(self._patience())
            if items:
                self._serve(items)
            elif self._store.has_idle_work and self._is_quiet():
                self._do_chores()
            if self._backups.pause is not None:
                self._step_backup(came=bool(items))
        self._backups.stop()
        self._lane.stop()

    def _patience(self) -> float | None:
        """How long to wait for something to come."""
        if self._closed:
            return None
        if self._backups.pause is not None:
            return self._backups.pause
        return self._idle_s if self._store.has_idle_work else None

    def _is_quiet(self) -> bool:
        """Whether nothing came for so long that chores are due; beside a backup, `_patience` does not tell."""
        return self._backups.pause is None or time.monotonic() - self._served_at >= self._idle_s

    def _step_backup(self, *, came: bool) -> None:
        self.phase = "backup"
        if came:
            self._served_at = time.monotonic()
        if self._backups.step():
            self.done += 1

    def _do_chores(self) -> None:
        self.phase = "checkpoint"
        try:
            self._store.idle()
        except (StoreFull, StoreUnavailable):
            # Nothing is lost: every commit is durable where it is. The next one that finds no space says so.
            self._idle_s = RETRY_MAX_S
        else:
            self._idle_s = IDLE_S
            self.done += 1

    def _serve(self, items: list[Item]) -> None:
        group: list[list[Commit]] = []
        count = size = 0
        for item in items:
            if isinstance(item, Commits):
                group.append(item.row)
                count += len(item.row)
                size += item.size
                if count < GROUP_COMMITS and size < GROUP_BYTES:
                    continue
                self._commit(group)
                group, count, size = [], 0, 0
                continue
            self._commit(group)
            group, count, size = [], 0, 0
            self._handle(item)
            self.done += 1
        self._commit(group)

    def _handle(self, item: Message | SnapshotDone | Closed | BackupOrder) -> None:
        match item:
            case SnapshotDone():
                self._finish_snapshot(item)
            case Closed(error):
                self._close()
                if error is not None:
                    raise error
            case Message(kind=Kind.SNAPSHOT):
                key = snapshot_key(item)
                self._under_way[key] = item.seq
                self._lane.write(item, key)
            case Message(kind=Kind.READ):
                self._reply(item, self._read(item))
            case Message(kind=Kind.SCAN):
                self._reply(item, self._scan(item))
            case Message(kind=Kind.CURRENT):
                self._prove_current(item)
            case BackupOrder():
                self._backups.add(item)
            case Message(kind=Kind.BACKUP):
                answer = partial(self._link.send, Kind.REPLY, item.seq)
                self._backups.add(BackupOrder(backup_directory(item.fields), answer))
            case Message(kind=Kind.SHUTDOWN):
                self._close()
            case _:
                raise FrameError(f"no host sends {item.kind.name} at this point")

    def _close(self) -> None:
        self._closed = True
        self._backups.give_up()

    # -- commits ------------------------------------------------------------------------------------------------------

    def _commit(self, group: list[list[Commit]]) -> None:
        if not group:
            return
        fresh = self._without_duplicates(group)
        began = time.monotonic()
        if fresh:
            self.phase = "transaction"
            self._persistently(lambda: self._store.apply(fresh))
            self._last = fresh[-1].seq
            self.done += 1
            if self._under_way:
                self._note_overtaken(fresh)
        self._link.send(Kind.ACK, self._last, [time.monotonic() - began, len(fresh)])
        if self._mark is not None:
            self._mark.acknowledged(self._last)

    def _without_duplicates(self, group: list[list[Commit]]) -> list[Commit]:
        last = self._last
        fresh: list[Commit] = []
        for row in group:
            # Within a row each follows the one before, so its first new one tells.
            new = row if row[0].prev == last else [commit for commit in row if commit.seq > last]
            if not new:
                continue
            if new[0].prev != last:
                raise FrameError(f"commit {new[0].seq} follows {new[0].prev}, but the newest one here is {last}: a gap")
            last = new[-1].seq
            fresh += new
        return fresh

    def _persistently(self, attempt: Callable[[], None]) -> None:
        """Try until it succeeds. Anything but `StoreFull` and `StoreUnavailable` goes up."""
        pause = RETRY_FIRST_S
        while True:
            try:
                return attempt()
            except (StoreFull, StoreUnavailable) as error:
                if self._users_persister:
                    raise  # whatever a persister raises for the manager is its word, the seed's way
                closed_at = self._inbox.closed_at
                if closed_at is not None and time.monotonic() - closed_at > ORPHAN_PATIENCE_S:
                    raise
                self.phase = "retrying"
                self._backups.give_way(error)
                self._link.send(Kind.RETRYING, 0, describe(error, allowed=self._allowed, epoch=self._epoch))
                time.sleep(pause)
                pause = min(2 * pause, RETRY_MAX_S)

    # -- snapshots ----------------------------------------------------------------------------------------------------

    def _note_overtaken(self, group: list[Commit]) -> None:
        for commit in group:
            for key in (*(key for key, _ in commit.puts), *commit.removes):
                if key in self._under_way:
                    self._overtaken[key] = commit.seq

    def _finish_snapshot(self, done: SnapshotDone) -> None:
        message, outcome = done.message, done.outcome
        key, critical = snapshot_key(message), bool(message.fields[3])
        if self._under_way.get(key) == message.seq:
            del self._under_way[key]
        overtaken = self._overtaken.get(key, 0) > message.seq
        if key not in self._under_way:
            self._overtaken.pop(key, None)
        if overtaken:
            # The later commit is durable: whatever became of the snapshot, nobody needs it any more.
            if not isinstance(outcome, Exception):
                self._store.discard_snapshot(outcome)
            self._link.send(Kind.SNAPSHOT_ACK, message.seq, [])
            return
        try:
            if isinstance(outcome, Exception):
                raise outcome
            self.phase = "snapshot"
            if critical:
                self._persistently(lambda: self._store.adopt_snapshot(outcome))
            else:
                self._store.adopt_snapshot(outcome)
        except Exception as error:  # noqa: BLE001 - a user's persister may raise anything
            self._snapshot_failed(message, key, outcome, error)
        else:
            self._link.send(Kind.SNAPSHOT_ACK, message.seq, [])
            if critical and self._mark is not None:
                self._mark.snapshot_acknowledged(Seq(message.seq))

    def _snapshot_failed(self, message: Message, key: Key, outcome: SnapshotFile | Exception, error: Exception) -> None:
        """Writing or adopting it raised `error`: try again, end the worker, or tell the host and go on."""
        critical, written = bool(message.fields[3]), not isinstance(outcome, Exception)
        if isinstance(error, StoreFull | StoreUnavailable) and not self._users_persister:
            if not isinstance(outcome, Exception):
                self._store.discard_snapshot(outcome)  # it takes the space that is missing
            if critical and not self._closed:
                self._backups.give_way(error)
                self._link.send(Kind.RETRYING, 0, describe(error, allowed=self._allowed, epoch=self._epoch))
                self._under_way[key] = message.seq
                self._lane.write(message, key, pause=RETRY_MAX_S)
                return
        elif written and not self._users_persister:
            raise error  # the commit lane itself failed
        if critical:
            raise error
        fields = describe(error, allowed=self._allowed, seq=message.seq, epoch=self._epoch)
        self._link.send(Kind.SNAPSHOT_FAILED, message.seq, fields)

    # -- the high-water mark ------------------------------------------------------------------------------------------

    def _prove_current(self, request: Message) -> None:
        if self._mark is None:
            text = "this worker has no high-water mark; its log says why: mend that, and restart the host"
            self._reply(request, StoreUnavailable(text))
        else:
            self._mark.prove_current(lambda error: self._reply(request, error or []))

    # -- reads --------------------------------------------------------------------------------------------------------

    def _reply(self, request: Message, found: list[tuple[Key, bytes]] | Exception) -> None:
        if isinstance(found, Exception):
            fields = describe(found, allowed=self._allowed, epoch=self._epoch)
            self._link.send(Kind.REPLY, request.seq, ["error", fields])
        else:
            index = [[*key, len(value)] for key, value in found]
            self._link.send(Kind.REPLY, request.seq, ["records", index], [value for _, value in found])

    def _read(self, request: Message) -> list[tuple[Key, bytes]] | Exception:
        self.phase = "read"
        try:
            key = check_key(Key(*request.fields))
            return [(key, self._store.read(key))]
        except NotFound:
            return []
        except (StoreError, ConfigError, TypeError) as error:
            return error

    def _scan(self, request: Message) -> list[tuple[Key, bytes]] | Exception:
        self.phase = "read"
        try:
            primary, secondary, after = request.fields
            return self._store.scan(primary, secondary, after, PAGE_BYTES)
        except (StoreError, ConfigError, TypeError, ValueError) as error:
            return error


def snapshot_key(message: Message) -> Key:
    """SNAPSHOT: fields = [primary, secondary, name, critical]; the payload is the content."""
    match message.fields:
        case [str() as primary, str() as secondary, str() as name, bool()]:
            try:
                return check_key(Key(primary, secondary, name))
            except ConfigError as error:
                raise FrameError(str(error)) from None
    raise FrameError(f"a SNAPSHOT with seq {message.seq} is not [primary, secondary, name, critical]")
