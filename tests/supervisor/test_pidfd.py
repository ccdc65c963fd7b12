"""No signal to a worker on Linux goes by its pid, which may be anybody's."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess

import pytest

from bgsuper.supervisor.children.pidfd import PidfdChild

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.mark.parametrize("reaped", [False, True], ids=["alive", "reaped by another"])
def test_signals_go_through_the_pidfd(reaped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alive or not: whoever else has reaped it, and whoever has its pid by now, nobody else is hit."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(["sleep", "1000"], stderr=subprocess.PIPE)
    child = PidfdChild.open(process, ours)
    if reaped:
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
    by_pid: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *call: by_pid.append(call))
    child.dump()  # which ends a sleep as well
    child.kill()
    dead = select.poll()
    dead.register(child, select.POLLIN)
    try:
        assert dead.poll(5000)
        assert by_pid == []
    finally:
        monkeypatch.undo()
        signal.pidfd_send_signal(child.fileno(), signal.SIGKILL) if not reaped else None
        child.reap()
        child.close()
