"""What is whole of a damaged store, out of it and into a new one; what is not, by name.

Rules:
1. Damage never ends the search: whatever the view raises while it looks is one more finding.
2. What comes out is what was written: a value that cannot be verified is lost, not guessed.
3. A key of which two values turn up keeps the first; the other is a finding.
4. Nothing is taken for saved before the new store was read again, and has all of it.
5. If the identity cannot be read the new store is another one: its numbers start anew, and nobody who remembers the old
   one takes it for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

from ..errors import ConfigError, NotFound, StoreError, StoreInconsistent
from ..key import Key, Seq, check_key
from .api import CopyTarget, Damage, StoreView, Value
from .copying import Advance, Counts, Importer, check_same_store
from .identity import Identity

_SUM_BYTES: Final = 32
_SUM_LIMIT: Final = 1 << (8 * _SUM_BYTES)

#: Told of each thing that is not whole.
Report = Callable[[Damage], None]


class Salvaged(NamedTuple):
    """What came of it."""

    counts: Counts  #: of what was saved
    damaged: int  #: how many findings there were
    identity: Identity | None  #: as which the new store goes on; None: it is another store
    sum: int  #: of what was saved, in whatever order; see `Tally`


class Tally:
    """Counts values, and sums their digests: equal tallies are equal sets, in whatever order they came."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.sum = 0

    def add(self, value: Value) -> None:
        """One more."""
        self.counts = self.counts.plus(value)
        digest = blake2b(digest_size=_SUM_BYTES)
        for part in (*value.key, str(len(value.content))):
            digest.update(part.encode() + b"/")
        digest.update(value.content)
        self.sum = (self.sum + int.from_bytes(digest.digest())) % _SUM_LIMIT


def findings(source: StoreView) -> Iterator[Value | Damage]:
    """Each value that is whole, and what is not, the identity included."""
    of_identity: Damage | None = None
    try:
        _ = source.identity
    except StoreError as error:
        of_identity = Damage(None, str(error))
        yield of_identity
    examined = source.examine()
    while True:
        try:
            finding = next(examined, None)
        except StoreError as error:
            yield Damage(None, f"{error}; what follows could not be read")
            return
        except MemoryError:
            yield Damage(None, "something does not fit into memory; what follows could not be read")
            return
        if finding is None:
            return
        # Backends may find it once more.
        if finding != of_identity:
            yield _checked(finding)


def _checked(finding: Value | Damage) -> Value | Damage:
    """`finding`, unless it is a value under a name that no store may have."""
    if isinstance(finding, Value):
        try:
            check_key(finding.key)
        except ConfigError as error:
            return Damage(None, f"a value of {len(finding.content)} bytes has a damaged name: {error}")
    return finding


def salvage(source: StoreView, target: CopyTarget, report: Report, advance: Advance) -> Salvaged:
    """Put what is whole of `source` into `target`, which is open and new; `report` the rest. Raises what the target
    raises."""
    importer, tally = Importer(target), Tally()
    damaged, newest_snapshot = 0, Seq(0)
    for finding in findings(source):
        if isinstance(finding, Damage):
            report(finding)
            damaged += 1
        elif _is_saved(finding.key, importer, target):
            report(Damage(finding.key, "there are two values of that name: the one that was found first is kept"))
            damaged += 1
        else:
            importer.put(finding)
            tally.add(finding)
            newest_snapshot = max(newest_snapshot, finding.seq or Seq(0))
            advance(finding.key, len(finding.content))
    identity = _identity(source, newest_snapshot)
    importer.finish(identity)
    return Salvaged(importer.counts, damaged, identity, tally.sum)


def prove_saved(salvaged: Salvaged, copy: StoreView, advance: Advance) -> None:
    """Raise `StoreInconsistent` unless `copy` holds, whole, exactly what was `salvaged`."""
    if salvaged.identity is not None:
        check_same_store(salvaged.identity, copy.identity)
    tally = Tally()
    for finding in findings(copy):
        if isinstance(finding, Damage):
            raise StoreInconsistent(f"what was just written is damaged again: {finding.text}; use another disk")
        tally.add(finding)
        advance(finding.key, len(finding.content))
    if (tally.counts.values, tally.sum) != (salvaged.counts.values, salvaged.sum):
        raise StoreInconsistent(
            f"expected {salvaged.counts.values} values in the new store, each as it was saved, found "
            f"{tally.counts.values} or others: nothing can be trusted to that disk"
        )


def _is_saved(key: Key, importer: Importer, target: CopyTarget) -> bool:
    if importer.is_waiting(key):
        return True
    try:
        target.read(key)
    except NotFound:
        return False
    return True


def _identity(source: StoreView, newest_snapshot: Seq) -> Identity | None:
    try:
        identity = source.identity
    except StoreError:
        return None
    return identity._replace(last_snapshot=max(identity.last_snapshot, newest_snapshot))
