"""Events from which a scorer learns, named as LDK's; they know nothing of bgsuper."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PaymentPathFailed:
    path: object = "path"
    short_channel_id: int | None = None
    payment_failed_permanently: bool = False


@dataclass(frozen=True)
class PaymentPathSuccessful:
    path: object = "path"


@dataclass(frozen=True)
class ProbeFailed:
    path: object = "path"
    short_channel_id: int | None = None


@dataclass(frozen=True)
class ProbeSuccessful:
    path: object = "path"
