"""All kinds of power cuts, one after another, and what they came to."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...errors import BgsuperError
from ...supervisor.launch import launch
from . import fusefile, loopmount
from .cuts import Cuts
from .fusefile import logged_file
from .loopmount import LoopDisk, NoDisk
from .planted import launcher
from .replay import Replay
from .report import Evidence, Tally
from .scratch import scratch

BLOCK_LOG: Final = "block log"


class InstrumentFailed(BgsuperError):
    """What was judged so far counts for nothing: a disk of ours could not be mounted, unmounted or repaired."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """`ext4` and `xfs` rounds with the shutdown ioctl, `block_log` images, thrown by the dice of `seed`.

    The disks are made under `directory`, what violates is kept under `evidence` (both: among the temporary files if
    None). `plant` is one of `planted.FAULTS`, or None.
    """

    ext4: int = 500
    xfs: int = 500
    block_log: int = 300
    seed: int = 1
    directory: Path | None = None
    evidence: Path | None = None
    plant: str | None = None

    def why_not(self) -> str | None:
        """Why it cannot run here, as far as can be told without trying; None if nothing speaks against it."""
        return loopmount.why_not(self._kinds()) or (fusefile.why_not() if self.block_log else None)

    def run(self, progress: Callable[[Tally], None] = lambda tally: None) -> Sequence[Tally]:
        """Run it; `progress` is told after each cut. Raises `NoDisk` where that is impossible, before anything is
        judged, and `InstrumentFailed` where a disk cannot be had later on.

        Call `loopmount.isolate()` before, in a process that has nothing else to mount: no mount outlives that one.
        """
        reason = self.why_not()
        if reason is not None:
            raise NoDisk(reason)
        start = launcher(self.plant) if self.plant is not None else launch
        tallies = []
        with scratch(self.directory) as directory:
            self._try(directory)
            evidence = Evidence(self.evidence or _place_for_evidence(), directory)
            try:
                for kind, rounds in (("ext4", self.ext4), ("xfs", self.xfs)):
                    if rounds:
                        tallies.append(Cuts(kind, rounds, self.seed, directory, evidence, start).run(progress))
                if self.block_log:
                    tallies.append(Replay(self.block_log, self.seed, directory, evidence, start).run(progress))
            except NoDisk as error:
                raise InstrumentFailed(f"the power cuts themselves failed: {error}") from error
        return tallies

    def _try(self, directory: Path) -> None:
        """Have one of each disk that will be needed."""
        place = directory / "trial"
        place.mkdir()
        for kind in self._kinds():
            disk = LoopDisk(kind, place / f"{kind}.image", place / kind)
            disk.make()
            disk.mount()
            disk.unmount()
            if kind == "ext4" and self.block_log:
                with logged_file(disk.image, place / "log", place / "fuse"):
                    pass
        shutil.rmtree(place)

    def _kinds(self) -> list[str]:
        return [kind for kind, wanted in (("ext4", self.ext4 + self.block_log), ("xfs", self.xfs)) if wanted]


def _place_for_evidence() -> Path:
    return Path(tempfile.gettempdir()) / f"bgsuper-evidence-{time.strftime('%Y%m%d-%H%M%S')}"
