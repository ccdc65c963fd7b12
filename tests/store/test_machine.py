"""Any sequence of commits, snapshots, reads and reopens, against a dict."""

from __future__ import annotations

import os
import shutil
from tempfile import mkdtemp

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bgsuper.errors import NotFound
from bgsuper.ipc.messages import Commit
from bgsuper.key import Key, Seq
from bgsuper.store.api import SnapshotFile
from bgsuper.store.sqlite import SQLiteStore

from .stores import die

KEYS = st.builds(Key, st.just("p"), st.sampled_from(["", "s"]), st.sampled_from("abcd")) | st.just(Key("", "", "m"))
VALUES = st.binary(max_size=40) | st.integers(0, 255).map(lambda n: bytes([n]) * 5000)
BATCHES = st.tuples(st.dictionaries(KEYS, VALUES, max_size=4), st.sets(KEYS, max_size=2))


class StoreMachine(RuleBasedStateMachine):
    """The model: a dict, the last seqs, the epoch, and the snapshots written but not adopted."""

    @initialize()
    def create(self) -> None:
        self.directory = mkdtemp()
        self.model: dict[Key, bytes] = {}
        self.last_commit = self.seq = self.epoch = 0
        self.written: list[tuple[SnapshotFile, bytes]] = []
        self.open()

    def open(self) -> None:
        self.store = SQLiteStore(self.directory, host_pid=os.getpid(), lock_timeout_s=0)
        opened = self.store.open()
        assert opened.epoch == self.epoch + 1
        assert opened.last_commit == self.last_commit
        self.epoch = opened.epoch
        self.seq = opened.last_seq
        self.written.clear()

    @rule(batches=st.lists(BATCHES, min_size=1, max_size=3))
    def apply(self, batches: list[tuple[dict[Key, bytes], set[Key]]]) -> None:
        group = []
        for puts, removes in batches:
            self.seq += 1
            group.append(Commit(Seq(self.seq), Seq(self.seq - 1), tuple(puts.items()), tuple(removes)))
            self.model |= puts
            for key in removes:
                self.model.pop(key, None)
        self.store.apply(group)
        self.last_commit = self.seq

    @rule(key=KEYS, value=VALUES)
    def write_snapshot(self, key: Key, value: bytes) -> None:
        self.seq += 1
        self.written.append((self.store.write_snapshot(key, Seq(self.seq), value), value))

    @precondition(lambda self: self.written)
    @rule(data=st.data(), adopt=st.booleans())
    def finish_snapshot(self, data: st.DataObject, adopt: bool) -> None:
        snapshot, value = self.written.pop(data.draw(st.integers(0, len(self.written) - 1)))
        if adopt:
            self.store.adopt_snapshot(snapshot)
            self.model[snapshot.key] = value
        else:
            self.store.discard_snapshot(snapshot)

    @rule()
    def idle(self) -> None:
        while self.store.has_idle_work:
            self.store.idle()

    @rule(cleanly=st.booleans())
    def reopen(self, cleanly: bool) -> None:
        if cleanly:
            self.store.close()
        else:
            die(self.store)
        self.open()
        self.idle()
        assert len(os.listdir(os.path.join(self.directory, "snapshots"))) <= len(self.model)

    @rule(key=KEYS)
    def read(self, key: Key) -> None:
        try:
            assert self.store.read(key) == self.model[key]
        except NotFound:
            assert key not in self.model

    @rule(namespace=st.sampled_from([("p", ""), ("p", "s"), ("", ""), ("q", "")]), limit=st.integers(0, 12_000))
    def scan(self, namespace: tuple[str, str], limit: int) -> None:
        expected = sorted(item for item in self.model.items() if item[0][:2] == namespace)
        found: list[tuple[Key, bytes]] = []
        while page := self.store.scan(*namespace, found[-1][0].name if found else "", limit):
            assert len(page) == 1 or sum(len(value) for _, value in page) <= limit
            found += page
        assert found == expected

    @invariant()
    def the_store_is_the_model(self) -> None:
        for namespace in (("p", ""), ("p", "s"), ("", "")):
            expected = sorted(item for item in self.model.items() if item[0][:2] == namespace)
            assert self.store.scan(*namespace, "", 1 << 20) == expected

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.directory)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=40, stateful_step_count=25)
