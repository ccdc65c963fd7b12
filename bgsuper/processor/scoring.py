"""What the scorer learns from an event: LDK's `update_scorer` (#1996, #2226) as a table.

    event                  what it says                           what the scorer is told
    PaymentPathFailed      short_channel_id is set                payment_path_failed: it failed at that channel
    PaymentPathFailed      not set, payment_failed_permanently    probe_successful: the recipient itself said no, so
                                                                  every channel on the way could have carried it
    PaymentPathFailed      neither                                nothing
    PaymentPathSuccessful                                         payment_path_successful
    ProbeFailed            short_channel_id is set                probe_failed
    ProbeFailed            not set                                nothing
    ProbeSuccessful                                               probe_successful

An event is known by the name of its class, which is LDK's, and read by LDK's names of its fields: the processor knows
no event class, and those of any host or library will do. A class of that name without those fields is an error, not an
event that nobody learns from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

from .interfaces import Event, ScoreUpdate


class PathEvent(Protocol):
    """`PaymentPathSuccessful`, `ProbeSuccessful`: all of a path is known to have worked."""

    @property
    def path(self) -> Any:
        """Whatever the scorer takes for a path."""


class PathFailure(PathEvent, Protocol):
    """`ProbeFailed`."""

    @property
    def short_channel_id(self) -> int | None:
        """The channel at which it failed, if that is known."""


class PaymentPathFailure(PathFailure, Protocol):
    """`PaymentPathFailed`."""

    @property
    def payment_failed_permanently(self) -> bool:
        """Whether the recipient refused it."""


def update_scorer(scorer: ScoreUpdate, event: Event, now: float) -> bool:
    """Tell `scorer` what `event` teaches at `now`, in seconds since the Unix epoch. Whether it teaches anything, so
    that the scorer has to be saved."""
    lesson = _LESSONS.get(type(event).__name__)
    return lesson is not None and lesson(scorer, event, now)


def _payment_path_failed(scorer: ScoreUpdate, event: PaymentPathFailure, now: float) -> bool:
    if event.short_channel_id is not None:
        scorer.payment_path_failed(event.path, event.short_channel_id, now)
        return True
    if event.payment_failed_permanently:
        scorer.probe_successful(event.path, now)
        return True
    return False


def _payment_path_successful(scorer: ScoreUpdate, event: PathEvent, now: float) -> bool:
    scorer.payment_path_successful(event.path, now)
    return True


def _probe_failed(scorer: ScoreUpdate, event: PathFailure, now: float) -> bool:
    if event.short_channel_id is None:
        return False
    scorer.probe_failed(event.path, event.short_channel_id, now)
    return True


def _probe_successful(scorer: ScoreUpdate, event: PathEvent, now: float) -> bool:
    scorer.probe_successful(event.path, now)
    return True


_Lesson: TypeAlias = Callable[[ScoreUpdate, Any, float], bool]
_LESSONS: Final[Mapping[str, _Lesson]] = {
    "PaymentPathFailed": _payment_path_failed,
    "PaymentPathSuccessful": _payment_path_successful,
    "ProbeFailed": _probe_failed,
    "ProbeSuccessful": _probe_successful,
}
