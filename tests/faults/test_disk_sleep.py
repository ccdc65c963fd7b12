"""Disk-sleep on demand."""

from __future__ import annotations

import sys
import time
from threading import Thread

import psutil
import pytest

from bgsuper.faults.disk_sleep import sleep_uninterruptibly

SECONDS = 0.3
PATIENCE_S = 20.0


@pytest.mark.skipif(sys.platform != "linux", reason="CLONE_VFORK is Linux's")
def test_it_is_what_the_kernel_calls_disk_sleep() -> None:
    """As long as it was told, and other threads run meanwhile."""
    thread = Thread(target=sleep_uninterruptibly, args=(SECONDS,))
    began = time.monotonic()
    thread.start()
    while thread.native_id is None or psutil.Process(thread.native_id).status() != psutil.STATUS_DISK_SLEEP:
        assert time.monotonic() < began + PATIENCE_S
    thread.join(PATIENCE_S)
    assert time.monotonic() - began >= SECONDS
