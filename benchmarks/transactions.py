"""Transactions for the benchmarks of stores: commits of a size, to keys picked at random, on a store that is filled.

Half of each value is random, as keys and signatures are, and half is text that repeats; no value comes twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

from bgsuper import Key, Seq
from bgsuper.ipc.messages import Commit
from bgsuper.store.api import CopyTarget

#: Records that one step of the filling takes.
_STEP: Final = 4096
_TEXT: Final = b"feerate_per_kw=253;cltv_expiry=144;htlc_minimum_msat=1000;state=ready;"


class Workload(NamedTuple):
    """What is committed: `group` commits a transaction, each a value for one of `keys` and perhaps a new record."""

    group: int
    value_bytes: int
    keys: int
    new_bytes: int = 0

    @property
    def changed_bytes(self) -> int:
        """Of values, in one transaction."""
        return self.group * (self.value_bytes + self.new_bytes)


def transactions(workload: Workload, last: int = 0) -> Iterator[list[Commit]]:
    """Without end, after commit `last`."""
    chance, numbers = random.Random(last), count(last + 1)
    while True:
        yield [_commit(workload, chance, next(numbers)) for _ in range(workload.group)]


def _commit(workload: Workload, chance: random.Random, number: int) -> Commit:
    puts = [(_head(chance.randrange(workload.keys)), value(chance, workload.value_bytes))]
    if workload.new_bytes:
        puts.append((Key("history", f"{number % 50:064x}", f"{number:012}"), value(chance, workload.new_bytes)))
    return Commit(Seq(number), Seq(number - 1), tuple(puts), ())


def _head(number: int) -> Key:
    return Key("channels", "", f"{number:064x}")


def value(chance: random.Random, size: int) -> bytes:
    """Half of it compresses."""
    rest = size - size // 2
    return chance.randbytes(size // 2) + (_TEXT * (rest // len(_TEXT) + 1))[:rest]


def fill(store: CopyTarget, workload: Workload) -> None:
    """Give every key a value, and let the store do its chores."""
    chance = random.Random(-1)
    for first in range(0, workload.keys, _STEP):
        numbers = range(first, min(first + _STEP, workload.keys))
        store.import_records([(_head(number), value(chance, workload.value_bytes)) for number in numbers])
    settle(store)


def settle(store: CopyTarget) -> None:
    """Let the store do its chores."""
    while store.has_idle_work:
        store.idle()


@contextmanager
def filled(make: Callable[[Path], CopyTarget], directory: Path, workload: Workload) -> Iterator[CopyTarget]:
    """An open store that `make` makes in `directory`, with a value for every key, its log as a new one's."""
    store = make(directory)
    store.open()
    fill(store, workload)
    store.close()
    store = make(directory)
    store.open()
    try:
        yield store
    finally:
        store.close()
