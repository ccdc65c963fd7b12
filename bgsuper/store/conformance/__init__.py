"""A suite that any backend can be run through, a user's own as well: does it keep the rules of `Store`?

How to write a store of your own. It is a class with the attributes and methods of `bgsuper.store.api.Store`, no base
class needed; the worker imports it, makes it and calls it, all methods but `write_snapshot` on one thread:

    open()              take a lock that dies with the process; make all that can be read durable; raise the epoch by
                        one, durably; return Opened(epoch, last_commit, last_seq, store_id)
    apply(group)        write the commits of `group` in order (`.seq`, `.puts`, `.removes`; removes come after puts),
                        with the newest number, in one transaction; return when it is durable
    write_snapshot(key, seq, content)
                        write a large value beside the others, durably; return SnapshotFile(key, seq, name, length,
                        digest). Called on a second thread while `apply` runs
    adopt_snapshot(s)   make it the key's value, in one transaction
    discard_snapshot(s) forget it
    read(key)           the value; `NotFound` if, and only if, the key is absent
    scan(primary, secondary, after, limit)
                        a page of [(key, value), ...] in the order of names
    has_idle_work, idle()
                        chores, done when nothing came for a while
    atomic              whether a batch is all or nothing after a crash; health repeats it
    close()             give up the lock; may be called twice

What to raise: the classes of `bgsuper.errors`. `StoreFull` and `StoreUnavailable` are retried, `SyncFailed` costs the
worker its life and is tried once more by another, a plain `StoreError` counts as a crash, every other `StoreError` is
fatal. Whatever else leaves a method is fatal too, and comes out of `join()` as itself.

How to use it: ``Supervisor(PersisterRef("package.module:MyStore", {"directory": "/var/lib/node"}))``.

How to test it, on the disk that it will live on:

    python -m bgsuper.store.conformance package.module:MyStore

which calls ``MyStore(directory)`` many times, each case in a new directory; or under pytest:

    from bgsuper.store.conformance import CASES, Backend

    @pytest.mark.parametrize("case", CASES)
    def test_my_store(case, tmp_path):
        case(Backend("package.module:MyStore", tmp_path))

Each case raises `RuleBroken`, which says the rule and how it was broken, or skips a rule that the backend does not
claim to keep. What it cannot find: an acknowledgement before the sync (a killed process leaves the page cache behind;
it takes a power cut to tell), and whatever happens only to large stores or after a long time.
"""

from __future__ import annotations

from typing import Final

from . import commits, copies, crashes, failures, opening, records, scans, snapshots
from .backend import Backend
from .rules import Case, RuleBroken

#: All cases, the quick ones first.
CASES: Final[tuple[Case, ...]] = (
    *records.CASES,
    *scans.CASES,
    *commits.CASES,
    *snapshots.CASES,
    *opening.CASES,
    *copies.CASES,
    *failures.CASES,
    *crashes.CASES,
)

__all__ = ["CASES", "Backend", "Case", "RuleBroken"]
