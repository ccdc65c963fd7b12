"""Any sequence of commits, snapshots, reads, reopens and crashes, against a dict."""

from __future__ import annotations

import os
import random
import shutil
from tempfile import mkdtemp

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bgsuper.errors import NotFound
from bgsuper.ipc.messages import Commit
from bgsuper.key import Key, Seq
from bgsuper.store.api import SnapshotFile, Value
from bgsuper.store.filesystem.view import FilesystemView

from .platter import Crash, Platter
from .stores import die, new_store

KEYS = st.builds(Key, st.just("p"), st.sampled_from(["", "s"]), st.sampled_from("abcd")) | st.just(Key("", "", "m"))
VALUES = st.binary(max_size=40) | st.integers(0, 255).map(lambda n: bytes([n]) * 5000)
BATCHES = st.tuples(st.dictionaries(KEYS, VALUES, max_size=4), st.sets(KEYS, max_size=2))
NAMESPACES = [("p", ""), ("p", "s"), ("", "")]


class StoreMachine(RuleBasedStateMachine):
    """The model: a dict, the last seqs, the epoch, and the snapshots written but not adopted."""

    @initialize(kind=st.sampled_from(["ext4", "fuse"]))
    def create(self, kind: str) -> None:
        self.directory = mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        self.platter = Platter(self.directory, kind)
        self.options = {"fsync": self.platter.fsync, "syncfs": self.platter.syncfs}
        self.model: dict[Key, bytes] = {}
        self.last_commit = self.seq = self.epoch = 0
        self.written: list[tuple[SnapshotFile, bytes]] = []
        self.open()

    def open(self) -> None:
        with self.platter.watching():
            self.store = new_store(os.path.join(self.directory, "store"), **self.options)
            opened = self.store.open()
        assert opened.epoch > self.epoch
        assert opened.last_commit == self.last_commit
        self.epoch = opened.epoch
        self.seq = opened.last_seq
        self.written.clear()

    def next_group(self, batches: list[tuple[dict[Key, bytes], set[Key]]]) -> tuple[list[Commit], dict[Key, bytes]]:
        group, after = [], dict(self.model)
        for puts, removes in batches:
            self.seq += 1
            group.append(Commit(Seq(self.seq), Seq(self.seq - 1), tuple(puts.items()), tuple(removes)))
            after |= puts
            for key in removes:
                after.pop(key, None)
        return group, after

    @rule(batches=st.lists(BATCHES, min_size=1, max_size=3))
    def apply(self, batches: list[tuple[dict[Key, bytes], set[Key]]]) -> None:
        group, after = self.next_group(batches)
        with self.platter.watching():
            self.store.apply(group)
        self.model, self.last_commit = after, self.seq

    @rule(
        batches=st.lists(BATCHES, min_size=1, max_size=3),
        step=st.integers(1, 40),
        power=st.none() | st.integers(0, 1 << 16),
    )
    def crash(self, batches: list[tuple[dict[Key, bytes], set[Key]]], step: int, power: int | None) -> None:
        """Dead within a group, and perhaps the power goes, too: it is there whole or not at all."""
        group, after = self.next_group(batches)

        def fault(now: int, call: str) -> None:
            if now >= step:
                raise Crash

        self.platter.steps, self.platter.fault = 0, fault
        acknowledged = False
        try:
            with self.platter.watching():
                self.store.apply(group)
            acknowledged = True
        except Crash:
            pass
        self.platter.fault = lambda now, call: None
        die(self.store)
        if power is not None:
            self.platter.cut(random.Random(power))
        view = FilesystemView(os.path.join(self.directory, "store"))
        committed = view.identity.last_commit == group[-1].seq
        seen = {value.key: value.content for value in view.examine() if isinstance(value, Value)}
        view.close()
        assert committed or not acknowledged
        if committed:
            self.model, self.last_commit = after, self.seq
        assert seen == self.model
        self.open()

    @rule(key=KEYS, value=VALUES)
    def write_snapshot(self, key: Key, value: bytes) -> None:
        self.seq += 1
        with self.platter.watching():
            self.written.append((self.store.write_snapshot(key, Seq(self.seq), value), value))

    @precondition(lambda self: self.written)
    @rule(data=st.data(), adopt=st.booleans())
    def finish_snapshot(self, data: st.DataObject, adopt: bool) -> None:
        snapshot, value = self.written.pop(data.draw(st.integers(0, len(self.written) - 1)))
        with self.platter.watching():
            if adopt:
                self.store.adopt_snapshot(snapshot)
                self.model[snapshot.key] = value
            else:
                self.store.discard_snapshot(snapshot)

    @rule()
    def idle(self) -> None:
        with self.platter.watching():
            while self.store.has_idle_work:
                self.store.idle()

    @rule(cleanly=st.booleans())
    def reopen(self, cleanly: bool) -> None:
        with self.platter.watching():
            if cleanly:
                self.store.close()
            else:
                die(self.store)
        self.open()
        files = [file for _, _, files in os.walk(self.directory) for file in files]
        assert len(files) == len(self.model) + 2

    @rule(key=KEYS)
    def read(self, key: Key) -> None:
        try:
            assert self.store.read(key) == self.model[key]
        except NotFound:
            assert key not in self.model

    @rule(namespace=st.sampled_from([*NAMESPACES, ("q", "")]), limit=st.integers(0, 12_000))
    def scan(self, namespace: tuple[str, str], limit: int) -> None:
        expected = sorted(item for item in self.model.items() if item[0][:2] == namespace)
        found: list[tuple[Key, bytes]] = []
        while page := self.store.scan(*namespace, found[-1][0].name if found else "", limit):
            assert len(page) == 1 or sum(len(value) for _, value in page) <= limit
            found += page
        assert found == expected

    @invariant()
    def the_store_is_the_model(self) -> None:
        for namespace in NAMESPACES:
            expected = sorted(item for item in self.model.items() if item[0][:2] == namespace)
            assert self.store.scan(*namespace, "", 1 << 20) == expected

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.platter.close()
            shutil.rmtree(self.directory)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
