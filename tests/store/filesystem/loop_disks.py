"""Real power cuts: a store on an ext4 or XFS of our own on a loop device, which is shut down under it.

    python -m tests.store.filesystem.loop_disks DIRECTORY KIND ROUNDS

Each round a process commits groups and tells of each that was acknowledged; at a random moment the power goes. Then the
disk is mounted again, and the store must hold exactly the groups up to the last acknowledged one, or one more. Exits
with 2 and the reason where such a disk cannot be had.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from bgsuper.errors import StoreError
from bgsuper.ipc.messages import Commit
from bgsuper.key import Key, Seq
from bgsuper.store.filesystem.stamp import ATTRIBUTE
from bgsuper.store.filesystem.store import FilesystemStore
from bgsuper.torture.power.loopmount import LoopDisk, NoDisk, isolate, why_not

from .stores import die, new_store, opened

NAMESPACES = [("", ""), ("monitors", ""), *(("monitor_updates", f"{n}") for n in range(5))]
KEYS = 60


def changes(seq: int) -> tuple[dict[Key, bytes], list[Key]]:
    """What commit `seq` puts and removes: the same in every process."""
    dice = random.Random(seq)
    keys = [
        Key(*NAMESPACES[n % len(NAMESPACES)], f"k{n}") for n in dice.sample(range(KEYS), dice.choice((1, 2, 5, 25)))
    ]
    puts = {key: b"%d " % seq * dice.choice((0, 1, 100, 3000)) for key in keys if dice.random() < 0.8}
    return puts, [key for key in keys if key not in puts]


def state(seq: int) -> dict[Key, bytes]:
    """What is there after commit `seq`."""
    there: dict[Key, bytes] = {}
    for number in range(1, seq + 1):
        puts, removes = changes(number)
        there |= puts
        for key in removes:
            there.pop(key, None)
    return there


def work(directory: str) -> None:
    """Commit for ever; the last number acknowledged goes to standard output. Every tenth one is a snapshot's."""
    store = FilesystemStore(directory, host_pid=os.getppid())
    seq = store.open().last_commit
    while True:
        seq = Seq(seq + 1)
        puts, removes = changes(seq)
        try:
            if seq % 7 == 0:
                store.discard_snapshot(store.write_snapshot(Key("", "", "graph"), seq, bytes(700_000)))
            if seq % 5 == 0:
                store.idle()
            store.apply([Commit(seq, Seq(seq - 1), tuple(puts.items()), tuple(removes))])
        except StoreError:
            return
        print(seq, flush=True)


def cut_power_once(disk: LoopDisk, dice: random.Random, last: int) -> tuple[int, bool]:
    """One round: the newest commit afterwards, and whether it was one that was not acknowledged."""
    store = disk.path / "store"
    command = [sys.executable, "-m", __spec__.name, "work", str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        line = worker.stdout.readline()
        time.sleep(dice.uniform(0, 0.3))
        disk.cut_power()
        lines = [line, *worker.stdout.readlines()]
    acknowledged = max((int(line) for line in lines if line.strip()), default=last)
    disk.unmount()
    disk.mount()
    with opened(store) as found:
        # That open is followed by a power cut as well: what it claims must survive.
        claimed = found._identity.last_commit
        assert claimed in (acknowledged, acknowledged + 1), (claimed, acknowledged)
        check(store, found, claimed)
        die(found)
        disk.cut_power()
    disk.unmount()
    disk.mount()
    again = new_store(store)
    assert again.open().last_commit == claimed
    check(store, again, claimed)
    again.close()
    return claimed, claimed > acknowledged


def check(directory: Path, store: FilesystemStore, seq: int) -> None:
    there = {key: value for namespace in NAMESPACES for key, value in store.scan(*namespace, "", 1 << 30)}
    expected = state(seq)
    assert there == expected, {key for key in there.keys() | expected.keys() if there.get(key) != expected.get(key)}
    for key in there:
        assert ATTRIBUTE in os.listxattr(directory.joinpath(*filter(None, key)))


def main(directory: Path, kind: str, rounds: int) -> None:
    reason = why_not([kind])
    if reason is not None:
        raise NoDisk(reason)
    isolate()
    disk = LoopDisk(kind, directory / "image", directory / "disk")
    disk.make()
    disk.mount()
    dice, last, extra = random.Random(kind), 0, 0
    for _ in range(rounds):
        last, more = cut_power_once(disk, dice, last)
        extra += more
    disk.unmount()
    print(f"{rounds} power cuts under a store on {kind}, {last} commits, {extra} of them not acknowledged")


if __name__ == "__main__":
    if sys.argv[1] == "work":
        work(sys.argv[2])
        sys.exit()
    try:
        main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    except NoDisk as error:
        print(error, file=sys.stderr)
        sys.exit(2)
