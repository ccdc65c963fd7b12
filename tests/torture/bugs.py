"""Bugs to plant: each a mistake that somebody could make, put into the real parts (or, where the part is the store,
into the model of it), for the explorer to find.

A bug is planted by a `MonkeyPatch`; `rules` are those that it may break first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from bgsuper.errors import NotFound, StoreError, SyncFailed
from bgsuper.gate import Gate
from bgsuper.ipc.frames import Kind
from bgsuper.ipc.messages import Commit, Message
from bgsuper.key import Key, Seq
from bgsuper.store import database, snapshots, sqlite
from bgsuper.store.connection import Connection
from bgsuper.store.identity import Identity
from bgsuper.supervisor.backlog import Backlog
from bgsuper.supervisor.core import Core
from bgsuper.supervisor.life import Event
from bgsuper.torture.explorer import disk as disk_module
from bgsuper.torture.explorer.disk import Content, Disk, Entry, Torn
from bgsuper.torture.explorer.effects import Sync, SyncDirectory, SyncFile
from bgsuper.torture.explorer.store import ModelStore
from bgsuper.torture.explorer.world import World
from bgsuper.worker.writer import Writer

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Bug:
    name: str
    plant: Plant
    rules: frozenset[str]


BUGS: list[Bug] = []
#: These are found over the real store.
REAL_BUGS: list[Bug] = []


def bug(name: str, *rules: str) -> Callable[[Plant], Plant]:
    def add(plant: Plant) -> Plant:
        BUGS.append(Bug(name, plant, frozenset(rules)))
        return plant

    return add


# -- the worker --------------------------------------------------------------------------------------------------------


@bug("ack before the sync", "acked")
def _(patch: pytest.MonkeyPatch) -> None:
    commit = Writer._commit

    def hasty(self: Writer, group: list[list[Commit]]) -> None:
        fresh = self._without_duplicates(group) if group else []
        if fresh:
            self._link.send(Kind.ACK, fresh[-1].seq, [0.0, len(fresh)])
        commit(self, group)

    patch.setattr(Writer, "_commit", hasty)


@bug("a read error taken for a missing key", "read")
def _(patch: pytest.MonkeyPatch) -> None:
    read = Writer._read

    def careless(self: Writer, request: Message) -> list[tuple[Key, bytes]] | Exception:
        found = read(self, request)
        return [] if isinstance(found, StoreError) else found

    patch.setattr(Writer, "_read", careless)


@bug("a snapshot adopted over a later commit", "backwards")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Writer, "_note_overtaken", lambda self, group: None)


# -- the supervisor ----------------------------------------------------------------------------------------------------


@bug("drop the replay", "read", "at-rest", "gave-up", "code")
def _(patch: pytest.MonkeyPatch) -> None:
    replay = Backlog.replay

    def forgetful(self: Backlog, last_commit: Seq) -> None:
        replay(self, last_commit)
        self._sent, self._queued = self._queued, self._sent

    patch.setattr(Backlog, "replay", forgetful)


@bug("replay out of order", "gate", "code", "at-rest", "gave-up", "whole")
def _(patch: pytest.MonkeyPatch) -> None:
    replay = Backlog.replay

    def reversing(self: Backlog, last_commit: Seq) -> None:
        replay(self, last_commit)
        self._queued.reverse()

    patch.setattr(Backlog, "replay", reversing)


@bug("start before the predecessor is dead", "one-writer")
def _(patch: pytest.MonkeyPatch) -> None:
    kill = Core._kill

    def impatient(self: Core, now: float, evidence: str) -> None:
        kill(self, now, evidence)
        self._go(Event.DIE, now, "it must be dead by now")
        self._launch(now, 30.0, "a successor")

    patch.setattr(Core, "_kill", impatient)


@bug("coalesce across a commit", "whole")
def _(patch: pytest.MonkeyPatch) -> None:
    """Two queued commits that write one record: only the newer value is sent, in the place of the older."""
    take = Backlog._take_commits

    def thrifty(self: Backlog) -> Any:
        newest: dict[Key, bytes] = {}
        for pending in self._queued:
            newest.update(pending.commit.puts)
        self._queued = deque(
            pending._replace(
                commit=pending.commit._replace(puts=tuple((key, newest[key]) for key, _ in pending.commit.puts))
            )
            for pending in self._queued
        )
        return take(self)

    patch.setattr(Backlog, "_take_commits", thrifty)


@bug("a snapshot sent after a commit that overtook it", "backwards", "code")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Backlog, "_overtake", lambda self, commit: None)


@bug("release the gate at submit", "gate")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Gate, "tag", lambda self, records: Seq(0))


@bug("durable up to what was sent", "gate")
def _(patch: pytest.MonkeyPatch) -> None:
    def durable(self: Backlog) -> Seq:
        return Seq(self._queued[0].commit.seq - 1 if self._queued else self.submitted)

    patch.setattr(Backlog, "durable", property(durable))


# -- the store (its model) ---------------------------------------------------------------------------------------------


@bug("HELLO from the page cache", "acked")
def _(patch: pytest.MonkeyPatch) -> None:
    opens = ModelStore.open

    def trusting(self: ModelStore) -> Any:
        opened = opens(self)
        self._script.remove(Sync())
        return opened

    patch.setattr(ModelStore, "open", trusting)


@bug("retry a failed sync", "acked")
def _(patch: pytest.MonkeyPatch) -> None:
    sync = ModelStore._sync

    def stubborn(self: ModelStore) -> None:
        try:
            sync(self)
        except SyncFailed:
            sync(self)

    patch.setattr(ModelStore, "_sync", stubborn)


@bug("trust the cache after a failed sync", "acked")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Disk, "drop_cache", lambda self: None)


@bug("reuse an epoch", "one-writer", "gave-up")
def _(patch: pytest.MonkeyPatch) -> None:
    commit = ModelStore._commit

    def reusing(self: ModelStore, epoch: int, *rest: Any) -> None:
        commit(self, max(1, self.content.epoch), *rest)

    patch.setattr(ModelStore, "_commit", reusing)


@bug("two writers", "one-writer")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(World, "_lock_is_free", lambda self: True)


@bug("pointer row before the snapshot's file", "acked")
def _(patch: pytest.MonkeyPatch) -> None:
    write = ModelStore.write_snapshot

    def early(self: ModelStore, key: Key, seq: Seq, content: bytes) -> Any:
        written = write(self, key, seq, content)
        self._files.remove(SyncFile(written.file))
        return written

    patch.setattr(ModelStore, "write_snapshot", early)


@bug("a snapshot's name never synced", "acked")
def _(patch: pytest.MonkeyPatch) -> None:
    write = ModelStore.write_snapshot

    def nameless(self: ModelStore, key: Key, seq: Seq, content: bytes) -> Any:
        written = write(self, key, seq, content)
        self._files.remove(SyncDirectory())
        return written

    patch.setattr(ModelStore, "write_snapshot", nameless)


@bug("a torn tail accepted", "whole", "unsubmitted", "acked", "backwards")
def _(patch: pytest.MonkeyPatch) -> None:
    def lenient(log: Sequence[Entry | Torn | None]) -> Content:
        content = Content()
        for entry in log:
            if isinstance(entry, Torn):
                # Its first sectors are there; that is good enough, is it not?
                entry = entry.entry._replace(writes=entry.entry.writes[:1])
            elif not isinstance(entry, Entry) or entry.follows != content.checksum:
                break
            content.add(entry)
        return content

    patch.setattr(disk_module, "fold", lenient)


@bug("a hole in the log stepped over", "whole", "unsubmitted", "acked", "one-writer", "backwards", "gave-up")
def _(patch: pytest.MonkeyPatch) -> None:
    def leaping(log: Sequence[Entry | Torn | None]) -> Content:
        content = Content()
        for entry in log:
            if isinstance(entry, Entry):
                content.add(entry)
        return content

    patch.setattr(disk_module, "fold", leaping)


# -- the real store ----------------------------------------------------------------------------------------------------


def real_bug(name: str, *rules: str) -> Callable[[Plant], Plant]:
    def add(plant: Plant) -> Plant:
        REAL_BUGS.append(Bug(name, plant, frozenset(rules)))
        return plant

    return add


def _without_sync(patch: pytest.MonkeyPatch, when: str) -> None:
    """Transactions of which the description starts with `when` are not synced."""
    transact = Connection.transact

    def unsynced(self: Connection, statements: Iterable[Any], doing: str) -> None:
        self._sqlite.pragma("synchronous", "OFF" if doing.startswith(when) else "FULL")
        transact(self, statements, doing)

    patch.setattr(Connection, "transact", unsynced)


@real_bug("commits never synced", "acked", "at-rest")
def _(patch: pytest.MonkeyPatch) -> None:
    _without_sync(patch, "committing")


@real_bug("HELLO from the page cache", "acked", "at-rest", "one-writer", "gave-up", "recovery")
def _(patch: pytest.MonkeyPatch) -> None:
    _without_sync(patch, "opening")
    patch.setattr(sqlite, "sync_file", lambda path, fsync: None)


@real_bug("skip the directory fsync", "recovery", "code", "gave-up", "at-rest", "acked")
def _(patch: pytest.MonkeyPatch) -> None:
    for module in (snapshots, database):
        patch.setattr(module, "sync_directory", lambda path, fsync: None)


@real_bug("pointer row before the snapshot's file", "recovery", "code", "gave-up", "at-rest", "acked")
def _(patch: pytest.MonkeyPatch) -> None:
    write = snapshots.Snapshots._write

    def unsynced(self: snapshots.Snapshots, path: str, content: bytes) -> bytes:
        fsync, self._fsync = self._fsync, lambda fd: None
        try:
            return write(self, path, content)
        finally:
            self._fsync = fsync

    patch.setattr(snapshots.Snapshots, "_write", unsynced)


@real_bug("reuse an epoch", "one-writer", "gave-up")
def _(patch: pytest.MonkeyPatch) -> None:
    replace = Identity._replace

    def without_the_bump(self: Identity, **changes: Any) -> Identity:
        if "epoch" in changes:
            changes["epoch"] = max(changes["epoch"] - 1, 1)
        return replace(self, **changes)

    patch.setattr(Identity, "_replace", without_the_bump)


@real_bug("a read error taken for a missing key", "whole", "acked")
def _(patch: pytest.MonkeyPatch) -> None:
    """The file of a snapshot that cannot be read is no snapshot. Found together with a file that is not durable."""
    read = snapshots.Snapshots.read

    def careless(self: snapshots.Snapshots, pointer: Any) -> bytes:
        try:
            return read(self, pointer)
        except StoreError as error:
            raise NotFound("there is none") from error

    patch.setattr(snapshots.Snapshots, "read", careless)
    patch.setattr(snapshots, "sync_directory", lambda path, fsync: None)
