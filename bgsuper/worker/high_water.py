"""The mark lane: keeps the high-water mark up with what was acknowledged, on a thread of its own.

Rules (beside those of `store.high_water`):
1. No commit waits for the mark or fails for its sake: the writer only leaves a number here. A mark that cannot be
   written is told once, on standard error, which the host logs; it is tried again with the next commits.
2. What was acknowledged is written within a second, busy or idle; a second of commits is one write. It is synced within
   ten: only a sync frees the file's other slot, so that neither record is ever much older than the other.
3. A host's first worker does not start without the mark that its URL names. A successor goes on without it: its host
   knows already whether the store is behind.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import Final

from ..errors import BgsuperError, StoreError
from ..key import Seq
from ..store.api import Opened
from ..store.high_water import HighWater

#: Seconds between two writes of the mark.
INTERVAL_S: Final = 1.0
#: Seconds between two syncs of the mark while it changes.
SYNC_S: Final = 10.0
#: How long the end of a worker waits for the mark's last write and its sync.
CLOSE_S: Final = 1.0

#: Called with what went wrong, or None.
Answer = Callable[[StoreError | None], None]


def open_lane(path: str, opened: Opened, *, required: bool) -> MarkLane | None:
    """The lane of the mark in the file `path`, at work.

    If the mark cannot be had, that is raised where it is `required`, and otherwise told: then there is no lane. Raises
    what `HighWater.open` raises, and `RuntimeError` where no thread is to be had.
    """
    try:
        mark = HighWater.open(path, opened)
    except BgsuperError as error:
        if required:
            raise
        _warn(f"{error}; this worker goes on without it")
        return None
    if mark.created and opened.last_seq:
        _warn(
            f"a new high-water mark was made at {path}, though the store has come to {opened.last_seq} already: if "
            "there was a mark before, look where it is, since this one cannot tell whether the store is an old backup"
        )
    if mark.damaged:
        _warn(
            f"a record of the high-water mark {path} was damaged; the other one is used, which may lack the last "
            f"{SYNC_S:.0f} seconds before the last write"
        )
    lane = MarkLane(mark, opened)
    lane.start()
    return lane


class MarkLane:
    """Writes `mark`, which was held against the store as it was `opened`."""

    def __init__(self, mark: HighWater, opened: Opened) -> None:
        self._mark, self._opened = mark, opened
        self._acknowledged, self._snapshot = opened.last_commit, Seq(0)
        found = mark.mark.behind
        behind: list[int] | None = None if found is None else [found.mark, found.store]
        self._claims = (mark.beyond(opened.last_seq), behind)
        self._proofs: deque[Answer] = deque()
        self._wanted, self._hurry = Event(), Event()
        self._ending = self._failing = False
        self._synced_at = time.monotonic()
        self._thread = Thread(target=self._run, name="high-water", daemon=True)

    def claims(self) -> tuple[Seq, list[int] | None]:
        """For HELLO: the number after which new ones are given out, and, if the store is behind, the mark and the
        store's newest number when it was found to be."""
        return self._claims

    def start(self) -> None:
        """Begin. Raises `RuntimeError` if there is no thread to be had."""
        self._wanted.set()  # the mark may lag behind what the store had when it was opened
        self._thread.start()

    def acknowledged(self, seq: Seq) -> None:
        """All commits up to `seq` were acknowledged. Never waits."""
        self._acknowledged = seq
        if not self._wanted.is_set():
            self._wanted.set()

    def snapshot_acknowledged(self, seq: Seq) -> None:
        """The critical snapshot `seq`, which is in the store, was acknowledged. Never waits."""
        # Those of several keys come in any order.
        self._snapshot = max(seq, self._snapshot)
        self._wanted.set()

    def prove_current(self, answer: Answer) -> None:
        """The store as it is was proved current; `answer` is called on this lane's thread once that is durable, or
        could not be made so."""
        self._proofs.append(answer)
        self._hurry.set()
        self._wanted.set()

    def close(self) -> None:
        """Write and sync what was acknowledged last. A disk that takes longer than `CLOSE_S` for it is left alone."""
        self._ending = True
        self._hurry.set()
        self._wanted.set()
        self._thread.join(CLOSE_S)

    # -- on the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        ending = False
        while not ending:
            self._wanted.wait(self._until_sync())
            # Before looking at anything that others leave: whatever comes later makes another round.
            self._wanted.clear()
            self._hurry.clear()
            ending = self._ending
            while self._proofs:
                self._proofs.popleft()(self._attempt(self._prove))
            self._tell(self._attempt(self._keep_up))
            if not ending:
                self._hurry.wait(INTERVAL_S)
        self._tell(self._attempt(self._mark.sync))
        self._mark.close()

    def _until_sync(self) -> float | None:
        """Seconds until the mark is to be synced; None if it is."""
        return max(0.0, self._synced_at + SYNC_S - time.monotonic()) if self._mark.unsynced else None

    def _prove(self) -> None:
        last_commit = self._acknowledged
        newest = max(self._opened.last_seq, last_commit, self._snapshot)
        self._mark.prove_current(self._opened._replace(last_commit=last_commit, last_seq=newest))

    def _keep_up(self) -> None:
        self._mark.raise_to(self._acknowledged, self._snapshot, self._opened.epoch)
        if self._until_sync() == 0.0:
            # One that fails is not tried again at once.
            self._synced_at = time.monotonic()
            self._mark.sync()

    def _attempt(self, step: Callable[[], None]) -> StoreError | None:
        try:
            step()
        except StoreError as error:
            return error
        return None

    def _tell(self, error: StoreError | None) -> None:
        if error is not None and not self._failing:
            _warn(f"{error}; commits go on, but an old backup put in place later may go unnoticed")
        self._failing = error is not None


def _warn(text: str) -> None:
    with suppress(OSError):  # the host is gone, and with it whoever would read it
        print(text, file=sys.stderr, flush=True)
