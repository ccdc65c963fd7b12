"""What a run came to, and what is kept of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from ...store.layout import CONTROL
from .loopmount import copy_image
from .model import Found, Model


@dataclass(frozen=True, slots=True)
class Violation:
    """A recovered store that breaks a rule."""

    number: int  #: of the round, or of the image
    problems: tuple[str, ...]
    evidence: str  #: the directory with the store as it was found

    def to_json(self) -> dict[str, object]:
        return {"number": self.number, "problems": list(self.problems), "evidence": self.evidence}


@dataclass(slots=True)
class Tally:
    """The figures of one campaign so far."""

    kind: str  #: "ext4", "xfs" or "block log"
    wanted: int  #: rounds or images
    done: int = 0  #: stores recovered and judged
    cuts: int = 0  #: times that the power went
    in_start: int = 0  #: of which while the host started
    repaired: int = 0  #: file systems that e2fsck had to mend before they could be mounted
    stores: int = 0  #: stores that were made
    acknowledged: int = 0  #: commits that had to be there, and were
    unacknowledged: int = 0  #: commits that were under way, and might be there or not
    kept: int = 0  #: of which were there
    violations: list[Violation] = field(default_factory=list)
    seconds: float = 0.0

    def recovered(self, model: Model, found: Found) -> None:
        """`found` was judged by `model`, and is good."""
        self.done += 1
        for commit in model.commits:
            if commit.seq <= model.acked:
                self.acknowledged += 1
            else:
                self.unacknowledged += 1
                self.kept += commit.seq <= found.last_commit

    def to_json(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "wanted": self.wanted,
            "recovered": self.done,
            "cuts": self.cuts,
            "cuts_during_start": self.in_start,
            "file_systems_repaired": self.repaired,
            "stores_made": self.stores,
            "commits_acknowledged": self.acknowledged,
            "commits_unacknowledged": self.unacknowledged,
            "unacknowledged_commits_kept": self.kept,
            "violations": [violation.to_json() for violation in self.violations],
            "seconds": round(self.seconds, 1),
        }


class Evidence:
    """A directory for what violates; made when there is something to keep, at most `most` times: one fault can spoil
    every round."""

    def __init__(self, directory: Path, scratch: Path, most: int = 5) -> None:
        self.directory = directory
        self._copy = scratch / "store-before-recovery"
        self._left = most

    def take(self, store: Path) -> None:
        """Remember the store as it is, before its recovery changes it."""
        if not self._left:
            return
        shutil.rmtree(self._copy, ignore_errors=True)
        if store.exists():
            shutil.copytree(store, self._copy, ignore=shutil.ignore_patterns(CONTROL))

    def keep(self, name: str, problems: list[str], image: Path) -> str:
        """Keep what was taken, and the image as it is now; where."""
        if not self._left:
            return ""
        self._left -= 1
        place = self.directory / name
        place.mkdir(parents=True, exist_ok=True)
        if self._copy.exists():
            shutil.copytree(self._copy, place / "store", dirs_exist_ok=True)
        copy_image(image, place / "image")
        (place / "problems.txt").write_text("\n".join(problems) + "\n")
        return str(place)
