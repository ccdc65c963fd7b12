"""What a host submits: a step for each number, determined by seed, host and number alone.

The overseer makes the same steps from the same numbers, so a host need not tell what it submits, only that it does; and
a number that one host used in vain is another step with the next host, so that the two cannot be taken for each other.

    records    a few keys, put and removed again and again: what was changed last must be there
    history    one record a commit, append-only but for a window: no later write can hide the loss of an earlier one
    mixed      keys that commits and snapshots both write: the later one must win
    snapshots  large values, latest wins: never older than before
    filling    written once, before anything else, to make the store as large as is wanted
"""

from __future__ import annotations

import math
from random import Random
from typing import Final, NamedTuple

from ...key import Key, Seq
from .values import Origin

PRIMARY: Final = "torture"
#: The namespaces that each new host reads whole.
WORKING: Final = ((PRIMARY, "records"), (PRIMARY, "history"), (PRIMARY, "mixed"), (PRIMARY, "snapshots"))
#: Read at the end only: it may be large.
FILLING: Final = (PRIMARY, "filling")

#: How many history records there are at a time: more than a host makes between two looks at the store.
WINDOW: Final = 2048
#: A commit of the filling, in bytes of values.
FILLING_COMMIT_BYTES: Final = 1024 * 1024
_FILLING_VALUE_BYTES: Final = 64 * 1024

_RECORDS: Final = tuple(Key(PRIMARY, "records", f"{number:02d}") for number in range(64))
_MIXED: Final = tuple(Key(PRIMARY, "mixed", f"{number}") for number in range(2))
_SNAPSHOTS: Final = tuple(Key(PRIMARY, "snapshots", name) for name in ("graph", "manager", "scorer"))

_KINDS: Final = {"one": 40, "batch": 30, "removes": 15, "large": 1, "mixed": 5, "snapshot": 4, "critical": 3}


class Commit(NamedTuple):
    """One atomic batch."""

    puts: dict[Key, Origin]
    removes: tuple[Key, ...]


class Snapshot(NamedTuple):
    """One whole large value."""

    key: Key
    value: Origin
    critical: bool


Step = Commit | Snapshot


def step(seed: int, host: int, seq: Seq, filling: int = 0) -> Step:
    """What `host` submits under `seq`; the first `filling` numbers fill the store."""
    if seq <= filling:
        return _fill(host, seq)
    random = Random(f"{seed} {host} {seq}")
    keys: tuple[Key, ...] = ()
    removes: tuple[Key, ...] = ()
    kind = random.choices(tuple(_KINDS), tuple(_KINDS.values()))[0]
    match kind:
        case "snapshot" | "critical":
            key = random.choice(_SNAPSHOTS + _MIXED)
            return Snapshot(key, Origin(host, seq, _size(random, 1024, 256 * 1024)), kind == "critical")
        case "mixed":
            keys = (random.choice(_MIXED),)
            if random.random() < 0.3:
                keys, removes = (), keys
        case "removes":
            chosen = random.sample(_RECORDS, random.randint(1, 8))
            cut = random.randint(0, len(chosen))
            keys, removes = tuple(chosen[:cut]), tuple(chosen[cut:])
        case "batch":
            keys = tuple(random.sample(_RECORDS, random.randint(2, 12)))
        case _:
            keys = (random.choice(_RECORDS),)
    most = 200 * 1024 if kind == "large" else 2048
    puts = {key: Origin(host, seq, _size(random, 16, most)) for key in keys}
    puts[_history(seq)] = Origin(host, seq, _size(random, 16, 256))
    return Commit(puts, (*removes, _history(Seq(seq - WINDOW))) if seq > WINDOW else removes)


def _fill(host: int, seq: Seq) -> Commit:
    values = range(FILLING_COMMIT_BYTES // _FILLING_VALUE_BYTES)
    return Commit(
        {Key(*FILLING, f"{seq:06d}-{number:02d}"): Origin(host, seq, _FILLING_VALUE_BYTES) for number in values}, ()
    )


def _history(seq: int) -> Key:
    return Key(PRIMARY, "history", f"{seq:010d}")


def _size(random: Random, least: int, most: int) -> int:
    """Small ones are more frequent: as many from `least` to twice that as from half of `most` to `most`."""
    return round(math.exp(random.uniform(math.log(least), math.log(most))))
