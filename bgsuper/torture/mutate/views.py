"""A store whose files are damaged, looked into: what a view of it may show.

Rules, for any damage:
1. Making the view succeeds, or raises one `StoreError` that is not `NotFound`; so do its listing and its reading.
2. `examine` ends, and raises nothing. Each value that it gives is the one of the state as of one and the same commit,
   never of one that was checkpointed away; a value that it does not give was not there, or there is `Damage`.
3. What `entries` and `read` give is the state as of a commit, all of it.
4. Unless the newest transaction of the WAL is damaged, that commit is the newest, for both.
5. Nothing is changed, neither a byte nor a date.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ...errors import NotFound, StoreError
from ...key import Key
from ...store.api import Damage
from ...store.sqlite_view import SQLiteView
from .stores import Broken, Original, State


class Seen(NamedTuple):
    """What became of a look into a store."""

    refused: StoreError | None
    newest: int = 0  #: the number of the state that `examine` showed
    lost: frozenset[Key] = frozenset()  #: keys of that state that it did not show
    damage: tuple[Damage, ...] = ()
    listed: bool = True  #: whether `entries` and `read` gave everything


def look(directory: Path, original: Original) -> Seen:
    """Look into what lies in `directory`, and raise `Broken` if a rule does not hold."""
    before = _tree(directory)
    try:
        seen = _look(directory, original)
    except (Broken, StoreError):
        raise
    except Exception as error:
        raise Broken(f"a view raised {error!r}") from error
    if _tree(directory) != before:
        raise Broken("a view changed something")
    return seen


def _look(directory: Path, original: Original) -> Seen:
    try:
        view = SQLiteView(directory)
    except StoreError as error:
        if isinstance(error, NotFound) or type(error) is StoreError:
            raise Broken(f"refused without a reason that can be acted on: {error!r}") from error
        return Seen(error)
    try:
        view.facts()
        newest, lost, damage = _examined(view, original)
        return Seen(None, newest, lost, damage, _is_listed(view, original))
    finally:
        view.close()


def _examined(view: SQLiteView, original: Original) -> tuple[int, frozenset[Key], tuple[Damage, ...]]:
    values: dict[Key, bytes] = {}
    damage: list[Damage] = []
    try:
        for finding in view.examine():
            if isinstance(finding, Damage):
                damage.append(finding)
            elif finding.key in values:
                raise Broken(f"{finding.key} was given twice")
            else:
                values[finding.key] = finding.content
    except StoreError as error:
        raise Broken(f"examine() ended with {error!r}") from error
    for newest in range(original.newest, original.checkpointed - 1, -1):
        state = original.history[newest]
        if values.items() <= state.items():
            break
    else:
        raise Broken(f"examine() gave values of no state: {', '.join(map(str, _wrong(values, original)))}")
    lost = frozenset(state.keys() - values.keys())
    if lost and not damage:
        raise Broken(f"examine() lacks {len(lost)} values without a word")
    return newest, lost, tuple(damage)


def _wrong(values: State, original: Original) -> list[Key]:
    state = original.history[original.newest]
    return [key for key, value in values.items() if state.get(key) != value]


def _is_listed(view: SQLiteView, original: Original) -> bool:
    try:
        listed = {entry.key: view.read(entry.key) for entry in view.entries()}
    except StoreError as error:
        if isinstance(error, NotFound) or type(error) is StoreError:
            raise Broken(f"listing ended with {error!r}") from error
        return False
    if listed not in [original.history[number] for number in range(original.checkpointed, original.newest + 1)]:
        raise Broken("the listing is the state after no commit")
    return True


def _tree(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every path, when it was changed, and what it holds."""
    return {
        str(path): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() and not path.is_symlink() else b"")
        for path in sorted((directory, *directory.rglob("*")))
    }
