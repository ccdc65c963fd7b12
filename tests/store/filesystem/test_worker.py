"""A filesystem store under a real worker: acknowledged, killed, stalled by a plan, and there again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from bgsuper.faults.plan import Plan
from bgsuper.key import Key
from bgsuper.supervisor.supervisor import Supervisor

from .stores import GRAPH, MANAGER, UPDATE, opened

pytestmark = pytest.mark.usefixtures("no_leaks")

PATIENCE_S = 30.0


def test_a_worker_writes_ldks_layout(tmp_path: Path) -> None:
    """Commits and snapshots by the URL alone; a killed worker's successor goes on; all of it is in LDK's places."""
    with Supervisor(f"file://{tmp_path}/store") as supervisor:
        supervisor.wait(supervisor.commit({MANAGER: b"1", UPDATE: b"1"}), PATIENCE_S)
        supervisor.wait(supervisor.snapshot(GRAPH, [bytes(700_000)], critical=True), PATIENCE_S)
        pid = supervisor.health().pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        supervisor.wait(supervisor.commit({MANAGER: b"2"}, (UPDATE,)), PATIENCE_S)
        assert supervisor.health().restarts == 1
        assert supervisor.health().atomic
    assert (tmp_path / "store" / "manager").read_bytes() == b"2"
    assert (tmp_path / "store" / "network_graph").read_bytes() == bytes(700_000)
    assert not (tmp_path / "store" / "monitor_updates" / "ab_0" / "1").exists()


def test_a_failed_sync_costs_a_worker(tmp_path: Path) -> None:
    """By a fault plan, whose EIO any of the store's syncs may meet: a successor distrusts the cache and goes on."""
    with Plan.create(tmp_path / "plan") as plan:
        with Supervisor(f"file://{tmp_path}/store?faults={tmp_path}/plan") as supervisor:
            supervisor.wait(supervisor.commit({MANAGER: b"1"}), PATIENCE_S)
            plan.fail_sync_at = 3
            supervisor.wait(supervisor.commit({MANAGER: b"2", Key("a", "b", "c"): b"2"}), PATIENCE_S)
            assert supervisor.health().restarts == 1
            assert plan.refused == 1
        with opened(tmp_path / "store") as store:
            assert store.read(Key("a", "b", "c")) == store.read(MANAGER) == b"2"
