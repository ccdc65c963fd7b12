"""Fencing, as the host sees it: each of our workers raises the store's epoch by one, and nobody else may."""

from __future__ import annotations

from ..errors import StoreInconsistent


def check_epoch(epoch: int, last: int, launches: int) -> None:
    """A successor says HELLO with `epoch`, after `launches` of our workers since the one with epoch `last`.

    Raises `StoreInconsistent` for a store that went back, or that another program opened in between: its commits may
    bear the numbers of our un-acknowledged ones.
    """
    if epoch <= last:
        raise StoreInconsistent(
            f"the store's epoch went from {last} to {epoch}: it was replaced by an older copy, or it lost everything "
            "with its worker, as memory: does; restore it, or use a store that lasts, such as sqlite:///path/to/directory"
        )
    if epoch > last + launches:
        raise StoreInconsistent(
            f"the store's epoch went from {last} to {epoch} with {launches} of our workers: "
            "another program opened it in between; keep one supervisor to a store"
        )
