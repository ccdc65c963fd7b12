"""A store to look into: one that is there.

Rule: an empty directory is no store. A backend may show one as what it would make of it, but a path that was mistyped
must not be verified as whole, nor copied, with nothing in it.
"""

from __future__ import annotations

from ...errors import StoreError, StoreForeign
from ...store.api import StoreView
from ...store.schemes import open_view


def open_source(url: str) -> StoreView:
    """What lies in the store `url`. Raises as `open_view`, and `StoreForeign` where nobody ever put anything."""
    view = open_view(url)
    try:
        if _is_nothing(view):
            raise StoreForeign(f"expected a store at {url}, found an empty directory: look at the path")
    except BaseException:
        view.close()
        raise
    return view


def _is_nothing(view: StoreView) -> bool:
    try:
        return view.identity.epoch == 0 and next(view.entries(), None) is None
    except StoreError:
        return False
