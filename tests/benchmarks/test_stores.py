"""Every backend is measured through its URL, and damage is no value."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.harness import Figures
from benchmarks.stores import BACKENDS, MIB, PLAIN, RECORD_BYTES, Found, build, judge, measure_open, measure_verify


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_store_that_was_built_is_whole(tmp_path: Path, backend: str) -> None:
    """All that was put in is found by verify, and what is damaged is not counted."""
    build(tmp_path, backend, MIB)
    assert measure_open(tmp_path, backend)["open_ms"] > 0
    assert measure_verify(tmp_path, backend)["whole"] == MIB // RECORD_BYTES
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    assert measure_verify(tmp_path, backend)["whole"] < MIB // RECORD_BYTES


def test_each_is_compared_with_the_same_backend_unsealed() -> None:
    """The cost of sealing is no difference between backends."""
    assert set(PLAIN.values()) == {"sqlite", "file"}
    assert all(backend.startswith(plain) for backend, plain in PLAIN.items())


@pytest.mark.parametrize(("lacking", "open_ms", "more", "held"), [(0, 300.0, 0.0, True), (1, 301.0, 0.1, False)])
def test_promises_are_about_the_largest_store(lacking: int, open_ms: float, more: float, held: bool) -> None:
    """Of each scheme; sealing adds no sync; every value is found."""
    sizes: dict[tuple[str, int], Figures] = {}
    for backend in BACKENDS:
        sizes[backend, MIB] = {"whole": MIB // RECORD_BYTES - lacking, "open_ms": 9999.0}
        sizes[backend, 2 * MIB] = {"whole": 2 * MIB // RECORD_BYTES, "open_ms": open_ms}
    commits: dict[tuple[str, int], Figures] = {
        (backend, 1): {"syncs": 1.0 + (more if PLAIN[backend] != backend else 0)} for backend in BACKENDS
    }
    claims = judge(Found(commits, {}, sizes))
    assert len(claims) == 6
    assert {claim.holds for claim in claims} == {held}
