"""All cases, one after the other, each in a new directory; what came out of each."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple
from unittest import SkipTest

from .backend import Backend
from .rules import Case, RuleBroken, rule_of


class Result(NamedTuple):
    """What came out of one case."""

    case: str
    rule: str
    outcome: Literal["kept", "broken", "skipped"]
    detail: str  #: what was found, or why it was skipped
    seconds: float


def run(cases: Iterable[Case], backend_in: Callable[[str], Backend], parent: str | None) -> Iterator[Result]:
    """Run each of `cases` on the backend that `backend_in` gives for a new directory below `parent` (or wherever
    temporary directories are). Raises `ConfigError` for a backend of which there is no store."""
    for case in cases:
        with tempfile.TemporaryDirectory(prefix="conformance-", dir=parent) as directory:
            began = time.monotonic()
            outcome: Literal["kept", "broken", "skipped"] = "kept"
            detail = ""
            try:
                case(backend_in(directory))
            except RuleBroken as broken:
                outcome, detail = "broken", broken.finding
            except SkipTest as skipped:
                outcome, detail = "skipped", str(skipped)
            yield Result(case.__name__, rule_of(case), outcome, detail, time.monotonic() - began)
