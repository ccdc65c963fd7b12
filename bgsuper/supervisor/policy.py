"""What the host may set: limits of what is un-acknowledged, and what a worker may do before it is replaced. Data."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..errors import ConfigError


def _positive(policy: Limits | RestartPolicy) -> None:
    for field in fields(policy):
        value = getattr(policy, field.name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ConfigError(
                f"expected {type(policy).__name__}.{field.name} to be a positive number, got {value!r:.80}"
            )


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be un-acknowledged, in bytes of values, and 200 more for each commit, snapshot and record."""

    soft_bytes: int = 64 * 1024 * 1024  #: from here on `writable` is False and `drain()` waits
    hard_bytes: int = 256 * 1024 * 1024  #: from here on `commit()` and `snapshot()` raise `Backlogged`
    lagging_s: float = 5.0  #: an un-acknowledged commit older than this makes the worker LAGGING

    def __post_init__(self) -> None:
        _positive(self)
        if self.soft_bytes >= self.hard_bytes:
            raise ConfigError(f"soft_bytes ({self.soft_bytes}) must be below hard_bytes ({self.hard_bytes})")


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a dead worker is replaced, and how long anything may take. Durations in seconds."""

    intensity: int = 5  #: so many deaths within `period_s` are survived
    period_s: float = 60.0
    start_intensity: int = 3  #: the same for successors that die before HELLO
    backoff_first_s: float = 0.1  #: the second restart waits up to this long, each later one up to twice as long
    backoff_max_s: float = 30.0
    hello_timeout_s: float = 30.0  #: a successor that has not said HELLO by then is killed
    kill_timeout_s: float = 5.0  #: alive so long after SIGKILL is WEDGED
    stopped_grace_s: float = 10.0  #: a worker stopped by a signal is killed after this long
    #: Work waits and nothing moves for so long, without the disk's doing: HUNG, and killed. It must exceed the longest
    #: call of a persister, and a few seconds: a worker tells once a second what it has done.
    hung_s: float = 30.0
    dump_s: float = 1.0  #: how long a hung worker gets to write its stacks to its standard error
    rss_soft_bytes: int = 1024**3  #: over it at three looks in a row: replaced, once a period at most
    rss_hard_bytes: int = 3 * 1024**3  #: over it: killed
    recycle_timeout_s: float = 30.0  #: a worker that is to be replaced may finish for so long
    vitals_interval_s: float = 1.0  #: how often psutil looks

    def __post_init__(self) -> None:
        _positive(self)
        if self.rss_soft_bytes > self.rss_hard_bytes:
            raise ConfigError(
                f"rss_soft_bytes ({self.rss_soft_bytes}) must not exceed rss_hard_bytes ({self.rss_hard_bytes})"
            )
