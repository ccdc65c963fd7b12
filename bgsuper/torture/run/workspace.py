"""The directories of a run, and the evidence.

    directory/         a fresh temporary one
      store/           the store, unless it was named by URL
      faults           the fault plan that overseer and workers share
      hosts.log        what all hosts and their workers logged
      evidence/        after a violation:
        store/         the store as it was found, copied while its worker stood still
        report.json    the summary and the whole timeline
        README         what this is, and how to see it again

Rule: no store is touched that was not made here. After a good run all of it goes.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from ...errors import ConfigError
from ...store.layout import CONTROL
from ...store.url import parse
from .directory import OwnDirectory
from .timeline import Outcome

_OPTION: Final = "--store"


@dataclass(frozen=True, slots=True)
class Workspace:
    """The directories of one run."""

    own: OwnDirectory
    store: OwnDirectory

    @classmethod
    def make(cls, url: str | None) -> Self:
        """A fresh directory, and the store's within it unless `url` names one. Raises `ConfigError`."""
        if url is None:
            own = OwnDirectory.temporary("bgsuper-torture-", "TMPDIR")
            return cls(own, OwnDirectory.take(own.path / "store", _OPTION))
        parsed = parse(url)
        if parsed.options:
            raise ConfigError(f"expected a store URL without options, got {url!r:.200}; torture brings its own faults")
        store = OwnDirectory.take(Path(parsed.path), _OPTION)
        return cls(OwnDirectory.temporary("bgsuper-torture-", "TMPDIR"), store)

    @property
    def faults(self) -> Path:
        return self.own.path / "faults"

    @property
    def log(self) -> Path:
        return self.own.path / "hosts.log"

    @property
    def evidence(self) -> Path:
        return self.own.path / "evidence"

    @property
    def url(self) -> str:
        """The store's, with the faults of the plan."""
        return f"sqlite://{quote(str(self.store.path))}?faults={quote(str(self.faults), safe='/')}"

    def copy_store(self) -> None:
        """Copy the store as it is. Nobody may be writing to it."""
        ignored = shutil.ignore_patterns(CONTROL)
        shutil.copytree(self.store.path, self.evidence / "store", ignore=ignored, dirs_exist_ok=True)

    def explain(self, outcome: Outcome, command: str) -> None:
        """Write down what was found, and that `command` may find it again."""
        self.evidence.mkdir(exist_ok=True)
        report = {"summary": outcome.summary(), "timeline": outcome.timeline.lines}
        (self.evidence / "report.json").write_text(json.dumps(report, indent=1) + "\n")
        violations = "".join(f"  {each.what}: {each.text}\n" for each in outcome.timeline.violations)
        (self.evidence / "README").write_text(
            f"bgsuper torture found what must never be:\n\n{violations}\n"
            "store/       the store as it was found (open only copies of it: opening changes it)\n"
            "report.json  what was done, when, and what came of it\n"
            "../hosts.log what the hosts and their workers logged\n\n"
            f"To see it again:  {command}\n"
            "The same seed makes the same workload and the same row of blows; the moment at which each one hits is\n"
            "the machine's doing, so it may take a longer run.\n"
        )

    def remove(self) -> None:
        """Remove what was made. Raises `OSError`."""
        if self.store.path.parent != self.own.path:
            self.store.remove()
        self.own.remove()
