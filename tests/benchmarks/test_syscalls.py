"""The counts of system calls rest on reading strace's output right."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.syscalls import Counts

TRACE = """\
10 write(3</store/early>, "x", 1) = 1
10 write(9</dev/null>, "bgsuper-begin", 13 <unfinished ...>
11 sendto(4<socket:[7]>, "bg"..., 100, 0, NULL, 0) = 60
10 <... write resumed>) = 13
11 sendto(4<socket:[7]>, "bg"..., 500, 0, NULL, 0 <unfinished ...>
10 write(5<pipe:[8]>, "\\0", 1) = 1
12 pwrite64(6</store/wal>, "y", 1, 0 <unfinished ...>
11 <... sendto resumed>) = 500
12 <... pwrite64 resumed>) = 1
11 sendto(4<socket:[7]>, "bg"..., 500, 0, NULL, 0) = -1 EAGAIN (Resource temporarily unavailable)
12 fdatasync(6</store/wal>) = 0
12 rename("/store/a", "/store/b") = 0
10 write(9</dev/null>, "bgsuper-end", 11) = 11
10 fsync(6</store/late>) = 0
"""


def test_files_count_and_pipes_do_not(tmp_path: Path) -> None:
    """Between the marks, calls on files, syncs and renames count as the disk's; sockets by what they took."""
    (tmp_path / "trace").write_text(TRACE)
    counts = Counts(tmp_path / "trace")
    assert counts.disk == {"pwrite64": 1, "fdatasync": 1, "rename": 1}
    assert counts.sends == [60, 500]


def test_a_trace_without_its_end_is_refused(tmp_path: Path) -> None:
    """Half a trace would count too little."""
    (tmp_path / "trace").write_text(TRACE[: TRACE.index("bgsuper-end")])
    with pytest.raises(ValueError, match="lacks a mark"):
        Counts(tmp_path / "trace")
