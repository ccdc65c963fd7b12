"""What a run of the explorer does and what may happen to it: the script of a host, and a budget for each kind of fault.

A script is a word, one letter an operation:

    c   commit: a record of its own and the head record
    k   commit that also touches the snapshot's key
    x   commit that removes the record of the commit before it
    s   snapshot        S   critical snapshot        L   critical snapshot that takes two frames
    r   read of the head record
    q   the host stops, in good order, and another one starts
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from ...errors import ConfigError
from ...ipc.messages import INLINE_BYTES

OPERATIONS: Final = "ckxsSLrq"
COMMITS: Final = "ckx"
SNAPSHOTS: Final = "sSL"
#: One byte more than a message carries within itself.
LARGE_BYTES: Final = INLINE_BYTES + 1


@dataclass(frozen=True, slots=True)
class Scenario:
    """`deaths` and `powers`: how many processes die, how often the power fails. `deaths_first`: no process dies any
    more once the power has failed. `reduced`: of steps that commute, only one order is offered (see `World.choices`).
    """

    script: str
    deaths: int = 1
    powers: int = 1
    failed_syncs: int = 0
    shortages: int = 0  #: how often space runs out
    failed_reads: int = 0
    deaths_first: bool = True
    reduced: bool = True
    world: str = "model"  #: or "sqlite": the real store

    def __post_init__(self) -> None:
        if not self.script or set(self.script) - set(OPERATIONS):
            raise ConfigError(f"expected a script of the letters {OPERATIONS}, got {self.script!r:.80}")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: object) -> Scenario:
        """Raises `ConfigError` for what is no scenario."""
        if not isinstance(values, dict):
            raise ConfigError(f"expected a scenario as a JSON object, got {type(values).__name__}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"expected the settings of a scenario, got {sorted(values)!r:.200}: {error}") from None
