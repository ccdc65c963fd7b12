"""Power cuts by a block log: hosts work on an ext4 whose every block write and flush is logged, then the disks that a
power cut may leave are built from the log, mounted, and their stores judged.

Unlike the shutdown ioctl, this tears and re-orders what the disk had not flushed: writes are lost, torn at any sector,
or there while older ones are not.

Rules:
1. The power goes just before an entry of the log. Who was told of an acknowledgement before that entry arrived was told
   the truth: each flush that it rests on had been answered.
2. A host may also die and be replaced without a power cut. What its successor was told at start counts as acknowledged.
3. A disk that cannot be mounted is repaired by e2fsck, and counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from ...errors import BgsuperError
from ...supervisor.launch import Launcher, launch
from .blocklog import FATES, Disk, Entry, Fate, read_log, write_sectors
from .fusefile import logged_file
from .host import Host
from .loopmount import LoopDisk, NoDisk, copy_image
from .model import Event, Found, Model, Recovered
from .recovery import new_store, read_host, read_store
from .report import Evidence, Tally, Violation
from .workload import Workload

#: Small, since each image is a copy; but ext4 has a second superblock only above 128 MiB.
DISK_BYTES: Final = 160 * 1024 * 1024
#: How long a host works before it dies, and how many follow each other at one store.
_LIFE_S: Final = 0.35
_LIVES: Final = 3
_IMAGES_A_LIFE: Final = 25


@dataclass(slots=True)
class _Life:
    """What one host did, in which store; times as in `model`."""

    store: int
    began: int
    events: list[Event]


@dataclass(frozen=True, slots=True)
class Replay:
    """`images` disks built from the log of one run, in files under `directory`."""

    images: int
    seed: int
    directory: Path
    evidence: Evidence
    launcher: Launcher = launch

    def run(self, progress: Callable[[Tally], None] = lambda tally: None) -> Tally:
        """Record, then judge; `progress` is told after each image. Raises `NoDisk`."""
        tally = Tally("block log", self.images)
        began = time.monotonic()
        dice = Random(f"{self.seed}/block log")
        lives, log = self._record(dice, tally)
        tally.stores = len({life.store for life in lives})
        first = next(index for index, entry in enumerate(log) if entry.at > lives[0].began)
        cuts = sorted(dice.choices(range(first, len(log)), k=self.images))
        with open(self._durable, "r+b") as image:
            disk = Disk(image, log)
            for number, cut in enumerate(cuts):
                under_way, fate = disk.advance(cut), dice.choice(FATES)
                self._build(under_way, fate, dice)
                self._judge(number, _at(lives, log[cut].at), fate, f"before entry {cut} of {len(log)}", tally)
                tally.seconds = time.monotonic() - began
                progress(tally)
        return tally

    # -- recording ----------------------------------------------------------------------------------------------------

    @property
    def _durable(self) -> Path:
        return self.directory / "durable.image"

    def _record(self, dice: Random, tally: Tally) -> tuple[list[_Life], list[Entry]]:
        image, log = self.directory / "logged.image", self.directory / "blocks.log"
        LoopDisk("ext4", image, self.directory / "logged").make(DISK_BYTES)
        copy_image(image, self._durable)
        lives: list[_Life] = []
        with logged_file(image, log, self.directory / "fuse") as served:
            disk = LoopDisk("ext4", served, self.directory / "logged")
            disk.mount()
            try:
                for number in range(1 + self.images // _IMAGES_A_LIFE):
                    lives.append(_Life(number // _LIVES, time.monotonic_ns(), []))
                    self._live(number, disk.path, lives, dice, tally)
                disk.unmount()
            finally:
                disk.abandon()
        image.unlink()
        return lives, read_log(log)

    def _live(self, number: int, path: Path, lives: list[_Life], dice: Random, tally: Tally) -> None:
        life, (_, model) = lives[-1], _at(lives, time.monotonic_ns())
        host = Host(path / f"store-{life.store}", self.launcher)
        try:
            found = read_host(host.supervisor, model)
            problems = model.problems(found)
            if problems:
                problems.append("(a worker was killed; the power did not go)")
                tally.violations.append(Violation(number, tuple(problems), ""))
            life.events.append(Recovered(time.monotonic_ns(), found))
            workload = Workload(host.supervisor, dice, life.events.append)
            deadline = time.monotonic() + _LIFE_S
            while time.monotonic() < deadline:
                workload.step()
        finally:
            host.end()

    # -- judging ------------------------------------------------------------------------------------------------------

    @property
    def _image(self) -> Path:
        return self.directory / "cut.image"

    def _build(self, under_way: list[Entry], fate: Fate, dice: Random) -> None:
        copy_image(self._durable, self._image)
        with open(self._image, "r+b") as image:
            write_sectors(image, fate.left(under_way, dice))

    def _judge(self, number: int, at: tuple[int, Model], fate: Fate, where: str, tally: Tally) -> None:
        store, model = at
        disk = LoopDisk("ext4", self._image, self.directory / "cut")
        tally.cuts += 1
        try:
            self._mount(disk, tally)
            self.evidence.take(disk.path / f"store-{store}")
            found = _recovered(disk, store)
            problems = model.problems(found)
            if not problems:
                disk.unmount()
                disk.mount()
                again = _recovered(disk, store)
                tally.cuts += 1
                if again != found:
                    problems = ["a second recovery finds something else", *model.problems(again)]
        except BgsuperError as error:
            problems = [f"cannot be recovered: {type(error).__name__}: {error}"]
        finally:
            disk.abandon()
        if problems:
            problems.append(f"({fate.name}, {where})")
            kept = self.evidence.keep(f"block-log-{number}", problems, self._image)
            tally.violations.append(Violation(number, tuple(problems), kept))
        else:
            tally.recovered(model, found)

    def _mount(self, disk: LoopDisk, tally: Tally) -> None:
        try:
            disk.mount()
        except NoDisk:
            tally.repaired += 1
            disk.repair()
            disk.mount()


def _recovered(disk: LoopDisk, number: int) -> Found:
    """What is in the store; the power goes again right after it is known."""
    store = new_store(disk.path / f"store-{number}")
    try:
        found = read_store(store)
        disk.cut_power()
    finally:
        store.close()
    return found


def _at(lives: Iterable[_Life], at: int) -> tuple[int, Model]:
    """The newest store just before `at`, and what may be in it."""
    begun = [life for life in lives if life.began < at]
    model = Model()
    for life in begun:
        if life.store == begun[-1].store:
            for event in sorted(life.events, key=lambda event: event.at):
                if event.at < at:
                    model.happen(event)
    return begun[-1].store, model
