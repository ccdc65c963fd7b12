"""A mark and its store through kills and power cuts at any step: it never says too much, and never forgets what was
settled."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bgsuper.errors import StoreUnavailable
from bgsuper.key import Seq
from bgsuper.store.api import Opened
from bgsuper.store.high_water import SLOT_BYTES, Found, HighWater, read_mark

OURS = b"o" * 16
#: What becomes of one slot that was written and not synced: how many of its new bytes reached the disk.
FATES = st.tuples(*[st.sampled_from([0, 20, 33, 40, 60, 75, SLOT_BYTES])] * 2)


class Killed(BaseException):
    """The process is gone in the middle of a step."""


class MarkAndStore(RuleBasedStateMachine):
    """`last` is the newest commit of the store, all of it durable and acknowledged; `backups` are older ones."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.path = Path(self._directory.name) / "mark"
        self.mark: HighWater | None = None
        self.durable: bytes | None = None  #: what a power cut leaves of the file for sure
        self.last = self.greatest = self.epoch = 0
        self.backups = [0]
        self.synced = 0  #: a number that the mark has durably
        self.old: Found | None = None  #: the store is known to be behind, durably
        self.put_back = False  #: an older store is in place, which may have gone unnoticed
        self.dies_at = 0  #: at which sync from now on

    def teardown(self) -> None:
        if self.mark is not None:
            self.mark.close()
        self._directory.cleanup()

    def store(self) -> Opened:
        return Opened(self.epoch, Seq(self.last), Seq(self.last), OURS)

    def fsync(self, fd: int) -> None:
        """Durable, unless the process dies before it."""
        self.dies_at -= 1
        if self.dies_at == 0:
            raise Killed
        self.durable = self.path.read_bytes() if self.path.exists() else None

    # -- what happens -------------------------------------------------------------------------------------------------

    @initialize(commits=st.integers(0, 5))
    def begin(self, commits: int) -> None:
        self.last = self.greatest = commits

    @precondition(lambda self: self.mark is None)
    @rule(dies_at=st.integers(0, 5))
    def start(self, dies_at: int) -> None:
        """A worker opens the store, and holds it against the mark; it may die at any sync of that."""
        self.epoch += 1
        self.dies_at = dies_at
        before = read_mark(str(self.path))
        try:
            mark = HighWater.open(str(self.path), self.store(), self.fsync)
        except Killed:
            self.dies_at = 0
            return
        self.dies_at = 0
        self.mark = mark
        self.durable = self.path.read_bytes()
        if before is None:
            assert mark.created
            self.synced = self.last
        elif self.last < before.highest or before.behind is not None or before.highest < self.last <= before.floor:
            assert mark.mark.behind is not None
            assert self.put_back
            self.old = mark.mark.behind
        else:
            assert mark.mark.behind is None

    @precondition(lambda self: self.mark is not None)
    @rule(count=st.integers(1, 3))
    def commit(self, count: int) -> None:
        """Acknowledged, and later written down."""
        assert self.mark is not None
        self.last = self.mark.beyond(Seq(self.last)) + count
        self.greatest = max(self.greatest, self.last)
        self.mark.raise_to(Seq(self.last), Seq(0), self.epoch)

    @precondition(lambda self: self.mark is not None)
    @rule(count=st.integers(1, 3))
    def commit_unmarked(self, count: int) -> None:
        """Acknowledged, and the mark lags."""
        assert self.mark is not None
        self.last = self.mark.beyond(Seq(self.last)) + count
        self.greatest = max(self.greatest, self.last)

    @precondition(lambda self: self.mark is not None)
    @rule()
    def sync(self) -> None:
        assert self.mark is not None
        self.mark.sync()
        self.synced = max(self.synced, self.mark.mark.highest)

    @precondition(lambda self: self.mark is not None)
    @rule(dies_at=st.integers(0, 3), commits=st.integers(0, 1))
    def prove_current(self, dies_at: int, commits: int) -> None:
        """The peers' word, after a commit or none; it may die before that is durable."""
        assert self.mark is not None
        if commits:
            self.last = self.mark.beyond(Seq(self.last)) + commits
        self.greatest = max(self.greatest, self.last)
        self.dies_at = dies_at
        try:
            self.mark.prove_current(self.store())
        except Killed:
            self.mark.close()
            self.mark = None
            # Without a commit the mark goes back, and nobody knows yet whether it has.
            self.synced = min(self.synced, self.last)
            self.old = None if self.durable_mark() is None else self.old
        else:
            self.synced = self.last
            self.old, self.put_back = None, False
        self.dies_at = 0

    def durable_mark(self) -> Found | None:
        mark = read_mark(str(self.path))
        assert mark is not None
        return mark.behind

    @rule()
    def back_up(self) -> None:
        self.backups.append(self.last)

    @precondition(lambda self: self.mark is None)
    @rule(data=st.data())
    def put_back_a_backup(self, data: st.DataObject) -> None:
        self.last = data.draw(st.sampled_from(self.backups))
        self.put_back = True

    @precondition(lambda self: self.mark is not None)
    @rule()
    def kill(self) -> None:
        """What was written stays in the page cache."""
        assert self.mark is not None
        self.mark.close()
        self.mark = None

    @rule(fates=FATES)
    def cut_the_power(self, fates: tuple[int, int]) -> None:
        """Of what was not synced anything may be left, of each slot by itself; the store has lost nothing."""
        if self.mark is not None:
            self.mark.close()
            self.mark = None
        if not self.path.exists():
            return
        if self.durable is None:
            self.path.unlink()
            return
        new, content = self.path.read_bytes(), bytearray(self.durable)
        for slot, reached in enumerate(fates):
            start = slot * SLOT_BYTES
            content[start : start + reached] = new[start : start + reached]
        self.path.write_bytes(content)
        self.durable = bytes(content)

    # -- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def it_can_be_read(self) -> None:
        """Whatever happened, and it is never ahead of what was acknowledged, nor behind what was synced."""
        mark = read_mark(str(self.path))
        if mark is not None:
            assert self.synced <= mark.highest <= self.greatest

    @invariant()
    def what_was_settled_stays(self) -> None:
        """Found behind, it is behind."""
        if self.old is not None:
            assert self.durable_mark() is not None


TestMarkAndStore = MarkAndStore.TestCase


def test_the_machines_sync_fails_as_it_should(tmp_path: Path) -> None:
    """The machine's own death is none that a mark takes for an error of its disk."""
    machine = MarkAndStore()
    machine.dies_at = 1
    with pytest.raises(Killed):
        HighWater.open(str(tmp_path / "mark"), Opened(1, Seq(1), Seq(1), OURS), machine.fsync)
    assert not issubclass(Killed, (OSError, StoreUnavailable))
    machine.teardown()
    assert os.listdir(tmp_path) == []
