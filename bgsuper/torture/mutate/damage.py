"""Stores damaged at random, one after the other: `stores` says what opening them may do, `views` what may be seen by
looking into them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from .mutator import mutate
from .stores import WAL, Broken, Files, Original, build, judge, write_tree
from .views import look

SECTOR: Final = 512


@dataclass
class Damaged:
    """What became of them."""

    opened: int = 0  #: how many were tried
    refused: int = 0
    whole: int = 0  #: everything was there
    unreadable: int = 0  #: opened, but some keys were `StoreCorrupt`
    dropped: int = 0  #: opened without the newest commits
    saved: int = 0  #: not opened, but a view showed everything there was
    broken: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        return (
            f"{self.opened:,} tried: {self.refused:,} refused ({self.saved:,} of them shown whole by a view), "
            f"{self.whole:,} whole, {self.unreadable:,} with StoreCorrupt keys, {self.dropped:,} without the WAL's "
            f"newest commits, {len(self.broken):,} broke a rule"
        )


def run(directory: Path, count: int, seed: int, tell: Callable[[], None] = lambda: None) -> Damaged:
    """Open `count` damaged stores below `directory`."""
    damaged = Damaged()
    originals = [
        build(directory, Random(seed + number), with_wal=number % 2 == 0) for number in range(4 if count else 0)
    ]
    for number in range(count):
        random = Random(f"{seed}:store:{number}")
        original = random.choice(originals)
        files, what = _damage(random, original)
        write_tree(directory / "store", files)
        _judge(directory / "store", original, damaged, f"{what} (number {number})")
        tell()
    return damaged


def _judge(directory: Path, original: Original, damaged: Damaged, what: str) -> None:
    damaged.opened += 1
    try:
        # First: whoever opens a store changes it.
        seen = look(directory, original)
        verdict = judge(directory, original)
    except Broken as broken:
        damaged.broken.append(f"{what}: {broken}")
        return
    if verdict.refused is not None:
        damaged.refused += 1
        damaged.saved += seen.refused is None and seen.newest == original.newest and not seen.lost
    elif verdict.newest < original.newest:
        damaged.dropped += 1
        if WAL not in what:
            damaged.broken.append(f"{what}: acknowledged commits are missing")
    elif verdict.unreadable:
        damaged.unreadable += 1
    else:
        damaged.whole += 1


def _damage(random: Random, original: Original) -> tuple[Files, str]:
    """The files with one of them damaged in one place, and what was done."""
    name = random.choice([name for name, content in original.files.items() if content])
    content = original.files[name]
    place = random.randrange(len(content))
    what = random.choice(("cut", "mutated", "zeroed", "flipped", "flipped", "flipped"))
    match what:
        case "cut":
            damaged = content[:place]
        case "mutated":
            piece = mutate(random, content[place : place + 64], (content,))[:64]
            damaged = content[:place] + piece + content[place + len(piece) :]
        case "zeroed":
            place -= place % SECTOR
            damaged = content[:place] + bytes(len(content[place : place + SECTOR])) + content[place + SECTOR :]
        case _:
            damaged = content[:place] + bytes([content[place] ^ 1 << random.getrandbits(3)]) + content[place + 1 :]
    return {**original.files, name: damaged}, f"{name} {what} at {place}"
