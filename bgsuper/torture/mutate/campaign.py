"""Many inputs for each parser, and an account of what became of them.

An input is made from the seed, its parser's name and its number, so it can be made again alone. Time is measured for
each input, memory over all of them.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

from .parsers import Parser

#: CPU seconds that no input may take.
SLOW_S: Final = 1.0
#: How much the process may grow, whatever it is given.
GROWTH_BYTES: Final = 128 * 1024 * 1024
#: How often whoever looks on is told.
_TELL_EVERY: Final = 500


@dataclass
class Tally:
    """What one parser made of its inputs."""

    inputs: int = 0
    taken: int = 0  #: a value came of them
    refused: int = 0  #: the error came of them that should
    slowest_s: float = 0.0


@dataclass(frozen=True)
class Finding:
    """An input that a parser did something else about, or took too long over."""

    parser: str
    number: int
    what: str
    content: bytes


@dataclass
class Account:
    """The whole campaign."""

    seed: int
    tallies: dict[str, Tally] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    grown_bytes: int = 0

    @property
    def inputs(self) -> int:
        return sum(tally.inputs for tally in self.tallies.values())

    @property
    def held(self) -> bool:
        """Whether no rule was broken."""
        return not self.findings and self.grown_bytes <= GROWTH_BYTES


def make_input(parser: Parser, name: str, seed: int, number: int) -> bytes:
    """Input `number` of the parser called `name`."""
    return parser.make(Random(f"{seed}:{name}:{number}"))


def run(
    parsers: Mapping[str, Parser], inputs: int, seed: int, tell: Callable[[str, int], None] = lambda _name, _count: None
) -> Account:
    """Give each parser its share of `inputs`, up to its first finding; `tell(name, count)` hears of progress."""
    account = Account(seed)
    before = _peak_bytes()
    for place, (name, parser) in enumerate(parsers.items()):
        share = inputs // len(parsers) + (place < inputs % len(parsers))
        tally = account.tallies[name] = Tally()
        for number in range(share):
            content = make_input(parser, name, seed, number)
            finding = try_one(parser, name, number, content, tally)
            if finding is not None:
                account.findings.append(finding)
                break
            if tally.inputs % _TELL_EVERY == 0:
                tell(name, _TELL_EVERY)
        tell(name, tally.inputs % _TELL_EVERY)
    account.grown_bytes = _peak_bytes() - before
    return account


def try_one(parser: Parser, name: str, number: int, content: bytes, tally: Tally) -> Finding | None:
    """One input; what is wrong about what became of it."""
    began = time.process_time()
    what = None
    try:
        parser.parse(content)
        tally.taken += 1
    except parser.refuses:
        tally.refused += 1
    except Exception as error:  # noqa: BLE001 - which is what we look for
        what = f"raised {type(error).__name__}: {error!s:.200}"
    took = time.process_time() - began
    tally.inputs += 1
    tally.slowest_s = max(tally.slowest_s, took)
    if what is None and took > SLOW_S:
        what = f"took {took:.1f} s"
    return None if what is None else Finding(name, number, what, content)


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
