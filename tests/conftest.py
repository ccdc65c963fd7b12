"""Fixtures and Hypothesis profiles of all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.leaks import MARK, RUN, Held

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci" if os.environ.get("CI") else "default")

#: How long what is ending may take to be gone.
SETTLE_S = 2.0


@pytest.fixture
def no_leaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that leaves a process, a descriptor or a thread behind, and name it.

    For modules that start processes: ``pytestmark = pytest.mark.usefixtures("no_leaks")``. Workers must inherit the
    environment to be found once they are orphans.
    """
    monkeypatch.setenv(MARK, RUN)
    before = Held.now()
    yield
    leaked = before.settle(SETTLE_S)
    if leaked:
        before.kill_since()
        pytest.fail("the test leaked:\n  " + "\n  ".join(leaked))
