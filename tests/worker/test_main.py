"""The worker's last word: what its host should make of the error that ended it."""

from __future__ import annotations

import pytest

from bgsuper.errors import (
    ConfigError,
    FrameError,
    StoreCorrupt,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreInconsistent,
    StoreLocked,
    StoreTooNew,
    StoreUnavailable,
    StoreUnwritable,
    SyncFailed,
)
from bgsuper.worker.__main__ import main, verdict
from bgsuper.worker.users import Whose

FATAL = (ConfigError, StoreCorrupt, StoreForeign, StoreInconsistent, StoreLocked, StoreTooNew, StoreUnwritable)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        *((kind("no"), "fatal") for kind in FATAL),
        (SyncFailed("no"), "sync"),
        (StoreFull("no"), "unavailable"),
        (StoreUnavailable("somebody looks into the store"), "unavailable"),
        (StoreError("SQLite is short of memory"), "crash"),
        (FrameError("no"), "crash"),
        (MemoryError(), "crash"),
        (SystemExit(3), "crash"),
        (RuntimeError("a bug"), "crash"),
    ],
)
def test_the_verdict_on_a_store_of_ours(error: BaseException, says: str) -> None:
    """Only what a fresh process cannot mend is fatal."""
    assert verdict(error, users_word=False) == says


@pytest.mark.parametrize("error", [StoreFull("no"), SyncFailed("no"), RuntimeError("no"), OSError(5, "no")])
def test_whatever_a_users_persister_raises_is_fatal(error: Exception) -> None:
    """The seed's way: the manager's error ends the processor and is not retried."""
    assert verdict(error, Whose.USERS_PERSISTER.users_word(error)) == "fatal"


@pytest.mark.parametrize("arguments", [[], ["3", "4"], ["x"], ["-1"], ["³"]])
def test_it_is_not_started_by_hand(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One line that says who starts it."""
    assert main(arguments) == 2
    assert capsys.readouterr().err == "bgsuper.worker is started by bgsuper.Supervisor, not by hand\n"
