"""How a case says which rule of `Store` a backend breaks, and how.

A case is a function that takes a `Backend`; the first paragraph of its docstring is the rule. Whatever goes wrong in
it, an exception of the store's own included, comes out as one `RuleBroken`. A rule that a backend does not claim to
keep is skipped by `unittest.SkipTest`, which pytest understands as well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Final, TypeVar
from unittest import SkipTest

from ...errors import BgsuperError
from ...key import Key

if TYPE_CHECKING:
    from .backend import Backend

#: What is shown of a value at most.
MOST_BYTES: Final = 40
MOST_ITEMS: Final = 8

Case = Callable[["Backend"], None]
Error = TypeVar("Error", bound=Exception)


class RuleBroken(BgsuperError, AssertionError):
    """A store does not do what `Store` promises: `rule` is the promise, `finding` what was seen instead."""

    def __init__(self, message: str, *, rule: str = "", finding: str = "") -> None:
        super().__init__(message)
        self.rule = rule
        self.finding = finding


class Finding(Exception):
    """What a case saw, and should not have seen."""


def case(check: Case) -> Case:
    """`check` as a case: what it finds is told with the rule that it holds."""
    rule = rule_of(check)

    @wraps(check)
    def run(backend: Backend) -> None:
        backend.check()
        try:
            check(backend)
        except SkipTest:
            raise
        except Finding as found:
            finding = str(found)
        except Exception as error:
            finding = f"it raised {kind_of(error)}"
            raise RuleBroken(f"{rule} Found: {finding}", rule=rule, finding=finding) from error
        else:
            return
        raise RuleBroken(f"{rule} Found: {finding}", rule=rule, finding=finding)

    return run


def rule_of(check: Case) -> str:
    """The rule that a case holds: the first paragraph of its docstring."""
    return " ".join((check.__doc__ or "").strip().partition("\n\n")[0].split())


def expect(holds: bool, finding: str) -> None:
    """Raise `Finding` with `finding` unless `holds`."""
    if not holds:
        raise Finding(finding)


def expect_same(what: str, expected: object, found: object) -> None:
    """Raise `Finding` unless `found` is `expected`."""
    if found != expected:
        raise Finding(f"{what}: expected {shown(expected)}, got {shown(found)}")


def expect_raises(kind: type[Error], call: Callable[[], object], doing: str) -> Error:
    """The exception of that kind that `call` raises; `Finding` if it raises another one, or none."""
    try:
        found = call()
    except kind as error:
        return error
    except Exception as error:
        raise Finding(f"{doing} should raise {kind.__name__}, it raised {kind_of(error)}") from error
    raise Finding(f"{doing} should raise {kind.__name__}, it returned {shown(found)}")


def kind_of(error: BaseException) -> str:
    """An exception's class and its text."""
    return f"{type(error).__name__}: {error!s:.300}"


def shown(value: object) -> str:
    """`value` in a few words, however large it is."""
    match value:
        case None:
            return "nothing"
        case Key():
            return str(value)
        case bytes() if len(value) > MOST_BYTES:
            return f"{len(value)} bytes that begin with {value[:16]!r}"
        case list() | tuple():
            items = ", ".join(map(shown, value[:MOST_ITEMS]))
            more = f", and {len(value) - MOST_ITEMS} more" if len(value) > MOST_ITEMS else ""
            return f"[{items}{more}]" if isinstance(value, list) else f"({items}{more})"
    return f"{value!r:.300}"
