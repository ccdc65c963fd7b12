"""Is it something we submitted that kills the workers? Sans-IO.

After `SUSPICIOUS` deaths of their own doing in a row, successors are handed one thing at a time: with everything that
was un-acknowledged then, until it is acknowledged. Whatever was alone with a worker at `PROOFS` such deaths is the
culprit. A commit cannot be left out (later ones rest on it), so that ends the supervisor; a snapshot that is not
critical is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..key import Seq

#: So many deaths of their own doing in a row begin the search.
SUSPICIOUS: Final = 2
#: So many deaths of workers that had nothing else are proof. One might be chance.
PROOFS: Final = 2


@dataclass(slots=True)
class PoisonSearch:
    """What is known. `until`: one thing at a time, up to that number; 0 if nothing is suspected."""

    until: int = 0
    _deaths: int = 0
    _accused: int = 0
    _proofs: int = 0

    @property
    def on(self) -> bool:
        return self.until > 0

    def died(self, newest: Seq, alone: Seq | None) -> Seq | None:
        """A worker died by its own doing; `newest` is the newest number submitted, `alone` the only thing that it had
        in hand during a search. The culprit's number, once that is proven."""
        self._deaths += 1
        if not self.on:
            if self._deaths >= SUSPICIOUS:
                self.until = newest
            return None
        if alone is None:
            return None
        self._proofs = self._proofs + 1 if alone == self._accused else 1
        self._accused = alone
        return alone if self._proofs >= PROOFS else None

    def acquit(self) -> None:
        """All that was suspect is settled, a worker proved itself, or the culprit is dropped."""
        self.until = self._deaths = 0
        self._accused = self._proofs = 0
