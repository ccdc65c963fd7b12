"""What a figure was measured on: a time without its machine says nothing."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from pathlib import Path

import apsw
import psutil

from .harness import Figures, percentile

#: How many appends of 4 KiB are synced to know the disk.
SYNCS = 200


def facts(directory: Path) -> Figures:
    """The machine as it is now, with the sync latency of the disk under `directory`. Takes some 0.1 s or more."""
    syncs = sorted(sync_latency(directory))
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "file system": _file_system(directory),
        "sync p50 ms": percentile(syncs, 0.5) * 1e3,
        "sync p99 ms": percentile(syncs, 0.99) * 1e3,
        "load average": os.getloadavg()[0],
        "at": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    }


def sync_latency(directory: Path) -> list[float]:
    """Seconds that each of `SYNCS` appends of 4 KiB took to be durable."""
    block, taken = bytes(4096), []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(SYNCS):
            began = time.perf_counter()
            os.write(file.fileno(), block)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return taken


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _file_system(directory: Path) -> str:
    mounts = [m for m in psutil.disk_partitions(all=True) if directory.resolve().is_relative_to(m.mountpoint)]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else "unknown"
