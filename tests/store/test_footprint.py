"""What the store costs a worker that does nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROBE = """
import sys
before = set(sys.modules)
from bgsuper.store.sqlite import SQLiteStore
from bgsuper.store.url import parse
SQLiteStore(sys.argv[1], host_pid=1).open()
print(*set(sys.modules) - before)
"""


def test_an_open_store_imports_little(tmp_path: Path) -> None:
    """No OpenSSL (3.7 MiB), no asyncio, no logging: an idle worker stays within 30 MiB."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    heavy = {"hashlib", "_hashlib", "ssl", "asyncio", "logging", "msgpack", "subprocess", "pathlib", "urllib.parse"}
    assert not heavy & set(done.stdout.split())
