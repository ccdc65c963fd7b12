"""Space that is freed by and by."""

from __future__ import annotations

import os
from pathlib import Path

from bgsuper.store.filesystem.freeing import MAX_FILES, REMOVE_BYTES, Freeing


def big(directory: Path, name: str = "big", steps: int = 3) -> Path:
    path = directory / name
    with path.open("wb") as file:
        file.truncate(REMOVE_BYTES * (steps - 1) + 1)
    return path


def test_a_large_file_goes_in_steps(tmp_path: Path) -> None:
    """Its name at once, its space a part a step."""
    freeing = Freeing()
    path = big(tmp_path)
    fd = freeing.hold(str(path))
    assert fd is not None
    path.unlink()
    freeing.free(fd)
    sizes = []
    while freeing.has_some:
        sizes.append(os.fstat(fd).st_size)
        freeing.step()
    assert sizes == [2 * REMOVE_BYTES + 1, REMOVE_BYTES + 1, 1]
    freeing.step()


def test_a_file_that_has_a_name_is_not_cut(tmp_path: Path) -> None:
    """Somebody's copy by hard link, or a rename that failed."""
    freeing = Freeing()
    fd = freeing.hold(str(big(tmp_path)))
    assert fd is not None
    freeing.free(fd)
    assert not freeing.has_some
    assert (tmp_path / "big").stat().st_size == 2 * REMOVE_BYTES + 1


def test_small_files_and_none_are_not_held(tmp_path: Path) -> None:
    """They cost nothing to remove; and there are only so many descriptors."""
    freeing = Freeing()
    (tmp_path / "small").write_bytes(b"1")
    assert freeing.hold(str(tmp_path / "small")) is None
    assert freeing.hold(str(tmp_path / "absent")) is None
    for n in range(MAX_FILES + 3):
        freeing.remove(str(big(tmp_path, f"{n}")))
    assert os.listdir(tmp_path) == ["small"]
    steps = 0
    while freeing.has_some:
        freeing.step()
        steps += 1
    assert steps == 3 * MAX_FILES
    freeing.remove(str(tmp_path / "absent"))


def test_all_at_once(tmp_path: Path) -> None:
    """At the end, or when the space is needed; and slowly, before a snapshot."""
    freeing = Freeing()
    for free in (freeing.all_at_once, freeing.all_but_slowly):
        freeing.remove(str(big(tmp_path)))
        assert freeing.has_some
        free()
        assert not freeing.has_some
